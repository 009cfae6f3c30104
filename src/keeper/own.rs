//! A token for each process that asks, for as long as that process lives.
//!
//! Does not speak to Vault: each token is kept by a task of its own, as a token for all is. A process that ends, or is no
//! longer trusted, ends its task, and so its token, whether it is still connected or not.

use super::{
    Error, Kind, Settings, Shared, Shelf, Slot,
    task::{self, Task},
};
use crate::{
    approval::Grant,
    name::SecretName,
    peer::process::{Process, ProcessId},
    vault::{
        limiter::WORKLOAD_RATE,
        session::{Identity, State},
    },
};
use std::{
    collections::BTreeMap,
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// So many processes may have a token of one secret at a time; fewer of one that lives less than 214 s: see [`room`].
pub const MOST: usize = 256;

/// How long a read waits for the first token of its process: less than our own client waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// The tokens of one secret, by process, as long as their group lives. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Own {
    name: SecretName,
    /// It is the group that makes and reports: what only hands out must not keep that alive when everything stops.
    members: Weak<Members>,
}

/// The task behind them, which owns the task of each.
pub struct Group {
    members: Arc<Members>,
    joining: mpsc::UnboundedReceiver<Joining>,
}

struct Members {
    settings: Settings,
    identity: Identity,
    shared: Shared,
    room: usize,
    living: Mutex<Living>,
    /// Holds no more than there is room for.
    joining: mpsc::UnboundedSender<Joining>,
}

type Living = BTreeMap<ProcessId, Member>;

struct Member {
    slot: Slot,
    stop: CancellationToken,
}

/// A process that is to have a token.
struct Joining {
    process: Process,
    task: Task,
    shelf: watch::Receiver<Shelf>,
    stop: CancellationToken,
}

/// The tokens of `settings`, and the task behind them. Nothing is made before the task runs and a process asks.
#[must_use]
pub fn keep(settings: Settings, identity: Identity, shared: Shared) -> (Own, Group) {
    let (sender, joining) = mpsc::unbounded_channel();
    let room = match &settings.kind {
        Kind::Token { ttl, .. } => room(*ttl),
        _ => MOST,
    };
    let (name, living) = (settings.name.clone(), Mutex::default());
    let members = Arc::new(Members { settings, identity, shared, room, living, joining: sender });
    (Own { name, members: Arc::downgrade(&members) }, Group { members, joining })
}

/// How many tokens of `ttl` there may be, so that renewing them all, each at 60 % of its life at the earliest, takes no more
/// calls than one workload may cause.
fn room(ttl: Duration) -> usize {
    let renewals = ttl.mul_f64(0.6 * f64::from(WORKLOAD_RATE)).as_secs();
    usize::try_from(renewals).unwrap_or(MOST).clamp(1, MOST)
}

impl Own {
    /// What there is for the process of `grant`.
    ///
    /// # Errors
    /// [`Error::NotReady`] if it has not asked yet, [`Error::NoProcess`] if it is not known as a process.
    pub(super) fn slot(&self, grant: &Grant) -> Result<Slot, Error> {
        let name = || grant.secret().clone();
        let process = grant.permit().process().ok_or_else(|| Error::NoProcess(name()))?;
        self.of(process).ok_or_else(|| Error::NotReady { name: name(), because: None })
    }

