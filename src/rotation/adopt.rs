//! What a person wrote while a run was under way is adopted, when a person says so: the system is given what consumers read, and tried.
//!
//! Without that word the value stays as it is, and so does the system. Where the system will not have it either, a person must look
//! again. The steps are those of a repair, under the lease; consumers read what they did.

use super::{
    document::{Aim, Document},
    fact::{Act, Failure},
    journal::{Entry, Error},
    phase::{Orphaned, Phase, State},
    run::{Broken, Next, Work},
    store::Written,
    task::{BUSY_LOOK, Task},
};
use std::{sync::Arc, time::Duration};

impl Task {
    /// Begins what a person asked for; `entry` is of a run that waits for that person.
    pub(super) async fn adopt(&mut self, entry: Entry) -> Result<(Option<Work>, Duration), Error> {
        let Entry { mut document, version } = entry;
        let Some(current) = self.driver.current().await? else {
            // Nobody of ours is read: there is nothing to give to anybody.
            document.aim.adopt = false;
            if let Written::As(_) = self.journal.write(&document, version).await? {
                self.report(&document, Act::Failed(Failure::Conflict));
            }
            return Ok((None, Duration::ZERO));
        };
        let Some(epoch) = self.gate.pass(document.lease.epoch).await? else { return Ok((None, BUSY_LOOK)) };
        document.state = State::begun(Some(1), current.version);
        document.values = vec![(1, Arc::new(current.value))];
        document.aim = Aim { user: Some(current.user), repairs: true, adopted: true, ..Aim::default() };
        document.orphaned = None;
        match self.claim(document, version, epoch).await? {
            Some(work) => Ok(self.advance(work).await),
            None => Ok((None, Duration::ZERO)),
        }
    }

    /// The system has it now: no run any more, and its slot is settled.
    pub(super) fn settle_adopted(&self, document: &mut Document) {
        let slot = document.run.as_ref().map(|run| run.slot);
        document.settled = slot.map_or(document.settled, |slot| slot.max(document.settled));
        // It may be new to whoever keeps it here.
        self.look_again(document, None);
    }

    /// The system will not have what the person wrote.
    pub(super) async fn refuse_adopted(&mut self, work: &mut Work) -> Result<Next, Broken> {
        work.entry.document.aim = Aim { repairs: false, ..work.entry.document.aim.clone() };
        self.report(&work.entry.document, Act::Failed(Failure::Refused));
        self.orphan(work, Orphaned::Refused).await
    }
}

impl Document {
    /// Whether a person wants what consumers read to be adopted.
    pub(super) fn is_to_be_adopted(&self) -> bool {
        self.state.phase == Phase::Orphaned && self.aim.adopt
    }
}
