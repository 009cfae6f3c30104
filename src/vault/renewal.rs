//! When a token or a lease is renewed, and when it is replaced. Pure.
//!
//! Does not know what is renewed, and does not call anybody: times come in, times go out.

use std::time::Duration;
use tokio::time::Instant;

/// What is kept over the grace when something is replaced before its end: time for failed attempts.
pub const MARGIN: Duration = Duration::from_secs(60);

/// How long something lives, as Vault last said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    from: Instant,
    ttl: Duration,
    /// The longest that Vault has granted: a shorter renewal means that the maximum is near.
    full: Duration,
    renewable: bool,
}

/// What is due, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Ask for more time.
    Renew(Instant),
    /// Make a new one and move over.
    Replace(Instant),
    /// It has no end.
    Never,
}

/// The earlier of a time and an end, where there is one.
pub(super) fn earlier(at: Instant, end: Option<Instant>) -> Option<Instant> {
    Some(end.map_or(at, |end| end.min(at)))
}

impl Term {
    /// A term of `ttl` from `now`; zero means that it has no end (a root token).
    #[must_use]
    pub fn new(now: Instant, ttl: Duration, renewable: bool) -> Self {
        Self { from: now, ttl, full: ttl, renewable }
    }

    /// The term after a renewal that granted `ttl` at `now`.
    #[must_use]
    pub fn renewed(self, now: Instant, ttl: Duration, renewable: bool) -> Self {
        Self { from: now, ttl, full: self.full.max(ttl), renewable }
    }

    /// The same term, never to be renewed again: Vault refused to.
    #[must_use]
    pub fn unrenewable(self) -> Self {
        Self { renewable: false, ..self }
    }

    /// When it ends, if it does.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        (!self.ttl.is_zero()).then(|| self.from + self.ttl)
    }

    /// Whether Vault cut it short, or will not renew it: its end is final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !self.renewable || self.is_cut()
    }

    /// What is due next. `overlap` is how long the old one must still live after the new one is served; `chance` is
    /// any number from 0 to 1, so that many agents do not call at one time.
    #[must_use]
    pub fn due(&self, overlap: Duration, chance: f64) -> Due {
        let Some(end) = self.end() else { return Due::Never };
        let share = self.ttl.mul_f64(0.60 + 0.10 * chance.clamp(0.0, 1.0));
        if !self.is_final() {
            return Due::Renew(self.from + share);
        }
        let latest = end.checked_sub(overlap + MARGIN).unwrap_or(self.from).max(self.from);
        if self.is_cut() {
            return Due::Replace(latest);
        }
        // It was never renewable: as early as a renewal would be, and never in the first half, or a lifetime shorter
        // than the overlap would be replaced in a loop.
        Due::Replace(latest.min(self.from + share).max(self.from + self.ttl / 2))
    }

    fn is_cut(&self) -> bool {
        self.ttl + Duration::from_secs(1) < self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const GRACE: Duration = Duration::from_secs(60);

    fn after(seconds: u64, start: Instant) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_due_follows_from_the_term() {
        let t = Instant::now();
        let check = |name: &str, term: Term, chance: f64, expected: Due| {
            assert_eq!(term.due(GRACE, chance), expected, "{name}");
        };
        check("a root token", Term::new(t, Duration::ZERO, false), 0.5, Due::Never);
        check("an hour, earliest", Term::new(t, HOUR, true), 0.0, Due::Renew(after(2160, t)));
        check("an hour, latest", Term::new(t, HOUR, true), 1.0, Due::Renew(after(2520, t)));
        check("a batch token", Term::new(t, HOUR, false), 0.0, Due::Replace(after(2160, t)));
        check("shorter than the overlap", Term::new(t, GRACE, false), 0.0, Due::Replace(after(30, t)));
        let renewed = Term::new(t, HOUR, true).renewed(after(2160, t), HOUR, true);
        check("renewed in full", renewed, 0.0, Due::Renew(after(4320, t)));
        let cut = renewed.renewed(after(4320, t), Duration::from_secs(1200), true);
        check("cut by max_ttl", cut, 0.0, Due::Replace(after(4320 + 1200 - 120, t)));
        let late = renewed.renewed(after(4320, t), Duration::from_secs(100), true);
        check("cut to less than the overlap", late, 0.0, Due::Replace(after(4320, t)));
        let refused = Term::new(t, HOUR, true).unrenewable();
        check("Vault will not renew it", refused, 0.0, Due::Replace(after(2160, t)));
    }

    #[test]
    fn a_second_of_rounding_is_no_cut() {
        let t = Instant::now();
        let term = Term::new(t, HOUR, true).renewed(t, HOUR - Duration::from_secs(1), true);
        assert!(!term.is_final());
    }
}
