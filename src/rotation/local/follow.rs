//! Kind `follow`: Vault rotates, and each replica looks whether it has: each minute, and each second when it should.
//!
//! What says so is the field that changes with the value: `last_vault_rotation`, never `ttl`, which rolls over at the slot, before
//! the password is another one.

use super::{Run, Task};
use crate::{
    clock::{self, Timestamp},
    crypto,
    rotation::{
        fact::{Act, Failure},
        schedule::{Past, Schedule, plus},
        trigger::{Evidence, mark_of},
    },
    vault::{
        backoff,
        endpoint::{Request, members},
        error::{Class, Error},
    },
};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often Vault's record is read.
const IDLE_LOOK: Duration = Duration::from_secs(60);
/// How often it is read around the slot.
const BUSY_LOOK: Duration = Duration::from_secs(1);
/// From how long before the slot on.
const EARLY: Duration = Duration::from_secs(5);
/// For how long after the slot, where no schedule says.
const WINDOW: Duration = Duration::from_secs(600);

/// What Vault says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    /// Another number after each rotation.
    mark: u64,
    /// When it rotated last, if it says so.
    rotated: Option<Timestamp>,
    /// What it says until the next rotation: good for nothing but a guess of when to look.
    ttl: Option<Duration>,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Follower {
    mark: Option<u64>,
    /// When the next rotation is expected: kept until it was seen, or its window is over.
    slot: Option<Timestamp>,
}

impl Follower {
    /// Takes note of `record`; gives the mark before, if it is another one, and how long to wait.
    fn look(
        &mut self,
        record: Record,
        now: Timestamp,
        (planned, window): (Option<Timestamp>, Duration),
    ) -> (Option<u64>, Duration) {
        let before = self.mark.replace(record.mark).filter(|before| *before != record.mark);
        let is_over = self.slot.is_some_and(|slot| plus(slot, window) <= now);
        if before.is_some() || is_over {
            self.slot = None;
        }
        let slot = self.slot.or(planned).or(record.ttl.map(|ttl| plus(now, ttl)));
        self.slot = slot;
        let left = slot.map(|slot| {
            let left = Duration::try_from(slot.duration_since(now)).unwrap_or_default();
            left.saturating_sub(EARLY).max(BUSY_LOOK)
        });
        (before, left.map_or(IDLE_LOOK, |left| left.min(IDLE_LOOK)))
    }
}

impl Task {
    pub(super) async fn follow(
        &self,
        evidence: &Evidence,
        schedule: Option<&Schedule>,
        stop: &CancellationToken,
    ) {
        let (mut follower, mut state) = (Follower::default(), self.store.state());
        let (mut failures, mut succeeded) = (0, clock::now());
        loop {
            let look = async {
                match self.record(evidence).await {
                    Ok(record) => {
                        failures = 0;
                        let now = clock::now();
                        let window = schedule.map_or(WINDOW, |schedule| schedule.window);
                        let planned = schedule.and_then(|schedule| self.slot_after(schedule, succeeded, now));
                        let (before, wait) = follower.look(record, now, (planned, window));
                        if before.is_some() || record.rotated.is_some() {
                            succeeded = record.rotated.unwrap_or(now);
                        }
                        if before.is_some() {
                            self.report(
                                Act::Promoted,
                                Run { from: before, to: Some(record.mark), ..Run::default() },
                            );
                            self.look_again(None);
                        }
                        self.stand(succeeded, follower.slot);
                        wait
                    }
                    Err(error) => {
                        failures += 1;
                        self.failed(&error, failures)
                    }
                }
            };
            let wait = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                wait = look => wait,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Ok(()) = state.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    fn slot_after(&self, schedule: &Schedule, succeeded: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let past = Past { settled: succeeded, succeeded, not_before: None };
        schedule.plan(&self.settings.name, &past, now, 1).first().map(|planned| planned.slot)
    }

    /// Gives how long to wait.
    fn failed(&self, error: &Error, failures: u32) -> Duration {
        // The login is not over, or down: what is wrong is told there.
        if error.class() != Class::Away {
            tracing::warn!(rotation = %self.settings.name, %error, "Vault's record cannot be read");
            self.report(Act::Failed(Failure::Vault(error.class())), Run::default());
        }
        backoff::wait(error, failures, crypto::chance()).min(IDLE_LOOK)
    }

    async fn record(&self, evidence: &Evidence) -> Result<Record, Error> {
        let answer = self.store.call(&Request::read(&evidence.path)).await?;
        let envelope = answer.envelope()?;
        let data = envelope.data.ok_or_else(|| answer.nonsense("an answer without data"))?;
        let members = members(data).map_err(|_| answer.nonsense("a record that is no object"))?;
        let of = |name: &str| members.get(name).map(|text| text.get());
        let text = of(&evidence.field).ok_or_else(|| {
            let doing = format!("reading {}", evidence.path);
            Error::new(Class::Missing, doing, format!("it has no field {}", evidence.field))
        })?;
        Ok(Record {
            mark: mark_of(text),
            rotated: text.trim_matches('"').parse().ok(),
            ttl: of("ttl").and_then(|ttl| ttl.parse().ok()).map(Duration::from_secs),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    /// Looks at `(second, mark, ttl)`; says which were changes, and how long was waited after each.
    fn check(planned: Option<i64>, looks: &[(i64, u64, u64)], expected: &[(bool, u64)]) {
        let mut follower = Follower::default();
        let found: Vec<_> = looks
            .iter()
            .map(|(second, mark, ttl)| {
                let record = Record { mark: *mark, rotated: None, ttl: Some(Duration::from_secs(*ttl)) };
                let (before, wait) = follower.look(record, at(*second), (planned.map(at), WINDOW));
                (before.is_some(), wait.as_secs())
            })
            .collect();
        assert_eq!(found, expected, "{looks:?}");
    }

    #[test]
    fn a_ttl_that_rolled_over_is_no_rotation_and_the_looking_goes_on() {
        check(
            None,
            &[
                (0, 1, 100),
                (60, 1, 40),
                (95, 1, 5),
                (100, 1, 3600),
                (101, 1, 3599),
                (112, 2, 3590),
                (113, 2, 3589),
            ],
            &[(false, 60), (false, 35), (false, 1), (false, 1), (false, 1), (true, 60), (false, 60)],
        );
    }

    #[test]
    fn around_a_slot_it_looks_each_second_until_the_window_is_over() {
        check(
            Some(100),
            &[(0, 1, 9999), (96, 1, 9999), (400, 1, 9999), (699, 1, 9999)],
            &[(false, 60), (false, 1), (false, 1), (false, 1)],
        );
        check(None, &[(0, 1, 100), (700, 1, 3000)], &[(false, 60), (false, 60)]);
    }
}
