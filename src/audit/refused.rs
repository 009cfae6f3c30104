//! Which word a peer's program gets that was looked at and refused.
//!
//! Pure.

use super::reason::Reason;
use crate::peer::program::Refusal;

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
