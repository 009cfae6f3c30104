//! Everything that is said to Vault: the client, logins, renewals, the call budget.
//!
//! The only code that speaks to Vault. Types of vaultrs and rustify stay inside; a token never leaves.

pub mod error;
pub mod login;

use std::{path::PathBuf, time::Duration};
use url::Url;

/// How Vault is reached; all of it may change while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// In order of preference; never empty. Plain `http` only where the config allowed it.
    pub addresses: Vec<Url>,
    /// The only trust roots when given (PEM), else the system's. Read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// Shown to Vault in the TLS handshake; read again when it changes.
    pub client_cert: Option<ClientCert>,
    /// The name that Vault's certificate must carry, when it is not the address's host.
    pub server_name: Option<String>,
    /// `X-Vault-Namespace` of every call.
    pub namespace: Option<String>,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// The cap on calls made on our own account.
    pub budget: Budget,
}

/// A certificate and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate, and the chain below it if any.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// A token bucket: never more than `burst + calls_per_second * t` calls in any `t` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Calls that come back each second; at least 1.
    pub calls_per_second: u32,
    /// Calls that may be made at once; at least 2, since half is kept for login, renewal and revocation.
    pub burst: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { calls_per_second: 10, burst: 20 }
    }
}
