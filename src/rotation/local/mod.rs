//! Rotations that each replica does for itself: it follows what Vault rotates (`follow`), or replaces a lease that is its alone
//! (`lease`).
//!
//! Without a journal, and without anybody to agree with: nothing is changed that another replica has.

mod follow;
mod replace;

use super::{
    fact::{Act, Fact},
    phase::Phase,
    schedule::Schedule,
    standing::Standing,
    store::Store,
    task::Shared,
    trigger::Evidence,
};
use crate::{
    clock::Timestamp,
    keeper::again::Change,
    name::{IdentityName, RotationName, SecretName},
    vault::session::Identity,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The key in `rotations`.
    pub name: RotationName,
    /// Whose token reads Vault's record; of a lease, the secret's.
    pub identity: IdentityName,
    /// What is done.
    pub kind: Kind,
    /// Where in Vault the secret is.
    pub path: String,
    /// The secrets of this agent that change with it.
    pub serves: Vec<SecretName>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Vault rotates by itself, and we look whether it has.
    Follow {
        /// What changes when it has, and not before.
        evidence: Evidence,
        /// When it is expected; without one, Vault's own record says.
        schedule: Option<Box<Schedule>>,
    },
    /// The secret gets a new lease when this says so; the old one keeps the secret's own grace.
    Lease(Box<Schedule>),
}

impl Settings {
    /// The word of the config, the events and the metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.kind {
            Kind::Follow { .. } => "follow",
            Kind::Lease(_) => "lease",
        }
    }

    /// When it is due, where it has a schedule of its own.
    #[must_use]
    pub fn schedule(&self) -> Option<&Schedule> {
        match &self.kind {
            Kind::Follow { schedule, .. } => schedule.as_deref(),
            Kind::Lease(schedule) => Some(schedule),
        }
    }
}

/// The task of one of them.
pub struct Task {
    settings: Settings,
    shared: Shared,
    store: Store,
}

/// One change.
#[derive(Default)]
struct Run {
    id: Option<String>,
    slot: Option<String>,
    from: Option<u64>,
    to: Option<u64>,
}

impl Task {
    /// Nothing is sent before it runs.
    #[must_use]
    pub fn new(settings: Settings, identity: Identity, shared: Shared) -> Self {
        let store = Store::new(shared.vault.clone(), identity, CALL);
        Self { settings, shared, store }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        match self.settings.kind.clone() {
            Kind::Follow { evidence, schedule } => self.follow(&evidence, schedule.as_deref(), &stop).await,
            Kind::Lease(schedule) => self.replace(&schedule, &stop).await,
        }
    }

    fn look_again(&self, run: Option<&str>) {
        let by = run.map(|run| Change { run: run.into(), version: None });
        for name in &self.settings.serves {
            self.shared.keeper.look_again(name, by.clone());
        }
    }

    fn stand(&self, succeeded: Timestamp, next: Option<Timestamp>) {
        self.shared
            .board
            .stand(&self.settings.name, Standing { succeeded, next, ..Standing::new(Phase::Idle) });
    }

    fn report(&self, act: Act, run: Run) {
        let Run { id, slot, from, to } = run;
        let (settings, phase) = (&self.settings, Phase::Idle);
        let fact = Fact {
            rotation: settings.name.clone(),
            kind: settings.word(),
            path: settings.path.clone(),
            act,
            phase,
            id,
            reason: None,
            by: None,
            slot,
            from,
            to,
            epoch: 0,
            gap: None,
            yes: None,
        };
        // Nobody listens any more only when the process is about to end.
        let _ = self.shared.facts.send(fact);
    }
}
