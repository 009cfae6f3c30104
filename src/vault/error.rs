//! What a failed call to Vault means, whose fault it is, and when to try again.
//!
//! Never holds a body, a token or a header of the call.

use std::time::Duration;

/// What kind of failure it is: a closed set, which decides what the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 403: the token is not good, or not good for this.
    Denied,
    /// 404: there is no such thing.
    Missing,
    /// 400, 405 and the like: the request is wrong, and will be wrong again.
    Invalid,
    /// 503 because it is sealed or not initialised.
    Sealed,
    /// Nothing answered in time: refused, unreachable, TLS failed, timed out, or a 5xx.
    Away,
    /// 429: slow down.
    Slow,
    /// An answer that makes no sense: no JSON, too large, a redirect to a stranger, a field missing.
    Nonsense,
    /// A credential file of ours is missing, unreadable or malformed; Vault was not called.
    Credential,
    /// Our own call budget is used up; Vault was not called.
    Budget,
}

impl Class {
    /// The word of the log and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Sealed => "sealed",
            Self::Away => "away",
            Self::Slow => "slow",
            Self::Nonsense => "nonsense",
            Self::Credential => "credential",
            Self::Budget => "budget",
        }
    }
}

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for: a path, a role, a policy.
    Caller,
    /// The server or the way to it.
    Vault,
    /// This process or its files.
    Us,
}

/// A call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{doing}: {said}")]
pub struct Error {
    class: Class,
    doing: String,
    said: String,
    retry_after: Option<Duration>,
    status: Option<u16>,
}

impl Error {
    /// `doing` names the act and the thing (`renewing the token of reports`); `said` is Vault's own error text or the cause.
    #[must_use]
    pub fn new(class: Class, doing: impl Into<String>, said: impl Into<String>) -> Self {
        Self { class, doing: doing.into(), said: said.into(), retry_after: None, status: None }
    }

    /// With the time that the server, or the budget, asked us to wait.
    #[must_use]
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// With the HTTP status that Vault answered.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// What kind it is.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether it says that Vault does not know the token, rather than that the token may not do this. Vault 1.21.1 tells
    /// the two 403s apart by their text; where it does not, this is `false`.
    #[must_use]
    pub fn says_unknown_token(&self) -> bool {
        self.class == Class::Denied
            && (self.said.contains("invalid token") || self.said.contains("bad token"))
    }

    /// The HTTP status, if Vault answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// How long to wait at least, if the server or the budget said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.class {
            Class::Denied | Class::Missing | Class::Invalid => Fault::Caller,
            Class::Sealed | Class::Away | Class::Slow | Class::Nonsense => Fault::Vault,
            Class::Credential | Class::Budget => Fault::Us,
        }
    }
}
