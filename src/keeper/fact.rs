//! What the keeper's tasks report. Pure.

use crate::{name::SecretName, vault::error::Error};
use std::time::Duration;

/// What happened, for the audit.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Which secret.
    pub secret: SecretName,
    /// `lease`, `token` …
    pub kind: &'static str,
    /// Where it is in Vault.
    pub path: Option<String>,
    /// Our generation.
    pub generation: u64,
    /// What was done, or tried.
    pub act: Act,
    /// `None`: it worked.
    pub error: Option<Error>,
    /// How long it lives after it.
    pub ttl: Option<Duration>,
    /// SHA-256 of the lease id, or of the token's accessor, hex.
    pub lease_id_hash: Option<String>,
}

/// What is done to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Act {
    Renew,
    Revoke,
}
