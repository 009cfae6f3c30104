//! What the journal counts, for metrics and readiness.
//!
//! Pure. Written by the journal's thread, read by whoever likes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the journal counts, for metrics and readiness. Reading it costs nothing.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) commits: AtomicU64,
    pub(super) journal_bytes: AtomicU64,
    pub(super) fsync_errors: AtomicU64,
    pub(super) gap_events: AtomicU64,
    pub(super) oldest: AtomicU64,
    pub(super) writable: AtomicBool,
}

impl Stats {
    /// Commits that reached the disk.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Bytes that the journal takes on disk, the room it holds back included.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.journal_bytes.load(Ordering::Relaxed)
    }

    /// Syncs that failed.
    #[must_use]
    pub fn fsync_errors(&self) -> u64 {
        self.fsync_errors.load(Ordering::Relaxed)
    }

    /// When the oldest event in the journal happened, in seconds since 1970; `None` while there is none.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        Some(self.oldest.load(Ordering::Relaxed)).filter(|second| *second > 0)
    }

    /// Events that the journal had and lost: damaged, or removed by somebody else.
    #[must_use]
    pub fn gap_events(&self) -> u64 {
        self.gap_events.load(Ordering::Relaxed)
    }
}
