//! How surely a peer is known. Pure.
//!
//! Does not prove anything: it only names and orders what can be proved.

use std::fmt;

/// How surely the peer is known; each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// It can reach the socket file.
    Reach,
    /// Its uid, gid and groups, by the kernel (`SO_PEERCRED`, `SO_PEERGROUPS`).
    User,
    /// The connecting process and no other, by pidfd (kernel 6.9).
    Process,
    /// The container it runs in.
    Container,
    /// The program it executes.
    Program,
}

impl Level {
    /// The word of the config, the answers, the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Reach => "reach",
            Self::User => "user",
            Self::Process => "process",
            Self::Container => "container",
            Self::Program => "program",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
