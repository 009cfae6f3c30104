//! A whole request path on a real socket: a shelf that tests fill by hand, and a client that speaks HTTP byte by byte.
//!
//! Does not parse HTTP beyond what it needs to find the end of an answer.

use crate::{
    access::{Access, CallStep, Observe, Outcome, Parts, Rules, Seen, Type},
    audit::{self, Audit},
    broker::Broker,
    clock::Timestamp,
    keeper::{
        Held, Keeper, Shelf,
        value::{Content, Value},
    },
    listener::{Limits, Listener, Settings},
    name::{RuleName, SecretName, UpstreamName, WorkloadName},
    peer::{self, level::Level},
    policy::{
        self, Policy,
        rule::{AuditMode, Rule},
    },
    secret::SecretValue,
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// No wait in these tests is longer; one that is fails.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Agent {
    pub(super) path: PathBuf,
    pub(super) access: Arc<Access>,
    pub(super) audit: Audit,
    pub(super) limits: Arc<ArcSwap<Limits>>,
    pub(super) seen: Arc<Counts>,
    pub(super) stop: CancellationToken,
    pub(super) cut: CancellationToken,
    shelves: BTreeMap<&'static str, watch::Sender<Shelf>>,
    unfinished: TaskTracker,
    running: JoinSet<()>,
    directory: TempDir,
}

