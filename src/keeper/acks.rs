//! Which workload said that it uses which generation, since this start: for whoever decides when an old value may end.
//!
//! Does not decide it, and does not keep it over a start.

use super::Keeper;
use crate::name::{SecretName, WorkloadName};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// All of them. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Acks {
    said: Arc<Mutex<BTreeMap<SecretName, BTreeMap<WorkloadName, u64>>>>,
    /// Counts them.
    times: Arc<watch::Sender<u64>>,
}

impl Keeper {
    /// `workload` says that it uses this generation of `name`. An earlier one than it said before changes nothing.
    pub fn acked(&self, name: &SecretName, workload: &WorkloadName, generation: u64) {
        let mut said = self.acks.said.lock().unwrap_or_else(PoisonError::into_inner);
        let known = said.entry(name.clone()).or_default().entry(workload.clone()).or_default();
        if generation > *known {
            *known = generation;
            self.acks.times.send_modify(|times| *times += 1);
        }
    }

    /// The workloads that use `generation` of `name`, or a later one.
    #[must_use]
    pub fn users(&self, name: &SecretName, generation: u64) -> Vec<WorkloadName> {
        let said = self.acks.said.lock().unwrap_or_else(PoisonError::into_inner);
        let users = said.get(name).into_iter().flatten().filter(|(_, used)| **used >= generation);
        users.map(|(workload, _)| workload.clone()).collect()
    }

    /// Changes with each ack.
    #[must_use]
    pub fn acks_heard(&self) -> watch::Receiver<u64> {
        self.acks.times.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_generation_counts_for_an_earlier_one_and_not_the_other_way() {
        let keeper = Keeper::default();
        let (name, workload) = (SecretName::new("key").unwrap(), WorkloadName::new("job").unwrap());
        let heard = keeper.acks_heard();
        keeper.acked(&name, &workload, 3);
        keeper.acked(&name, &workload, 2);
        for (generation, expected) in [(2, 1), (3, 1), (4, 0)] {
            assert_eq!(keeper.users(&name, generation).len(), expected, "{generation}");
        }
        assert_eq!(*heard.borrow(), 1);
    }
}
