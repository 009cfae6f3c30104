//! How a request stands in Vault, and whose yes made it so.
//!
//! Vault counts; what is judged here is only whose yes is none: that of the identity whose act it is, and of who is excluded. A no is
//! left in the store, unsigned, by whoever may write there: it can only end a request.

use super::Guard;
use crate::{
    approval::{
        Ended,
        fact::{Act, Said},
        request::{Around, Request},
        store::beside,
        ticket::{Decision, Vote, is_reason},
    },
    clock,
    crypto::hex,
    name::IdentityName,
    vault::{
        endpoint::Request as Call,
        error::Error,
        group::{Authorization, Standing, is_gone},
    },
};
use std::collections::BTreeMap;

impl Request {
    /// What Vault says of it.
    pub(super) async fn standing(&self, around: &Around<'_>, guard: &Guard) -> Result<Standing, Error> {
        let namespace = guard.wrapped.namespace.as_deref();
        around.store.call(&Call::group_standing(guard.accessor(), namespace)).await?.data()
    }

    /// Looks in the store for a no, and asks Vault for a yes.
    pub(in crate::approval) async fn look_at_group(
        &mut self,
        around: &Around<'_>,
        guard: &Guard,
    ) -> Result<(), Error> {
        let words = self.words(around).await?;
        let is_no = |vote: &Vote| vote.decision() == Some(Decision::Refuse);
        if let Some((by, vote)) = words.iter().find(|(_, vote)| is_no(vote)) {
            let said = Said { by: by.clone(), reason: vote.reason.clone() };
            self.end(around, Ended::Refused, vec![said]);
            return Ok(());
        }
        let standing = match self.standing(around, guard).await {
            Ok(standing) => standing,
            Err(error) if is_gone(&error) => {
                // Before its time: somebody else has had it, or ended it.
                let why = if guard.is_over() { Ended::Expired } else { Ended::Taken };
                self.end(around, why, Vec::new());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !self.is_asked_by(&standing) {
            self.end(around, Ended::Changed, Vec::new());
            return Ok(());
        }
        let said = |yes: &Authorization| {
            let reason = words.get(&yes.entity_id).map(|vote| vote.reason.clone()).unwrap_or_default();
            Said { by: named(yes), reason }
        };
        if let Some(own) = self.counts_not(around, &standing).await? {
            self.end(around, Ended::OwnApproval, vec![said(own)]);
            return Ok(());
        }
        self.yes = standing.authorizations.iter().map(|yes| (named(yes), said(yes))).collect();
        // A policy may ask for nobody's yes: then Vault says that it has it.
        let is_granted = standing.approved && !self.yes.is_empty();
        match (is_granted, self.granted) {
            (true, None) => {
                self.granted = Some(clock::now());
                self.tell(around, Act::Granted(self.yes.values().cloned().collect()));
            }
            // Vault lets a yes grow old.
            (false, Some(_)) => self.granted = None,
            (true, Some(_)) | (false, None) => {}
        }
        Ok(())
    }

    /// What persons left beside it in the store, by their entity: a reason for their yes, or a no.
    async fn words(&self, around: &Around<'_>) -> Result<BTreeMap<String, Vote>, Error> {
        let mut words = BTreeMap::new();
        for slot in around.store.slots(self.id.as_str()).await?.into_iter().filter(|slot| beside(slot)) {
            let vote = around.store.vote(self.id.as_str(), &slot).await?;
            let about_this = |vote: &Vote| vote.digest == hex(self.digest()) && is_reason(&vote.reason);
            if let Some(vote) = vote.filter(about_this) {
                words.insert(slot, vote);
            }
        }
        Ok(words)
    }

    /// Whether what Vault will do is what was asked for. A namespace may stand before its path.
    fn is_asked_by(&self, standing: &Standing) -> bool {
        let asked = self.ticket.resource.path.as_deref().unwrap_or_default().trim_end_matches('/');
        let theirs = standing.request_path.trim_end_matches('/');
        theirs.strip_suffix(asked).is_some_and(|before| before.is_empty() || before.ends_with('/'))
    }

    /// A yes that is the identity's own, or of somebody who is excluded.
    async fn counts_not<'a>(
        &self,
        around: &Around<'_>,
        standing: &'a Standing,
    ) -> Result<Option<&'a Authorization>, Error> {
        if standing.authorizations.is_empty() {
            return Ok(None);
        }
        let mut nobody = around.settings.exclude.clone();
        nobody.push(standing.request_entity.id.clone());
        if let Ok(acting) = IdentityName::new(&self.ticket.identity) {
            nobody.push(around.entities.of(&around.store, &acting).await?);
        }
        let is_none = |yes: &&Authorization| !yes.entity_id.is_empty() && nobody.contains(&yes.entity_id);
        Ok(standing.authorizations.iter().find(is_none))
    }
}

/// Whose yes it is, for people and for machines.
fn named(yes: &Authorization) -> String {
    let shown: String = yes.entity_name.chars().filter(|c| !c.is_control()).take(128).collect();
    if shown.is_empty() { yes.entity_id.clone() } else { format!("{shown} ({})", yes.entity_id) }
}
