//! Receivers of messages that are not Vault: where one is, how it is spoken to over HTTP, and what proves to it who we are.
//!
//! Does not retry and does not know what a message says: audit's sinks and the webhooks of approvals do.

pub mod client;
mod credential;

pub use client::{Answer, Client, LARGEST_ANSWER, text};
pub use credential::Credential;

use std::{fmt, path::PathBuf, time::Duration};
use url::Url;

/// A receiver that is spoken to over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Where to post to; without a user or a password.
    pub url: Url,
    /// Whom to trust, and who we are.
    pub tls: Tls,
    /// From the first byte of a request to the last one of its answer.
    pub timeout: Duration,
}

/// Files that are read again after every failure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM; the only trust root when given, else the system's.
    pub ca_file: Option<PathBuf>,
    /// What we show of ourselves.
    pub client_cert: Option<ClientCert>,
}

/// A certificate with its chain, and its key; PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate first.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// There was no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Lost {
    /// `connect`, `timeout`, `io` or `credential`.
    pub code: &'static str,
    /// For the log; without a secret.
    pub why: String,
}

impl Lost {
    /// One, for metrics and the log.
    pub fn new(code: &'static str, why: impl fmt::Display) -> Self {
        Self { code, why: why.to_string() }
    }
}
