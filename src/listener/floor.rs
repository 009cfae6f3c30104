//! Whose word it is that is written next: an answer of ours, or one that the HTTP library gives by itself to what it cannot read.
//!
//! Pure. Knows no bytes: it is told when an answer begins, when it has ended, and when all of it is written.

use std::sync::atomic::{AtomicU8, Ordering};

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const ENDING: u8 = 2;

/// Of one connection.
#[derive(Default)]
pub(super) struct Floor(AtomicU8);

impl Floor {
    /// A request is being answered.
    pub(super) fn take(&self) {
        self.0.store(TAKEN, Ordering::Relaxed);
    }

    /// Nothing is added to the answer any more.
    pub(super) fn end(&self) {
        self.step(TAKEN, ENDING);
    }

    /// All that was to be written is written.
    pub(super) fn flushed(&self) {
        self.step(ENDING, FREE);
    }

    /// Whether what is written now is not ours.
    pub(super) fn is_free(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FREE
    }

    fn step(&self, from: u8, to: u8) {
        // One task does all of it.
        let _ = self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_floor_until_all_of_it_is_written() {
        let floor = Floor::default();
        assert!(floor.is_free());
        floor.take();
        floor.flushed();
        assert!(!floor.is_free(), "its head is out");
        floor.end();
        assert!(!floor.is_free(), "its end is not");
        // The next request is answered before.
        floor.take();
        floor.flushed();
        assert!(!floor.is_free());
        floor.end();
        floor.flushed();
        assert!(floor.is_free());
    }
}
