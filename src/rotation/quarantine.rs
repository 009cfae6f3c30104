//! After the grace of a `two-slot` rotation: the user whom consumers read before is out of use, and for a while a person can have him
//! back with one command. Then what consumers read before is deleted.
//!
//! Does not take him out of use: the end of the grace does.

use super::{
    document::Document,
    fact::{Act as Did, Failure},
    journal::Entry,
    phase::Phase,
    run::{Broken, Next, Work},
    schedule::plus,
    system::{Act, Said},
    task::Task,
};
use crate::clock;
use std::time::Duration;

impl Task {
    /// Whether a person wants back what is in quarantine.
    pub(super) fn is_wanted_back(work: &Work) -> bool {
        let document = &work.entry.document;
        document.state.phase == Phase::Quarantine && document.aim.reenable
    }

    /// Whether the grace of `entry` ends by its time alone: what was wanted back is not waited for to be acked.
    pub(super) fn waits_for_acks(&self, entry: &Entry) -> bool {
        self.settings.acks.is_some() && !entry.document.aim.reenabled
    }

    /// The user whom consumers read before has his value again, and another grace.
    pub(super) async fn give_back(&mut self, work: &mut Work) -> Result<Next, Broken> {
        self.fence(work).await?;
        let works = self.let_in_again(&work.entry.document).await?;
        let mut document = work.entry.document.clone();
        document.aim.reenable = false;
        document.lease.holder = None;
        if works {
            document.aim.reenabled = true;
            document.state.phase = Phase::Grace;
            document.grace_until = Some(plus(clock::now(), self.settings.longest_grace()));
        }
        self.write(work, document).await?;
        let did = if works { Did::Reenabled } else { Did::Failed(Failure::Refused) };
        self.report(&work.entry.document, did);
        Ok(Next::Leave(Duration::ZERO))
    }

    async fn let_in_again(&mut self, document: &Document) -> Result<bool, Broken> {
        let former = self.driver.former(document).await?;
        // Nobody knows his value any more where somebody deleted that version.
        let Some((user, value)) = former.and_then(|former| Some((former.user, former.value?))) else {
            return Ok(false);
        };
        let set = self.put(document, Act::Set, &user, &value).await?;
        Ok(set == Said::Done && self.put(document, Act::Test, &user, &value).await? == Said::Done)
    }
}
