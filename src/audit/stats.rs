//! What the journal counts, for metrics and readiness.
//!
//! Pure. Written by the journal's thread and by the one that signs, read by whoever likes.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// No checkpoints are made.
const NEVER: u64 = u64::MAX;

/// What the journal counts, for metrics and readiness. Reading it costs nothing.
#[derive(Debug)]
pub struct Stats {
    pub(super) commits: AtomicU64,
    pub(super) journal_bytes: AtomicU64,
    pub(super) fsync_errors: AtomicU64,
    pub(super) gap_events: AtomicU64,
    pub(super) oldest: AtomicU64,
    pub(super) writable: AtomicBool,
    /// Milliseconds since boot at the newest checkpoint.
    signed: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            commits: AtomicU64::default(),
            journal_bytes: AtomicU64::default(),
            fsync_errors: AtomicU64::default(),
            gap_events: AtomicU64::default(),
            oldest: AtomicU64::default(),
            writable: AtomicBool::default(),
            signed: AtomicU64::new(NEVER),
        }
    }
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

    /// A checkpoint is on record, `now` since boot; before the first one: they begin.
    pub(super) fn signed_at(&self, now: Duration) {
        self.signed.store(u64::try_from(now.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }

    /// How old the newest checkpoint is at `now` since boot, or how long the first one is awaited; `None` where none are
    /// made. It grows too while there is nothing to sign.
    #[must_use]
    pub fn checkpoint_age(&self, now: Duration) -> Option<Duration> {
        let signed = Some(self.signed.load(Ordering::Relaxed)).filter(|signed| *signed != NEVER)?;
        Some(now.saturating_sub(Duration::from_millis(signed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_an_age_only_where_checkpoints_are_made() {
        let (stats, at) = (Stats::default(), Duration::from_secs);
        assert_eq!(stats.checkpoint_age(at(9)), None);
        stats.signed_at(at(9));
        assert_eq!(stats.checkpoint_age(at(12)), Some(at(3)));
        stats.signed_at(at(12));
        assert_eq!(stats.checkpoint_age(at(12)), Some(at(0)));
    }
}
