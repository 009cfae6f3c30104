//! Puts every event on disk before anything is disclosed, and gives the receipt for it.
//!
//! Does not render answers, and never holds a secret.

pub mod event;
mod reason;
pub mod sink;
mod stub;

pub use stub::{Audit, Error, Receipt};

use crate::policy::rule::AuditMode;
use std::path::PathBuf;

/// How events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The mode where a rule asks for nothing stronger.
    pub mode: AuditMode,
    /// The file that holds events first.
    pub journal: Journal,
    /// Where events go on to.
    pub sinks: Vec<sink::Settings>,
    /// `urn:claviger:CLUSTER/NAMESPACE/POD/AGENT`; what is unknown is left out.
    pub source: String,
    /// Whether paths in Vault are hashed in events.
    pub hash_paths: bool,
}

/// The journal's directory and sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Ours alone; made with mode 0700 when missing.
    pub dir: PathBuf,
    /// All segments together, in bytes: at least 8 MiB.
    pub max_size: u64,
    /// One segment, in bytes: 1 to 64 MiB.
    pub segment: u64,
    /// How long a sealed segment is kept at least.
    pub retain: std::time::Duration,
}
