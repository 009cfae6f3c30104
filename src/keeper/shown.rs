//! What the agent itself shows to somebody else: a certificate, to an upstream.
//!
//! Does not hand anything to a peer: that takes a grant.

use super::{Error, Holding, Keeper, Served, Slot, holding, value::Value};
use crate::name::{SecretName, WorkloadName};
use std::sync::Arc;
use tokio::time::Instant;

impl Keeper {
    /// The newest value of `name`, for the agent's own use. If there is none, the task that keeps it hears that a call of `workload`,
    /// if it is one's, waits for it.
    ///
    /// # Errors
    /// [`Error::NotReady`]; [`Error::NoProcess`] for a token for each process, which is nobody else's.
    pub fn shown(&self, name: &SecretName, workload: Option<&WorkloadName>) -> Result<Arc<Value>, Error> {
        let holdings = self.holdings.load();
        let Holding::Shared(slot) = holding(&holdings, name)? else {
            return Err(Error::NoProcess(name.clone()));
        };
        Ok(slot.take(name, workload)?.held.value)
    }
}

impl Slot {
    /// What is in hand of `name`; if nothing is, the task hears that `workload` waits.
    pub(super) fn take(&self, name: &SecretName, workload: Option<&WorkloadName>) -> Result<Served, Error> {
        self.served(Instant::now()).ok_or_else(|| {
            if let Some(workload) = workload {
                // A full channel holds a nudge already.
                let _ = self.nudge.try_send(workload.clone());
            }
            Error::NotReady { name: name.clone(), because: self.shelf.borrow().problem.clone() }
        })
    }
}
