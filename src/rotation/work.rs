//! A run that we have the lease of, what follows each of its steps, and why one breaks off.
//!
//! Takes no step.

use super::{
    document::Document,
    fact::Act,
    journal::{self, Entry},
    kubernetes,
    lease::Deadline,
    phase::{Facts, Phase},
    system::Unknown,
    task::Task,
};
use crate::{clock, vault::error::Error as VaultError};
use std::time::Duration;
use tokio::time::Instant;

/// A rotation that we have the lease of.
pub(super) struct Work {
    pub(super) entry: Entry,
    pub(super) deadline: Deadline,
    pub(super) facts: Facts,
    pub(super) failures: u32,
    /// No step before; the lease stays ours.
    pub(super) rest_until: Option<Instant>,
    /// Since when consumers may read what the system no longer accepts, as far as we saw it.
    pub(super) dead_since: Option<Instant>,
    /// For how long they did.
    pub(super) gap: Option<Duration>,
    /// Whoever keeps it here was told that it has changed.
    pub(super) told: bool,
    /// That the grace is over was said.
    pub(super) told_end: bool,
    /// Since when it is in its phase, as far as we saw it.
    entered: Instant,
}

impl Work {
    pub(super) fn new(entry: Entry, deadline: Deadline) -> Self {
        let facts = Facts::default();
        Self {
            entry,
            deadline,
            facts,
            failures: 0,
            rest_until: None,
            dead_since: None,
            gap: None,
            told: false,
            told_end: false,
            entered: Instant::now(),
        }
    }
}

/// What follows a step.
pub(super) enum Next {
    /// The next step.
    Step,
    /// The same again after this time; the lease stays ours.
    Pause(Duration),
    /// Nothing more to do for us, or somebody else has it; look again after this time.
    Leave(Duration),
}

/// Why a step broke off.
pub(super) enum Broken {
    /// Vault refused, or did not answer.
    Vault(VaultError),
    /// The system that has the credential did not answer.
    System(Unknown),
    /// The Lease of Kubernetes could not be renewed.
    Lease(kubernetes::Error),
    /// Somebody else wrote the journal: it is theirs now.
    Overtaken,
}

impl From<VaultError> for Broken {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<journal::Error> for Broken {
    fn from(error: journal::Error) -> Self {
        match error {
            journal::Error::Vault(error) => Self::Vault(error),
            journal::Error::Lease(error) => Self::Lease(error),
            journal::Error::Unreadable(_) => Self::Overtaken,
        }
    }
}

impl Task {
    /// Says how long the phase of `left` lasted, which is over.
    pub(super) fn pass(&self, work: &mut Work, left: &Document) {
        let took = match left.state.phase {
            // As long as the config says.
            Phase::Quarantine => return,
            // Others may have had the lease, or nobody.
            Phase::Grace => {
                Duration::try_from(clock::now().duration_since(left.succeeded)).unwrap_or_default()
            }
            _ => work.entered.elapsed(),
        };
        work.entered = Instant::now();
        self.report(left, Act::Passed(took));
    }
}
