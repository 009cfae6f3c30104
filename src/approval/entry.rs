//! One request among those that are kept, and how it stands for those who wait for it.
//!
//! Asks nobody.

use super::{Ended, Id, Refusal, Settings, request::Request, ticket::Ticket};
use crate::{
    clock::{self, Timestamp},
    crypto::Hash,
    name::{ApprovalName, IdentityName, WorkloadName},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex as Turn, Notify},
    time::Instant,
};

/// How many requests are remembered that are over.
const REMEMBERED: usize = 1_000;
/// How often votes are looked for, at most.
pub(super) const EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Requests {
    pub(super) open: BTreeMap<Hash, Arc<Entry>>,
    pub(super) known: BTreeMap<Id, Arc<Entry>>,
}

/// One request, and those who wait for it.
pub(super) struct Entry {
    pub(super) settings: Arc<Settings>,
    pub(super) workload: WorkloadName,
    /// Whose token acts.
    pub(super) identity: IdentityName,
    /// Without a nonce: the request gets one.
    pub(super) ticket: Ticket,
    pub(super) fingerprint: Hash,
    /// Whose turn it is to ask Vault.
    pub(super) request: Turn<Option<Request>>,
    pub(super) status: Mutex<Option<(Status, Instant)>>,
    pub(super) changed: Notify,
    /// The service of its approval has taken it.
    pub(super) heard: AtomicBool,
}

/// How a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub id: Id,
    /// By which entry of `approvals`.
    pub name: ApprovalName,
    /// How it stands.
    pub state: State,
    /// Until when persons may answer.
    pub until: Timestamp,
    /// Who said yes.
    pub by: Vec<String>,
    /// How many must.
    pub quorum: usize,
    /// Whether the service that is to be told has been; `None`: there is none.
    pub notified: Option<bool>,
    pub(super) last: Timestamp,
}

/// See [`Status::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Pending,
    /// A call may use it.
    Granted,
    /// Nothing comes of it any more.
    Ended(Ended),
}

impl Entry {
    pub(super) fn status(&self) -> Option<Status> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.as_ref().map(|(status, _)| status.clone())
    }

    /// How it stands, if it waits and was looked at a moment ago.
    pub(super) fn fresh(&self) -> Option<Status> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = status.as_ref().filter(|(_, looked)| looked.elapsed() < EVERY);
        fresh.map(|(status, _)| status.clone()).filter(|status| status.state == State::Pending)
    }

    /// The service has taken it.
    pub(super) fn tell_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
        let mut known = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((status, _)) = &mut *known {
            status.notified = self.notified();
        }
    }

    pub(super) fn notified(&self) -> Option<bool> {
        self.settings.webhook.as_ref().map(|_| self.heard.load(Ordering::Relaxed))
    }

    pub(super) fn is_pending(&self) -> bool {
        self.status().as_ref().is_none_or(|status| status.state == State::Pending)
    }

    pub(super) fn waits_by(&self, name: &ApprovalName) -> bool {
        self.settings.name == *name && self.is_pending()
    }

    /// Whether it is over, and the same may be asked for anew.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.status().as_ref().is_some_and(|status| match status.state {
            State::Ended(why) => why.may_ask_again() || now > status.until,
            State::Pending | State::Granted => false,
        })
    }

    /// Takes note of how it stands, and wakes those who wait.
    pub(super) fn note(&self, request: &Request) -> Status {
        let state = match (request.ended, request.granted) {
            (Some(why), _) => State::Ended(why),
            (None, Some(_)) => State::Granted,
            (None, None) => State::Pending,
        };
        let status = Status {
            id: request.id.clone(),
            name: self.settings.name.clone(),
            state,
            until: request.not_after,
            by: request.yes.keys().cloned().collect(),
            quorum: self.settings.quorum,
            notified: self.notified(),
            last: request.last(&self.settings),
        };
        let mut known = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.replace((status.clone(), Instant::now()));
        if before.map(|(before, _)| before).as_ref() != Some(&status) {
            self.changed.notify_waiters();
        }
        status
    }
}

impl Request {
    /// When there is nothing more to be known of it.
    pub(super) fn last(&self, settings: &Settings) -> Timestamp {
        let window = jiff::SignedDuration::try_from(settings.valid_for.max(Duration::from_secs(60)));
        self.not_after + window.unwrap_or_default()
    }
}

impl Requests {
    /// The entry that equal calls share.
    pub(super) fn entry(
        &mut self,
        settings: &Arc<Settings>,
        (workload, identity): (&WorkloadName, &IdentityName),
        ticket: &Ticket,
    ) -> Result<Arc<Entry>, Refusal> {
        let (fingerprint, now) = (ticket.fingerprint(), clock::now());
        self.open.retain(|_, entry| !entry.is_over(now));
        self.known.retain(|_, entry| entry.status().as_ref().is_some_and(|status| now <= status.last));
        while self.known.len() > REMEMBERED {
            self.known.pop_first();
        }
        if let Some(entry) = self.open.get(&fingerprint) {
            return Ok(Arc::clone(entry));
        }
        let waiting = self.open.values().filter(|entry| entry.workload == *workload);
        if waiting.filter(|entry| entry.waits_by(&settings.name)).count() >= settings.pending_max {
            return Err(Refusal::Crowded);
        }
        let entry = Arc::new(Entry {
            settings: Arc::clone(settings),
            workload: workload.clone(),
            identity: identity.clone(),
            ticket: ticket.clone(),
            fingerprint,
            request: Turn::new(None),
            status: Mutex::new(None),
            changed: Notify::new(),
            heard: AtomicBool::new(false),
        });
        self.open.insert(fingerprint, Arc::clone(&entry));
        Ok(entry)
    }
}
