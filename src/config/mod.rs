//! The config file: `load` gives a `Config` that cannot be wrong, or everything that is wrong with it.
//!
//! No module imports this one except `app` and `cli`: each owns its `Settings`, and this module fills them.

use crate::{audit, keeper, listener, peer, policy, shutdown, telemetry, vault};

/// A config that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `vault`.
    pub vault: vault::Settings,
    /// `identities`, by name.
    pub identities: Vec<vault::login::Settings>,
    /// `secrets`, by name.
    pub secrets: Vec<keeper::Settings>,
    /// `workloads`, by name.
    pub workloads: Vec<Workload>,
    /// `audit`.
    pub audit: audit::Settings,
    /// `health`.
    pub health: telemetry::health::Settings,
    /// `shutdown`.
    pub shutdown: shutdown::Settings,
    /// `log`.
    pub log: telemetry::LogSettings,
    /// `sha256:` and 16 hex digits of the file's hash.
    pub revision: String,
}

/// One workload: its socket, its peer, its rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its socket and limits.
    pub listener: listener::Settings,
    /// Who may connect.
    pub peer: peer::Settings,
    /// What it may ask for.
    pub policy: policy::Settings,
}
