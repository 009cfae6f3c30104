//! Events that a receiver refuses for good, kept in `dlq-NAME.jsonl` beside the journal: one JSON line each.
//!
//! Bounded: the newest are kept, in two files of which the older one goes first. Never holds up later events.

use super::{super::journal::disk::options, super::pins::Pins, batch::Item};
use crate::{
    clock::{self, rfc3339},
    name::SinkName,
};
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The dead letters of one sink.
pub(super) struct DeadLetters {
    file: PathBuf,
    older: PathBuf,
    /// Bytes of one of the two files.
    half: u64,
    pins: Arc<Pins>,
}

impl DeadLetters {
    /// Of `sink`, in `dir`, which has room for `max` bytes in all: dead letters take a 32nd of it at most.
    pub(super) fn new(dir: &Path, sink: &SinkName, max: u64, pins: Arc<Pins>) -> Self {
        let file = dir.join(format!("dlq-{sink}.jsonl"));
        let older = dir.join(format!("dlq-{sink}.jsonl.1"));
        Self { file, older, half: (max / 64).max(64 * 1024), pins }
    }

    /// Keeps `items`, which were refused for `reason`.
    pub(super) fn keep(&self, items: &[Item], reason: &str) -> io::Result<()> {
        let reason = serde_json::to_string(reason)?;
        let mut lines = Vec::new();
        let mut here = fs::symlink_metadata(&self.file).map_or(0, |found| found.len());
        for item in items {
            let start = lines.len();
            // The event is JSON as it stands.
            lines.extend_from_slice(b"{\"event\":");
            lines.extend_from_slice(&item.native);
            let time = rfc3339(clock::now());
            lines.extend_from_slice(format!(",\"reason\":{reason},\"time\":\"{time}\"}}\n").as_bytes());
            let size = lines.len().saturating_sub(start) as u64;
            if here > 0 && here.saturating_add(size) > self.half {
                let line = lines.split_off(start);
                self.append(&lines)?;
                fs::rename(&self.file, &self.older)?;
                (lines, here) = (line, 0);
            }
            here = here.saturating_add(size);
        }
        self.append(&lines)?;
        self.pins.weigh_dead_letters()
    }

    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = options().append(true).create(true).open(&self.file)?;
        file.write_all(lines)?;
        file.sync_data()
    }
}
