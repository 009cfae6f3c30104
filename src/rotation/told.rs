//! What is told of a rotation while none of its runs is under way here: slots without a run, and that it could not be looked at.
//!
//! Does not decide what is done about it.

use super::{
    document::{Document, Run},
    fact::{Act, Failure},
    journal::Error,
    phase::State,
    schedule::Skipped,
    task::{BUSY_LOOK, Task, lease_wait},
};
use crate::{
    clock, crypto,
    vault::{backoff, error::Class},
};
use std::time::Duration;

impl Task {
    pub(super) fn skipped(&self, document: &Document, skipped: &[Skipped]) {
        for Skipped { slot, why } in skipped {
            let run = Run {
                id: String::new(),
                slot: *slot,
                spelled: self.settings.schedule.spell(*slot),
                reason: None,
            };
            let of = Document { run: Some(run), state: State::idle(), ..document.clone() };
            self.report(&of, Act::Skipped(*why));
        }
    }

    /// Says that the journal could not be looked at, or a run not begun; gives how long to wait.
    pub(super) fn failed(&self, error: &Error) -> Duration {
        let name = &self.settings.name;
        let (failure, wait) = match error {
            Error::Vault(error) => {
                // The login is not over, or down: what is wrong is told there.
                let wait = backoff::wait(error, self.failures, crypto::chance());
                if error.class() == Class::Away {
                    return wait.min(BUSY_LOOK);
                }
                tracing::warn!(rotation = %name, %error, "no rotation");
                (Failure::Vault(error.class()), wait)
            }
            Error::Lease(error) => {
                tracing::warn!(rotation = %name, %error, "no rotation");
                (Failure::Lease(error.trouble()), lease_wait(error, self.failures))
            }
            Error::Unreadable(error) => {
                tracing::error!(rotation = %name, %error, "no rotation: a person must look at its journal");
                (Failure::Journal, self.idle_look())
            }
        };
        self.report(&Document::new(clock::now()), Act::Failed(failure));
        wait
    }
}
