//! Where agents look for values that stand where they must not. Pure.
//!
//! Does not look: `app` does, with what the keeper has in hand.

use std::path::PathBuf;

/// What is looked at before each report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The arguments and the environment of each process that a workload's socket admitted.
    pub has_processes: bool,
    /// Files, and folders whose own files are read, not those below.
    pub files: Vec<PathBuf>,
    /// Bytes of one file; of a larger one the beginning is looked at, and the report says so.
    pub max_size: u64,
    /// Files in all; the report says how many there were beyond.
    pub max_files: usize,
}
