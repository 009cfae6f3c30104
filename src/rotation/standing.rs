//! How each rotation stands, as this replica last saw it: for metrics.
//!
//! Does not know what other replicas see.

use super::{document::Document, phase::Phase};
use crate::{clock::Timestamp, name::RotationName};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
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

    pub(super) fn note(&self, name: &RotationName, document: &Document, next: Option<Timestamp>) {
        let standing = Standing { phase: document.state.phase, succeeded: document.succeeded, next };
        self.stand(name, standing);
    }
}
