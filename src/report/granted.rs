//! What Vault says that an identity's token is and may do. Pure.
//!
//! Each part may be missing: what Vault does not tell is not judged.

use super::acl::{Acl, Capability};
use crate::clock::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What Vault says of one identity.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    /// Whose.
    pub identity: String,
    /// What its token is.
    pub token: Option<Token>,
    /// Everything that the token may do, if Vault tells.
    pub acl: Option<Acl>,
    /// What Vault said of single paths: those of the config, and what lies beside them.
    pub asked: BTreeMap<String, BTreeSet<Capability>>,
    /// Which of those paths no rule and no secret is about.
    pub canaries: BTreeSet<String>,
    /// Where its role is in Vault.
    pub role_path: Option<String>,
    /// What its role in Vault gives.
    pub role: Option<Role>,
    /// The engine of each kv path: where it is mounted, and whether it has versions.
    pub engines: BTreeMap<String, Engine>,
    /// What the metadata of each kv path say.
    pub values: BTreeMap<String, Metadata>,
    /// What could not be asked, and what Vault said.
    pub refused: Vec<String>,
}

/// A token, by its look-up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token {
    /// What it may do, by the policies' names.
    pub policies: Vec<String>,
    /// How long it lives from its making, in seconds; 0 is without end.
    pub ttl: u64,
    /// The longest it can be renewed to, in seconds; 0 is as long as the engine lets it.
    pub max_ttl: u64,
    /// Seconds, of one that can be renewed for ever; 0 of others.
    pub period: u64,
}

/// A role of AppRole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Role {
    /// Seconds that a secret id lives; 0 is without end.
    pub secret_id_ttl: u64,
    /// How often a secret id may be used; 0 is without limit.
    pub secret_id_uses: u64,
}

/// A KV engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Where it is mounted, without a slash at the end.
    pub mount: String,
    /// Whether it has versions.
    pub has_versions: bool,
}

/// What the metadata of a kv secret say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The newest version.
    pub version: u64,
    /// When it was made.
    pub made: Option<Timestamp>,
    /// Keys of the custom metadata whose values look like credentials.
    pub suspects: Vec<String>,
}

/// Beginnings of credentials that are in wide use.
const LIVE: &[&str] = &[
    "sk_live_",
    "rk_live_",
    "AKIA",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "hvs.",
    "hvb.",
    "SG.",
];

/// Whether `text` looks like a credential.
#[must_use]
pub fn is_suspect(text: &str) -> bool {
    LIVE.iter().any(|prefix| text.strip_prefix(prefix).is_some_and(|rest| rest.len() >= 8))
}
