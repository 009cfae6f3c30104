//! The leases and child tokens that came back to a workload in answers of Vault, each bound to the processes that have it.
//!
//! One ends with the last of its processes, if the level names them; or when Vault ends it, or the workload does. Does not renew any.

use super::{Access, NotForwarded, Reason, Type};
use crate::{
    audit::event::{Outcome, Resource},
    forward::lease::Lease,
    peer::process::{Process, ProcessId},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet, time::Instant};

/// So many leases of one workload are known at a time; beyond it no request that makes one is answered.
pub(super) const MOST: usize = 4096;

/// Those that live, by the hash of their id.
#[derive(Default)]
pub(super) struct Leases(Mutex<BTreeMap<String, Living>>);

/// One that lives.
struct Living {
    until: Instant,
    /// The other hash that a child token is found by.
    token_hash: Option<String>,
    /// Those that have it; `None` once somebody has it who is not known as a process.
    holders: Option<BTreeSet<ProcessId>>,
    /// To the task that ends it.
    news: mpsc::UnboundedSender<News>,
}

/// What happens to one that lives.
enum News {
    Until(Instant),
    Joined(Process),
    /// Somebody has it who is not known as a process.
    Unbound,
    /// The workload has ended it.
    Released,
    /// Nobody has it: whoever asked for it is gone.
    Abandoned,
}

/// How many of each live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Leases.
    pub leases: u64,
    /// Child tokens.
    pub children: u64,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Living>> {
        // Every step leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lease with this hash was handed to this workload, and lives.
    pub(super) fn has(&self, id_hash: &str) -> bool {
        self.lock().get(id_hash).is_some_and(|living| living.token_hash.is_none())
    }

    /// The child token that was handed to this workload and lives, by the hash of its accessor or of itself.
    pub(super) fn child(&self, hash: &str) -> Option<String> {
        let living = self.lock();
        let is_it = |(id_hash, living): &(&String, &Living)| match &living.token_hash {
            Some(token_hash) => *id_hash == hash || token_hash == hash,
            None => false,
        };
        living.iter().find(is_it).map(|(id_hash, _)| id_hash.clone())
    }

    /// When a lease ends as it stands, if it lives.
    pub(super) fn end(&self, id_hash: &str) -> Option<Instant> {
        self.lock().get(id_hash).map(|living| living.until)
    }

    /// Lets `process` have a lease too: it lives until each that has it has ended. Whether it lives.
    pub(super) fn join(&self, id_hash: &str, process: Option<&Process>) -> bool {
        let mut all = self.lock();
        let Some(living) = all.get_mut(id_hash) else { return false };
        match (process, &mut living.holders) {
            (Some(process), Some(holders)) => {
                !holders.insert(process.id()) || living.news.send(News::Joined(process.clone())).is_ok()
            }
            // Its own end is all that it has.
            (_, None) => true,
            (None, holders) => {
                *holders = None;
                living.news.send(News::Unbound).is_ok()
            }
        }
    }

    /// Whether there is no room for another one.
    pub(super) fn are_full(&self) -> bool {
        self.lock().len() >= MOST
    }

    /// Tells the task of one; whether there is one.
    fn tell(&self, id_hash: &str, news: News) -> bool {
        let mut all = self.lock();
        let Some(living) = all.get_mut(id_hash) else { return false };
        if let News::Until(until) = &news {
            living.until = *until;
        }
        let ends = matches!(news, News::Released | News::Abandoned);
        let told = living.news.send(news).is_ok();
        if ends {
            all.remove(id_hash);
        }
        told
    }

    /// Forgets one whose last process has ended, unless something was told of it meanwhile.
    fn close(&self, id_hash: &str, news: &mut mpsc::UnboundedReceiver<News>) -> Option<News> {
        let mut all = self.lock();
        let told = news.try_recv().ok();
        if told.is_none() {
            all.remove(id_hash);
        }
        told
    }
}

impl Access {
    /// How many leases and child tokens that this workload asked for live.
    #[must_use]
    pub fn held(&self) -> Held {
        let all = self.leases.lock();
        let children = all.values().filter(|living| living.token_hash.is_some()).count() as u64;
        Held { leases: all.len() as u64 - children, children }
    }

