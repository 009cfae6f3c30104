//! An OpenTelemetry Collector as a receiver of logs over OTLP: its own receiver, and the exporter that prints all it received.
//! Built from tests/lab/otelcol; keeps and sends on nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::require_or_skip;
use crate::server::{Folder, RunAs, Server, free_port};

/// Somebody else may take a free port first.
const TRIES: usize = 5;

/// A running collector. Dropping it ends it.
#[derive(Debug)]
pub struct Collector {
    server: Server,
    // After `server`: fields are dropped in order.
    _folder: Folder,
    address: SocketAddr,
}

/// One log record, as the collector printed it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRecord {
    /// `EventName`.
    pub event: String,
    /// `Info(9)`.
    pub severity: String,
    /// As Go prints a time.
    pub time: String,
    /// Its body, which must be a text.
    pub body: String,
    /// Its attributes, each with its type: `Str(value)`.
    pub attributes: BTreeMap<String, String>,
    /// The attributes of what it came from.
    pub resource: BTreeMap<String, String>,
    /// Hexadecimal; empty if there is none.
    pub trace_id: String,
    /// The same.
    pub span_id: String,
}

impl Collector {
    /// Starts one that takes OTLP over HTTP on 127.0.0.1. `None`: skip the test, as in [`require_or_skip`].
    ///
    /// # Panics
    /// When it is there but does not start, or is missing and required.
    pub fn start() -> Option<Collector> {
        let program = require_or_skip("otelcol")?;
        let mut said = String::new();
        for _ in 0..TRIES {
            let folder = Folder::make("otelcol", RunAs::Same);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let config = format!(
                r#"receivers: {{otlp: {{protocols: {{http: {{endpoint: "{address}"}}}}}}}}
exporters: {{debug: {{verbosity: detailed, use_internal_logger: false}}}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines: {{logs: {{receivers: [otlp], exporters: [debug]}}}}
"#
            );
            let file = folder.path().join("otelcol.yaml");
            fs::write(&file, config).unwrap_or_else(|error| panic!("writing {}: {error}", file.display()));
            let mut command = Command::new(&program);
            command.arg("--config").arg(&file);
            let server = Server::start("otelcol", &command, &folder, RunAs::Same, Signal::SIGTERM);
            match server.wait_until(|| TcpStream::connect(address).ok()) {
                Ok(_) => return Some(Collector { server, _folder: folder, address }),
                Err(log) => said = log,
            }
        }
        panic!("the collector ended at its start; its log:\n{said}")
    }

    /// Where it takes logs.
    pub fn url(&self) -> String {
        format!("http://{}/v1/logs", self.address)
    }

    /// What it has received so far, in order; a record that it is printing right now is left out.
    pub fn records(&self) -> Vec<LogRecord> {
        let (mut records, mut record, mut resource) = (Vec::new(), None, BTreeMap::new());
        for line in self.server.log().lines() {
            let attribute = line.trim_start().strip_prefix("-> ").and_then(|pair| pair.split_once(": "));
            let said =
                line.split_once(':').map(|(key, value)| (key, value.strip_prefix(' ').unwrap_or(value)));
            match (&mut record, said) {
                (None, _) if line.starts_with("ResourceLog #") => resource.clear(),
                (_, _) if line.starts_with("LogRecord #") => {
                    record = Some(LogRecord { resource: resource.clone(), ..LogRecord::default() });
                }
                (None, _) => resource.extend(attribute.map(owned)),
                (Some(of), _) if attribute.is_some() => of.attributes.extend(attribute.map(owned)),
                (Some(of), Some(("EventName", value))) => value.clone_into(&mut of.event),
                (Some(of), Some(("SeverityNumber", value))) => value.clone_into(&mut of.severity),
                (Some(of), Some(("Timestamp", value))) => value.clone_into(&mut of.time),
                (Some(of), Some(("Body", value))) => of.body = text(value),
                (Some(of), Some(("Trace ID", value))) => value.clone_into(&mut of.trace_id),
                (Some(of), Some(("Span ID", value))) => value.clone_into(&mut of.span_id),
                // The last line of each.
                (Some(_), Some(("Flags", _))) => records.extend(record.take()),
                _ => {}
            }
        }
        records
    }
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn text(value: &str) -> String {
    let inside = value.strip_prefix("Str(").and_then(|rest| rest.strip_suffix(')'));
    inside.unwrap_or_else(|| panic!("a body that is no text: {value}")).to_owned()
}
