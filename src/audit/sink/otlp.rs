//! OpenTelemetry's logs: `ExportLogsServiceRequest` as JSON over HTTP (opentelemetry-proto 1.x, `logs/v1`).
//!
//! The body of each record is the journalled line, so the hash chain can be checked behind the collector. A partial
//! success is never sent again, as the protocol demands; it does not say which records were rejected.

use super::{
    batch::Item,
    outlet::{self, Outlet, Pace, Verdict},
    settings,
};
use crate::receiver::{Answer, Client, Credential};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use std::{future::Future, path::PathBuf, pin::Pin};

/// The outlet of kind `otlp`.
pub(super) struct Logs {
    client: Client,
    bearer_file: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    resource_logs: [ResourceLogs; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    resource: Resource,
    scope_logs: [ScopeLogs; 1],
}

#[derive(Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    scope: Scope,
    log_records: Vec<Record>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// 64-bit integers are decimal texts in protobuf's JSON.
    time_unix_nano: String,
    observed_time_unix_nano: String,
    severity_number: u64,
    severity_text: &'static str,
    event_name: String,
    body: Value,
    attributes: Vec<Attribute>,
    /// Hexadecimal, unlike other bytes in protobuf's JSON (OTLP specification, "JSON Protobuf Encoding").
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
}

#[derive(Serialize)]
struct Attribute {
    key: &'static str,
    value: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Value {
    StringValue(String),
    IntValue(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    partial_success: Option<Partial>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Partial {
    /// A text or a number: protobuf's JSON takes both.
    rejected_log_records: serde_json::Value,
}

impl Logs {
    pub(super) fn new(settings: settings::Otlp) -> Self {
        let settings::Otlp { to, bearer_file } = settings;
        Self { client: Client::new(to), bearer_file }
    }

    async fn post(&mut self, items: &[Item]) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(file) = &self.bearer_file {
            match Credential::read(file).and_then(|token| token.header("Bearer")) {
                Ok(value) => drop(headers.insert(header::AUTHORIZATION, value)),
                Err(why) => return Verdict::failed("credential", why),
            }
        }
        let body = match serde_json::to_vec(&export(items)) {
            Ok(body) => body,
            Err(error) => return Verdict::failed("io", error),
        };
        match self.client.post(self.client.url().clone(), headers, body).await {
            Ok(answer) => verdict(&answer),
            Err(lost) => lost.into(),
        }
    }
}

fn verdict(answer: &Answer) -> Verdict {
    match outlet::verdict(answer) {
        Verdict::Delivered => {
            let said: Said = serde_json::from_slice(&answer.body).unwrap_or_default();
            let rejected = said.partial_success.unwrap_or_default().rejected_log_records;
            let count = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
            if count > 0 { Verdict::Partly(count) } else { Verdict::Delivered }
        }
        other => other,
    }
}

fn export(items: &[Item]) -> Export {
    let source = items.first().and_then(|item| item.head().source).unwrap_or_default();
    let attributes = vec![
        Attribute::text("service.name", "claviger"),
        Attribute::text("service.version", env!("CARGO_PKG_VERSION")),
        Attribute::text("service.instance.id", source),
    ];
    let scope = Scope { name: "claviger.audit", version: env!("CARGO_PKG_VERSION") };
    let log_records = items.iter().map(record).collect();
    let scope_logs = [ScopeLogs { scope, log_records }];
    Export { resource_logs: [ResourceLogs { resource: Resource { attributes }, scope_logs }] }
}

fn record(item: &Item) -> Record {
    let head = item.head();
    let (time, recorded) = (head.time(), head.recorded());
    let nanos = |time: Option<jiff::Timestamp>| time.map_or(0, jiff::Timestamp::as_nanosecond).to_string();
    let mut attributes = vec![
        Attribute::text("log.record.uid", item.id()),
        Attribute::text("audit.sequence.number", item.place.seq.to_string()),
    ];
    let mut add =
        |key, value: Option<String>| attributes.extend(value.map(|value| Attribute::text(key, value)));
    add("audit.sequence.prev_hash", head.chain.as_ref().map(|chain| chain.prev.clone()));
    add("claviger.outcome", head.outcome.clone());
    add("error.type", head.reason.clone());
    add("claviger.workload", head.workload.clone());
    add("claviger.secret", head.resource.as_ref().and_then(|resource| resource.secret.clone()));
    add("security_rule.name", head.rule.as_ref().map(|rule| rule.name.clone()));
    add("user.id", head.actor.as_ref().map(|actor| actor.uid.to_string()));
    let pid = head.pid().map(|pid| Value::IntValue(pid.to_string()));
    attributes.extend(pid.map(|value| Attribute { key: "process.pid", value }));
    Record {
        time_unix_nano: nanos(time),
        observed_time_unix_nano: nanos(recorded),
        severity_number: head.severity,
        severity_text: head.severity_text(),
        event_name: head.kind,
        body: Value::StringValue(String::from_utf8_lossy(&item.native).into_owned()),
        attributes,
        trace_id: head.trace.as_ref().map(|trace| trace.id.clone()),
        span_id: head.trace.map(|trace| trace.span),
    }
}

impl Attribute {
    fn text(key: &'static str, value: impl Into<String>) -> Self {
        Self { key, value: Value::StringValue(value.into()) }
    }
}

impl Outlet for Logs {
    fn send<'a>(&'a mut self, items: &'a [Item]) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        Box::pin(self.post(items))
    }

    fn pace(&self) -> Pace {
        Pace::REMOTE
    }
}
