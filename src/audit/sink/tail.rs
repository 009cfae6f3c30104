//! How far the journal is on disk: what sinks wait for.
//!
//! Sinks wait on threads of their own, so a commit costs one lock unless it has what a sleeping sink waits for.

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
    /// The first event that a sleeper waits for, if any sleeps: nothing before it wakes them.
    awaited: Option<u64>,
    journal: Journal,
    /// Each ends every wait that began with fewer.
    nudges: u64,
}

impl State {
    /// Everything up to `seq` is on disk. Whether that wakes anybody.
    fn sync(&mut self, seq: u64) -> bool {
        self.synced = seq.max(self.synced);
        self.awaited.is_some_and(|awaited| awaited <= self.synced)
    }

    /// Somebody goes to sleep until there is an event after `seen`.
    fn sleep(&mut self, seen: u64) {
        let first = seen.saturating_add(1);
        self.awaited = Some(self.awaited.map_or(first, |awaited| awaited.min(first)));
    }

    /// All are woken; who has not seen enough goes to sleep again.
    fn wake(&mut self) {
        self.awaited = None;
    }
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
        let state = State { synced: 0, awaited: None, journal: Journal::Open, nudges: 0 };
        Self { chain, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Says that everything up to `seq` is on disk.
    pub(in crate::audit) fn publish(&self, seq: u64) {
        self.change(|state| state.sync(seq));
    }

    /// Says that nothing more will come.
    pub(in crate::audit) fn close(&self) {
        self.change(|state| {
            state.journal = Journal::Closed;
            state.awaited.is_some()
        });
    }

    /// Wakes all sinks once, so that they look whether they should end, and wait for no more events to gather.
    pub(in crate::audit) fn nudge(&self) {
        self.change(|state| {
            state.nudges = state.nudges.wrapping_add(1);
            state.awaited.is_some()
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
            state.sleep(seen.position.seq);
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Lets events gather for `pause`, or until there are `enough` more; ends early as [`Tail::wait`] does.
    pub(in crate::audit) fn gather(&self, seen: Seen, enough: u64, pause: Duration) {
        let seq = seen.position.seq.saturating_add(enough.saturating_sub(1));
        let position = Position { chain: self.chain, seq };
        self.wait(Seen { position, ..seen }, Some(pause));
    }

    /// Makes a change, after which all are woken if it says so.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = lock(&self.state);
        if change(&mut state) {
            state.wake();
            drop(state);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sleepers: &[u64], commits: &[(u64, bool)]) {
        let mut state = State { synced: 10, awaited: None, journal: Journal::Open, nudges: 0 };
        sleepers.iter().for_each(|seen| state.sleep(*seen));
        for (seq, wakes) in commits {
            assert_eq!(state.sync(*seq), *wakes, "sleepers {sleepers:?}, commit {seq}");
        }
    }

    #[test]
    fn a_sink_that_lets_events_gather_is_woken_by_the_last_of_them_only() {
        check(&[], &[(11, false), (12, false)]);
        check(&[10], &[(10, false), (11, true)]);
        check(&[510], &[(11, false), (200, false), (510, false), (511, true)]);
        check(&[510, 12], &[(11, false), (12, false), (13, true)]);
        check(&[12, 510], &[(11, false), (13, true)]);
    }

    #[test]
    fn a_wait_that_timed_out_costs_the_others_no_more_than_one_wake() {
        let mut state = State { synced: 10, awaited: None, journal: Journal::Open, nudges: 0 };
        state.sleep(10);
        state.sleep(510);
        assert!(state.sync(11), "the first one has what it waits for");
        state.wake();
        state.sleep(510);
        assert!(!state.sync(12), "the other one went on sleeping");
    }
}
