//! The sidecar's stream as a command reads it: opened, read event by event, opened anew where it was cut.
//!
//! Does not act on what it reads.

use super::super::client::{self, Client, Error};
use crate::name::SecretName;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, future::pending, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// The sidecar sends something each 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// How soon a stream that was cut is opened anew.
const AGAIN: Duration = Duration::from_secs(1);
/// An event is no longer than this.
const LONGEST: usize = 64 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Happened {
    event: String,
    #[serde(flatten)]
    data: Data,
    /// It is what was there when the watch began, and no change.
    #[serde(skip)]
    is_first: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Data {
    name: String,
    kind: Option<String>,
    generation: u64,
    rotation_id: Option<String>,
    valid_until: Option<String>,
    /// When it is to be rotated, of what is told ahead of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

impl Happened {
    /// Whether there is a new value.
    pub(super) fn is_change(&self) -> bool {
        self.event == "promoted" && !self.is_first
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        format!("{}\n", serde_json::to_string(self).unwrap_or_default())
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let Data { name, generation, rotation_id, valid_until, at, .. } = &self.data;
        let part = |word: &str, text: &Option<String>| {
            text.as_ref().map(|text| format!(", {word} {text}")).unwrap_or_default()
        };
        let word = match &*self.event {
            _ if self.is_first => "is at",
            "promoted" => "promoted to",
            "grace_ending" => "grace ends soon of",
            "revoked" => "no longer gives",
            "pending_soon" => "is rotated soon:",
            other => other,
        };
        let (run, until) = (part("rotation", rotation_id), part("valid until", valid_until));
        let at = part("at", at);
        format!("{name}: {word} generation {generation}{run}{until}{at}\n")
            .replace(|c: char| c.is_control() && c != '\n', " ")
    }
}

/// The stream.
pub(super) struct Feed {
    client: Client,
    target: String,
    body: Option<Incoming>,
    /// The connection behind it.
    connection: JoinSet<()>,
    unread: Vec<u8>,
    last: Option<String>,
    known: BTreeMap<String, (u64, Option<String>)>,
    forbidden: bool,
}

impl Feed {
    /// Opens it; a sidecar that starts is waited for.
    pub(super) async fn open(client: Client, names: &[SecretName], wait: Duration) -> Result<Self, Error> {
        let names: Vec<&str> = names.iter().map(SecretName::as_str).collect();
        let mut feed = Self {
            client,
            target: format!("/watch?names={}", names.join(",")),
            body: None,
            connection: JoinSet::new(),
            unread: Vec::new(),
            last: None,
            known: BTreeMap::new(),
            forbidden: false,
        };
        let end = Instant::now() + wait;
        loop {
            let Err(error) = feed.connect().await else { return Ok(feed) };
            match error.again() {
                Some(pause) if Instant::now() + pause < end => sleep(pause).await,
                _ => return Err(error),
            }
        }
    }

    /// Nothing more is to be read.
    pub(super) fn forbid(&mut self) {
        self.forbidden = true;
    }

    /// The next event. What is dropped while it waits is not lost.
    ///
    /// # Errors
    /// The sidecar says no: it is asked again in vain.
    pub(super) async fn next(&mut self) -> Result<Happened, Error> {
        if self.forbidden {
            return pending().await;
        }
        loop {
            while let Some(block) = self.block() {
                if let Some(happened) = self.take(&block) {
                    return Ok(happened);
                }
            }
            if self.read().await {
                continue;
            }
            (self.body, self.unread) = (None, Vec::new());
            sleep(AGAIN).await;
            match self.connect().await {
                Err(error) if error.again().is_none() && !matches!(error, Error::TimedOut { .. }) => {
                    return Err(error);
                }
                // The sidecar is away; what it tells then is not lost.
                _ => {}
            }
        }
    }

    async fn read(&mut self) -> bool {
        let Some(body) = &mut self.body else { return false };
        let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await else { return false };
        if let Some(piece) = frame.data_ref() {
            self.unread.extend_from_slice(piece);
        }
        self.unread.len() <= LONGEST
    }

    /// The next whole event of what was read.
    fn block(&mut self) -> Option<String> {
        let end = self.unread.windows(2).position(|two| two == b"\n\n")?;
        let block: Vec<u8> = self.unread.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&block).into_owned())
    }

    fn take(&mut self, block: &str) -> Option<Happened> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let data: Data = serde_json::from_str(field("data")?).ok()?;
        let event = field("event")?.to_owned();
        let boot = |id: &str| id.split('.').next().map(str::to_owned);
        let id = field("id").map(str::to_owned);
        let mut is_first = false;
        if event == "promoted" {
            let here = (data.generation, id.as_deref().and_then(boot));
            let before = self.known.insert(data.name.clone(), here.clone());
            // Of KV the generation is the engine's own, whoever reads it; of anything else another start has another value.
            let is_kv = data.kind.as_deref() == Some("kv");
            is_first = before.is_none_or(|before| before.0 == here.0 && (is_kv || before.1 == here.1));
        }
        self.last = id.or(self.last.take());
        Some(Happened { event, data, is_first })
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let at = self.client.socket.display().to_string();
        let limit = Duration::from_secs(10);
        let (connection, body) = client::within(limit, || at.clone(), self.ask(&at)).await?;
        (self.connection, self.body) = (connection, Some(body));
        Ok(())
    }

    async fn ask(&self, at: &str) -> Result<(JoinSet<()>, Incoming), Error> {
        let talk = |source| Error::Talk { at: at.to_owned(), source };
        let stream = self.client.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(talk)?;
        let mut carried = JoinSet::new();
        carried.spawn(async move {
            // Its errors reach the body too.
            let _ = connection.await;
        });
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = self.target.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(header::HOST, header::HeaderValue::from_static("claviger"));
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("text/event-stream"));
        if let Some(last) = self.last.as_ref().and_then(|last| last.parse().ok()) {
            headers.insert("last-event-id", last);
        }
        let response = sender.send_request(request).await.map_err(talk)?;
        client::opened(response, at).await.map(|body| (carried, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Feed {
        Feed {
            client: Client { socket: "/nowhere".into(), server_uid: None },
            target: String::new(),
            body: None,
            connection: JoinSet::new(),
            unread: Vec::new(),
            last: None,
            known: BTreeMap::new(),
            forbidden: false,
        }
    }

    /// What is a change among events of these kinds, boots and generations.
    fn check(kind: &str, events: &[(&str, u64, bool)]) {
        let mut feed = feed();
        for (boot, generation, expected) in events {
            let data = format!(r#"{{"name":"a","kind":"{kind}","generation":{generation}}}"#);
            feed.unread.extend_from_slice(
                format!(": beat\n\nevent: promoted\nid: {boot}.x.1\ndata: {data}\n\n").as_bytes(),
            );
            let mut happened = None;
            while let Some(block) = feed.block() {
                happened = feed.take(&block).or(happened);
            }
            assert_eq!(happened.unwrap().is_change(), *expected, "{kind} {boot} {generation}");
        }
        assert!(feed.last.is_some() && feed.unread.is_empty());
    }

    #[test]
    fn what_was_there_at_the_start_is_no_change_and_another_start_s_may_be() {
        check("kv", &[("b", 3, false), ("b", 4, true), ("c", 4, false), ("c", 5, true)]);
        check("lease", &[("b", 1, false), ("b", 2, true), ("c", 1, true), ("c", 1, false)]);
    }

    #[test]
    fn a_line_says_what_happened() {
        let mut feed = feed();
        let text = |word: &str, data: &str| format!("event: {word}\nid: b.x.1\ndata: {data}\n\n");
        let data = r#"{"name":"db","kind":"kv","generation":2,"rotation_id":"r1","valid_until":null}"#;
        let first = feed.take(&text("promoted", data)).unwrap();
        assert_eq!(first.line(), "db: is at generation 2, rotation r1\n");
        let revoked = feed.take(&text("revoked", data)).unwrap();
        assert!(revoked.line().starts_with("db: no longer gives generation 2") && !revoked.is_change());
        assert!(revoked.json().starts_with(r#"{"event":"revoked","name":"db","kind":"kv","generation":2,"#));
        assert_eq!(feed.take(&text("promoted", "{}")), None);
    }
}
