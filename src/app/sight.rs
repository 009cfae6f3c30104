//! How the agent is, as seen from outside: readiness, gauges, the clocks.
//!
//! Does not change anything.

use super::{
    kept::{Identities, Kept},
    reports, rotations,
    workloads::Workloads,
};
use crate::{
    access::Access,
    approval::Approvals,
    audit::{
        self, Audit,
        event::{AgentFacts, Event, Outcome, Reason as Why, Type},
        sink::Lags,
    },
    clock::{self, Timestamp},
    config::Config,
    keeper::Keeper,
    listener::Standing,
    name::WorkloadName,
    rotation::standing::Board,
    telemetry::{
        forwarded::Forwarded,
        health::{Code, Reason},
        metrics::{Gauges, SecretGauge},
    },
    vault::{
        Vault,
        session::{Identity, State},
    },
};
use arc_swap::ArcSwap;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// A jump of the wall clock that is worth an event.
const JUMP: Duration = Duration::from_secs(2);

/// Why the agent is not ready; nothing: it is.
pub(super) fn reasons(kept: &Kept, workloads: &Workloads, audit: &Audit, config: &Config) -> Vec<Reason> {
    let now = Instant::now();
    let named = |code, name: &dyn std::fmt::Display| Reason { code, name: Some(name.to_string()) };
    let identities = kept.identities().load_full();
    let tokens = identities
        .iter()
        .filter(|(_, identity)| !matches!(*identity.state.borrow(), State::Live(_)))
        .map(|(name, _)| named(Code::NoToken, name));
    let shelves = kept.keeper().shelves();
    let secrets = shelves
        .iter()
        .filter(|(_, shelf)| shelf.served(now).is_none())
        .map(|(name, _)| named(Code::SecretNotReady, name));
    let sockets = workloads.lost().map(|name| named(Code::SocketLost, name));
    let unwritable = config.needs_journal() && !audit.writable();
    let journal = unwritable.then_some(Reason { code: Code::AuditUnwritable, name: None });
    tokens.chain(secrets).chain(journal).chain(sockets).collect()
}

/// The one reason of an agent that stops.
pub(super) fn stopping() -> Reason {
    Reason { code: Code::Stopping, name: None }
}

/// What a workload has of Vault's API; nothing once its socket is gone.
fn forwarded(access: &Weak<Access>) -> Forwarded {
    let Some(access) = access.upgrade() else { return Forwarded::default() };
    let (held, cache) = (access.held(), access.cached());
    Forwarded {
        leases: held.leases,
        children: held.children,
        held: (cache.entries, cache.bytes),
        hits: (cache.hits, cache.misses),
    }
}

/// What the gauges are read from at each scrape.
pub(super) struct Gauging {
    keeper: Keeper,
    identities: Arc<ArcSwap<Identities>>,
    sockets: Vec<(WorkloadName, Vec<Arc<Standing>>)>,
    accesses: Vec<(WorkloadName, Weak<Access>)>,
    vault: Vault,
    journal: Arc<audit::Stats>,
    sinks: Lags,
    rotations: Board,
    reports: reports::Board,
    approvals: Approvals,
}

impl Gauging {
    pub(super) fn new(
        kept: &Kept,
        workloads: &Workloads,
        vault: Vault,
        audit: &Audit,
        (sinks, rotations, reports): (Lags, Board, reports::Board),
    ) -> Self {
        Self {
            keeper: kept.keeper(),
            identities: kept.identities(),
            sockets: workloads.sockets(),
            accesses: workloads.accesses(),
            vault,
            journal: audit.stats(),
            sinks,
            rotations,
            reports,
            approvals: workloads.approvals(),
        }
    }

