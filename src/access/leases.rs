//! The leases that came back to a workload in answers of Vault, each bound to the process that asked.
//!
//! A lease ends with its process, if the level names one; or when Vault ends it, or the workload does. Does not renew any.

use super::{Access, Reason, Type};
use crate::{
    audit::event::{Outcome, Resource},
    forward::lease::Lease,
    peer::{Peer, process::Process},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{runtime::Handle, sync::watch, time::Instant};

/// So many leases of one workload are known at a time; beyond it no request that makes one is answered.
pub(super) const MOST: usize = 4096;

/// Those that live, by the hash of their id; each with its end, which a renewal moves.
#[derive(Default)]
pub(super) struct Leases(Mutex<BTreeMap<String, watch::Sender<Instant>>>);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<Instant>>> {
        // Every step leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was handed to this workload, and lives.
    pub(super) fn has(&self, id_hash: &str) -> bool {
        self.lock().contains_key(id_hash)
    }

    /// Whether there is no room for another one.
    pub(super) fn are_full(&self) -> bool {
        self.lock().len() >= MOST
    }

    fn move_end(&self, id_hash: &str, until: Instant) {
        if let Some(end) = self.lock().get(id_hash) {
            end.send_replace(until);
        }
    }
}

impl Access {
    /// How many leases that this workload asked for live.
    #[must_use]
    pub fn leases(&self) -> u64 {
        self.leases.lock().len() as u64
    }

    /// Binds a lease to the process of `peer` from now on; of one that is bound already, only the end is another.
    pub(super) fn bind(self: &Arc<Self>, peer: &Peer, path: &str, lease: Arc<Lease>) {
        let until = lease.until;
        if self.leases.has(&lease.id_hash) {
            return self.leases.move_end(&lease.id_hash, until);
        }
        let (end, ends) = watch::channel(until);
        self.leases.lock().insert(lease.id_hash.clone(), end);
        let (access, process, path) = (Arc::clone(self), peer.process().cloned(), path.to_owned());
        if let Ok(runtime) = Handle::try_current() {
            let living = async move {
                if access.outlived(process.as_ref(), ends).await {
                    access.end_lease(&path, &lease).await;
                }
                access.leases.lock().remove(&lease.id_hash);
            };
            self.parts.unfinished.spawn_on(living, &runtime);
        }
    }

    /// Forgets a lease that its workload has ended.
    pub(super) fn released(&self, id_hash: &str) {
        // Its end is now: the task that waits for it goes.
        self.leases.move_end(id_hash, Instant::now());
    }

    /// Waits for the end of a lease or of its process. Whether it was the process's: then the lease has outlived it.
    async fn outlived(&self, process: Option<&Process>, mut ends: watch::Receiver<Instant>) -> bool {
        loop {
            let end = *ends.borrow_and_update();
            let exited = async {
                match process {
                    Some(process) => process.exited().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // It falls with the token that it was made with, which is revoked now.
                () = self.parts.stopping.cancelled() => return false,
                moved = ends.changed() => if moved.is_err() { return false },
                () = tokio::time::sleep_until(end) => return false,
                () = exited => return true,
            }
        }
    }

    async fn end_lease(&self, path: &str, lease: &Lease) {
        let Some(forward) = &self.parts.forward else { return };
        let mut event = self.blank(Type::LeaseRevoked, None);
        let (lease_id_hash, path) = (Some(lease.id_hash.clone()), Some(path.to_owned()));
        event.resource = Some(Resource { path, lease_id_hash, ..Resource::default() });
        if let Err(error) = forward.revoke(lease).await {
            tracing::warn!(workload = %self.workload, %error, "a lease outlives its process until its own end");
            (event.outcome, event.reason) =
                (Outcome::Error, Some(error.class().map_or(Reason::NotReady, Reason::from)));
        }
        // That there is no room for it is what the journal itself reports.
        let _ = self.record(event, None).await;
    }
}
