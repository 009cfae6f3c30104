//! Events that nobody waited for: in memory until the journal takes them, the oldest dropped first and counted exactly.
//!
//! Pure. Does not write: the journal's thread takes them out, and gives back what the journal did not take.

use super::event::{Agg, Event};
use std::collections::VecDeque;

/// As many wait at most: some 4 MiB.
pub(super) const MOST: usize = 4_096;

/// What waits, and what was dropped meanwhile.
#[derive(Default)]
pub(super) struct Loose {
    events: VecDeque<Box<Event>>,
    lost: Option<Agg>,
}

/// Some of what waits, in order.
#[derive(Default)]
pub(super) struct Taken {
    /// What was dropped before the first of `events`.
    pub(super) lost: Option<Agg>,
    /// What is to be written.
    pub(super) events: VecDeque<Box<Event>>,
}

impl Taken {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.lost.is_none()
    }
}

impl Loose {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.lost.is_none()
    }

    /// Puts `event` at the end; the oldest gives way to it.
    pub(super) fn push(&mut self, event: Box<Event>) {
        self.events.push_back(event);
        self.shorten();
    }

    /// Takes the next `count`, and the account of what was dropped.
    pub(super) fn take(&mut self, count: usize) -> Taken {
        let count = self.events.len().min(count);
        Taken { lost: self.lost.take(), events: self.events.drain(..count).collect() }
    }

    /// Puts what could not be written in front again.
    pub(super) fn give_back(&mut self, Taken { lost, mut events }: Taken) {
        events.append(&mut self.events);
        self.events = events;
        // What was dropped first comes first.
        let later = std::mem::replace(&mut self.lost, lost);
        if let Some(later) = later {
            self.lose(later);
        }
        self.shorten();
    }

    fn shorten(&mut self) {
        while self.events.len() > MOST {
            let Some(oldest) = self.events.pop_front() else { return };
            self.lose(Agg { count: 1, first: oldest.time, last: oldest.time });
        }
    }

    fn lose(&mut self, more: Agg) {
        match &mut self.lost {
            Some(lost) => lost.join(&more),
            none => *none = Some(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::event::{Outcome, Type},
        clock::Timestamp,
    };

    fn event(second: i64) -> Box<Event> {
        let time = Timestamp::from_second(second).unwrap();
        Box::new(Event::new(Type::SecretRead, Outcome::Allow, time))
    }

    fn seconds(taken: &Taken) -> Vec<i64> {
        taken.events.iter().map(|event| event.time.as_second()).collect()
    }

    #[test]
    fn the_oldest_are_dropped_first_and_counted_exactly() {
        let mut loose = Loose::default();
        assert!(loose.is_empty());
        let most = i64::try_from(MOST).unwrap();
        for second in 0..most + 10 {
            loose.push(event(second));
        }
        let taken = loose.take(3);
        let lost = taken.lost.unwrap();
        assert_eq!((lost.count, lost.first.as_second(), lost.last.as_second()), (10, 0, 9));
        assert_eq!(seconds(&taken), [10, 11, 12]);
        // Three come meanwhile and take the room: those that come back are the oldest.
        for second in 0..3 {
            loose.push(event(most + 10 + second));
        }
        loose.give_back(taken);
        let taken = loose.take(1);
        let lost = taken.lost.unwrap();
        assert_eq!((lost.count, lost.first.as_second(), lost.last.as_second()), (13, 0, 12));
        assert_eq!(seconds(&taken), [13]);
    }
}
