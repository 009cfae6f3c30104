//! The one place that reads the clocks.
//!
//! Does not wait: waiting uses tokio's time, so that tests can pause it.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

pub use jiff::Timestamp;

/// The wall clock, UTC. May jump: nothing is timed by it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    #[cfg(test)]
    let now = Timestamp::now() + shift::BY.get();
    #[cfg(not(test))]
    let now = Timestamp::now();
    now
}

/// A wall clock that a test sets, for its own thread alone.
#[cfg(test)]
pub(crate) mod shift {
    use jiff::SignedDuration;
    use std::cell::Cell;

    thread_local! {
        /// How far ahead it is.
        pub(crate) static BY: Cell<SignedDuration> = const { Cell::new(SignedDuration::ZERO) };
    }
}

/// Time since the machine booted, suspension included (`CLOCK_BOOTTIME`, Linux 2.6.39): survives jumps of the wall clock.
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// `time` as the events and answers print it: RFC 3339, UTC, microseconds always.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_with_six_digits() {
        assert_eq!(rfc3339(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
