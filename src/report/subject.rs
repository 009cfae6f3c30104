//! What the config grants and says, as far as a report judges it. Pure.

use crate::usage::told::Capability;
use std::time::Duration;

/// A config.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// Its revision.
    pub revision: String,
    /// Whose rules.
    pub workloads: Vec<Workload>,
    /// The logins.
    pub identities: Vec<Identity>,
    /// What is kept fresh.
    pub secrets: Vec<Secret>,
    /// What is rotated.
    pub rotations: Vec<Rotation>,
    /// How events are kept.
    pub audit: Audit,
}

/// One workload.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Who may connect; empty: anybody.
    pub uids: Vec<u32>,
    /// What it may ask for.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The secrets that it gives, or of the upstream that it lets call.
    pub secrets: Vec<String>,
    /// The part of Vault's API that it allows.
    pub forward: Option<Forward>,
    /// It is behind glass: nobody is meant to use it.
    pub is_for_emergencies: bool,
    /// A person's yes is asked for, and waited for.
    pub is_asked: bool,
}

/// A part of Vault's API.
#[derive(Debug, Clone, Default)]
pub struct Forward {
    /// With whose token.
    pub identity: String,
    /// Patterns.
    pub paths: Vec<String>,
    /// What may be done there.
    pub operations: Vec<Capability>,
}

/// One login.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// What the agent itself asks Vault for with its token.
    pub wants: Vec<Want>,
}

/// One secret.
#[derive(Debug, Clone, Default)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// With whose token.
    pub identity: String,
    /// `kv`, `lease`, `token`, `certificate`.
    pub kind: &'static str,
    /// Where in Vault; a kv path without `data/`.
    pub path: Option<String>,
    /// One field of it.
    pub field: Option<String>,
}

/// What the agent asks Vault for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Where.
    pub path: Where,
    /// With which of Vault's capabilities.
    pub capabilities: &'static [super::acl::Capability],
    /// What for.
    pub why: String,
}

/// Where in Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// A path of the API, or a pattern of a policy.
    Api(String),
    /// A kv secret by its path without `data/`: the data, and the metadata.
    Kv(String),
}

/// One rotation.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    /// Its name.
    pub name: String,
    /// Where in Vault it is.
    pub path: String,
    /// The secrets of the agent that change with it.
    pub serves: Vec<String>,
    /// Where in Vault's own API that is read.
    pub places: Vec<String>,
    /// Why the values that it makes are weak, if they are.
    pub weak: Option<String>,
    /// How old what it changes may be, where the schedule says so.
    pub max_age: Option<Duration>,
    /// Who makes its values, where that is a policy in Vault, whose text is not read.
    pub made_by: Option<String>,
    /// Where its journal is; `None`: each agent follows Vault, or replaces a lease of its own, without one.
    pub journal: Option<String>,
}

/// How events are kept.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// The mode where a rule asks for nothing stronger.
    pub mode: &'static str,
    /// Whether each event is on disk before anything is disclosed.
    pub strict: bool,
    /// Whether some receiver is not on this machine.
    pub remote: bool,
    /// Whether checkpoints are signed.
    pub signed: bool,
}