    /// What there is for all of them.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let members = self.members.upgrade();
        members.iter().flat_map(|members| members.slots()).collect()
    }

    /// What there is for `process`.
    pub(super) fn of(&self, process: &Process) -> Option<Slot> {
        self.members.upgrade()?.lock().get(&process.id()).map(|member| member.slot.clone())
    }

    /// The same, and its token is made if it has none: at the cost of the workload's part of the call budget.
    ///
    /// # Errors
    /// [`Error::NotReady`] when Vault or the budget is in the way, [`Error::Crowded`], [`Error::NoProcess`].
    pub(super) fn demand(&self, grant: &Grant) -> Result<Slot, Error> {
        let name = || self.name.clone();
        // The secret has left the config, or everything stops.
        let members = self.members.upgrade().ok_or_else(|| Error::Unknown(name()))?;
        let Members { settings, identity, shared, room, .. } = &*members;
        let process = grant.permit().process().ok_or_else(|| Error::NoProcess(name()))?;
        let mut living = members.lock();
        if let Some(member) = living.get(&process.id()) {
            return Ok(member.slot.clone());
        }
        if living.len() >= *room {
            return Err(Error::Crowded { name: name(), most: *room });
        }
        let not_ready = |error| Error::NotReady { name: name(), because: Some(error) };
        if let State::Down(error) = &*identity.state.borrow() {
            return Err(not_ready(error.clone()));
        }
        let doing = format!("making a token of {} for a process", settings.name);
        shared.vault.charge(grant.permit().workload(), &doing).map_err(not_ready)?;
        let (slot, task) = task::keep(settings.clone(), identity.clone(), shared.clone());
        let (process, shelf, stop) = (process.clone(), slot.shelf(), CancellationToken::new());
        let (id, member) = (process.id(), Member { slot: slot.clone(), stop: stop.clone() });
        if members.joining.send(Joining { process, task, shelf, stop }).is_err() {
            return Err(Error::Unknown(name()));
        }
        living.insert(id, member);
        Ok(slot)
    }

    /// Revokes the token of a process that may live on. If it asks again, it gets a new one.
    pub(super) fn disown(&self, process: ProcessId) {
        if let Some(members) = self.members.upgrade()
            && let Some(member) = members.lock().remove(&process)
        {
            member.stop.cancel();
        }
    }

    /// How many processes have a token.
    pub(super) fn count(&self) -> u64 {
        let has = |member: &Member| u64::from(member.slot.shelf.borrow().current.is_some());
        self.members.upgrade().map_or(0, |members| members.lock().values().map(has).sum())
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of each process", self.name)
    }
}

impl Group {
    /// Runs until `stop`, which is cancelled when the secret leaves the config or the process ends, and until every token is
    /// let go of.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut living = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(joining) = self.joining.recv() => {
                    living.spawn(joining.live(Arc::clone(&self.members), stop.clone()));
                }
                Some(_) = living.join_next() => {}
            }
        }
        // Whoever asked too late waits for nothing.
        drop(self.joining);
        while living.join_next().await.is_some() {}
    }
}

impl Joining {
    /// Has a token from now until the process ends, or until nobody may have one.
    async fn live(self, members: Arc<Members>, group: CancellationToken) {
        let Self { process, task, mut shelf, stop } = self;
        let over = async {
            tokio::select! {
                biased;
                () = process.exited() => {}
                () = stop.cancelled() => {}
                () = group.cancelled() => {}
                // Nobody has been given one, so nobody is owed one: whoever asks again causes the next attempt.
                () = refused(&mut shelf) => {}
            }
            members.leave(process.id(), &stop);
            stop.cancel();
            pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = over => {}
            () = task.run(stop.clone()) => {}
        }
    }
}

/// Waits for ever, unless there is a reason why there is not even a first value.
async fn refused(shelf: &mut watch::Receiver<Shelf>) {
    let first = shelf.wait_for(|shelf| shelf.current.is_some() || shelf.problem.is_some()).await;
    if first.is_ok_and(|shelf| shelf.current.is_some()) {
        pending::<()>().await;
    }
}

impl Members {
    fn slots(&self) -> Vec<Slot> {
        self.lock().values().map(|member| member.slot.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Living> {
        // Every step leaves the map whole.
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a process, unless it has been given another token since `stop`'s.
    fn leave(&self, process: ProcessId, stop: &CancellationToken) {
        let mut living = self.lock();
        // A disowned one has left already.
        if !stop.is_cancelled() {
            living.remove(&process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ttl_s: u64, expected: usize) {
        assert_eq!(room(Duration::from_secs(ttl_s)), expected, "{ttl_s}");
    }

    #[test]
    fn renewing_all_tokens_takes_no_more_calls_than_one_workload_may_cause() {
        check(30, 36);
        check(213, 255);
        check(214, 256);
        check(900, 256);
        check(u64::from(u32::MAX), 256);
        check(0, 1);
    }
}
