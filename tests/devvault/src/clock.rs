//! The double's two clocks: tokio's monotonic one, which tests pause and advance, and a wall clock that follows it.
//! A test may shift the wall clock, as if Vault's machine had another time; nothing else here reads the system's.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The wall clock as an offset from a monotonic start, so that paused time moves both.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    start: Instant,
    wall: Timestamp,
    shift: SignedDuration,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the double reads the system's clock")]
    pub(crate) fn new() -> Clock {
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
        // A whole second, so that what Vault cuts to seconds is the same in each run of a test.
        let wall = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Clock { start: Instant::now(), wall, shift: SignedDuration::ZERO }
    }

    pub(crate) fn shift(&mut self, by: SignedDuration) {
        self.shift = by;
    }

    pub(crate) fn wall(&self, at: Instant) -> Timestamp {
        let passed = match at.checked_duration_since(self.start) {
            Some(after) => signed(after),
            None => -signed(self.start.duration_since(at)),
        };
        self.wall.saturating_add(passed).and_then(|t| t.saturating_add(self.shift)).unwrap_or(self.wall)
    }

    /// The time between two moments as Vault counts a token's age: each cut to its second first.
    pub(crate) fn age(&self, from: Instant, to: Instant) -> Duration {
        let second = |at: Instant| at.saturating_duration_since(self.start).as_secs();
        Duration::from_secs(second(to).saturating_sub(second(from)))
    }

    /// RFC 3339 in UTC with a fraction, as Vault writes times.
    pub(crate) fn rfc3339(&self, at: Instant) -> String {
        self.wall(at).to_string()
    }

    /// The value of a `Date` header (RFC 9110 section 5.6.7).
    pub(crate) fn http_date(&self, at: Instant) -> String {
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&self.wall(at))
            .unwrap_or_default()
    }
}

fn signed(d: Duration) -> SignedDuration {
    SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX)
}
