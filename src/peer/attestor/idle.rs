//! Images that no connection needs just now, and that the next connection of the same process may have: it is then asked
//! whether it still is that image, which costs less than to look at it from the beginning. Pure.
//!
//! Does not ask. Whatever comes from here was true a while ago, and is worth nothing before it was asked for again.

use super::wire::Id;
use crate::{
    crypto::Hash,
    peer::{
        process::ProcessId,
        program::{Ancestry, Settings},
    },
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// The most images that are kept so. The attestor can hold many times as many.
const MOST: usize = 16;
/// How long after it was looked at from the beginning: a tenth of the time that a digest may be remembered.
const LONGEST: Duration = Duration::from_secs(60);

/// An image that was found permitted: what may be asked of it again.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Under which the attestor holds it.
    pub(super) id: Id,
    /// Whose it is.
    pub(super) process: ProcessId,
    /// What it was held against.
    pub(super) settings: Arc<Settings>,
    /// Its executable's.
    pub(super) digest: Hash,
    /// When it was looked at from the beginning.
    pub(super) since: Instant,
}

/// The images that wait, the one that was put in last at the end.
#[derive(Debug, Default)]
pub(super) struct Idle(VecDeque<Found>);

impl Idle {
    /// Keeps an image; gives those that need not be held any more, as this one may be itself.
    pub(super) fn put(&mut self, found: Found, now: Instant) -> Vec<Id> {
        // Who descends from whom is found out with the image, and not asked again.
        if found.settings.ancestry != Ancestry::Any {
            return vec![found.id];
        }
        self.0.push_back(found);
        let mut gone = self.expire(now);
        if self.0.len() > MOST {
            gone.extend(self.0.pop_front().map(|found| found.id));
        }
        gone
    }

    /// Takes out one of this process that was held against the same.
    pub(super) fn take(&mut self, process: ProcessId, settings: &Settings, now: Instant) -> Option<Found> {
        let fits =
            |found: &Found| found.process == process && *found.settings == *settings && !is_over(found, now);
        let at = self.0.iter().rposition(fits)?;
        self.0.remove(at)
    }

    fn expire(&mut self, now: Instant) -> Vec<Id> {
        let over: Vec<_> = self.0.iter().filter(|found| is_over(found, now)).map(|found| found.id).collect();
        self.0.retain(|found| !is_over(found, now));
        over
    }
}

fn is_over(found: &Found, now: Instant) -> bool {
    now.saturating_duration_since(found.since) > LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: Id, process: u64, settings: &Settings, since: Instant) -> Found {
        let (process, settings) = (ProcessId::for_test(process), Arc::new(settings.clone()));
        Found { id, process, settings, digest: [1; 32], since }
    }

    const NONE: [Id; 0] = [];

    fn id(found: Option<Found>) -> Option<Id> {
        found.map(|found| found.id)
    }

    #[test]
    fn only_the_same_process_under_the_same_settings_gets_it_back_and_once() {
        let (mut idle, now) = (Idle::default(), Instant::now());
        let (these, others) = (Settings::of(vec![[1; 32]]), Settings::of(vec![[1; 32], [2; 32]]));
        assert_eq!(idle.put(found(1, 7, &these, now), now), NONE);
        assert_eq!(id(idle.take(ProcessId::for_test(8), &these, now)), None);
        assert_eq!(id(idle.take(ProcessId::for_test(7), &others, now)), None);
        assert_eq!(id(idle.take(ProcessId::for_test(7), &these, now)), Some(1));
        assert_eq!(id(idle.take(ProcessId::for_test(7), &these, now)), None);
    }

    #[test]
    fn an_old_one_is_looked_at_from_the_beginning_however_often_it_was_used() {
        let (mut idle, begun) = (Idle::default(), Instant::now());
        let settings = Settings::of(vec![[1; 32]]);
        assert_eq!(idle.put(found(1, 7, &settings, begun), begun), NONE);
        let late = begun + LONGEST;
        let again = idle.take(ProcessId::for_test(7), &settings, late).unwrap();
        let later = late + Duration::from_millis(1);
        assert_eq!(idle.put(again, late), NONE);
        assert_eq!(id(idle.take(ProcessId::for_test(7), &settings, later)), None);
        // And it is let go of with the next one that comes.
        assert_eq!(idle.put(found(2, 8, &settings, later), later), [1]);
    }

    #[test]
    fn the_oldest_makes_room_and_descent_is_never_taken_from_here() {
        let (mut idle, now) = (Idle::default(), Instant::now());
        let settings = Settings::of(vec![[1; 32]]);
        for id in 0..MOST as u64 {
            assert_eq!(idle.put(found(id, id, &settings, now), now), NONE);
        }
        assert_eq!(idle.put(found(100, 100, &settings, now), now), [0]);
        let strict = Settings { ancestry: Ancestry::ContainerMain, ..settings };
        assert_eq!(idle.put(found(101, 101, &strict, now), now), [101]);
    }
}
