//! What one user may take of a workload's socket in time, and how much of a flood of refusals is put on record.
//!
//! Counts. Connections that are open are counted by `listener`, which has them.

use super::{Access, Reason, TurnedAway};
use crate::{
    peer::{self, Caller, Cause, Peer, Rejected},
    policy::rate::Buckets,
};
use std::{collections::BTreeMap, sync::PoisonError, time::Duration};
use tokio::net::UnixStream;

/// Refusals of one user a second that are put on record each, and how many at once. All whom the settings refuse share one.
const EVENTS: (u32, u32) = (10, 50);

/// What of the refusals of callers is on record, and what is not.
#[derive(Default)]
pub(super) struct Floods {
    /// Of users who may connect.
    users: Buckets,
    /// Of all the others, as if they were one.
    strangers: Buckets,
    /// Since they were last reported.
    unrecorded: BTreeMap<Reason, u64>,
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
        rates.requests.take(peer.uid(), per_second, per_second, self.started.elapsed())
    }

    /// Takes one of this user's own rate of new connections.
    ///
    /// # Errors
    /// [`Cause::Rate`].
    pub fn take_entry(&self, uid: u32, per_second: u32) -> Result<(), Cause> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.connections.take(uid, per_second, per_second, self.started.elapsed()).map_err(Cause::Rate)
    }

    /// Tells metrics of a peer that is refused without an event of its own. [`Self::report_floods`] tells the log.
    pub fn count_away(&self, rejected: Rejected) -> TurnedAway {
        let reason = Reason::from(&rejected.cause);
        self.observe(rejected.peer.as_deref(), None, Some(reason), None);
        let mut floods = self.floods.lock().unwrap_or_else(PoisonError::into_inner);
        *floods.unrecorded.entry(reason).or_default() += 1;
        TurnedAway { rejected, receipt: None }
    }

    /// Says in the log how many were refused without an event since the last time, exactly, in a line for each reason. To be
    /// called once a second, and at the end.
    pub fn report_floods(&self) {
        let unrecorded = {
            let mut floods = self.floods.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut floods.unrecorded)
        };
        for (reason, count) in unrecorded {
            let (workload, reason) = (self.workload.as_str(), reason.word());
            tracing::warn!(workload, reason, count, "more connections were refused than have an event");
        }
    }

    /// Whether a refusal gets an event of its own.
    pub(super) fn is_recorded(&self, rejected: &Rejected) -> bool {
        let Some(peer) = rejected.peer.as_deref().filter(|_| rejected.cause.is_cheap()) else { return true };
        let mut floods = self.floods.lock().unwrap_or_else(PoisonError::into_inner);
        let (per_second, burst) = EVENTS;
        let now = self.started.elapsed();
        let taken = match rejected.cause {
            Cause::Connections | Cause::Rate(_) => floods.users.take(peer.uid(), per_second, burst, now),
            _ => floods.strangers.take(0, per_second, burst, now),
        };
        taken.is_ok()
    }
}
