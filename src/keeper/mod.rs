//! Keeps each secret fresh: fetch, renew, replace, revoke. One read of Vault at a time for a secret, however many ask.
//!
//! Does not decide who may have a value: it gives one only for a `Grant`.

pub mod task;
pub mod value;
mod acks;
pub mod again;
mod certificate;
mod doubt;
mod error;
pub mod fact;
mod fingerprint;
mod hold;
mod kept;
pub mod kv;
mod late;
mod lease;
pub mod notice;
pub mod own;
mod place;
mod shown;
mod soon;
mod source;
mod token;
pub mod worth;

use crate::{
    approval::Grant,
    clock::Timestamp,
    name::{IdentityName, RotationName, SecretName, WorkloadName},
    peer::process::Process,
    vault,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use own::Own;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use value::Value;

pub use error::Error;

/// One secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The key in `secrets`.
    pub name: SecretName,
    /// Whose token reads it.
    pub identity: IdentityName,
    /// What it is.
    pub kind: Kind,
    /// How long an old value stays valid after a new one is served.
    pub grace: Duration,
}

/// What a secret is, and how it is had.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A value in a KV engine, version 1 or 2.
    Kv {
        /// Mount and path without `data/`: `secret/payments/stripe`.
        path: String,
        /// One field instead of all.
        field: Option<String>,
        /// How often it is looked at, give or take 20 %.
        refresh: Duration,
        /// How long it is served while Vault cannot be asked.
        max_stale: Duration,
        /// One version of KV 2 instead of the newest; at least 1.
        version: Option<u64>,
    },
    /// A dynamic credential with a lease.
    Lease {
        /// `database/creds/app`.
        path: String,
        /// GET without parameters, else POST with these.
        request: LeaseRequest,
    },
    /// A child token.
    Token {
        /// At least one.
        policies: Vec<String>,
        /// Its lifetime.
        ttl: Duration,
        /// How often it may be used; 0 is without limit.
        uses: u32,
        /// A token role (`auth/token/create/ROLE`).
        role: Option<String>,
        /// One for each process that asks, revoked when that process ends (needs level `process`).
        per_process: bool,
        /// Without the policy `default`.
        no_default_policy: bool,
    },
    /// An X.509 certificate and its key.
    Certificate {
        /// `pki/issue/ROLE`.
        path: String,
        /// The request's body: `common_name` and so on.
        params: serde_json::Map<String, serde_json::Value>,
        /// The share of its life after which a new one is made: between 0.1 and 0.95.
        renew_at: f64,
    },
}

/// How a lease is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaseRequest {
    /// A plain read.
    Get,
    /// A write with parameters.
    Post(serde_json::Map<String, serde_json::Value>),
}

impl Kind {
    /// The word of the config, the answers, the events and the metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Kv { .. } => "kv",
            Self::Lease { .. } => "lease",
            Self::Token { .. } => "token",
            Self::Certificate { .. } => "certificate",
        }
    }
}

/// What all tasks share.
#[derive(Clone)]
pub struct Shared {
    /// The way to Vault.
    pub vault: vault::Vault,
    /// What is known of KV mounts.
    pub engines: kv::Engines,
    /// The key in Vault by which values are fingerprinted; `None`: they are not. Holds for values to come.
    pub fingerprint_key: Arc<ArcSwapOption<vault::endpoint::TransitKey>>,
    /// The first part of every tag; new at each start, so that a tag of another boot never matches.
    pub boot: Arc<str>,
    /// The second part: counts the values of all tasks, so that no two have one tag.
    pub tags: Arc<AtomicU64>,
    /// Where facts go.
    pub facts: mpsc::UnboundedSender<fact::Fact>,
    /// Cancelled when the whole process ends.
    pub exit: CancellationToken,
}

/// Hands out what the tasks keep fresh. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Keeper {
    holdings: Arc<ArcSwap<BTreeMap<SecretName, Holding>>>,
    /// Counts how often they were replaced.
    replaced: Arc<watch::Sender<u64>>,
    acks: acks::Acks,
    places: place::Places,
}

