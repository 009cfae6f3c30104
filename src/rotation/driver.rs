//! One rotation's kind, with the way to do what its steps say.
//!
//! Does not decide which step comes next: `phase` does.

use super::{
    Kind,
    bootstrap::Bootstrap,
    credential::Credential,
    document::{Document, Ids, Known},
    generate::Generate,
    issue::Issue,
    object::{self, Field},
    phase::{self, Target},
    store::{Place, Store, Written},
    system::{
        Act, Ask, Order, Said, System, Unknown,
        provider::{Call, Reply},
    },
};
use crate::{
    clock::Timestamp,
    name::RotationName,
    secret::SecretValue,
    vault::error::{Class, Error},
};
use std::{sync::Arc, time::Duration};

/// A kind and its place in Vault.
pub(super) struct Driver {
    kind: Kind,
    store: Store,
    outside: Arc<dyn Ask>,
    /// Found out once: which engine the secret is in.
    place: Option<Place>,
    /// What consumers read when the run began, with its version: a version never changes, so that nobody need read it again.
    before: Option<(u64, Vec<Field>)>,
}

/// What a run begins with.
pub(super) struct Prepared {
    /// The version that consumers read.
    pub(super) before: u64,
    /// What they shall read; none where Vault makes it.
    pub(super) value: Option<SecretValue>,
    /// Whose credential it is in another system.
    pub(super) user: Option<String>,
    /// Of our own secret id.
    pub(super) ids: Option<Ids>,
}

/// A value that consumers read before, and whose it is.
pub(super) struct Former {
    pub(super) user: String,
    /// None where there was none, or where it can no longer be read.
    pub(super) value: Option<SecretValue>,
}

/// What consumers read now.
pub(super) struct Current {
    pub(super) version: u64,
    /// Whose credential it is; of a key, the provider's name of it.
    pub(super) user: String,
    pub(super) value: SecretValue,
}

impl Driver {
    pub(super) fn new(kind: Kind, store: Store, outside: Arc<dyn Ask>) -> Self {
        Self { kind, store, outside, place: None, before: None }
    }

    /// What the kind changes beside the place that consumers read.
    pub(super) fn target(&self) -> Target {
        match &self.kind {
            Kind::Generate(_) => Target::Nothing,
            Kind::Trigger(_) => Target::Vault,
            Kind::Credential(_) | Kind::Issue(_) | Kind::Bootstrap(_) => Target::Credential,
        }
    }

    /// Looks at what is, and makes a value; nothing is changed.
    pub(super) async fn prepare(&mut self) -> Result<Prepared, Error> {
        if let Kind::Trigger(trigger) = &self.kind {
            let before = trigger.mark(&self.store).await?;
            return Ok(Prepared { before, value: None, user: None, ids: None });
        }
        if let Kind::Bootstrap(bootstrap) = &self.kind {
            return bootstrap.prepare(&self.store).await;
        }
        let (generate, place) = self.consumer().await?;
        let newest = self.store.read(&place).await?;
        let user = match &self.kind {
            Kind::Credential(credential) => {
                Some(credential.next_user(newest.fields.as_deref().unwrap_or_default()))
            }
            _ => None,
        };
        let value = match &self.kind {
            // The provider makes it.
            Kind::Issue(_) => SecretValue::new(String::new()),
            _ => generate.value(&self.store).await?,
        };
        let before = newest.version;
        self.before = newest.fields.map(|fields| (before, fields));
        Ok(Prepared { before, value: Some(value), user, ids: None })
    }

    /// The run is over: what it began with is wiped.
    pub(super) fn forget(&mut self) {
        self.before = None;
    }

    /// One more value.
    pub(super) async fn value(&mut self) -> Result<SecretValue, Error> {
        if let Kind::Bootstrap(bootstrap) = &self.kind {
            return bootstrap.value(&self.store).await;
        }
        let (generate, _) = self.consumer().await?;
        generate.value(&self.store).await
    }

