//! How many requests a second: a token bucket that starts full and holds one second's worth.
//!
//! Pure. Is told the time; does not wait.

use std::{collections::BTreeMap, time::Duration};

/// How many users are told apart. Those that come when so many are taking at the same time share one bucket.
const USERS: usize = 256;
const SECOND: Duration = Duration::from_secs(1);

/// One bucket. Over any `t` seconds it gives at most `rate * (t + 1)` times.
///
/// It is kept as the time at which it will be full again, so that no time needs to be spent on filling it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Takes one of `per_second` (0 counts as 1) at `now`, which is measured from any fixed point and does not go back.
    ///
    /// # Errors
    /// How long until one can be had.
    pub fn take(&mut self, per_second: u32, now: Duration) -> Result<(), Duration> {
        self.reserve(per_second, now, Duration::ZERO).map(drop)
    }

    /// Takes one that may be had within `patience` at the latest, and gives how long until then.
    ///
    /// # Errors
    /// How long until one can be had; none was taken.
    pub fn reserve(
        &mut self,
        per_second: u32,
        now: Duration,
        patience: Duration,
    ) -> Result<Duration, Duration> {
        let each = SECOND / per_second.max(1);
        let full_at = self.full_at.max(now) + each;
        let wait = full_at.saturating_sub(now + SECOND);
        if wait > patience {
            return Err(wait);
        }
        self.full_at = full_at;
        Ok(wait)
    }
}

/// A bucket for each user, by uid: what one takes, no other lacks. Bounded, whatever users there are: a bucket that is full
/// again is as good as none, and is forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buckets {
    of: BTreeMap<u32, Bucket>,
    rest: Bucket,
}

impl Buckets {
    /// Takes one of `uid`'s, as [`Bucket::take`].
    ///
    /// # Errors
    /// How long until one can be had.
    pub fn take(&mut self, uid: u32, per_second: u32, now: Duration) -> Result<(), Duration> {
        self.reserve(uid, per_second, now, Duration::ZERO).map(drop)
    }

    /// Takes one of `uid`'s, as [`Bucket::reserve`].
    ///
    /// # Errors
    /// How long until one can be had; none was taken.
    pub fn reserve(
        &mut self,
        uid: u32,
        per_second: u32,
        now: Duration,
        patience: Duration,
    ) -> Result<Duration, Duration> {
        if self.of.len() >= USERS && !self.of.contains_key(&uid) {
            self.of.retain(|_, bucket| bucket.full_at > now);
        }
        let bucket = if self.of.len() < USERS || self.of.contains_key(&uid) {
            self.of.entry(uid).or_default()
        } else {
            &mut self.rest
        };
        bucket.reserve(per_second, now, patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_has_a_place_of_his_own_and_who_would_wait_too_long_has_none() {
        let mut buckets = Buckets::default();
        let mut reserve = |uid| {
            let reserved = buckets.reserve(uid, 2, Duration::ZERO, SECOND);
            reserved.map(|wait| wait.as_millis()).map_err(|wait| wait.as_millis())
        };
        let found: Vec<_> = (0..6).map(|_| reserve(1)).collect();
        assert_eq!(found, [Ok(0), Ok(0), Ok(500), Ok(1000), Err(1500), Err(1500)]);
        assert_eq!(reserve(2), Ok(0));
    }

    /// Takes at each of these milliseconds; `expected` has the wait in milliseconds for each, 0 for a success.
    #[track_caller]
    fn check(per_second: u32, at: &[u64], expected: &[u128]) {
        let mut bucket = Bucket::default();
        let found: Vec<_> = at
            .iter()
            .map(|ms| {
                bucket.take(per_second, Duration::from_millis(*ms)).err().map_or(0, |wait| wait.as_millis())
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_second_s_worth_at_once_and_then_one_by_one() {
        check(2, &[0, 0, 0, 499, 500, 500], &[0, 0, 500, 1, 0, 500]);
        check(1, &[7, 8, 1006, 1007], &[0, 999, 1, 0]);
        check(4, &[0, 0, 0, 0, 0, 9000, 9000, 9000, 9000, 9000], &[0, 0, 0, 0, 250, 0, 0, 0, 0, 250]);
        check(0, &[0, 1], &[0, 999]);
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let mut asked = vec![0, 0];
        asked.extend(std::iter::repeat_n(100, 50));
        asked.push(500);
        let mut bucket = Bucket::default();
        let last = asked.iter().map(|ms| bucket.take(2, Duration::from_millis(*ms))).next_back();
        assert_eq!(last, Some(Ok(())));
    }

    #[test]
    fn what_one_user_takes_no_other_lacks() {
        let (mut buckets, now) = (Buckets::default(), Duration::from_secs(5));
        let mut take = |uid| buckets.take(uid, 2, now).is_ok();
        assert_eq!([1, 1, 1, 2, 2, 2].map(&mut take), [true, true, false, true, true, false]);
    }

    #[test]
    fn users_who_take_nothing_are_forgotten_and_their_number_is_bounded() {
        let (mut buckets, first) = (Buckets::default(), Duration::ZERO);
        for uid in 0..10_000 {
            let taken = buckets.take(uid, 1, first);
            // The last ones share what is left.
            assert_eq!(taken.is_ok(), uid <= 256, "{uid}");
            assert!(buckets.of.len() <= USERS);
        }
        assert!(buckets.take(20_000, 1, Duration::from_secs(2)).is_ok());
        assert_eq!(buckets.of.len(), 1);
    }
}
