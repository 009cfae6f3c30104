//! Which word the refusals and failures of the other modules get. Pure.

use super::event::Reason;
use crate::{
    broker::fault::Fault,
    peer::{Cause, program::Refusal},
    policy::Denial,
    vault::error::Class,
};

impl From<&Cause> for Reason {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Unknown(_) => Self::PeerUnknown,
            Cause::Uid(_) => Self::Uid,
            Cause::Gid(_) => Self::Gid,
            Cause::Group(_) => Self::Groups,
            Cause::Level { .. } => Self::LevelNotReached,
            Cause::StrangeUid(_) | Cause::StrangeGid(_) => Self::OverflowId,
            Cause::Drift => Self::CredsDrift,
            Cause::Exited => Self::PeerExited,
            Cause::Writer => Self::WriterMismatch,
            Cause::Descriptors => Self::FdsPassed,
            Cause::Truncated => Self::ControlTruncated,
            Cause::KernelTooOld => Self::KernelTooOld,
            Cause::Program(refusal) => (*refusal).into(),
            Cause::Reloaded => Self::PolicyReload,
            Cause::Unrecorded => Self::AuditUnavailable,
            Cause::Unchallenged => Self::NoNonce,
            Cause::Hidden => Self::PidNotVisible,
            Cause::Container => Self::Container,
            Cause::Crowded | Cause::Connections => Self::Connections,
            Cause::Rate(_) => Self::RateLimited,
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::PidNotVisible => Self::PidNotVisible,
            Refusal::Ancestry => Self::Ancestry,
            Refusal::Tty => Self::Tty,
            Refusal::ExeUnreadable => Self::ExeUnreadable,
            Refusal::ExeDeleted => Self::ExeDeleted,
            Refusal::ExeTooBig => Self::ExeTooBig,
            Refusal::Digest => Self::Digest,
            Refusal::Steerable => Self::Steerable,
            Refusal::MappingNotAllowed => Self::MappingNotAllowed,
            Refusal::AnonExec => Self::AnonExec,
            Refusal::TextModified => Self::TextModified,
            Refusal::Traced => Self::Traced,
            Refusal::ImageChanged => Self::ImageChanged,
            Refusal::NoNewPrivs => Self::NoNewPrivs,
            Refusal::Seccomp => Self::Seccomp,
            Refusal::CredsDrift => Self::CredsDrift,
            Refusal::PeerExited => Self::PeerExited,
            Refusal::AttestorFailed => Self::AttestorFailed,
            Refusal::Timeout => Self::Timeout,
        }
    }
}

impl From<&Denial> for Reason {
    fn from(denial: &Denial) -> Self {
        match denial {
            Denial::NoRule => Self::NoRule,
            Denial::Ambiguous => Self::Upstream(Fault::BadQuery),
            Denial::Never => Self::NeverForwarded,
            Denial::Wrapped => Self::Wrapped,
            Denial::Terms(_) => Self::TokenTerms,
            Denial::Malformed(_) => Self::BadRequest,
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