    /// What consumers read.
    pub(super) async fn look(&mut self, document: &Document) -> Result<phase::Place, Error> {
        if let Kind::Trigger(trigger) = &self.kind {
            return trigger.look(&self.store, document.state.before).await;
        }
        if let Kind::Bootstrap(bootstrap) = &self.kind {
            return bootstrap.look(document);
        }
        let (generate, place) = self.consumer().await?;
        generate.look(&self.store, &place, document).await
    }

    /// Tells Vault to rotate.
    pub(super) async fn trigger(&self) -> Result<(), Error> {
        match &self.kind {
            Kind::Trigger(trigger) => trigger.apply(&self.store).await,
            _ => Ok(()),
        }
    }

    /// How long what consumers read before can be had back after its grace, if it can.
    pub(super) fn quarantine(&self) -> Option<Duration> {
        self.credential().map(|credential| credential.quarantine).filter(|quarantine| !quarantine.is_zero())
    }

    /// How often the system is asked whether it accepts what consumers read, if it is asked.
    pub(super) fn probe(&self) -> Option<Duration> {
        let probe = match &self.kind {
            Kind::Credential(credential) => credential.probe,
            Kind::Issue(issue) => issue.probe,
            _ => Duration::ZERO,
        };
        Some(probe).filter(|probe| !probe.is_zero())
    }

    /// What consumers read, where it is whole and of somebody who is ours to touch.
    pub(super) async fn current(&mut self) -> Result<Option<Current>, Error> {
        let (generate, place) = self.consumer().await?;
        let newest = self.store.read(&place).await?;
        let fields = newest.fields.unwrap_or_default();
        let user = match &self.kind {
            Kind::Credential(credential) => credential.current_user(&fields),
            Kind::Issue(issue) => object::field(&fields, &issue.id_field).map(|id| id.as_str().to_owned()),
            _ => None,
        };
        let value = object::field(&fields, &generate.field).filter(|value| !value.is_empty());
        let value = value.map(|mut value| SecretValue::new(std::mem::take(&mut *value)));
        Ok(user.zip(value).map(|(user, value)| Current { version: newest.version, user, value }))
    }

    /// The field of what Vault rotates that has the one password of a user, and how long a read waits while it is changed.
    pub(super) fn held(&self) -> Option<(&'static str, Duration)> {
        match &self.kind {
            Kind::Trigger(trigger) => trigger.held(),
            _ => None,
        }
    }

    /// Calls what mints keys, for run `id` of `rotation`.
    pub(super) async fn provide(
        &self,
        rotation: &RotationName,
        id: &str,
        call: Call<'_>,
        until: Duration,
    ) -> Result<Reply, Unknown> {
        let nothing = SecretValue::new(String::new());
        let run = Order { act: Act::Set, rotation, id, user: "", value: &nothing, until };
        match &self.kind {
            Kind::Issue(issue) => self.outside.provide(&issue.provider, run, call).await,
            _ => Err(Unknown::of(&run, "nothing is minted")),
        }
    }

    /// Has the other system do, or say, something.
    pub(super) async fn ask(&self, order: Order<'_>) -> Result<Said, Unknown> {
        if let Kind::Issue(issue) = &self.kind {
            let system = System::Provider(Box::new(issue.provider.clone()));
            return self.outside.ask(&system, order).await;
        }
        match self.credential().map(|credential| &credential.system) {
            Some(System::Vault(writes)) => writes.ask(&self.store, &order).await,
            Some(system) => self.outside.ask(system, order).await,
            None => Err(Unknown::of(&order, "there is no other system")),
        }
    }