/// How a secret is held.
#[derive(Clone, Debug)]
pub enum Holding {
    /// One value for all who may have it.
    Shared(Slot),
    /// A token of its own for each process.
    Own(Own),
}

/// The place of one value: what there is of it, and the way to say that somebody waits for it.
#[derive(Clone, Debug)]
pub struct Slot {
    shelf: watch::Receiver<Shelf>,
    nudge: mpsc::Sender<WorkloadName>,
    again: again::Again,
    hold: hold::Hold,
    soon: soon::Soon,
    late: late::Late,
}

impl Slot {
    /// A place that is written through `shelf` and hears of waiting workloads through `nudge`.
    #[must_use]
    pub fn new(shelf: watch::Receiver<Shelf>, nudge: mpsc::Sender<WorkloadName>) -> Self {
        let (again, hold, soon) = (again::Again::default(), hold::Hold::default(), soon::Soon::default());
        Self { shelf, nudge, again, hold, soon, late: late::Late::default() }
    }

    /// What there is right now.
    #[must_use]
    pub fn shelf(&self) -> watch::Receiver<Shelf> {
        self.shelf.clone()
    }

    /// What is in hand; if nothing is, the task hears that `grant`'s workload waits.
    fn fetch(&self, grant: &Grant) -> Result<Served, Error> {
        self.take(grant.secret(), Some(grant.permit().workload()))
    }
}

/// What there is of one secret right now.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    /// The newest value, with its end.
    pub current: Option<Held>,
    /// The one before it, while its grace lasts.
    pub previous: Option<Held>,
    /// Why the last attempt failed; `None` after a success.
    pub problem: Option<vault::error::Error>,
}

/// A value and until when it may be handed out.
#[derive(Debug, Clone)]
pub struct Held {
    /// The value.
    pub value: Arc<Value>,
    /// Last time that Vault confirmed it.
    pub confirmed: Instant,
    /// When it ends in Vault, by our wall clock: the earlier of its lease's end and its token's end. `None`: it has no end.
    pub expires_at: Option<Timestamp>,
    /// When it must no longer be handed out: its end, or `max_stale` after `confirmed`.
    pub serve_until: Option<Instant>,
    /// From when on serving it is serving a stale value.
    pub stale_from: Option<Instant>,
}

/// What `fetch` gives.
#[derive(Debug, Clone)]
pub struct Served {
    /// The newest value.
    pub held: Held,
    /// The one before it, while both are valid.
    pub previous: Option<Held>,
    /// Vault could not confirm it in time: it is the last one that is known.
    pub stale: bool,
    /// Since Vault confirmed it.
    pub age: Duration,
    /// When it is to be replaced, where that is soon.
    pub soon: Option<Timestamp>,
    /// The rotation that has promoted a newer one already, which has not come yet.
    pub late: Option<RotationName>,
}

impl Keeper {
    /// A keeper of these shelves, each written by hand: for tests and demonstrations without a Vault.
    #[must_use]
    pub fn of(shelves: BTreeMap<SecretName, watch::Receiver<Shelf>>) -> Self {
        let deaf = || mpsc::channel(1).0;
        let keeper = Self::default();
        let shared = |shelf| Holding::Shared(Slot::new(shelf, deaf()));
        keeper.replace(shelves.into_iter().map(|(name, shelf)| (name, shared(shelf))).collect());
        keeper
    }

    /// Takes over the holdings of a changed config.
    pub fn replace(&self, holdings: BTreeMap<SecretName, Holding>) {
        self.holdings.store(Arc::new(holdings));
        self.replaced.send_modify(|times| *times += 1);
    }

    /// What is in hand, without waiting and without calling Vault. If nothing is, the task that keeps it is told that
    /// the workload waits: it may then try again before its own time, on that workload's part of the call budget. A token
    /// for each process is made by [`Self::await_newer`] only.
    ///
    /// # Errors
    /// [`Error::NotReady`] when nothing valid is in hand.
    pub fn fetch(&self, grant: &Grant) -> Result<Served, Error> {
        match holding(&self.holdings.load(), grant.secret())? {
            Holding::Shared(slot) => slot.fetch(grant),
            Holding::Own(own) => own.slot(grant)?.fetch(grant),
        }
    }

