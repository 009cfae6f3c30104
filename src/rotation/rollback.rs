//! That a person went back to the value before: the command says so in the journal, and the agents take note of it.
//!
//! The command has no record of its own; the first agent that sees it has it put on record, and each one looks at the secret again.
//! Does not go back itself: `desk` does.

use super::{
    document::{Document, Run},
    fact::Act,
    journal::Error,
    phase::State,
    store::Written,
    task::Task,
};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// What a person went back from, and to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rolled {
    /// The run whose value consumers no longer read.
    pub(super) id: String,
    /// Its slot.
    pub(super) slot: Timestamp,
    /// The slot as people read it.
    pub(super) slot_time: String,
    /// Why, if the person said so.
    pub(super) reason: Option<String>,
    /// The version that they went back from.
    pub(super) from: u64,
    /// The version that has the value before.
    pub(super) to: u64,
    /// It is on record.
    pub(super) told: bool,
}

impl Task {
    /// Takes note of what a person went back from; gives whether the journal was written.
    pub(super) async fn mind_rollback(&mut self, document: &Document, version: u64) -> Result<bool, Error> {
        let Some(rolled) = &document.rolled else { return Ok(false) };
        if self.rolled.as_ref() != Some(&rolled.id) {
            self.rolled = Some(rolled.id.clone());
            self.look_again(document, None);
        }
        if rolled.told {
            return Ok(false);
        }
        let told = Document { rolled: Some(Rolled { told: true, ..rolled.clone() }), ..document.clone() };
        if let Written::As(_) = self.journal.write(&told, version).await? {
            let Rolled { id, slot, slot_time, reason, from, to, told: _ } = rolled.clone();
            let run = Some(Run { id, slot, spelled: slot_time, reason });
            let state = State { before: from, after: Some(to), ..State::idle() };
            self.report(&Document { run, state, ..document.clone() }, Act::RolledBack);
        }
        Ok(true)
    }
}
