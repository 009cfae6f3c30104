//! Why a peer may not use a socket.
//!
//! Pure. The words of the events are for `audit`.

use super::{Peer, level::Level, program};
use crate::name::WorkloadName;
use std::{io, time::Duration};

/// A peer that may not use the socket.
#[derive(Debug, thiserror::Error)]
#[error("a peer of {workload} is refused")]
pub struct Rejected {
    /// Whose socket it connected to.
    pub workload: WorkloadName,
    /// Who it is, if the kernel said so.
    pub peer: Option<Box<Peer>>,
    /// Why it is refused.
    #[source]
    pub cause: Cause,
}

/// Why a peer may not use a socket. The texts may be shown to it: they hold nothing that it does not know.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel would not say who it is.
    #[error("the kernel does not say who the peer is")]
    Unknown(#[source] io::Error),
    /// Its effective uid is not one of those.
    #[error("uid {0} may not use this socket")]
    Uid(u32),
    /// Its effective gid is not one of those.
    #[error("gid {0} may not use this socket")]
    Gid(u32),
    /// It lacks a supplementary group.
    #[error("a process without the supplementary group {0} may not use this socket")]
    Group(u32),
    /// Its uid is that of everybody whom our user namespace does not map.
    #[error("uid {0} is what every user from outside our user namespace looks like")]
    StrangeUid(u32),
    /// Its gid is that of every group that our user namespace does not map.
    #[error("gid {0} is what every group from outside our user namespace looks like")]
    StrangeGid(u32),
    /// Its uid or gid is no longer what it was when it connected, or its real one is not its effective one.
    #[error("the peer's uid or gid is not the one it connected with")]
    Drift,
    /// The process that connected has ended.
    #[error("the process that connected has ended")]
    Exited,
    /// Another process than the one that connected wrote to the connection, or the kernel does not say which one did.
    #[error("another process than the one that connected wrote to the connection")]
    Writer,
    /// It passed descriptors.
    #[error("descriptors may not be passed on this socket")]
    Descriptors,
    /// The kernel said more about a chunk than there was room for.
    #[error("the kernel's word on what came in was cut off")]
    Truncated,
    /// The kernel cannot name the process.
    #[error("this kernel cannot name the process of a peer (Linux 6.9 can)")]
    KernelTooOld,
    /// Its user has as many connections open as it may.
    #[error("this user has as many connections open as it may")]
    Connections,
    /// Its user makes connections faster than it may; it may make one after this long.
    #[error("this user makes connections faster than it may")]
    Rate(Duration),
    /// Its process is in a PID namespace, or behind a mount of /proc, that hides it from us.
    #[error("the peer's process is hidden from us (by another PID namespace, or by hidepid)")]
    Hidden,
    /// It runs in another container than the one that uses the socket, or the kernel says two things about which one it is.
    #[error(
        "another container than the peer's uses this socket, or the kernel does not say which one the peer is in"
    )]
    Container,
    /// So many living processes have used this socket that no more can be told apart.
    #[error("too many processes that still live have used this socket")]
    Crowded,
    /// It has not sent back the nonce that its program must be challenged with.
    #[error(
        "the program must be challenged first: GET /challenge on this connection, and send its nonce back in Claviger-Nonce"
    )]
    Unchallenged,
    /// Its program is not the one that is permitted.
    #[error(transparent)]
    Program(#[from] program::Refusal),
    /// Another program is required than when it connected.
    #[error("what program is required has changed since the peer connected; connect again")]
    Reloaded,
    /// That the socket went over to its container could not be put on record.
    #[error("the audit journal cannot be written")]
    Unrecorded,
    /// It is known less surely than required.
    #[error("the peer is known at level {proved}; this socket requires {required}")]
    Level {
        /// What was proved.
        proved: Level,
        /// What the workload requires.
        required: Level,
    },
}

impl Cause {
    /// Whether the peer is told why. Where somebody else may be at the other end by now, nothing is said to them: the
    /// connection is closed at once.
    #[must_use]
    pub fn is_told(&self) -> bool {
        use program::Refusal;
        !matches!(
            self,
            Self::Drift
                | Self::Exited
                | Self::Writer
                | Self::Descriptors
                | Self::Truncated
                | Self::Program(Refusal::ImageChanged | Refusal::CredsDrift | Refusal::PeerExited)
        )
    }
}
