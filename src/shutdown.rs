//! The order in which everything stops.
//!
//! Does not know what the parts do: each phase is given what it waits for.

use std::time::Duration;

/// How long stopping may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From SIGTERM until requests that still run are cut off.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5) }
    }
}
