//! That a secret has a newer version in Vault than the one in hand, as a rotation said that wrote it: reads in between get the one before.
//!
//! They are counted, and not held up: the value before is valid while its grace lasts. One of a single user is another matter: `hold`.

use super::{Holding, Keeper, Slot};
use crate::name::{RotationName, SecretName};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The newest version of KV that is known of, and whose it is. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Late(Arc<Promoted>);

#[derive(Debug, Default)]
struct Promoted {
    /// 0: none. Read by each read, so that it is no lock.
    version: AtomicU64,
    by: Mutex<Option<RotationName>>,
}

impl Late {
    /// The rotation that wrote a newer version than `generation`, if one did.
    pub(super) fn of(&self, generation: u64) -> Option<RotationName> {
        if generation >= self.0.version.load(Ordering::Relaxed) {
            return None;
        }
        self.0.by.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn say(&self, version: u64, by: &RotationName) {
        *self.0.by.lock().unwrap_or_else(PoisonError::into_inner) = Some(by.clone());
        self.0.version.fetch_max(version, Ordering::Relaxed);
    }
}

impl Slot {
    pub(super) fn late(&self) -> &Late {
        &self.late
    }
}

impl Keeper {
    /// The rotation `by` wrote `version` of `name` in KV: what is older is the value before.
    pub fn supersede(&self, name: &SecretName, version: u64, by: &RotationName) {
        if let Some(Holding::Shared(slot)) = self.holdings.load().get(name) {
            slot.late.say(version, by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_one_before_until_the_promoted_version_is_in_hand() {
        let (late, name) = (Late::default(), RotationName::new("webhook").unwrap());
        assert_eq!(late.of(1), None);
        late.say(3, &name);
        // What was said before counts no more.
        late.say(2, &name);
        assert_eq!([1, 2, 3, 4].map(|version| late.of(version).is_some()), [true, true, false, false]);
    }
}
