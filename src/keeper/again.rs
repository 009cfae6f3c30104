//! That a secret has changed in Vault, said by whoever changed it: its task looks at once, and not at its own time.
//!
//! Does not say what it is now: the task asks Vault.

use super::{Holding, Keeper, Slot};
use crate::name::SecretName;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// The way to say so. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Again(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    heard: Notify,
    by: Mutex<Option<Change>>,
}

/// Who changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The run of a rotation.
    pub run: Arc<str>,
    /// The version of KV that it wrote; `None`: the next that is seen.
    pub version: Option<u64>,
}

impl Again {
    /// Waits until somebody says so; one that came before counts.
    pub(super) async fn heard(&self) {
        self.0.heard.notified().await;
    }

    /// `known`, unless it was said that there is a later version of KV: then nobody need ask first which is the newest.
    pub(super) fn known(&self, known: Option<u64>) -> Option<u64> {
        let by = self.0.by.lock().unwrap_or_else(PoisonError::into_inner);
        let said = by.as_ref().and_then(|change| change.version);
        known.filter(|known| said.is_none_or(|said| said <= *known))
    }

    /// The run that made the value of this version of KV, once.
    pub(super) fn take(&self, version: Option<u64>) -> Option<Arc<str>> {
        let mut by = self.0.by.lock().unwrap_or_else(PoisonError::into_inner);
        let is_its = |change: &mut Change| {
            change.version.is_none() || version.is_none_or(|it| Some(it) == change.version)
        };
        by.take_if(is_its).map(|change| change.run)
    }
}

impl Slot {
    pub(super) fn again(&self) -> Again {
        self.again.clone()
    }
}

impl Keeper {
    /// The secret `name` has changed in Vault, by this run if it is known. Of a token for each process nothing is to be looked at.
    pub fn look_again(&self, name: &SecretName, by: Option<Change>) {
        if let Some(Holding::Shared(slot)) = self.holdings.load().get(name) {
            let said = &slot.again.0;
            if by.is_some() {
                *said.by.lock().unwrap_or_else(PoisonError::into_inner) = by;
            }
            said.heard.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_once_and_for_its_own_version_only() {
        let check = |change: Option<u64>, version: Option<u64>, expected: bool| {
            let again = Again::default();
            *again.0.by.lock().unwrap() = Some(Change { run: "r".into(), version: change });
            assert_eq!(again.take(version).is_some(), expected, "{change:?} {version:?}");
            assert!(again.take(version).is_none());
        };
        check(Some(2), Some(2), true);
        check(None, Some(2), true);
        check(None, None, true);
        let again = Again::default();
        assert_eq!(again.known(Some(2)), Some(2));
        *again.0.by.lock().unwrap() = Some(Change { run: "r".into(), version: Some(3) });
        assert_eq!([2, 3].map(|known| again.known(Some(known))), [None, Some(3)]);
        assert_eq!(again.take(Some(2)), None);
        assert!(again.take(Some(3)).is_some());
    }
}
