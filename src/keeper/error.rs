//! Why the keeper has no value to give, and when it is worth asking again. Pure.

use crate::{name::SecretName, vault};
use std::time::Duration;

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The grant names nothing that is kept: the config changed between permit and fetch.
    #[error("{0} is not kept")]
    Unknown(SecretName),
    /// It is a token for each process, and the peer's level names none.
    #[error("{0} is a token for each process, and the peer is not known as one")]
    NoProcess(SecretName),
    /// As many processes as may have a token of their own have one.
    #[error("{most} processes have a token of {name} of their own, and there may be no more")]
    Crowded {
        /// Which secret.
        name: SecretName,
        /// How many may.
        most: usize,
    },
    /// No value yet, or the last one has ended.
    #[error("no valid value of {name}")]
    NotReady {
        /// Which secret.
        name: SecretName,
        /// Why the last attempt failed, if one was made.
        #[source]
        because: Option<vault::error::Error>,
    },
}

impl Error {
    /// What kind of failure of Vault is behind it, if any.
    #[must_use]
    pub fn class(&self) -> Option<vault::error::Class> {
        match self {
            Self::NotReady { because: Some(because), .. } => Some(because.class()),
            _ => None,
        }
    }

    /// When it is worth asking again: at least a second.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::NotReady { because: Some(because), .. } => because.retry_after(),
            _ => None,
        }
        .unwrap_or_default()
        .clamp(Duration::from_secs(1), Duration::from_secs(60))
    }
}
