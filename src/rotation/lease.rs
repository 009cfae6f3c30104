//! Who may work on a rotation: the lease in its journal, judged by this machine's clock alone.
//!
//! Pure. The holder stops calling before its lease may be over for others; a successor waits until no call of the holder can
//! still arrive. Clocks of different machines are never compared: what counts is how long ago the journal was seen to
//! change.

use super::document::Lease;
use std::time::Duration;

/// How long a lease lasts, and the longest that one call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// From the moment before the journal was written.
    pub ttl: Duration,
    /// The hard end of each call.
    pub call: Duration,
}

impl Terms {
    /// A lease of `ttl`, and calls of at most a third of it, and of ten seconds.
    #[must_use]
    pub fn of(ttl: Duration) -> Self {
        Self { ttl, call: (ttl / 3).min(Duration::from_secs(10)) }
    }

    /// How long after the last sign of a holder another may take over.
    #[must_use]
    pub fn takeover(&self) -> Duration {
        self.ttl.saturating_add(self.call)
    }
}

/// Our own lease: the time, since the machine booted, at which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline(Duration);

impl Deadline {
    /// Of a lease that was asked for at `asked`.
    pub(super) fn of(asked: Duration, terms: Terms) -> Self {
        Self(asked.saturating_add(terms.ttl))
    }

    /// Whether a call that begins at `now` is over before the lease is.
    pub(super) fn allows(self, now: Duration, terms: Terms) -> bool {
        now.saturating_add(terms.call) <= self.0
    }
}

/// What was last seen of the lease of others, and since when.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    seen: Option<(Lease, Duration)>,
}

impl Watch {
    /// Takes note of `lease`, read by a call that began at `asked`; says whether it may be taken at `now`.
    pub(super) fn may_take(&mut self, lease: &Lease, asked: Duration, now: Duration, terms: Terms) -> bool {
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != lease) {
            // It may have been written at the very end of the call.
            self.seen = Some((lease.clone(), now.max(asked)));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        lease.holder.is_none() || asked.saturating_sub(since) >= terms.takeover()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { ttl: Duration::from_secs(30), call: Duration::from_secs(10) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_holder_stops_before_its_lease_can_be_taken() {
        let deadline = Deadline::of(at(100), TERMS);
        assert!(deadline.allows(at(120), TERMS));
        assert!(!deadline.allows(at(121), TERMS));
        // Stopped for five minutes, it finds out before it calls.
        assert!(!deadline.allows(at(400), TERMS));
        assert_eq!(Terms::of(at(30)), TERMS);
        assert_eq!(Terms::of(at(3)).call, at(1));
    }

    #[test]
    fn a_lease_is_taken_only_after_its_holder_was_silent_long_enough_for_every_call_to_end() {
        let mut watch = Watch::default();
        let held = |beat| Lease { epoch: 1, holder: Some("a".into()), beat };
        let mut check = |lease: &Lease, asked: u64, expected: bool| {
            assert_eq!(watch.may_take(lease, at(asked), at(asked), TERMS), expected, "{lease:?} {asked}");
        };
        check(&held(1), 100, false);
        check(&held(1), 139, false);
        check(&held(2), 139, false);
        check(&held(2), 178, false);
        check(&held(2), 179, true);
        check(&Lease { epoch: 1, holder: None, beat: 2 }, 180, true);
    }
}
