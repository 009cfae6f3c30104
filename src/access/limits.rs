//! What one user may take of a workload's socket in time, and the record of those who are refused without a word.
//!
//! Counts. Connections that are open are counted by `listener`, which has them.

use super::{Access, Permit, Reason, Refusal, Type, Why};
use crate::{
    audit::event::{Actor, Agg},
    clock,
    peer::{self, Caller, Cause, Peer, Rejected},
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{net::UnixStream, runtime::Handle, time::sleep};

/// How long a call waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// Refusals that nobody was told of, by why.
pub(super) type Floods = BTreeMap<Reason, Counted>;

/// Refusals that differ in nothing but time and, if there is no `actor`, in who it was.
pub(super) struct Counted {
    actor: Option<Actor>,
    agg: Agg,
}

impl Access {
    /// Takes one look at who connected, which may be anybody, any number of times.
    ///
    /// # Errors
    /// A caller whose uid or gid may not be there, and that [`Self::turn_away`] puts on record.
    pub fn glance(&self, stream: &UnixStream) -> Result<Caller, Rejected> {
        peer::glance(stream, &self.rules.load().peer, &self.workload)
    }

    /// How many users may connect; 0: any may.
    pub fn users(&self) -> usize {
        self.rules.load().peer.uids.len()
    }

    /// Takes one of this peer's user's own rate of requests, before anything of a request is looked at.
    ///
    /// # Errors
    /// How long until one can be had.
    pub fn take_turn(&self, peer: &Peer, per_second: u32) -> Result<(), Duration> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.requests.take(peer.uid(), per_second, self.started.elapsed())
    }

    /// Takes one of this peer's user's own rate of calls by this rule. Waits for it where that is soon: a client that sends again
    /// would only come back sooner.
    pub(super) async fn await_turn(&self, permit: &Permit, peer: &Peer) -> Result<(), Refusal> {
        let Some(per_second) = permit.requests_per_second() else { return Ok(()) };
        let taken = {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            let buckets = rates.calls.entry(permit.rule().clone()).or_default();
            buckets.reserve(peer.uid(), per_second, self.started.elapsed(), PATIENCE)
        };
        let wait = taken.map_err(|wait| self.refuse(permit, Why::RateLimited(wait)))?;
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }

    /// Takes one of this user's own rate of new connections.
    ///
    /// # Errors
    /// [`Cause::Rate`].
    pub fn take_entry(&self, uid: u32, per_second: u32) -> Result<(), Cause> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.connections.take(uid, per_second, self.started.elapsed()).map_err(Cause::Rate)
    }

    /// Counts a peer that is refused without a word. The exact counts come to be on record by [`Self::report_floods`].
    pub fn count_away(&self, rejected: &Rejected) {
        let (reason, now) = (Reason::from(&rejected.cause), clock::now());
        self.observe(rejected.peer.as_deref(), None, Some(reason), None);
        let actor = self.blank(Type::PeerRejected, rejected.peer.as_deref()).actor;
        self.count(reason, Counted { actor, agg: Agg { count: 1, first: now, last: now } });
    }

    /// Puts on record how many were refused without a word since the last time: one event for each reason. To be called once a
    /// second, and at the end. Does not wait; what cannot be recorded is kept for the next time.
    pub fn report_floods(self: &Arc<Self>) {
        let floods = std::mem::take(&mut *self.floods.lock().unwrap_or_else(PoisonError::into_inner));
        let Ok(runtime) = Handle::try_current() else { return };
        for (reason, counted) in floods {
            let access = Arc::clone(self);
            let recording = async move {
                let mut event = access.blank(Type::PeerRejected, None);
                (event.outcome, event.reason) = (reason.outcome(), Some(reason));
                (event.actor, event.agg, event.time) =
                    (counted.actor.clone(), Some(counted.agg), counted.agg.last);
                if access.record(event, None).await.is_err() {
                    access.count(reason, counted);
                }
            };
            self.parts.unfinished.spawn_on(recording, &runtime);
        }
    }

    fn count(&self, reason: Reason, more: Counted) {
        let mut floods = self.floods.lock().unwrap_or_else(PoisonError::into_inner);
        match floods.entry(reason) {
            Entry::Vacant(none) => drop(none.insert(more)),
            Entry::Occupied(mut counted) => {
                let counted = counted.get_mut();
                counted.agg.join(&more.agg);
                if counted.actor != more.actor {
                    counted.actor = None;
                }
            }
        }
    }
}
