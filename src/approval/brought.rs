//! What a service brought is left where its approvers would leave it, so that it counts, stands and is shown as theirs does.
//!
//! Counts nothing itself: whoever looks at the votes does.

use super::{
    request::{Around, Request, TRIES},
    signed::{Found, judge},
    store::Written,
    ticket::{Decision, Vote},
    webhook::Brought,
};
use crate::vault::error::Error;

impl Request {
    /// Leaves what a service brought where its approvers would: a yes where nothing is, a no over a yes. What is not theirs ends the request,
    /// as it would there.
    pub(super) async fn bring(&mut self, around: &Around<'_>, votes: &[Brought]) -> Result<(), Error> {
        for Brought { approver, vote } in votes {
            let Some(approver) = around.settings.approvers.get(*approver) else { continue };
            let is_no = vote.decision() == Some(Decision::Refuse);
            if self.ended.is_some() || (!is_no && self.yes.contains_key(&approver.name)) {
                continue;
            }
            let keys = self.keys(around, approver).await?;
            if !matches!(judge(approver, vote, self.digest(), &keys), Found::Said(_)) {
                self.count(around, approver, vote.clone()).await?;
                continue;
            }
            let slot = format!("{}/{}", self.id, approver.slot());
            for _ in 0..TRIES {
                let there = around.store.read(&slot).await?;
                let said = there.data.and_then(|data| serde_json::from_value::<Vote>(data).ok());
                let is_said = said.is_some_and(|said| !is_no || said.decision() == Some(Decision::Refuse));
                if is_said || around.store.write(&slot, vote, there.version).await? == Written::Done {
                    break;
                }
            }
        }
        Ok(())
    }
}
