//! `/livez /readyz /startupz /metrics` on a port of their own. No secret, no lease id, no path.
//!
//! Does not find out how the agent is: `app` reports it. Nobody has to prove anything to read this port, so a page says
//! only closed words and counts unless the config allows names.

use super::metrics;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// Connections at a time: a scraper, a kubelet and a few people.
const CONNECTIONS: usize = 16;
/// From accept to the last byte of the answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a request's head; hyper's least.
const HEAD: usize = 8192;

/// The health port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[::]:8099` unless set; IPv4 where the host has no IPv6. Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Whether names of identities and secrets leave over the network; else only closed reason codes and counts.
    pub names: bool,
}

/// Why the agent is not ready: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// It has not begun to serve.
    Starting,
    /// An identity has no valid token.
    NoToken,
    /// A secret has no valid value.
    SecretNotReady,
    /// The journal cannot be written, and a rule is strict.
    AuditUnwritable,
    /// A socket was removed or replaced.
    SocketLost,
    /// What proves which program a peer executes has ended, and is not started again.
    AttestorLost,
    /// It stops.
    Stopping,
}

impl Code {
    /// The word of the pages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::NoToken => "no_token",
            Self::SecretNotReady => "secret_not_ready",
            Self::AuditUnwritable => "audit_unwritable",
            Self::SocketLost => "socket_lost",
            Self::AttestorLost => "attestor_lost",
            Self::Stopping => "stopping",
        }
    }
}

/// One reason why the agent is not ready.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// Which kind.
    pub code: Code,
    /// Which identity, secret or workload, by its name in the config; shown only where names may be.
    pub name: Option<String>,
}

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// False once it cannot recover by itself: whoever asks should start it anew.
    pub live: bool,
    /// True once it serves, and from then on.
    pub started: bool,
    /// What keeps it from being ready, apart from not having started.
    pub reasons: Vec<Reason>,
    /// What a person should know of an agent that is ready all the same.
    pub notes: Vec<Note>,
}

/// Something to know that keeps nothing from working: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Note {
    /// A workload has our uid, and could have attached itself to us while we started.
    DumpableAtExec,
}

impl Note {
    /// The word of the pages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::DumpableAtExec => "dumpable_at_exec",
        }
    }
}

impl Report {
    /// Whether workloads get what the config promises.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.live && self.started && self.reasons.is_empty()
    }
}

/// How the agent is, for those who find it out and for those who show it. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Health {
    report: Arc<watch::Sender<Report>>,
}

/// The one way to say that the agent serves. Dropped unsaid, it stays unready for good.
#[derive(Debug)]
#[must_use = "without `say` the agent never becomes ready"]
pub struct Ready {
    report: Arc<watch::Sender<Report>>,
}

impl Health {
    /// Live, not started. The guard is called once every socket is bound and signals are heard.
    pub fn new() -> (Self, Ready) {
        let report = Arc::new(watch::Sender::new(Report {
            live: true,
            started: false,
            reasons: Vec::new(),
            notes: Vec::new(),
        }));
        (Self { report: Arc::clone(&report) }, Ready { report })
    }

    /// Replaces everything that keeps the agent from being ready; nothing means ready, once it has started.
    pub fn set(&self, mut reasons: Vec<Reason>) {
        reasons.sort_unstable();
        self.report.send_if_modified(|report| {
            let changed = report.reasons != reasons;
            report.reasons = reasons;
            changed
        });
    }

    /// Replaces every note.
    pub fn note(&self, notes: Vec<Note>) {
        self.report.send_modify(|report| report.notes = notes);
    }

    /// Says that the agent cannot recover by itself.
    pub fn give_up(&self) {
        self.report.send_modify(|report| report.live = false);
    }

    /// What is shown right now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Hears of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }
}

impl Ready {
    /// The agent serves.
    pub fn say(self) {
        self.report.send_modify(|report| report.started = true);
    }
}

