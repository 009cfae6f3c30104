//! The journal of one rotation in Vault: read whole, written whole by check-and-set. Of kind `bootstrap` it is a file, by the same rules.
//!
//! Does not decide what is written.

use super::{
    Kind, Settings,
    bootstrap::file::Local,
    coordination::Coordination,
    document::{Document, Unreadable},
    kubernetes,
    object::Field,
    seal::Seal,
    store::{Place, Store, Written},
};
use crate::vault::error::Error as VaultError;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Where the document is in its KV secret: one field, so that the engine's web page shows it as one.
const FIELD: &str = "journal";
/// Versions of it that the engine keeps, where we may say so.
const VERSIONS: u32 = 5;

/// The way to one journal.
pub(super) struct Journal {
    store: Store,
    place: Place,
    coordination: Coordination,
    local: Option<Local>,
    seal: Option<Seal>,
}

/// A document and the version that a write of the next one names.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) document: Document,
    pub(super) version: u64,
}

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Vault refused, or did not answer.
    #[error("the journal of a rotation")]
    Vault(#[source] VaultError),
    /// What is there cannot be gone on with.
    #[error("the journal of a rotation")]
    Unreadable(#[source] Unreadable),
    /// What is passed before it is written.
    #[error("the Lease of a rotation")]
    Lease(#[source] kubernetes::Error),
}

impl From<kubernetes::Error> for Error {
    fn from(error: kubernetes::Error) -> Self {
        Self::Lease(error)
    }
}

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl Journal {
    pub(super) fn new(store: Store, settings: &Settings) -> Self {
        let place = settings.journal.below(settings.name.as_str());
        let local = match &settings.kind {
            Kind::Bootstrap(bootstrap) => Some(Local::new(&bootstrap.file)),
            _ => None,
        };
        let key = settings.wrap.clone();
        let seal = key.map(|key| Seal::new(store.clone(), key, &settings.name));
        Self { store, place, coordination: settings.coordination.clone(), local, seal }
    }

    /// Makes sure that we may work on it at all: a file is one agent's.
    pub(super) fn hold(&self) -> Result<(), Error> {
        self.local.as_ref().map_or(Ok(()), |local| Ok(local.hold()?))
    }

    /// Whether nobody else can be at work, so that no lease needs to be waited for.
    pub(super) fn is_alone(&self) -> bool {
        self.local.as_ref().is_some_and(Local::is_alone)
    }

    /// What is there; without a document, the version that the first one replaces.
    pub(super) async fn read(&self) -> Result<(Option<Document>, u64), Error> {
        self.read_of(Some(&self.coordination)).await
    }

    /// The same, whatever the document says that replicas are coordinated by.
    pub(super) async fn read_of_any(&self) -> Result<(Option<Document>, u64), Error> {
        self.read_of(None).await
    }

    async fn read_of(&self, coordination: Option<&Coordination>) -> Result<(Option<Document>, u64), Error> {
        if let Some(local) = &self.local {
            return local.read();
        }
        let newest = self.store.read(&self.place).await?;
        let Some(fields) = newest.fields else { return Ok((None, newest.version)) };
        let text = json_of(&fields, FIELD).ok_or(Error::Unreadable(Unreadable::Malformed))?;
        let mut document = Document::decode(&text, coordination).map_err(Error::Unreadable)?;
        match &self.seal {
            Some(seal) => seal.open(&mut document).await?,
            None if !document.sealed.is_empty() => return Err(Error::Unreadable(Unreadable::Sealed)),
            None => {}
        }
        Ok((Some(document), newest.version))
    }

    /// Writes `document` if `version` is the newest.
    pub(super) async fn write(&self, document: &Document, version: u64) -> Result<Written, Error> {
        if let Some(local) = &self.local {
            return local.write(document, version);
        }
        let sealed = match &self.seal {
            Some(seal) => seal.seal(document).await?,
            None => BTreeMap::new(),
        };
        let text = document.encode(&self.coordination, &sealed);
        let mut object = Zeroizing::new(Vec::with_capacity(text.len() + FIELD.len() + 8));
        object.extend_from_slice(format!(r#"{{"{FIELD}":"#).as_bytes());
        object.extend_from_slice(&text);
        object.push(b'}');
        Ok(self.store.write(&self.place, &object, version).await?)
    }

    /// Sets the place up for a journal, as far as we may.
    pub(super) async fn set_up(&self) {
        if self.local.is_some() {
            return;
        }
        if let Err(error) = self.store.kv2().keep(&self.place, VERSIONS).await {
            tracing::warn!(%error, "the journal keeps as many versions as its engine says");
        }
    }
}

/// The JSON text of a field.
pub(super) fn json_of(fields: &[Field], name: &str) -> Option<Zeroizing<String>> {
    let text = fields.iter().find(|(known, _)| known == name).map(|(_, text)| text)?;
    Some(Zeroizing::new(super::object::json(text).to_owned()))
}
