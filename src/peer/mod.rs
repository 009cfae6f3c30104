//! The process at the other end of a connection, as the kernel describes it, never as it describes itself.
//!
//! Does not know rules or secrets.

pub mod level;

use level::Level;

/// Who may connect to a workload's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Effective user ids that may connect; empty means any.
    pub uids: Vec<u32>,
    /// Effective group ids, one of which the peer must have as its own; empty means any.
    pub gids: Vec<u32>,
    /// Supplementary groups, all of which the peer must have.
    pub groups: Vec<u32>,
    /// How surely it must be known. `auto` of the config is resolved before this value is made.
    pub level: Level,
}
