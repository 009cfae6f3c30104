//! That a secret will be given a new value soon, as whoever changes it says: for watchers, and for who reads it meanwhile.
//!
//! A forecast: it may come later, or not at all. Does not change when a value is fetched.

use super::{Holding, Keeper, Served, Slot};
use crate::{clock::Timestamp, name::SecretName};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use tokio::{sync::watch, time::Instant};

/// When, if it is soon. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Soon(Arc<Said>);

#[derive(Debug)]
struct Said {
    /// In seconds since 1970; 0: it is not soon. Read by each read, so that it is no lock.
    at: AtomicI64,
    changed: watch::Sender<()>,
}

impl Default for Soon {
    fn default() -> Self {
        Self(Arc::new(Said { at: AtomicI64::new(0), changed: watch::Sender::new(()) }))
    }
}

impl Soon {
    /// When, in seconds since 1970.
    pub(super) fn at(&self) -> Option<i64> {
        Some(self.0.at.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Hears of each change of it.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn say(&self, at: Option<Timestamp>) {
        let at = at.map_or(0, Timestamp::as_second);
        if self.0.at.swap(at, Ordering::Relaxed) != at {
            self.0.changed.send_replace(());
        }
    }
}

impl Slot {
    pub(super) fn soon(&self) -> Soon {
        self.soon.clone()
    }

    /// What a read gets of what is in hand, with when it is replaced where that is soon, and whether it should be already.
    pub(super) fn served(&self, now: Instant) -> Option<Served> {
        let soon = self.soon.at().and_then(|at| Timestamp::from_second(at).ok());
        self.unforeseen(now).map(|served| {
            let late = self.late().of(served.held.value.generation());
            Served { soon, late, ..served }
        })
    }
}

impl Keeper {
    /// The secret `name` will be given a new value at `at`; `None`: not soon. Of a token for each process nothing is to be said.
    pub fn foretell(&self, name: &SecretName, at: Option<Timestamp>) {
        if let Some(Holding::Shared(slot)) = self.holdings.load().get(name) {
            slot.soon.say(at);
        }
    }
}
