//! The processes that a workload's socket admitted, for whoever looks at them later: held, so that none is taken for another.
//!
//! Off until somebody wants to know; then a process costs a descriptor as long as it lives. Does not look at them.

use super::{
    Peer,
    process::{Process, ProcessId},
};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Processes of one workload that are held at a time.
pub const MOST: usize = 64;

/// Those of one workload.
#[derive(Debug, Default)]
pub struct Roster {
    is_on: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    processes: BTreeMap<ProcessId, (Process, Option<i32>)>,
    left_out: u64,
    unnamed: u64,
}

/// Who is there.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Each with its number in our PID namespace, a label.
    pub processes: Vec<(Process, Option<i32>)>,
    /// Admissions of processes that there was no room for, since this was asked last.
    pub left_out: u64,
    /// Admissions of peers that are not known as a process (below level `process`), since this was asked last.
    pub unnamed: u64,
}

impl Roster {
    /// From now on processes are held, or none is.
    pub fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
        if !is_on {
            *self.lock() = Kept::default();
        }
    }

    /// Whether processes are held.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Takes note of a peer that was admitted.
    pub(super) fn note(&self, peer: &Peer) {
        if !self.is_on() {
            return;
        }
        let mut kept = self.lock();
        let Some(process) = peer.process() else {
            kept.unnamed = kept.unnamed.saturating_add(1);
            return;
        };
        if kept.processes.len() >= MOST && !kept.processes.contains_key(&process.id()) {
            kept.forget_the_dead();
        }
        if kept.processes.len() < MOST {
            kept.processes.entry(process.id()).or_insert_with(|| (process.clone(), peer.pid()));
        } else if !kept.processes.contains_key(&process.id()) {
            kept.left_out = kept.left_out.saturating_add(1);
        }
    }

    /// Who lives.
    #[must_use]
    pub fn admitted(&self) -> Admitted {
        let mut kept = self.lock();
        kept.forget_the_dead();
        Admitted {
            processes: kept.processes.values().cloned().collect(),
            left_out: std::mem::take(&mut kept.left_out),
            unnamed: std::mem::take(&mut kept.unnamed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget_the_dead(&mut self) {
        self.processes.retain(|_, (process, _)| process.check_alive().is_ok());
    }
}
