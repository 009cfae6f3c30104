//! Splunk's HTTP event collector: one JSON object an event, `fields.event_id` for those who remove duplicates.
//!
//! Without `ack` a batch is delivered when Splunk has taken it, which is not yet on its disk. With it, when the indexer
//! says so; an indexer that does not within a minute gets the batch again.

use super::{
    batch::Item,
    format::Format,
    outlet::{self, Code, Outlet, Pace, Verdict},
    settings::{self, Ack},
};
use crate::{
    crypto,
    receiver::{Answer, Client, Credential, text},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, future::Future, io, path::PathBuf, pin::Pin, time::Duration};
use tokio::time::{Instant, sleep};
use url::Url;

/// Between two questions whether a batch is indexed.
const ASK: Duration = Duration::from_secs(1);
/// How long is asked for one batch.
const PATIENCE: Duration = Duration::from_secs(60);

/// The outlet of kind `splunk`.
pub(super) struct Collector {
    client: Client,
    token_file: PathBuf,
    index: Option<String>,
    ack: Ack,
    /// Names our requests to the indexers: a GUID, new at each start.
    channel: String,
    format: Format,
}

#[derive(Serialize)]
struct Posted<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    sourcetype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'a str>,
    event: &'a RawValue,
    fields: Fields,
}

#[derive(Serialize)]
struct Fields {
    event_id: String,
}

#[derive(Deserialize, Default)]
struct Said {
    #[serde(default)]
    code: Option<u64>,
    #[serde(default, rename = "ackId")]
    ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct Acks {
    acks: BTreeMap<String, bool>,
}

impl Collector {
    pub(super) fn new(settings: settings::Splunk, format: Format) -> io::Result<Self> {
        let settings::Splunk { to, token_file, index, ack } = settings;
        let guid = crypto::hex(&crypto::random::<16>()?);
        let part = |from: usize, to: usize| guid.get(from..to).unwrap_or_default().to_owned();
        let channel = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-");
        Ok(Self { client: Client::new(to), token_file, index, ack, channel, format })
    }

    async fn post(&mut self, items: &[Item]) -> Verdict {
        let body = match self.body(items) {
            Ok(body) => body,
            Err(error) => return Verdict::failed("io", error),
        };
        let answer = match self.ask("/services/collector/event", body).await {
            Ok(answer) => answer,
            Err(lost) => return lost,
        };
        let said: Said = serde_json::from_slice(&answer.body).unwrap_or_default();
        match (verdict(&answer, &said), self.ack, said.ack_id) {
            (Verdict::Delivered, Ack::Indexed, Some(id)) => self.indexed(id).await,
            (Verdict::Delivered, Ack::Indexed, None) => Verdict::failed(
                "ack",
                "Splunk gives no ackId: turn indexer acknowledgement on for this token",
            ),
            (verdict, ..) => verdict,
        }
    }

    /// Asks until the indexer has it.
    async fn indexed(&mut self, id: u64) -> Verdict {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer =
                match self.ask("/services/collector/ack", format!("{{\"acks\":[{id}]}}").into()).await {
                    Ok(answer) => answer,
                    Err(lost) => return lost,
                };
            let acks = serde_json::from_slice::<Acks>(&answer.body).ok();
            if answer.status == 200 && acks.is_some_and(|acks| acks.acks.get(&id.to_string()) == Some(&true))
            {
                return Verdict::Delivered;
            }
            if Instant::now() >= deadline {
                return Verdict::failed(
                    "ack",
                    "the indexer did not say within a minute that it has the batch",
                );
            }
            sleep(ASK).await;
        }
    }

    async fn ask(&mut self, path: &str, body: Vec<u8>) -> Result<Answer, Verdict> {
        let credential = |why| Verdict::failed("credential", why);
        let token = Credential::read(&self.token_file).map_err(credential)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token.header("Splunk").map_err(credential)?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.ack == Ack::Indexed {
            headers.insert(HeaderName::from_static("x-splunk-request-channel"), text(&self.channel));
        }
        let url: Url = self.client.url().join(path).map_err(|error| Verdict::failed("connect", error))?;
        Ok(self.client.post(url, headers, body).await?)
    }

    fn body(&self, items: &[Item]) -> serde_json::Result<Vec<u8>> {
        let mut body = Vec::new();
        for item in items {
            let event: Box<RawValue> = serde_json::from_slice(&self.format.render(item))?;
            let head = item.head();
            let time = head
                .time()
                .map(|time| format!("{}.{:06}", time.as_second(), time.subsec_nanosecond() / 1000));
            let posted = Posted {
                time: time.as_deref(),
                source: head.source.as_deref(),
                sourcetype: "claviger:audit",
                index: self.index.as_deref(),
                event: &event,
                fields: Fields { event_id: item.id() },
            };
            serde_json::to_writer(&mut body, &posted)?;
            body.push(b'\n');
        }
        Ok(body)
    }
}

/// Splunk answers 400 also to what is wrong with the token or the index: that is no fault of an event.
fn verdict(answer: &Answer, said: &Said) -> Verdict {
    const NOT_THE_EVENTS: [u64; 4] = [7, 10, 11, 14];
    match outlet::verdict(answer) {
        Verdict::Refused(Code::Status(400))
            if said.code.is_some_and(|code| NOT_THE_EVENTS.contains(&code)) =>
        {
            outlet::failed(answer, format!("HTTP 400, Splunk's code {}", said.code.unwrap_or(0)))
        }
        verdict => verdict,
    }
}

impl Outlet for Collector {
    fn send<'a>(&'a mut self, items: &'a [Item]) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        Box::pin(self.post(items))
    }

    fn pace(&self) -> Pace {
        Pace::REMOTE
    }
}
