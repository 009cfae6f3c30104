//! One rotation's kind, with the way to do what its steps say.
//!
//! Does not decide which step comes next: `phase` does.

use super::{
    Kind,
    document::Document,
    phase::{self, Target},
    store::{Place, Store, Written},
};
use crate::{secret::SecretValue, vault::error::Error};

/// A kind and its place in Vault.
pub(super) struct Driver {
    kind: Kind,
    store: Store,
    /// Found out once: which engine the secret is in.
    place: Option<Place>,
}

/// What a run begins with.
pub(super) struct Prepared {
    /// The version that consumers read.
    pub(super) before: u64,
    /// What they shall read; none where Vault makes it.
    pub(super) value: Option<SecretValue>,
}

impl Driver {
    pub(super) fn new(kind: Kind, store: Store) -> Self {
        Self { kind, store, place: None }
    }

    /// What the kind changes beside the place that consumers read.
    pub(super) fn target(&self) -> Target {
        match &self.kind {
            Kind::Generate(_) => Target::Nothing,
            Kind::Trigger(_) => Target::Vault,
        }
    }

    /// Looks at what is, and makes a value; nothing is changed.
    pub(super) async fn prepare(&mut self) -> Result<Prepared, Error> {
        match &self.kind {
            Kind::Generate(generate) => {
                let generate = generate.clone();
                let place = self.place(&generate.path).await?;
                let before = self.store.read(&place).await?.version;
                Ok(Prepared { before, value: Some(generate.value(&self.store).await?) })
            }
            Kind::Trigger(trigger) => Ok(Prepared { before: trigger.mark(&self.store).await?, value: None }),
        }
    }

    /// What consumers read.
    pub(super) async fn look(&mut self, document: &Document) -> Result<phase::Place, Error> {
        match &self.kind {
            Kind::Generate(generate) => {
                let generate = generate.clone();
                let place = self.place(&generate.path).await?;
                generate.look(&self.store, &place, document).await
            }
            Kind::Trigger(trigger) => trigger.look(&self.store, document.state.before).await,
        }
    }

    /// Changes the target.
    pub(super) async fn apply(&self) -> Result<(), Error> {
        match &self.kind {
            Kind::Generate(_) => Ok(()),
            Kind::Trigger(trigger) => trigger.apply(&self.store).await,
        }
    }

    /// Lets consumers read candidate `number`.
    pub(super) async fn promote(&mut self, document: &Document, number: u32) -> Result<Written, Error> {
        match (&self.kind, document.value(number)) {
            (Kind::Generate(generate), Some(value)) => {
                let generate = generate.clone();
                let place = self.place(&generate.path).await?;
                generate.promote(&self.store, &place, document, value).await
            }
            // Vault has done it already.
            _ => Ok(Written::Overtaken),
        }
    }

    /// What was before can no longer be had.
    pub(super) async fn revoke(&mut self, document: &Document) -> Result<(), Error> {
        match &self.kind {
            Kind::Generate(generate) => {
                let generate = generate.clone();
                let place = self.place(&generate.path).await?;
                generate.revoke(&self.store, &place, document).await
            }
            // Vault has no value before the newest.
            Kind::Trigger(_) => Ok(()),
        }
    }

    async fn place(&mut self, path: &str) -> Result<Place, Error> {
        match &self.place {
            Some(place) => Ok(place.clone()),
            None => {
                let place = self.store.place(path).await?;
                self.place = Some(place.clone());
                Ok(place)
            }
        }
    }
}
