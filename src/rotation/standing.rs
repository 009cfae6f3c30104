//! How each rotation stands, as this replica last saw it: for metrics.
//!
//! Does not know what other replicas see.

use super::{document::Document, phase::Phase, task::Task};
use crate::{clock::Timestamp, name::RotationName};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How one rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How far it is.
    pub phase: Phase,
    /// The last promotion, else when its journal was made.
    pub succeeded: Timestamp,
    /// When the next run begins, where it is known.
    pub next: Option<Timestamp>,
    /// How many acks are missing, where they are waited for.
    pub unacked: Option<u32>,
    /// Since when a person lets no run begin, if one does.
    pub suspended: Option<Timestamp>,
    /// The age that makes a run due, if one does.
    pub max_age: Option<Duration>,
}

impl Standing {
    pub(super) fn new(phase: Phase) -> Self {
        let succeeded = Timestamp::UNIX_EPOCH;
        Self { phase, succeeded, next: None, unacked: None, suspended: None, max_age: None }
    }
}

/// How all of them stand. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<RotationName, Standing>>>);

impl Board {
    /// Each with its name.
    #[must_use]
    pub fn read(&self) -> Vec<(RotationName, Standing)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, standing)| (name.clone(), *standing)).collect()
    }

    /// One is no longer rotated.
    pub fn forget(&self, name: &RotationName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(super) fn stand(&self, name: &RotationName, standing: Standing) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), standing);
    }

    /// So many acks are missing.
    pub(super) fn missing(&self, name: &RotationName, acks: u32) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = all.get_mut(name) {
            standing.unacked = Some(acks);
        }
    }
}

impl Task {
    /// How it stands by `document`, and when the next run begins, where that is known.
    pub(super) fn stand(&self, document: &Document, next: Option<Timestamp>) {
        let standing = Standing {
            succeeded: document.succeeded,
            next,
            suspended: document.suspended.as_ref().map(|suspended| suspended.at),
            max_age: self.settings.schedule.max_age,
            ..Standing::new(document.state.phase)
        };
        self.board.stand(&self.settings.name, standing);
    }
}
