//! Kind `issue`: keys that a provider mints, with a label that says for which run.
//!
//! Minting twice makes two keys, and the value of a key is told once: what is found under the label of a run and is not in its
//! journal is deleted, and another one is minted. The key before is deleted after its grace. Does not decide what comes next:
//! `phase` does.

use super::{
    document::Document,
    driver::Former,
    fact::{Act as Did, Failure},
    generate::Generate,
    object::{self, Field},
    phase::{Applied, Facts, Orphaned, Probe, Works},
    run::{Broken, Next, Work},
    store::{Place, Store, Written},
    system::{
        Act, Said, Unknown,
        provider::{Call, Provider, Reply},
    },
    task::Task,
};
use crate::{clock, secret::SecretValue, vault::error::Error};
use std::{sync::Arc, time::Duration};

/// What mints keys, and where consumers read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where consumers read the value of the key.
    pub consumer: Generate,
    /// The field of the secret that has the provider's name of the key.
    pub id_field: String,
    /// The provider.
    pub provider: Provider,
    /// As often is minting tried where the provider refuses.
    pub cycles: usize,
    /// How often the provider is asked, between runs, whether it accepts what consumers read; zero: never.
    pub probe: Duration,
}

impl Issue {
    /// Lets consumers read `value` and the key's name, if nobody wrote since the run began.
    pub(super) async fn promote(
        &self,
        store: &Store,
        place: &Place,
        document: &Document,
        (value, before): (&SecretValue, Option<&[Field]>),
    ) -> Result<Written, Error> {
        let id = SecretValue::new(document.aim.user.clone().unwrap_or_default());
        let others = [(self.id_field.as_str(), &id)];
        self.consumer.promote_with(store, place, document, (value, &others), before).await
    }

    /// The key that consumers read before the run of `document`.
    pub(super) async fn former(
        &self,
        store: &Store,
        place: &Place,
        document: &Document,
    ) -> Result<Option<Former>, Error> {
        if document.state.before == 0 {
            return Ok(None);
        }
        let fields = store.version(place, document.state.before).await?.unwrap_or_default();
        let text = |name: &str| text_of(&fields, name);
        let id = text(&self.id_field).filter(|id| !id.is_empty() && Some(id) != document.aim.user.as_ref());
        Ok(id.map(|user| Former { user, value: text(&self.consumer.field).map(SecretValue::new) }))
    }
}

fn text_of(fields: &[Field], name: &str) -> Option<String> {
    let field = fields.iter().find(|(known, _)| known == name).map(|(_, text)| text)?;
    object::text(field).map(|text| text.as_str().to_owned())
}

impl Task {
    /// Whether the key of the run is there and works; others with its label are deleted.
    pub(super) async fn find_minted(&mut self, work: &mut Work) -> Result<(), Broken> {
        let Reply::Listed(found) = self.provide(&work.entry.document, Call::List).await? else {
            return Err(nonsense("it listed nothing that can be read"));
        };
        let ours = work.entry.document.aim.user.clone();
        for id in found.iter().filter(|id| Some(*id) != ours.as_ref()) {
            self.fence(work).await?;
            // Its value was told to somebody who could not record it.
            tracing::warn!(rotation = %self.settings.name, key = id, "a key that nobody has is deleted");
            self.provide(&work.entry.document, Call::Delete(id)).await?;
        }
        work.facts.probe = Some(match ours {
            // The list may be behind: what counts is that the key works.
            Some(_) if self.works(&work.entry.document, 1).await? => Probe::Accepts(1),
            _ => Probe::AcceptsNone,
        });
        if work.facts.probe == Some(Probe::Accepts(1)) {
            work.facts.tested = Some(Works::Yes);
        }
        Ok(())
    }

    /// Mints a key, and has its value in the journal before anything else is done.
    pub(super) async fn mint(&mut self, work: &mut Work) -> Result<Next, Broken> {
        self.fence(work).await?;
        if let Some(useless) = work.entry.document.aim.user.clone() {
            // There is never more than one beside the one that consumers read.
            self.provide(&work.entry.document, Call::Delete(&useless)).await?;
            self.fence(work).await?;
        }
        let reply = self.provide(&work.entry.document, Call::Mint).await;
        // Whatever it said: what is there is seen by asking.
        work.facts.probe = None;
        match reply {
            Ok(Reply::Minted { id, value }) => {
                let mut document = work.entry.document.clone();
                document.aim.user = Some(id);
                document.values = vec![(1, Arc::new(value))];
                self.write(work, document).await?;
                work.facts.applied = Some(Applied::Done);
                self.report(&work.entry.document, Did::Set);
            }
            Ok(Reply::Refused) => {
                self.report(&work.entry.document, Did::Failed(Failure::Refused));
                return self.mint_later(work).await;
            }
            Ok(_) => return Err(nonsense("its answer has no key")),
            Err(Broken::System(unknown)) => {
                work.facts.applied = Some(Applied::Unknown);
                self.failed_to(work, &unknown);
            }
            Err(broken) => return Err(broken),
        }
        Ok(Next::Step)
    }

    /// The provider mints none now, as where there are as many as it allows.
    async fn mint_later(&mut self, work: &mut Work) -> Result<Next, Broken> {
        let most = self.cycles();
        let mut document = work.entry.document.clone();
        document.aim.attempts = document.aim.attempts.saturating_add(1);
        if usize::try_from(document.aim.attempts).is_ok_and(|attempts| attempts >= most) {
            return self.orphan(work, Orphaned::Refused).await;
        }
        self.write(work, document).await?;
        work.facts = Facts::default();
        self.rest_a_while(work);
        Ok(Next::Step)
    }

    /// The key that consumers read before is deleted, and seen to be refused.
    pub(super) async fn delete_former(&mut self, work: &mut Work) -> Result<(), Broken> {
        let Some(former) = self.driver.former(&work.entry.document).await? else { return Ok(()) };
        let document = &work.entry.document;
        self.provide(document, Call::Delete(&former.user)).await?;
        match &former.value {
            Some(value) if self.put(document, Act::Test, &former.user, value).await? == Said::Done => {
                Err(nonsense("the old key still works"))
            }
            _ => Ok(()),
        }
    }

    async fn works(&self, document: &Document, number: u32) -> Result<bool, Broken> {
        Ok(self.order(document, Act::Test, number).await? == Said::Done)
    }

    async fn provide(&self, document: &Document, call: Call<'_>) -> Result<Reply, Broken> {
        let until = clock::since_boot().saturating_add(self.settings.lease.call);
        let id = document.run.as_ref().map_or("", |run| run.id.as_str());
        self.driver.provide(&self.settings.name, id, call, until).await.map_err(Broken::System)
    }
}

fn nonsense(said: &str) -> Broken {
    Broken::System(Unknown { act: "mint", said: said.to_owned() })
}
