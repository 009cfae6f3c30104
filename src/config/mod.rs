//! The config file: `load` gives a `Config` that cannot be wrong, or everything that is wrong with it.
//!
//! No module imports this one except `app` and `cli`: each owns its `Settings`, and this module fills them.

mod change;
mod check;
mod environment;
mod file;
mod plan;
mod problem;
mod reader;
#[cfg(test)]
mod rotation_tests;
#[cfg(test)]
mod tests;
mod unit;
pub mod watch;

pub use change::{Live, NeedsRestart, change};
pub use environment::{Cluster, Environment};
pub use problem::{Problem, Rejected};
pub use unit::duration;

use crate::{
    approval, audit, broker, crypto, keeper, listener,
    name::UpstreamName,
    peer,
    policy::{self, rule::AuditMode},
    report, rotation, sandbox, shutdown, telemetry, vault,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// A config that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `vault`.
    pub vault: vault::Settings,
    /// `identities`, by name.
    pub identities: Vec<vault::login::Settings>,
    /// `secrets`, by name.
    pub secrets: Vec<keeper::Settings>,
    /// `upstreams`, by name.
    pub upstreams: Vec<broker::Settings>,
    /// `workloads`, by name.
    pub workloads: Vec<Workload>,
    /// `approvals`, by name.
    pub approvals: Vec<approval::Settings>,
    /// `rotations`, by name.
    pub rotations: Vec<rotation::Settings>,
    /// `report`, if reports are to be made.
    pub report: Option<report::Settings>,
    /// Those of `rotations` that each replica does for itself, by name.
    pub local: Vec<rotation::local::Settings>,
    /// `audit`.
    pub audit: audit::Settings,
    /// `health`.
    pub health: telemetry::health::Settings,
    /// `sandbox`.
    pub sandbox: sandbox::Mode,
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
    /// The sockets of the upstreams that it may call.
    pub upstreams: BTreeMap<UpstreamName, PathBuf>,
    /// Who may connect.
    pub peer: peer::Settings,
    /// What it may ask for.
    pub policy: policy::Settings,
}

/// What came of a file without problems.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to run.
    pub config: Config,
    /// What a person should look at, in the order of the file.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Whether the attestor is needed: at level `program`, at level `container` for peers whose PIDs are hidden, and to look into processes
    /// for values that must not be there.
    #[must_use]
    pub fn needs_attestor(&self) -> bool {
        self.looks_into_processes()
            || self.workloads.iter().any(|workload| workload.peer.level >= peer::level::Level::Container)
    }

    /// Whether reports look into permitted processes for values that must not be there.
    #[must_use]
    pub fn looks_into_processes(&self) -> bool {
        let exposure = self.report.as_ref().and_then(|report| report.exposure.as_ref());
        exposure.is_some_and(|exposure| exposure.has_processes)
    }

    /// Whether a process with this uid may be a peer of some workload.
    #[must_use]
    pub fn has_workload_of(&self, uid: u32) -> bool {
        self.workloads
            .iter()
            .any(|workload| workload.peer.uids.is_empty() || workload.peer.uids.contains(&uid))
    }

    /// Whether some answers must wait for the journal: whether it can be written then matters to readiness.
    #[must_use]
    pub fn needs_journal(&self) -> bool {
        let rules = self.workloads.iter().flat_map(|workload| workload.policy.all());
        let modes = rules.filter_map(|rule| rule.audit).chain([self.audit.mode]);
        modes.max() > Some(AuditMode::BestEffort)
    }

    /// The files that Vault's TLS is made of; a change of any of them is a reason to connect anew.
    #[must_use]
    pub fn tls_files(&self) -> Vec<PathBuf> {
        let cert = self.vault.client_cert.iter().flat_map(|cert| [&cert.cert_file, &cert.key_file]);
        self.vault.ca_file.iter().chain(cert).cloned().collect()
    }
}

/// Reads and checks the file at `path` for this process.
///
/// # Errors
/// Everything that is wrong with it, each with its path and line; or the one reason why it cannot be read.
pub fn load(path: &Path) -> Result<Loaded, Rejected> {
    let text = read(path).map_err(|problem| Rejected { problems: vec![problem] })?;
    parse(&text, &Environment::of_this_process())
}

/// Checks `text` for a process in `environment`. Touches nothing outside its arguments.
///
/// # Errors
/// Everything that is wrong with it, each with its path and line; only broken syntax, a duplicate key and a cap (256 KiB, 32
/// levels) stop at the first.
pub fn parse(text: &str, environment: &Environment) -> Result<Loaded, Rejected> {
    check::check(&file::read(text)?, &revision(text), environment)
}

fn read(path: &Path) -> Result<String, Problem> {
    let problem = |found: String, would_be_right: &str| Problem {
        path: String::new(),
        line: None,
        found,
        would_be_right: would_be_right.to_owned(),
    };
    let unreadable = |error: std::io::Error| {
        problem(format!("cannot read {}: {error}", path.display()), "name a file that this user can read")
    };
    let mut bytes = Vec::new();
    // One byte over the cap is enough to see that it is passed.
    let cap = u64::try_from(file::LARGEST).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(unreadable)?.take(cap).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > file::LARGEST {
        // Cut in the middle of a letter it may be no UTF-8: its size is what is wrong with it.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
        Problem {
            line: u32::try_from(line).ok(),
            ..problem("not UTF-8".to_owned(), "save the file as UTF-8")
        }
    })
}

fn revision(text: &str) -> String {
    let hash = crypto::hex(&crypto::sha256(text.as_bytes()));
    format!("sha256:{}", hash.get(..16).unwrap_or_default())
}
