//! A value that whoever takes it refuses: it may have been changed in Vault a moment ago.
//!
//! Does not judge: the task looks again, and keeps what Vault says.

use super::{Holding, Keeper, kept::Kept};
use crate::{approval::Grant, vault::renewal::Due};
use tokio::time::Instant;

impl Keeper {
    /// Tells the task that keeps a kv secret to look again before its time, on the budget of the grant's workload; a second
    /// after the last look, and no sooner. Other kinds are not looked at again: nobody else changes them.
    pub fn doubt(&self, grant: &Grant) {
        if let Some(Holding::Shared(slot)) = self.holdings.load().get(grant.secret()) {
            // A full channel holds a nudge already.
            let _ = slot.nudge.try_send(grant.permit().workload().clone());
        }
    }
}

impl Kept {
    /// Has it looked at again at `at`, if that could bring another one; `true`: it could, and this is now.
    pub(super) fn doubt(&mut self, at: Instant) -> bool {
        let is_kv = self.value.kind == "kv";
        if is_kv {
            self.due = Due::Replace(at);
        }
        is_kv && at <= Instant::now()
    }
}
