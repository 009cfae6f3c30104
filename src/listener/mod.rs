//! Accepts connections on a workload's socket, within its limits.
//!
//! Does not read requests (`api`) and does not decide who may connect (`peer`, `policy`).

use crate::name::WorkloadName;
use std::path::PathBuf;

/// One workload's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose socket it is.
    pub workload: WorkloadName,
    /// Absolute; its file name fits `sun_path` relative to its directory (107 bytes, unix(7)).
    pub path: PathBuf,
    /// Permission bits of the socket file: 0666 by default, since the mount and the kernel's identity are the boundary.
    pub mode: u32,
    /// What one workload may use up; may change while running.
    pub limits: Limits,
}

/// What one workload may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time.
    pub connections: u32,
    /// Requests a second over all its connections, and as many at once.
    pub requests_per_second: u32,
    /// Bytes of one request's body.
    pub body: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, requests_per_second: 1000, body: 1024 * 1024 }
    }
}