/// A bound health port.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    address: SocketAddr,
    names: bool,
}

/// What the pages show.
#[derive(Clone)]
struct Pages {
    health: Health,
    scrape: Arc<dyn Fn() -> String + Send + Sync>,
    names: bool,
}

impl Port {
    /// Binds the port; on all of IPv4 where all of IPv6 was meant and the host has none.
    ///
    /// # Errors
    /// What the kernel says: the port is taken, or not ours to take.
    pub async fn bind(settings: &Settings) -> io::Result<Self> {
        let listen = settings.listen;
        let listener = match TcpListener::bind(listen).await {
            Err(error) if listen.is_ipv6() && listen.ip().is_unspecified() && no_ipv6(&error) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await?
            }
            bound => bound?,
        };
        Ok(Self { address: listener.local_addr()?, listener, names: settings.names })
    }

    /// Where it really listens: never port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until dropped. `scrape` gives the text of `/metrics`.
    pub async fn serve(self, health: Health, scrape: impl Fn() -> String + Send + Sync + 'static) {
        let pages = Pages { health, scrape: Arc::new(scrape), names: self.names };
        let mut tasks = JoinSet::new();
        // Oldest first. Whoever holds connections open must not keep the next probe out: the oldest one makes room.
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, as a rule: a pause, so that the one thread does other things.
                    tracing::warn!(%error, "accepting on the health port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            while tasks.try_join_next().is_some() {}
            open.retain(|task| !task.is_finished());
            while open.len() >= CONNECTIONS {
                open.pop_front().inspect(AbortHandle::abort);
            }
            let connection = connection(stream, pages.clone());
            open.push_back(tasks.spawn(async {
                let _ = tokio::time::timeout(WITHIN, connection).await;
            }));
        }
    }
}

/// Whether the kernel was built or started without IPv6.
fn no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

async fn connection(stream: TcpStream, pages: Pages) {
    let service = service_fn(|request: Request<Incoming>| {
        std::future::ready(Ok::<_, Infallible>(pages.answer(request.method(), request.uri().path())))
    });
    // One request a connection: an idle one would hold a place for nothing.
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(WITHIN)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "answering on the health port");
    }
}

impl Pages {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let report = self.health.report();
        let ok = match path {
            "/livez" => report.live,
            "/readyz" => report.ready(),
            "/startupz" => report.started,
            "/metrics" => true,
            _ => return plain(StatusCode::NOT_FOUND, "no such page\n"),
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if path == "/metrics" {
            return response(StatusCode::OK, metrics::CONTENT_TYPE, (self.scrape)());
        }
        let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = Page::of(&report, path, self.names);
        response(status, "application/json", serde_json::to_string(&body).unwrap_or_default())
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text)
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// One page: the word that was asked for, and why not.
#[derive(Serialize)]
struct Page<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    reasons: Vec<Group<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
}

/// All reasons of one kind.
#[derive(Serialize)]
struct Group<'a> {
    code: &'static str,
    count: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<&'a str>,
}