    /// Binds a lease to `process` from now on; of one that is bound already, only the end is another. Whether it is a new one.
    pub(super) fn bind(self: &Arc<Self>, process: Option<&Process>, path: &str, lease: Arc<Lease>) -> bool {
        if self.leases.tell(&lease.id_hash, News::Until(lease.until)) {
            return false;
        }
        let (sender, news) = mpsc::unbounded_channel();
        let holders = process.map(|process| BTreeSet::from([process.id()]));
        let token_hash = lease.token_hash.clone();
        let living = Living { until: lease.until, token_hash, holders, news: sender };
        self.leases.lock().insert(lease.id_hash.clone(), living);
        let (access, process, path) = (Arc::clone(self), process.cloned(), path.to_owned());
        if let Ok(runtime) = Handle::try_current() {
            let living = async move {
                if let Some(until) = access.outlived(process, &lease, news).await {
                    access.end_lease(&path, &lease, until).await;
                }
                access.leases.lock().remove(&lease.id_hash);
                access.cache.forget_lease(&lease.id_hash);
            };
            self.parts.unfinished.spawn_on(living, &runtime);
        }
        true
    }

    /// Forgets a lease that its workload has ended.
    pub(super) fn released(&self, id_hash: &str) {
        self.leases.tell(id_hash, News::Released);
        self.cache.forget_lease(id_hash);
    }

    /// Ends a lease that nobody got.
    pub(super) fn abandon(&self, id_hash: &str) {
        self.leases.tell(id_hash, News::Abandoned);
    }

    /// Waits for the end of a lease, or of the last process that has it. When it ends by itself, if it is still to be ended in Vault.
    async fn outlived(
        &self,
        process: Option<Process>,
        lease: &Lease,
        mut news: mpsc::UnboundedReceiver<News>,
    ) -> Option<Instant> {
        let (mut holders, mut until) = (JoinSet::new(), lease.until);
        let wait = |holders: &mut JoinSet<()>, process: Process| {
            holders.spawn(async move { process.exited().await });
        };
        if let Some(process) = process {
            wait(&mut holders, process);
        }
        loop {
            let told = tokio::select! {
                biased;
                // It falls with the token that it was made with, which is revoked now.
                () = self.parts.stopping.cancelled() => return None,
                told = news.recv() => told,
                () = tokio::time::sleep_until(until) => return None,
                Some(_) = holders.join_next() => {
                    if !holders.is_empty() {
                        continue;
                    }
                    let told = self.leases.close(&lease.id_hash, &mut news);
                    if told.is_none() {
                        return Some(until);
                    }
                    told
                }
            };
            match told {
                Some(News::Until(moved)) => until = moved,
                Some(News::Joined(process)) => wait(&mut holders, process),
                Some(News::Unbound) => holders = JoinSet::new(),
                Some(News::Abandoned) => return Some(until),
                Some(News::Released) | None => return None,
            }
        }
    }

    /// Ends a lease, and tries again as long as Vault cannot be asked, until it has ended by itself. On record is the first failure, and
    /// the end.
    async fn end_lease(&self, path: &str, lease: &Lease, until: Instant) {
        let Some(forward) = &self.parts.forward else { return };
        let mut failures = 0;
        loop {
            let ended = forward.revoke(lease).await;
            if failures == 0 || ended.is_ok() {
                let reason = |error: &NotForwarded| error.class().map_or(Reason::NotReady, Reason::from);
                self.record_end(path, lease, ended.as_ref().err().map(reason)).await;
            }
            let Err(error) = ended else { return };
            failures += 1;
            let again = error.again_in(failures).filter(|wait| Instant::now() + *wait < until);
            let Some(wait) = again else {
                tracing::warn!(workload = %self.workload, %error, "a lease outlives its process until its own end");
                return;
            };
            tokio::select! {
                biased;
                // As in `outlived`.
                () = self.parts.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn record_end(&self, path: &str, lease: &Lease, reason: Option<Reason>) {
        let mut event = self.blank(Type::LeaseRevoked, None);
        let (lease_id_hash, path) = (Some(lease.id_hash.clone()), Some(path.to_owned()));
        let kind = lease.is_child().then_some("token");
        event.resource = Some(Resource { kind, path, lease_id_hash, ..Resource::default() });
        if reason.is_some() {
            (event.outcome, event.reason) = (Outcome::Error, reason);
        }
        // That there is no room for it is what the journal itself reports.
        let _ = self.record(event, None).await;
    }
}
