//! Whoever keeps here what a rotation changed is told to look at it again.
//!
//! Says nothing of what it is now.

use super::{document::Document, fact::Act, phase::Target, task::Task};
use crate::keeper::again::Change;
use std::time::Duration;

impl Task {
    /// Consumers read a new value, and the journal says so.
    pub(super) fn promoted(&mut self, document: &Document, gap: Option<Duration>) {
        self.report_with(document, Act::Promoted, gap);
        self.promoted = Some(document.succeeded);
    }

    /// Another replica may have promoted.
    pub(super) fn notice(&mut self, document: &Document) {
        if self.promoted.replace(document.succeeded).is_some_and(|known| known != document.succeeded) {
            self.look_again(document, document.state.after);
        }
    }

    /// Whoever keeps here what the run of `document` wrote looks at once, for version `after` of KV.
    pub(super) fn look_again(&self, document: &Document, after: Option<u64>) {
        let version = after.filter(|_| self.driver.target() != Target::Vault);
        let by = document.run.as_ref().map(|run| Change { run: run.id.as_str().into(), version });
        for name in &self.settings.serves {
            if let Some(version) = version {
                self.keeper.supersede(name, version, &self.settings.name);
            }
            self.keeper.look_again(name, by.clone());
        }
        self.say_soon(None);
        self.free_place();
    }
}