impl<'a> Page<'a> {
    fn of(report: &'a Report, path: &str, names: bool) -> Self {
        let mut groups: BTreeMap<Code, Group<'a>> = BTreeMap::new();
        let mut add = |code: Code, name: Option<&'a str>| {
            let group =
                groups.entry(code).or_insert(Group { code: code.word(), count: 0, names: Vec::new() });
            group.count += 1;
            group.names.extend(name.filter(|_| names));
        };
        if !report.started {
            add(Code::Starting, None);
        }
        // What does not keep the agent from being live or started is not said there.
        if path == "/readyz" {
            report.reasons.iter().for_each(|reason| add(reason.code, reason.name.as_deref()));
        }
        let asked = |of: &str, value: bool| (path == of).then_some(value);
        let reasons = groups.into_values().collect();
        let notes = if path == "/readyz" { report.notes.as_slice() } else { &[] };
        let notes = notes.iter().map(|note| note.word()).collect();
        Self {
            live: asked("/livez", report.live),
            started: asked("/startupz", report.started),
            ready: asked("/readyz", report.ready()),
            reasons,
            notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn bound(names: bool) -> Port {
        Port::bind(&Settings { listen: "127.0.0.1:0".parse().unwrap(), names }).await.unwrap()
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Closed before all of an overlong head was read, the kernel may say so by a reset.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    fn check(answer: &str, status: &str, body: &str) {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }

    /// Runs `ask` against a port that serves beside it.
    async fn with_port<T>(names: bool, health: Health, ask: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let port = bound(names).await;
        let address = port.address();
        tokio::select! {
            () = port.serve(health, || "claviger_up 1\n".to_owned()) => unreachable!(),
            value = ask(address) => value,
        }
    }

    fn lacks_tokens() -> Vec<Reason> {
        ["rotator", "reports"].map(|name| Reason { code: Code::NoToken, name: Some(name.to_owned()) }).into()
    }

    #[tokio::test]
    async fn readyz_says_why_not_and_names_nobody_by_default() {
        let (health, ready) = Health::new();
        with_port(false, health.clone(), async |address| {
            let body = r#"{"ready":false,"reasons":[{"code":"starting","count":1}]}"#;
            check(&ask(address, "GET /readyz").await, "503", body);
            check(
                &ask(address, "GET /livez").await,
                "200",
                r#"{"live":true,"reasons":[{"code":"starting","count":1}]}"#,
            );
            let body = r#"{"started":false,"reasons":[{"code":"starting","count":1}]}"#;
            check(&ask(address, "GET /startupz").await, "503", body);
            ready.say();
            health.set(lacks_tokens());
            let body = r#"{"ready":false,"reasons":[{"code":"no_token","count":2}]}"#;
            check(&ask(address, "GET /readyz").await, "503", body);
            check(&ask(address, "GET /startupz").await, "200", r#"{"started":true,"reasons":[]}"#);
            health.set(Vec::new());
            check(&ask(address, "GET /readyz").await, "200", r#"{"ready":true,"reasons":[]}"#);
        })
        .await;
    }

    #[tokio::test]
    async fn names_are_shown_where_the_config_allows_it() {
        let (health, ready) = Health::new();
        ready.say();
        health.set(lacks_tokens());
        with_port(true, health, async |address| {
            let body =
                r#"{"ready":false,"reasons":[{"code":"no_token","count":2,"names":["reports","rotator"]}]}"#;
            check(&ask(address, "GET /readyz").await, "503", body);
        })
        .await;
    }

    #[tokio::test]
    async fn a_dropped_guard_stays_unready_and_a_lost_agent_is_not_live() {
        let (health, ready) = Health::new();
        drop(ready);
        assert!(!health.report().ready());
        health.give_up();
        with_port(false, health, async |address| {
            assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 503 "));
        })
        .await;
    }

    #[tokio::test]
    async fn only_get_and_head_of_four_pages() {
        let (health, _ready) = Health::new();
        with_port(false, health, async |address| {
            check(&ask(address, "GET /metrics").await, "200", "claviger_up 1\n");
            check(&ask(address, "HEAD /metrics").await, "200", "");
            check(&ask(address, "POST /metrics").await, "405", "GET or HEAD\n");
            check(&ask(address, "GET /secrets/stripe").await, "404", "no such page\n");
            let long = format!("GET /{}", "x".repeat(2 * HEAD));
            let answer = ask(address, &long).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        })
        .await;
    }

    #[tokio::test]
    async fn connections_that_say_nothing_do_not_keep_a_probe_out() {
        let (health, _ready) = Health::new();
        with_port(false, health, async |address| {
            let mut silent = Vec::new();
            for _ in 0..3 * CONNECTIONS {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200 "));
            // The oldest ones made room.
            assert_eq!(silent[0].read(&mut [0]).await.unwrap(), 0);
        })
        .await;
    }
}