    /// Lets consumers read candidate `number`.
    pub(super) async fn promote(&mut self, document: &Document, number: u32) -> Result<Written, Error> {
        let Some(value) = document.value(number).cloned() else { return Ok(Written::Overtaken) };
        if matches!(self.kind, Kind::Trigger(_)) {
            // Vault has done it already.
            return Ok(Written::Overtaken);
        }
        if let Kind::Bootstrap(bootstrap) = &self.kind {
            return bootstrap.promote(document, &value);
        }
        let (generate, place) = self.consumer().await?;
        let before = match &self.before {
            Some((version, fields)) if *version == document.state.before => Some(fields.as_slice()),
            _ => None,
        };
        let store = &self.store;
        match &self.kind {
            Kind::Credential(credential) => {
                credential.promote(store, &place, document, (&value, before)).await
            }
            Kind::Issue(issue) => issue.promote(store, &place, document, (&value, before)).await,
            _ => generate.promote_with(store, &place, document, (&value, &[]), before).await,
        }
    }

    /// Whose value in the other system is to be taken out of use after the run of `document`.
    pub(super) async fn former(&mut self, document: &Document) -> Result<Option<Former>, Error> {
        if !matches!(self.kind, Kind::Credential(_) | Kind::Issue(_)) {
            return Ok(None);
        }
        let (_, place) = self.consumer().await?;
        match &self.kind {
            Kind::Credential(credential) => credential.former(&self.store, &place, document).await,
            Kind::Issue(issue) => issue.former(&self.store, &place, document).await,
            _ => Ok(None),
        }
    }

    /// The version that was before can no longer be read.
    pub(super) async fn revoke(&mut self, document: &Document) -> Result<(), Error> {
        if matches!(self.kind, Kind::Trigger(_) | Kind::Bootstrap(_)) {
            // Vault has no value before the newest, and no file has.
            return Ok(());
        }
        let (generate, place) = self.consumer().await?;
        generate.revoke(&self.store, &place, document).await
    }

    /// The credential of another system, if that is what is rotated.
    pub(super) fn credential(&self) -> Option<&Credential> {
        match &self.kind {
            Kind::Credential(credential) => Some(credential),
            _ => None,
        }
    }

    /// The key that a provider mints, if that is what is rotated.
    pub(super) fn issue(&self) -> Option<&Issue> {
        match &self.kind {
            Kind::Issue(issue) => Some(issue),
            _ => None,
        }
    }

    /// Our own secret id, if that is what is rotated, and the way to Vault.
    pub(super) fn bootstrap(&self) -> Option<(&Bootstrap, &Store)> {
        match &self.kind {
            Kind::Bootstrap(bootstrap) => Some((bootstrap, &self.store)),
            _ => None,
        }
    }

    /// The first document.
    pub(super) async fn first(&self, now: Timestamp) -> Result<Document, Error> {
        match self.bootstrap() {
            Some((bootstrap, store)) => bootstrap.first(store, now).await,
            None => Ok(Document::new(now)),
        }
    }

    /// Of our own secret id that was just promoted: what is to be remembered of it. The identity lives by it from now on.
    pub(super) fn promoted(&self, document: &Document) -> Option<Known> {
        let (bootstrap, store) = self.bootstrap()?;
        store.log_in_again();
        bootstrap.known(document)
    }

    /// What consumers read, and where.
    async fn consumer(&mut self) -> Result<(Generate, Place), Error> {
        let generate = match &self.kind {
            Kind::Generate(generate) => generate.clone(),
            Kind::Credential(credential) => credential.consumer.clone(),
            Kind::Issue(issue) => issue.consumer.clone(),
            Kind::Trigger(trigger) => return Err(trigger.without_consumer()),
            Kind::Bootstrap(bootstrap) => {
                let doing = format!("rotating the secret id of {}", bootstrap.role);
                return Err(Error::new(Class::Invalid, doing, "it is not in KV"));
            }
        };
        let place = match &self.place {
            Some(place) => place.clone(),
            None => {
                let place = self.store.place(&generate.path).await?;
                self.place.insert(place).clone()
            }
        };
        Ok((generate, place))
    }
}
