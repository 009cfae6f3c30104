//! The regular audit of keys and permissions: what Vault grants, what the rules grant, what was used. Pure.
//!
//! Does not read a config, a record or Vault: whoever asks for a report brings what those say.

pub mod acl;
pub mod exposure;
pub mod finding;
pub mod granted;
mod hcl;
mod judge;
pub mod need;
pub mod page;
pub mod subject;
#[cfg(test)]
mod tests;

use crate::{clock::Timestamp, name::IdentityName, usage::history::Record};
use finding::{Finding, Id, Severity};
use granted::Granted;
use std::time::Duration;
use subject::Subject;

/// When the agent itself makes reports, and of which period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Between two of them.
    pub every: Duration,
    /// How far back use counts.
    pub since: Duration,
    /// Where all pods leave their ledgers for one another, if they do.
    pub merge: Option<Merge>,
    /// Where values are looked for that must not be there, if anywhere.
    pub exposure: Option<exposure::Settings>,
}

/// A folder of KV 2 that agents share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// With whose token.
    pub identity: IdentityName,
    /// Where the engine is mounted.
    pub mount: String,
    /// The folder in it.
    pub path: String,
}

/// What is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// When the report is made.
    pub now: Timestamp,
    /// How far back use counts; grants that are younger are not judged.
    pub period: Duration,
}

impl Terms {
    /// From when on use counts.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.now.checked_sub(self.period).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// One report.
#[derive(Debug, Clone)]
pub struct Report {
    /// When it was made.
    pub now: Timestamp,
    /// From when on use counts.
    pub since: Timestamp,
    /// The config that was judged.
    pub revision: String,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// What could not be judged, and why.
    pub unjudged: Vec<Unjudged>,
    /// The least that each identity needs, as a policy of Vault.
    pub policies: Vec<Policy>,
    /// Each secret: how old it is, and when it was last used.
    pub keys: Vec<Key>,
    /// Each rule: how much it grants, and how much of that was used.
    pub rules: Vec<RuleUse>,
    /// The agents whose record was read.
    pub sources: Vec<String>,
    /// How many of their starts, and how many events.
    pub read: (usize, u64),
    /// The first and the last moment that the record speaks of.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Uses that no ledger had room for: what is said of use may be too little.
    pub overflow: u64,
    /// How many processes and files were looked at for values that must not be there, in each agent's last look; `None`: nobody looked.
    pub looked: Option<(u64, u64)>,
    /// The file that the config was read from, where a person made the report: what to show findings beside.
    pub file: Option<File>,
}

/// A config's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// As it was named.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// A finding that could not be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// Which.
    pub id: Id,
    /// Why, and what would make it possible.
    pub why: String,
}

/// The least that one identity needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whose.
    pub identity: String,
    /// The text, for `vault policy write`.
    pub hcl: String,
    /// How many different requests are on record or follow from the config.
    pub requests: usize,
    /// Those that it would deny, by the text as it stands: nothing, or the text is not to be used.
    pub denied: Vec<String>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key in `secrets`.
    pub name: String,
    /// When its newest version was made, or was first seen.
    pub made: Option<Timestamp>,
    /// Whether Vault said so; else it is at least as old as that.
    pub exact: bool,
    /// When it was last used.
    pub last: Option<Timestamp>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleUse {
    /// Whose.
    pub workload: String,
    /// Its name.
    pub rule: String,
    /// How many things it grants: secrets, or paths times methods.
    pub granted: usize,
    /// How many of them were used in the period.
    pub used: usize,
    /// When it was last used.
    pub last: Option<Timestamp>,
}

impl Report {
    /// Whether something of `least` or worse was found.
    #[must_use]
    pub fn fails_on(&self, least: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity >= least)
    }
}

/// Judges: nothing is asked, and the same facts give the same report.
#[must_use]
pub fn judge(subject: &Subject, record: &Record, granted: &[Granted], terms: Terms) -> Report {
    judge::judge(&judge::Facts::new(subject, record, granted, terms))
}