/// Counts by reason.
#[derive(Default)]
pub(super) struct Counts(pub(super) Mutex<BTreeMap<&'static str, u32>>);

impl Observe for Counts {
    fn seen(&self, seen: &Seen<'_>) {
        let word = seen.reason.map_or("allow", |reason| reason.word());
        *self.0.lock().unwrap().entry(word).or_default() += 1;
    }

    fn recorded(&self, _: Type, _: Outcome) {}

    fn called(&self, _: &UpstreamName, _: &RuleName, _: CallStep) {}
}

/// Peer settings that fit these tests' own process.
pub(super) fn ourselves() -> peer::Settings {
    let uids = vec![nix::unistd::geteuid().as_raw()];
    peer::Settings {
        uids,
        gids: vec![],
        groups: vec![],
        level: Level::Process,
        strangers: peer::Strangers::default(),
        program: None,
    }
}

/// Rules of `report-job`, each `(name, secrets)`.
pub(super) fn rules(rules: &[(&str, &[&str])]) -> Policy {
    policy_of(rules.iter().map(|(name, secrets)| rule(name, secrets)).collect())
}

pub(super) fn rule(name: &str, secrets: &[&str]) -> Rule {
    Rule {
        name: RuleName::new(name).unwrap(),
        secrets: secrets.iter().map(|name| SecretName::new(name).unwrap()).collect(),
        audit: None,
        requests_per_second: None,
        break_glass: None,
        approval: None,
    }
}

pub(super) fn policy_of(rules: Vec<Rule>) -> Policy {
    Policy::of(&policy::Settings {
        workload: workload(),
        rules,
        forwards: Vec::new(),
        calls: Vec::new(),
        bridge: policy::Bridge::Deny,
        revision: "sha256:0123456789abcdef".into(),
    })
}

pub(super) fn workload() -> WorkloadName {
    WorkloadName::new("report-job").unwrap()
}

/// A journal in the test's own folder.
fn journal(directory: &TempDir) -> audit::Settings {
    let size = 8 * 1024 * 1024;
    audit::Settings {
        mode: AuditMode::Buffered,
        journal: audit::Journal {
            dir: directory.path().join("audit"),
            max_size: size,
            segment: size / 8,
            retain: Duration::ZERO,
        },
        sinks: Vec::new(),
        workloads: 1,
        source: "urn:claviger:test".into(),
        pod: None,
        hash_paths: false,
        fingerprint_key: None,
        checkpoints: None,
        handoff: None,
    }
}

/// A kv value of one field, whose JSON text is given.
pub(super) fn one(name: &str, generation: u64, json: &str) -> Value {
    Value::for_test(name, generation, Content::One(SecretValue::new(json.into())))
}

pub(super) fn fields(name: &str, generation: u64, fields: &[(&str, &str)]) -> Value {
    let field = |(name, json): &(&str, &str)| ((*name).to_owned(), SecretValue::new((*json).into()));
    Value::for_test(name, generation, Content::Fields(fields.iter().map(field).collect()))
}

pub(super) fn held(value: Value) -> Held {
    Held {
        value: Arc::new(value),
        confirmed: Instant::now(),
        expires_at: Some(Timestamp::UNIX_EPOCH),
        serve_until: None,
        stale_from: None,
    }
}

impl Agent {
    /// `report-job` may read `stripe` and `orders-db`, both of which have a value; `ci-token` exists, and no rule names it.
    pub(super) fn start() -> Self {
        Self::start_with(ourselves(), Limits::default())
    }

    pub(super) fn start_with(peer: peer::Settings, limits: Limits) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("claviger.sock");
        let policy = rules(&[("keys", &["stripe", "nothing-yet"]), ("database", &["orders-db"])]);
        let shelves: BTreeMap<_, _> = ["stripe", "orders-db", "ci-token", "nothing-yet"]
            .into_iter()
            .map(|name| (name, watch::Sender::new(Shelf::default())))
            .collect();
        let receivers =
            shelves.iter().map(|(name, sender)| (SecretName::new(name).unwrap(), sender.subscribe()));
        let audit = Audit::open(&journal(&directory), |_| {}).unwrap();
        let seen = Arc::new(Counts::default());
        let (stop, cut, unfinished) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let parts = Parts {
            approvals: crate::approval::Approvals::none(),
            broker: Broker::new(Keeper::default()).unwrap(),
            attestor: None,
            forward: None,
            keeper: Keeper::of(receivers.collect()),
            audit: audit.clone(),
            observe: Arc::clone(&seen) as Arc<dyn Observe>,
            unfinished: unfinished.clone(),
            stopping: stop.clone(),
        };
        let access = Arc::new(Access::new(workload(), Rules { peer, policy }, parts));
        let settings = Settings { workload: workload(), path: path.clone(), mode: 0o666, limits };
        let limits = Arc::new(ArcSwap::from_pointee(limits));
        let listener = Listener::bind(&settings, Arc::clone(&limits), Arc::clone(&access)).unwrap();
        let mut running = JoinSet::new();
        running.spawn(listener.run(stop.clone(), cut.clone()));
        let agent =
            Self { path, access, audit, limits, seen, stop, cut, shelves, unfinished, running, directory };
        agent.shelve("stripe", held(one("stripe", 7, "\"sk_live_4242\"")));
        let pair = [("username", "\"v-orders\""), ("password", "\"pw-4711\"")];
        agent.shelve("orders-db", held(fields("orders-db", 1, &pair)));
        agent.shelve("ci-token", held(one("ci-token", 1, "\"hvs.never\"")));
        agent
    }

    /// Puts a value on the shelf; the one before it stays as the previous one.
    pub(super) fn shelve(&self, name: &str, held: Held) {
        self.shelves[name].send_modify(|shelf| {
            shelf.previous = shelf.current.take();
            shelf.current = Some(held);
        });
    }

    pub(super) fn shelf(&self, name: &str) -> &watch::Sender<Shelf> {
        &self.shelves[name]
    }

    pub(super) async fn connect(&self) -> Client {
        let connected = timeout(LIMIT, UnixStream::connect(&self.path)).await;
        Client { stream: connected.unwrap().unwrap(), unread: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.receive().await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    /// The events that are in the journal.
    pub(super) fn journal(&self) -> Vec<serde_json::Value> {
        let lines = audit::journal::read(&self.directory.path().join("audit")).unwrap();
        lines.map(|(_, line)| serde_json::from_slice(&line).unwrap()).collect()
    }

    /// Each event as `type outcome reason secret rule`, with `-` for what is not there.
    pub(super) fn events(&self) -> Vec<String> {
        let line = |event: serde_json::Value| {
            let word = |at: &str| event.pointer(at).and_then(|word| word.as_str()).unwrap_or("-").to_owned();
            ["/type", "/outcome", "/reason", "/resource/secret", "/rule/name"].map(word).join(" ")
        };
        self.journal().into_iter().map(line).collect()
    }

    /// Waits until there are `count` events. The journal's thread goes by the real time: where the runtime's stands still and
    /// is advanced by this very wait, it must not run away from it.
    pub(super) async fn await_events(&self, count: usize) -> Vec<String> {
        let give_up = std::time::Instant::now() + LIMIT;
        while self.journal().len() < count {
            assert!(std::time::Instant::now() < give_up, "only {:?}", self.events());
            tokio::time::sleep(Duration::from_millis(20)).await;
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.events()
    }

    /// Stops, and waits for the end of it.
    pub(super) async fn end(&mut self) {
        self.stop.cancel();
        timeout(LIMIT, self.running.join_next()).await.unwrap().unwrap().unwrap();
        self.unfinished.close();
        timeout(LIMIT, self.unfinished.wait()).await.unwrap();
    }
}

pub(super) struct Client {
    pub(super) stream: UnixStream,
    unread: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Header lines in lower case, without the status line.
    pub(super) head: String,
    pub(super) body: String,
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        timeout(LIMIT, self.stream.write_all(text.as_bytes())).await.unwrap().unwrap();
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        self.receive().await
    }

    /// The next answer; panics if the connection ends before it.
    pub(super) async fn receive(&mut self) -> Answer {
        self.try_receive().await.expect("an answer")
    }

    /// The next answer, or nothing if the connection ends first.
    pub(super) async fn try_receive(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, end)) = parse(&self.unread) {
                self.unread.drain(..end);
                return Some(answer);
            }
            if timeout(LIMIT, self.stream.read_buf(&mut self.unread)).await.unwrap().unwrap_or_default() == 0
            {
                return None;
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let text = String::from_utf8_lossy(bytes);
    let end = text.find("\r\n\r\n")?;
    let (line, head) = text[..end].split_once("\r\n").unwrap_or((&text[..end], ""));
    let head = head.to_lowercase();
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = if status == 304 { 0 } else { length.map_or(0, |length| length.parse().unwrap()) };
    let body = bytes.get(end + 4..end + 4 + length)?;
    let body = String::from_utf8(body.to_vec()).unwrap();
    Some((Answer { status, head, body }, end + 4 + length))
}
