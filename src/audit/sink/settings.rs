//! What a sink is, as the config says it. No secret: only the names of the files that hold one.
//!
//! Pure.

use super::format::Format;
pub use crate::receiver::{ClientCert, Receiver, Tls};

use crate::name::SinkName;
use std::{path::PathBuf, time::Duration};

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The key in `audit.sinks`.
    pub name: SinkName,
    /// What it is.
    pub kind: Kind,
    /// How its events are spelled.
    pub format: Format,
    /// Whether the journal keeps what it did not take yet.
    pub required: Need,
}

/// Whether the journal waits for a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// What it did not take yet stays in the journal; once that is full, nothing is disclosed.
    Required,
    /// It is a service: what it did not take when room is needed is skipped, and that is said.
    Optional,
}

/// The kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One line an event, to our standard output.
    Stdout,
    /// One line an event, to a file of ours.
    File(File),
    /// `POST` of lines or of a CloudEvents batch.
    Http(Http),
    /// OpenTelemetry's logs, as JSON over HTTP.
    Otlp(Otlp),
    /// RFC 5424.
    Syslog(Syslog),
    /// Splunk's HTTP event collector.
    Splunk(Splunk),
}

impl Kind {
    /// Whether it sends events to another machine, or at least over the network: what `strict-remote` waits for.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Http(_) | Self::Otlp(_) | Self::Splunk(_) => true,
            Self::Syslog(syslog) => !matches!(syslog.address, Address::Unix(_)),
            Self::Stdout | Self::File(_) => false,
        }
    }
}

/// A file that is rotated by renaming: `FILE`, `FILE.1` …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Made with mode 0600 when missing; its directory must be there.
    pub path: PathBuf,
    /// Bytes after which it is rotated.
    pub max_size: u64,
    /// How many rotated files are kept.
    pub keep: u32,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where it is.
    pub to: Receiver,
    /// The key of the `Claviger-Signature` header.
    pub hmac_key_file: Option<PathBuf>,
    /// The token of the `Authorization` header.
    pub bearer_file: Option<PathBuf>,
}

/// An OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Its logs' address, which ends in `/v1/logs`.
    pub to: Receiver,
    /// The token of the `Authorization` header.
    pub bearer_file: Option<PathBuf>,
}

/// A syslog receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// Where it is.
    pub address: Address,
    /// 0 to 23 (RFC 5424 section 6.2.1).
    pub facility: u8,
    /// 1 to 48 printable ASCII characters.
    pub app_name: String,
    /// Bytes of the longest message, header included; instead of a longer event a short one is sent that names it.
    pub max_message: usize,
    /// Of a TLS address.
    pub tls: Tls,
    /// For connecting, and for handing over one batch.
    pub timeout: Duration,
}

/// Where a syslog receiver is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// RFC 6587 with octet counting.
    Tcp {
        /// A name or an address.
        host: String,
        /// By custom 601.
        port: u16,
    },
    /// RFC 5425.
    Tls {
        /// The name that its certificate must have.
        host: String,
        /// By standard 6514.
        port: u16,
    },
    /// A datagram socket of this machine.
    Unix(PathBuf),
}

/// Splunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splunk {
    /// Its address without a path.
    pub to: Receiver,
    /// The collector's token.
    pub token_file: PathBuf,
    /// The index to write to; the token's own when not given.
    pub index: Option<String>,
    /// Whether the indexer's acknowledgement is waited for.
    pub ack: Ack,
}

/// When a batch counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// When the indexer says that it is on disk.
    Indexed,
    /// When Splunk has taken it.
    Taken,
}
