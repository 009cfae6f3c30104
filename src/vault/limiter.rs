//! The call budget: one token bucket that every call on our own account passes, whatever Vault answers.
//!
//! In any `t` seconds no more than `burst + calls_per_second * t` calls leave, logins, renewals, retries, failovers
//! and health checks included. Half of the burst is kept for upkeep, so that reads cannot starve a renewal; what a
//! workload causes draws on a small bucket of its own first, so that a workload that asks without end starves nobody.
//! Does not send anything.

use super::Budget;
use crate::name::WorkloadName;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Calls a second that one workload may cause.
pub const WORKLOAD_RATE: u32 = 2;
/// Calls at once that one workload may cause.
pub const WORKLOAD_BURST: u32 = 10;

/// On whose account a call is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// Login, renewal, revocation: may use the whole budget.
    Upkeep,
    /// Reads on our own schedule: leave half of the burst to upkeep.
    Refresh,
    /// A read that this workload's request caused: its own bucket first, then as `Refresh`.
    Workload(WorkloadName),
    /// Revocation at exit, once for each token: exempt, since nothing follows.
    Exit,
}

/// The workload is over what it may cause; the time is when its next call is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted(pub Duration);

/// The budget of one Vault.
#[derive(Debug)]
pub struct Limiter {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    all: Bucket,
    workloads: BTreeMap<WorkloadName, Bucket>,
}

impl Limiter {
    /// A full bucket of `budget`, from `now` on.
    #[must_use]
    pub fn new(budget: Budget, now: Instant) -> Self {
        Self { state: Mutex::new(State { all: Bucket::full(budget, now), workloads: BTreeMap::new() }) }
    }

    /// Takes over a changed budget; what is in the bucket stays, up to the new burst.
    pub fn set(&self, budget: Budget) {
        self.lock().all.resize(budget);
    }

    /// Waits for a call of `account` to be free, and takes it.
    ///
    /// # Errors
    /// [`Exhausted`] at once when a workload is over its own bucket.
    pub async fn acquire(&self, account: &Account) -> Result<(), Exhausted> {
        if let Account::Workload(name) = account {
            self.charge(name)?;
        }
        loop {
            let wait = match account {
                Account::Exit => return Ok(()),
                Account::Upkeep => self.lock().all.take(Instant::now(), 0),
                Account::Refresh | Account::Workload(_) => {
                    let mut state = self.lock();
                    let kept = state.all.budget.burst / 2;
                    state.all.take(Instant::now(), kept)
                }
            };
            match wait {
                Ok(()) => return Ok(()),
                Err(Exhausted(wait)) => sleep_until(Instant::now() + wait).await,
            }
        }
    }

    /// Takes a call from this workload's own bucket only: what follows is then made as [`Account::Refresh`].
    ///
    /// # Errors
    /// [`Exhausted`] when the workload is over it.
    pub fn charge(&self, workload: &WorkloadName) -> Result<(), Exhausted> {
        let now = Instant::now();
        let own = Budget { calls_per_second: WORKLOAD_RATE, burst: WORKLOAD_BURST };
        let mut state = self.lock();
        state.workloads.entry(workload.clone()).or_insert_with(|| Bucket::full(own, now)).take(now, 0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is two numbers and a time, valid after every step: a poisoned lock is still a good bucket.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole calls and the part of the next one, counted in nanoseconds of refill so that nothing is lost to rounding.
#[derive(Debug)]
struct Bucket {
    budget: Budget,
    calls: u32,
    since: Instant,
}

impl Bucket {
    fn full(budget: Budget, now: Instant) -> Self {
        Self { budget, calls: budget.burst, since: now }
    }

    fn resize(&mut self, budget: Budget) {
        self.calls = self.calls.min(budget.burst);
        self.budget = budget;
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.budget.calls_per_second.max(1)
    }

    /// Takes one call if more than `kept` are there, else says how long until there are.
    fn take(&mut self, now: Instant, kept: u32) -> Result<(), Exhausted> {
        self.refill(now);
        if self.calls > kept {
            self.calls -= 1;
            return Ok(());
        }
        let missing = kept + 1 - self.calls;
        Err(Exhausted((self.since + self.interval() * missing).saturating_duration_since(now)))
    }

    fn refill(&mut self, now: Instant) {
        let interval = self.interval();
        let passed = now.saturating_duration_since(self.since);
        let calls = u32::try_from(passed.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        if calls >= self.budget.burst.saturating_sub(self.calls) {
            self.calls = self.budget.burst;
            self.since = now;
        } else {
            self.calls += calls;
            self.since += interval * calls;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { calls_per_second: 10, burst: 20 };

    async fn calls_in(limiter: &Limiter, account: &Account, span: Duration) -> u32 {
        let end = Instant::now() + span;
        let mut calls = 0;
        while tokio::time::timeout_at(end, limiter.acquire(account)).await.is_ok_and(|taken| taken.is_ok()) {
            calls += 1;
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn upkeep_gets_the_burst_and_then_the_rate() {
        let limiter = Limiter::new(BUDGET, Instant::now());
        assert_eq!(calls_in(&limiter, &Account::Upkeep, Duration::from_millis(1050)).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_leave_half_of_the_burst_to_upkeep() {
        let limiter = Limiter::new(BUDGET, Instant::now());
        assert_eq!(calls_in(&limiter, &Account::Refresh, Duration::from_millis(50)).await, 10);
        assert_eq!(calls_in(&limiter, &Account::Upkeep, Duration::from_millis(20)).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_workload_that_asks_without_end_gets_its_own_burst_only() {
        let limiter = Limiter::new(Budget { calls_per_second: 100, burst: 100 }, Instant::now());
        let greedy = Account::Workload(WorkloadName::new("greedy").unwrap());
        let modest = Account::Workload(WorkloadName::new("modest").unwrap());
        assert_eq!(calls_in(&limiter, &greedy, Duration::from_millis(1)).await, WORKLOAD_BURST);
        assert!(limiter.acquire(&greedy).await.is_err());
        assert_eq!(limiter.acquire(&modest).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_smaller_budget_holds_from_the_next_call_on() {
        let limiter = Limiter::new(BUDGET, Instant::now());
        limiter.set(Budget { calls_per_second: 1, burst: 2 });
        assert_eq!(calls_in(&limiter, &Account::Upkeep, Duration::from_millis(500)).await, 2);
    }
}