    /// How long a read must wait even if it does not ask to: until a process has its own token for the first time.
    #[must_use]
    pub fn patience(&self, grant: &Grant) -> Option<Duration> {
        match self.holdings.load().get(grant.secret()) {
            Some(Holding::Own(own)) if own.slot(grant).is_err() => Some(own::PATIENCE),
            Some(Holding::Shared(slot)) => slot.hold_limit(),
            _ => None,
        }
    }

    /// Waits up to `limit` for a value whose tag is not `since`; after that, what is in hand. A tag of another boot, or
    /// none, is answered with what is in hand at once; if there is nothing, the first value is waited for. Of a token for
    /// each process, the first that the process waits for is made; if that fails, nobody goes on waiting for it.
    ///
    /// # Errors
    /// [`Error::NotReady`] when nothing valid is in hand at the end; [`Error::NoProcess`] and [`Error::Crowded`].
    pub async fn await_newer(
        &self,
        grant: &Grant,
        since: Option<&str>,
        limit: Duration,
    ) -> Result<Served, Error> {
        let slot = match holding(&self.holdings.load(), grant.secret())? {
            Holding::Shared(slot) => slot.clone(),
            Holding::Own(own) => own.demand(grant)?,
        };
        if !slot.has_newer(since) {
            // Tells the task that somebody waits, if there is nothing at all.
            let _ = slot.fetch(grant);
        }
        slot.wait_newer(since, limit).await;
        slot.fetch(grant)
    }

    /// What is in hand of `name`, for what is listed to `process`: names and dates only. `None` if there is none.
    #[must_use]
    pub fn describe(&self, name: &SecretName, process: Option<&Process>) -> Option<Shelf> {
        let slot = match self.holdings.load().get(name)? {
            Holding::Shared(slot) => slot.clone(),
            Holding::Own(own) => own.of(process?)?,
        };
        Some(slot.shelf.borrow().clone())
    }

    /// Revokes what `process` has of its own: it is no longer to be trusted. What it asks for again is made anew.
    pub fn disown(&self, process: &Process) {
        for holding in self.holdings.load().values() {
            if let Holding::Own(own) = holding {
                own.disown(process.id());
            }
        }
    }

    /// Every secret of one value for all, with what is in hand: for readiness and metrics.
    #[must_use]
    pub fn shelves(&self) -> Vec<(SecretName, Shelf)> {
        let shared = |(name, holding): (&SecretName, &Holding)| match holding {
            Holding::Shared(slot) => Some((name.clone(), slot.shelf.borrow().clone())),
            Holding::Own(_) => None,
        };
        self.holdings.load().iter().filter_map(shared).collect()
    }

    /// Every secret of a token for each process, with how many processes have one: for metrics.
    #[must_use]
    pub fn processes(&self) -> Vec<(SecretName, u64)> {
        let own = |(name, holding): (&SecretName, &Holding)| match holding {
            Holding::Shared(_) => None,
            Holding::Own(own) => Some((name.clone(), own.count())),
        };
        self.holdings.load().iter().filter_map(own).collect()
    }
}

fn holding<'a>(holdings: &'a BTreeMap<SecretName, Holding>, name: &SecretName) -> Result<&'a Holding, Error> {
    holdings.get(name).ok_or_else(|| Error::Unknown(name.clone()))
}

impl Shelf {
    /// What may be handed out at `now`.
    #[must_use]
    pub fn served(&self, now: Instant) -> Option<Served> {
        let valid = |held: &&Held| held.serve_until.is_none_or(|end| now < end);
        let held = self.current.as_ref().filter(valid)?.clone();
        let stale = held.stale_from.is_some_and(|from| now >= from);
        let age = now.saturating_duration_since(held.confirmed);
        Some(Served {
            previous: self.previous.as_ref().filter(valid).cloned(),
            held,
            stale,
            age,
            soon: None,
            late: None,
        })
    }
}
