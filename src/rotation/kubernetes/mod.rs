//! A Lease of Kubernetes (coordination.k8s.io/v1) that only one replica has at a time.
//!
//! Taken, renewed and given back by check-and-set on its `resourceVersion`. Times that other machines wrote in it are only
//! compared for a change, never read: how long ago it changed is measured here. Does not replace the lease in the journal, which
//! is written after it: a Lease that somebody deletes, or another cluster's, leaves no two replicas at work.

mod client;
pub(super) mod gate;
mod object;

use crate::vault::error::Class;
use std::path::PathBuf;
use url::Url;

/// Which Lease, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its namespace: the same for all replicas.
    pub namespace: String,
    /// Its name.
    pub lease: String,
    /// The API server.
    pub server: Url,
    /// The only trust roots (PEM); read again with each request.
    pub ca_file: PathBuf,
    /// A ServiceAccount's token of the API server's own audience; read again with each request.
    pub token_file: PathBuf,
}

impl Settings {
    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.lease)
    }
}

/// Why the Lease could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {said}")]
pub struct Error {
    trouble: Trouble,
    doing: String,
    said: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The API server does not let this pod, or our files are not there: a person must change something.
    Denied,
    /// The API server did not answer, or with a failure of its own.
    Away,
    /// Somebody has it all the time, and works on nothing.
    Held,
}

impl Error {
    fn new(trouble: Trouble, doing: impl Into<String>, said: impl Into<String>) -> Self {
        Self { trouble, doing: doing.into(), said: said.into() }
    }

    /// What kind it is.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// How it is waited after it, in the words of Vault's failures.
    pub(super) fn class(&self) -> Class {
        match self.trouble {
            Trouble::Denied => Class::Denied,
            Trouble::Away => Class::Away,
            Trouble::Held => Class::Slow,
        }
    }
}
