//! What of a journalled event the other forms need, read back from its bytes.
//!
//! Pure. What is not there stays empty: a rendering never fails.

use super::batch::Item;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// One event.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) source: Option<String>,
    /// RFC 3339, microseconds.
    pub(super) time: Option<String>,
    pub(super) recorded: Option<String>,
    pub(super) severity: u64,
    pub(super) outcome: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) workload: Option<String>,
    pub(super) identity: Option<String>,
    pub(super) latency_us: Option<u64>,
    pub(super) truncated: bool,
    pub(super) orig_size: Option<u64>,
    pub(super) chain: Option<Chain>,
    pub(super) actor: Option<Actor>,
    pub(super) resource: Option<Resource>,
    pub(super) rule: Option<Rule>,
    pub(super) vault: Option<Vault>,
    pub(super) trace: Option<Trace>,
    pub(super) report: Option<Report>,
}

impl Head {
    /// When it happened.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.time.as_ref()?.parse().ok()
    }

    /// The word of OpenTelemetry's severity number.
    pub(super) fn severity_text(&self) -> &'static str {
        match self.severity {
            0..=12 => "INFO",
            13..=16 => "WARN",
            17..=20 => "ERROR",
            _ => "FATAL",
        }
    }

    /// The peer's process, if it is not hidden.
    pub(super) fn pid(&self) -> Option<u64> {
        self.actor.as_ref()?.pid.as_u64()
    }

    /// When the journal took it.
    pub(super) fn recorded(&self) -> Option<Timestamp> {
        self.recorded.as_ref()?.parse().ok()
    }
}

/// A finding of a report on keys and permissions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    pub(super) id: Option<String>,
    pub(super) title: Option<String>,
    pub(super) about: Option<String>,
    pub(super) evidence: Vec<String>,
    pub(super) fix: Option<String>,
    /// RFC 3339, seconds.
    pub(super) last_used: Option<String>,
    pub(super) unused: Option<u64>,
}

/// What the peer says that its request belongs to, in hexadecimal digits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Trace {
    pub(super) id: String,
    pub(super) span: String,
}

/// Which chain it continues.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chain {
    pub(super) uid: String,
    pub(super) prev: String,
}

/// Who asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Actor {
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// A number, or `hidden`.
    pub(super) pid: Value,
    pub(super) exe: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resource {
    pub(super) secret: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) path: Option<String>,
    pub(super) version: Option<u64>,
}

/// Which rule allowed it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) rev: Option<String>,
}

/// What Vault said.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Vault {
    pub(super) request_id: Option<String>,
}

impl Item {
    /// What other forms need of it.
    pub(super) fn head(&self) -> Head {
        serde_json::from_slice(&self.native).unwrap_or_default()
    }
}
