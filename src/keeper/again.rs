//! That a secret has changed in Vault, said by whoever changed it: its task looks at once, and not at its own time.
//!
//! Does not say what it is now: the task asks Vault.

use super::{Holding, Keeper, Slot};
use crate::name::SecretName;
use std::sync::Arc;
use tokio::sync::Notify;

/// The way to say so. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Again(Arc<Notify>);

impl Again {
    /// Waits until somebody says so; one that came before counts.
    pub(super) async fn heard(&self) {
        self.0.notified().await;
    }
}

impl Slot {
    pub(super) fn again(&self) -> Again {
        self.again.clone()
    }
}

impl Keeper {
    /// The secret `name` has changed in Vault. Of a token for each process nothing is to be looked at.
    pub fn look_again(&self, name: &SecretName) {
        if let Some(Holding::Shared(slot)) = self.holdings.load().get(name) {
            slot.again.0.notify_one();
        }
    }
}
