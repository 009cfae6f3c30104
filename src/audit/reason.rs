//! What the refusals and failures of the other modules are called in events.
//!
//! Pure.

use super::event::{Outcome, Reason};
use crate::{peer::Cause, policy::Denial, vault::error::Class};

impl Reason {
    /// How a request ends for this reason: refused, or permitted and failed.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::NoRule
            | Self::WrongUid
            | Self::WrongGid
            | Self::WrongGroups
            | Self::PeerUnknown
            | Self::LevelNotReached
            | Self::OverflowId
            | Self::CredsDrift
            | Self::PeerExited
            | Self::WriterMismatch
            | Self::FdsPassed
            | Self::ControlTruncated
            | Self::KernelTooOld
            | Self::RateLimited
            | Self::TooManyProcesses => Outcome::Deny,
            _ => Outcome::Error,
        }
    }
}

impl From<&Cause> for Reason {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Unknown(_) => Self::PeerUnknown,
            Cause::Uid(_) => Self::WrongUid,
            Cause::Gid(_) => Self::WrongGid,
            Cause::Group(_) => Self::WrongGroups,
            Cause::Level { .. } => Self::LevelNotReached,
            Cause::StrangeUid(_) | Cause::StrangeGid(_) => Self::OverflowId,
            Cause::Drift => Self::CredsDrift,
            Cause::Exited => Self::PeerExited,
            Cause::Writer => Self::WriterMismatch,
            Cause::Descriptors => Self::FdsPassed,
            Cause::Truncated => Self::ControlTruncated,
            Cause::KernelTooOld => Self::KernelTooOld,
        }
    }
}

impl From<&Denial> for Reason {
    fn from(denial: &Denial) -> Self {
        match denial {
            Denial::NoRule => Self::NoRule,
        }
    }
}

impl From<Class> for Reason {
    fn from(class: Class) -> Self {
        match class {
            Class::Denied => Self::VaultDenied,
            Class::Missing => Self::VaultMissing,
            Class::Invalid => Self::VaultInvalid,
            Class::Sealed => Self::VaultSealed,
            Class::Away => Self::VaultAway,
            Class::Slow => Self::VaultSlow,
            Class::Nonsense => Self::VaultNonsense,
            Class::Credential => Self::CredentialFile,
            Class::Budget => Self::Budget,
        }
    }
}
