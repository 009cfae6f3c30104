//! Keeps each secret fresh: fetch, renew, replace, revoke. One read of Vault at a time for a secret, however many ask.
//!
//! Does not decide who may have a value: it gives one only for a `Grant`.

use crate::name::{IdentityName, SecretName};
use std::time::Duration;

/// One secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The key in `secrets`.
    pub name: SecretName,
    /// Whose token reads it.
    pub identity: IdentityName,
    /// What it is.
    pub kind: Kind,
    /// How long an old value stays valid after a new one is served.
    pub grace: Duration,
}

/// What a secret is, and how it is had.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A value in a KV engine, version 1 or 2.
    Kv {
        /// Mount and path without `data/`: `secret/payments/stripe`.
        path: String,
        /// One field instead of all.
        field: Option<String>,
        /// How often it is looked at, give or take 20 %.
        refresh: Duration,
        /// How long it is served while Vault cannot be asked.
        max_stale: Duration,
        /// One version of KV 2 instead of the newest; at least 1.
        version: Option<u64>,
    },
    /// A dynamic credential with a lease.
    Lease {
        /// `database/creds/app`.
        path: String,
        /// GET without parameters, else POST with these.
        request: LeaseRequest,
    },
    /// A child token.
    Token {
        /// At least one.
        policies: Vec<String>,
        /// Its lifetime.
        ttl: Duration,
        /// How often it may be used; 0 is without limit.
        uses: u32,
        /// A token role (`auth/token/create/ROLE`).
        role: Option<String>,
        /// One for each process that asks, revoked when that process ends (needs level `process`).
        per_process: bool,
        /// Without the policy `default`.
        no_default_policy: bool,
    },
    /// An X.509 certificate and its key.
    Certificate {
        /// `pki/issue/ROLE`.
        path: String,
        /// The request's body: `common_name` and so on.
        params: serde_json::Map<String, serde_json::Value>,
        /// The share of its life after which a new one is made: between 0.1 and 0.95.
        renew_at: f64,
    },
}

/// How a lease is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaseRequest {
    /// A plain read.
    Get,
    /// A write with parameters.
    Post(serde_json::Map<String, serde_json::Value>),
}

impl Kind {
    /// The word of the config, the answers, the events and the metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Kv { .. } => "kv",
            Self::Lease { .. } => "lease",
            Self::Token { .. } => "token",
            Self::Certificate { .. } => "certificate",
        }
    }
}
