//! How long a token or lease is granted: role, period and the maxima, as Vault combines them. Pure.

use std::time::Duration;

use crate::duration::{SYSTEM_TTL, short_text};

/// The limits that a role or mount sets; `None` means Vault's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) ttl: Option<Duration>,
    pub(crate) max_ttl: Option<Duration>,
    pub(crate) explicit_max: Option<Duration>,
    pub(crate) period: Option<Duration>,
}

impl Limits {
    /// The longest life since issue, or `None` for a periodic token without an explicit end.
    fn life(&self) -> Option<Duration> {
        let explicit = self.explicit_max.map_or(SYSTEM_TTL, |e| e.min(SYSTEM_TTL));
        match self.period {
            Some(_) => self.explicit_max.map(|_| explicit),
            None => Some(self.max_ttl.map_or(explicit, |m| m.min(explicit))),
        }
    }

    /// Grants a time from now on to what is of this age, and says what was cut.
    pub(crate) fn grant(&self, asked: Option<Duration>, age: Duration) -> (Duration, Vec<String>) {
        let wanted = match self.period {
            Some(period) => period.min(SYSTEM_TTL),
            None => asked.or(self.ttl).unwrap_or(SYSTEM_TTL),
        };
        let Some(life) = self.life() else { return (wanted, Vec::new()) };
        let left = life.saturating_sub(age);
        if wanted <= left {
            return (wanted, Vec::new());
        }
        let what = if self.period.is_some() { "period" } else { "TTL" };
        let warning = format!(
            "{what} of \"{}\" exceeded the effective max_ttl of \"{}\"; {what} value is capped accordingly",
            short_text(wanted),
            short_text(left)
        );
        (left, vec![warning])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_never_reaches_past_the_maximum() {
        let limits = Limits {
            ttl: Some(Duration::from_secs(60)),
            max_ttl: Some(Duration::from_secs(90)),
            ..Limits::default()
        };
        let check = |asked: Option<u64>, age: u64, expected: u64, warned: bool| {
            let (ttl, warnings) = limits.grant(asked.map(Duration::from_secs), Duration::from_secs(age));
            assert_eq!((ttl.as_secs(), !warnings.is_empty()), (expected, warned), "{asked:?} at {age}");
        };
        check(None, 0, 60, false);
        check(None, 30, 60, false);
        check(None, 40, 50, true);
        check(Some(3600), 0, 90, true);
        check(Some(5), 80, 5, false);
        check(None, 100, 0, true);
    }
}