    pub(super) fn read(&self) -> Gauges {
        let now = Instant::now();
        let left = |end: Option<Instant>| end.map(|end| end.saturating_duration_since(now));
        let token = |identity: &Identity| match &*identity.state.borrow() {
            State::Live(session) => left(*session.ends().borrow()),
            State::Starting | State::Down(_) => None,
        };
        let secrets = self.keeper.shelves().into_iter().map(|(name, shelf)| {
            let served = shelf.served(now);
            SecretGauge {
                name,
                age: served.as_ref().map(|served| served.age),
                left: served.and_then(|served| served.held.expires_at).map(until),
            }
        });
        let of = |number: fn(&Standing) -> &AtomicU64| {
            let read = |(name, standing): &(WorkloadName, Vec<Arc<Standing>>)| {
                (name.clone(), standing.iter().map(|standing| number(standing).load(Ordering::Relaxed)).sum())
            };
            self.sockets.iter().map(read).collect()
        };
        let identities = self.identities.load();
        Gauges {
            tokens: identities.iter().map(|(name, identity)| (name.clone(), token(identity))).collect(),
            secrets: secrets.collect(),
            processes: self.keeper.processes(),
            forwarded: self.accesses.iter().map(|(name, access)| (name.clone(), forwarded(access))).collect(),
            connections: of(|standing| &standing.open),
            rebinds: of(|standing| &standing.rebinds),
            skew_ms: self.vault.skew_ms(),
            journal_bytes: self.journal.journal_bytes(),
            fsync_errors: self.journal.fsync_errors(),
            gap_events: self.journal.gap_events(),
            rotations: rotations::gauges(&self.rotations),
            findings: self.reports.read(),
            approvals: self.approvals.pending(),
            journal_oldest: self.journal.oldest().map(age),
            checkpoint_age: self.journal.checkpoint_age(clock::since_boot()),
            sink_lags: self.sinks.read(),
        }
    }
}

/// How long ago the second `begun` since 1970 was.
fn age(begun: u64) -> Duration {
    let now = u64::try_from(clock::now().as_second()).unwrap_or(0);
    Duration::from_secs(now.saturating_sub(begun))
}

fn until(end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(clock::now())).unwrap_or_default()
}

/// Compares the wall clock with the time since boot.
pub(super) struct Clock {
    wall: Timestamp,
    boot: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { wall: clock::now(), boot: clock::since_boot() }
    }

    /// The event of a jump since the last look, if there was one of more than two seconds. Timers do not care: they
    /// go by the time since boot.
    pub(super) fn jumped(&mut self, skew_ms: i64) -> Option<Event> {
        let Self { wall, boot } = std::mem::replace(self, Self::new());
        let passed = jiff::SignedDuration::try_from(self.boot.saturating_sub(boot)).unwrap_or_default();
        let jump = self.wall.duration_since(wall) - passed;
        if jump.unsigned_abs() <= JUMP {
            return None;
        }
        let jump_ms = i64::try_from(jump.as_millis()).unwrap_or(i64::MAX);
        tracing::warn!(jump_ms, "the wall clock jumped");
        let facts = AgentFacts { jump_ms: Some(jump_ms), skew_ms: Some(skew_ms), ..AgentFacts::default() };
        let event = Event::new(Type::AgentClockJump, Outcome::Error, self.wall);
        Some(Event { reason: Some(Why::ClockJump), agent: Some(facts), ..event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wall_ahead_s: i64, expected_ms: Option<i64>) {
        let wall = clock::now() - jiff::SignedDuration::from_secs(wall_ahead_s);
        let mut clock = Clock { wall, boot: clock::since_boot() };
        let event = clock.jumped(0);
        let jump = event.and_then(|event| event.agent).and_then(|facts| facts.jump_ms);
        // To the nearest second: the test itself takes a moment.
        let seconds = |ms: i64| (ms + 500).div_euclid(1000);
        assert_eq!(jump.map(seconds), expected_ms.map(seconds));
        assert!(clock.jumped(0).is_none(), "a jump is said once");
    }

    #[test]
    fn a_clock_that_goes_an_hour_back_and_then_two_forth_is_told_each_time() {
        let mut clock = Clock::new();
        for (hours, expected) in [(-1, -3_600), (1, 7_200), (0, -3_600)] {
            clock::shift::BY.set(jiff::SignedDuration::from_hours(hours));
            let facts = clock.jumped(-250).unwrap().agent.unwrap();
            assert_eq!(
                ((facts.jump_ms.unwrap() + 500).div_euclid(1000), facts.skew_ms),
                (expected, Some(-250))
            );
            assert!(clock.jumped(0).is_none());
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_an_event_that_says_how_far() {
        check(3600, Some(3_600_000));
        check(-3600, Some(-3_600_000));
        check(1, None);
    }
}
