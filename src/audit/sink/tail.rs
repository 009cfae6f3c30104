//! How far the journal is on disk: what sinks wait for.
//!
//! Sinks wait on threads of their own, so a commit costs one lock unless a sink sleeps.

use crate::audit::{
    chain::{ChainId, Position},
    queue::lock,
};
use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The end of the journal, as sinks may see it.
pub(in crate::audit) struct Tail {
    chain: ChainId,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    synced: u64,
    sleepers: usize,
    journal: Journal,
    /// Each ends every wait that began with fewer.
    nudges: u64,
}

/// What a sink saw of the journal's end.
#[derive(Debug, Clone, Copy)]
pub(in crate::audit) struct Seen {
    /// The last event that it may read.
    pub(in crate::audit) position: Position,
    /// Whether more can come.
    pub(in crate::audit) journal: Journal,
    nudges: u64,
}

/// Whether more can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) enum Journal {
    Open,
    Closed,
}

impl Tail {
    pub(in crate::audit) fn new(chain: ChainId) -> Self {
        let state = State { synced: 0, sleepers: 0, journal: Journal::Open, nudges: 0 };
        Self { chain, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Says that everything up to `seq` is on disk.
    pub(in crate::audit) fn publish(&self, seq: u64) {
        self.change(|state| {
            let more = seq > state.synced;
            state.synced = seq.max(state.synced);
            more
        });
    }

    /// Says that nothing more will come.
    pub(in crate::audit) fn close(&self) {
        self.change(|state| {
            state.journal = Journal::Closed;
            true
        });
    }

    /// Wakes all sinks once, so that they look whether they should end, and wait for no more events to gather.
    pub(in crate::audit) fn nudge(&self) {
        self.change(|state| {
            state.nudges = state.nudges.wrapping_add(1);
            true
        });
    }

    /// The journal's end now.
    pub(in crate::audit) fn end(&self) -> Seen {
        let state = lock(&self.state);
        let position = Position { chain: self.chain, seq: state.synced };
        Seen { position, journal: state.journal, nudges: state.nudges }
    }

    /// Waits until there is more than was seen, or `limit` has passed. Returns at once if the journal is closed, or a
    /// nudge came since.
    pub(in crate::audit) fn wait(&self, seen: Seen, limit: Option<Duration>) {
        let mut state = lock(&self.state);
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let as_seen = |state: &State| {
            state.synced <= seen.position.seq && state.journal == Journal::Open && state.nudges == seen.nudges
        };
        while as_seen(&state) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return;
            }
            state.sleepers = state.sleepers.saturating_add(1);
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.sleepers = state.sleepers.saturating_sub(1);
        }
    }

    /// Lets events gather for `pause`, or until there are `enough` more; ends early as [`Tail::wait`] does.
    pub(in crate::audit) fn gather(&self, seen: Seen, enough: u64, pause: Duration) {
        let seq = seen.position.seq.saturating_add(enough.saturating_sub(1));
        let position = Position { chain: self.chain, seq };
        self.wait(Seen { position, ..seen }, Some(pause));
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = lock(&self.state);
        if change(&mut state) && state.sleepers > 0 {
            drop(state);
            self.changed.notify_all();
        }
    }
}
