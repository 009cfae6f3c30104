//! How long to wait after a failure. Pure.

use super::error::{Class, Error};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The wait after the `failures`-th failure in a row (from 1). What Vault refuses is not asked again before half a
/// minute; everything else backs off with full jitter to a minute; a `Retry-After` is always waited for. `chance` is
/// any number from 0 to 1.
#[must_use]
pub fn wait(error: &Error, failures: u32, chance: f64) -> Duration {
    let ceiling = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST);
    let wait = match error.class() {
        Class::Denied | Class::Invalid | Class::Missing => LONGEST.mul_f64(0.5 + 0.5 * chance),
        // Never quite zero: a server that refuses at once must not be asked in a loop.
        _ => ceiling.mul_f64(chance.max(0.1)),
    };
    wait.max(error.retry_after().unwrap_or_default())
}

/// A wait as the log shows it.
#[must_use]
pub fn ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_grows_and_obeys_the_server() {
        let check = |class: Class, asked: Option<u64>, failures: u32, chance: f64, expected: f64| {
            let error = Error::new(class, "x", "y").after(asked.map(Duration::from_secs));
            let got = wait(&error, failures, chance).as_secs_f64();
            assert!((got - expected).abs() < 1e-6, "{class:?} {failures} {chance}: {got}");
        };
        check(Class::Away, None, 1, 1.0, 1.0);
        check(Class::Away, None, 1, 0.0, 0.1);
        check(Class::Away, None, 4, 1.0, 8.0);
        check(Class::Sealed, None, 99, 1.0, 60.0);
        check(Class::Denied, None, 1, 0.0, 30.0);
        check(Class::Invalid, None, 1, 1.0, 60.0);
        check(Class::Slow, Some(120), 1, 1.0, 120.0);
        check(Class::Away, Some(3), 1, 0.5, 3.0);
    }
}
