//! How the agent is, as seen from outside: readiness, gauges, the clocks.
//!
//! Does not change anything.

use super::{kept::Kept, workloads::Workloads};
use crate::{
    audit::{
        self, Audit,
        event::{AgentFacts, Event, Outcome, Reason as Why, Type},
    },
    clock::{self, Timestamp},
    keeper::Keeper,
    name::{IdentityName, WorkloadName},
    telemetry::{
        health::{Code, Reason},
        metrics::{Gauges, SecretGauge},
    },
    vault::{
        Vault,
        session::{Identity, State},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// A jump of the wall clock that is worth an event.
const JUMP: Duration = Duration::from_secs(2);

/// Why the agent is not ready; nothing: it is.
pub(super) fn reasons(kept: &Kept, audit: &Audit) -> Vec<Reason> {
    let now = Instant::now();
    let named = |code, name: &dyn std::fmt::Display| Reason { code, name: Some(name.to_string()) };
    let identities = kept
        .identities()
        .filter(|(_, identity)| !matches!(*identity.state.borrow(), State::Live(_)))
        .map(|(name, _)| named(Code::NoToken, name));
    let shelves = kept.keeper().shelves();
    let secrets = shelves
        .iter()
        .filter(|(_, shelf)| shelf.served(now).is_none())
        .map(|(name, _)| named(Code::SecretNotReady, name));
    let journal = (!audit.writable()).then_some(Reason { code: Code::AuditUnwritable, name: None });
    identities.chain(secrets).chain(journal).collect()
}

/// The one reason of an agent that stops.
pub(super) fn stopping() -> Reason {
    Reason { code: Code::Stopping, name: None }
}

/// What the gauges are read from at each scrape.
pub(super) struct Gauging {
    keeper: Keeper,
    identities: Vec<(IdentityName, Identity)>,
    connections: Vec<(WorkloadName, Arc<AtomicU64>)>,
    vault: Vault,
    journal: Arc<audit::Stats>,
}

impl Gauging {
    pub(super) fn new(kept: &Kept, workloads: &Workloads, vault: Vault, journal: Arc<audit::Stats>) -> Self {
        Self {
            keeper: kept.keeper(),
            identities: kept.identities().map(|(name, identity)| (name.clone(), identity.clone())).collect(),
            connections: workloads.connections(),
            vault,
            journal,
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
        let open =
            |(name, open): &(WorkloadName, Arc<AtomicU64>)| (name.clone(), open.load(Ordering::Relaxed));
        Gauges {
            tokens: self.identities.iter().map(|(name, identity)| (name.clone(), token(identity))).collect(),
            secrets: secrets.collect(),
            connections: self.connections.iter().map(open).collect(),
            skew_ms: self.vault.skew_ms(),
            journal_bytes: self.journal.journal_bytes(),
        }
    }
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
