//! Kind `bootstrap`: our own AppRole secret id. A new one is made, logged in with, put into the file that each login reads, and only
//! when the identity lives by it the old one is destroyed.
//!
//! Each replica has a secret id, and a journal beside it, of its own: a replica that cannot reach Vault, or whose token is gone, still
//! knows what it has. At no moment is there none to log in with. Does not decide what comes next: `phase` does.

pub mod file;
mod steps;

use super::{
    document::{Document, Ids, Known},
    driver::Prepared,
    generate::Generate,
    phase::Place,
    store::{Store, Written},
};
use crate::{
    clock::Timestamp,
    crypto,
    secret::SecretValue,
    vault::{
        approle::{Found, Label, Made, Role, Wrapping},
        endpoint::Request,
        error::{Class, Error},
    },
};
use file::{SecretIdFile, Text};
use serde::Deserialize;
use std::path::PathBuf;

/// Whose secret id it is, and how new ones are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The role that the identity logs in to.
    pub role: Role,
    /// The same, as a path in Vault.
    pub path: String,
    /// The file of its role id.
    pub role_id_file: PathBuf,
    /// The file of its secret id.
    pub file: SecretIdFile,
    /// How we make secret ids; `None`: Vault does.
    pub custom: Option<Generate>,
    /// How a new one comes.
    pub wrapping: Wrapping,
    /// As many secret ids are tried in one run.
    pub cycles: usize,
}

impl Bootstrap {
    /// What the file holds, and what Vault knows of it, where the identity lives by it.
    async fn current(&self, store: &Store) -> Result<(Text, Found), Error> {
        let text = self.file.read()?.ok_or_else(|| self.fault("it is not there"))?;
        // A login that fails counts against all who log in to the role: what is not known is not tried.
        let known = match &text.secret_id {
            Some(secret_id) => Some(self.find(store, secret_id).await?.ok_or_else(|| self.unknown())?),
            None => None,
        };
        let session = store.session()?;
        let Some(made_by) = session.made_by().filter(|made_by| made_by.text == text.hash) else {
            store.log_in_again();
            return Err(Error::new(Class::Away, self.doing(), "the login with it is not over"));
        };
        let found = match (known, &made_by.accessor) {
            (Some(found), _) => found,
            (None, Some(accessor)) => {
                self.find_named(store, accessor).await?.ok_or_else(|| self.unknown())?
            }
            (None, None) => return Err(self.unknown()),
        };
        Ok((text, found))
    }

    fn doing(&self) -> String {
        format!("looking at the secret id in {}", self.file.path.display())
    }

    fn fault(&self, said: &str) -> Error {
        Error::new(Class::Credential, self.doing(), said)
    }

    fn unknown(&self) -> Error {
        let said = format!("{} has no such secret id; is the name of the role right?", self.role);
        Error::new(Class::Missing, self.doing(), said)
    }

    /// What a run begins with.
    pub(super) async fn prepare(&self, store: &Store) -> Result<Prepared, Error> {
        let (text, found) = self.current(store).await?;
        let ids = Ids { former: found.accessor, of: crypto::hex(&text.hash), ..Ids::default() };
        let value = Some(self.value(store).await?);
        Ok(Prepared { before: number(found.made), value, user: None, ids: Some(ids) })
    }

    /// The first document: what is there is as old as Vault says, and one that came wrapped is replaced at once, since no later start
    /// could unwrap it again.
    pub(super) async fn first(&self, store: &Store, now: Timestamp) -> Result<Document, Error> {
        let (text, found) = self.current(store).await?;
        let mut document = Document::new(now);
        document.succeeded = found.made.min(now);
        document.own = Some(Self::known_of(&text, &found));
        Ok(document)
    }

    /// What is known of a secret id between runs.
    fn known_of(text: &Text, found: &Found) -> Known {
        let due = if text.secret_id.is_none() { Some(found.made) } else { found.due() };
        Known { of: crypto::hex(&text.hash), due }
    }

    /// The same of the one that was just put into the file.
    pub(super) fn known(&self, document: &Document) -> Option<Known> {
        let (text, ids) = (self.file.read().ok()??, document.aim.ids.as_ref()?);
        // Where Vault was not asked yet, it is as soon as the run is over.
        let of = if ids.made == 0 { String::new() } else { crypto::hex(&text.hash) };
        Some(Known { of, due: ids.due })
    }

    /// A value that we make; empty where Vault does.
    pub(super) async fn value(&self, store: &Store) -> Result<SecretValue, Error> {
        match &self.custom {
            Some(generate) => generate.value(store).await,
            None => Ok(SecretValue::new(String::new())),
        }
    }

    /// What the next login reads.
    pub(super) fn look(&self, document: &Document) -> Result<Place, Error> {
        let Some(ids) = &document.aim.ids else { return Ok(Place::Unknown) };
        let Some(text) = self.file.read()? else { return Ok(Place::Before) };
        let is_new = |value: &SecretValue| !value.is_empty() && SecretIdFile::says(&text, value);
        Ok(match &text {
            _ if document.values.iter().any(|(_, value)| is_new(value)) => Place::New(ids.made),
            _ if crypto::hex(&text.hash) == ids.of => Place::Before,
            _ => Place::Stranger(0),
        })
    }

    /// Lets the next login read `value`, if nobody put another one there.
    pub(super) fn promote(&self, document: &Document, value: &SecretValue) -> Result<Written, Error> {
        match self.look(document)? {
            Place::Before if !value.is_empty() => self.file.write(value).map(|()| Written::As(0)),
            _ => Ok(Written::Overtaken),
        }
    }

    /// What Vault knows of `secret_id`.
    async fn find(&self, store: &Store, secret_id: &SecretValue) -> Result<Option<Found>, Error> {
        Found::of(&store.call(&Request::look_up_secret_id(&self.role, secret_id)).await?)
    }

    /// The same of the one that `accessor` names.
    async fn find_named(&self, store: &Store, accessor: &str) -> Result<Option<Found>, Error> {
        match store.call(&Request::look_up_secret_id_accessor(&self.role, accessor)).await {
            Ok(answer) => Found::of(&answer),
            Err(error) if error.class() == Class::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One more secret id.
    async fn make(
        &self,
        store: &Store,
        label: Label<'_>,
        custom: Option<&SecretValue>,
    ) -> Result<Made, Error> {
        let request = Request::new_secret_id(&self.role, label, custom, self.wrapping);
        let answer = store.call(&request).await?;
        match self.wrapping {
            Wrapping::None => Made::of(&answer),
            Wrapping::Wrapped => store.unwrap_secret_id(&self.role, &answer).await,
        }
    }

    /// Whether a login with `secret_id` works; its token ends at once.
    async fn log_in(&self, store: &Store, secret_id: &SecretValue) -> Result<(), Error> {
        let role_id = file::credential(&self.role_id_file)?;
        store.try_secret_id(&self.role, &role_id, secret_id).await
    }

    /// Nobody can log in any more with the secret id that `accessor` names, which Vault's own record says.
    async fn destroy(&self, store: &Store, accessor: &str) -> Result<(), Error> {
        if self.find_named(store, accessor).await?.is_none() {
            return Ok(());
        }
        let destroyed = store.call(&Request::destroy_secret_id(&self.role, accessor)).await;
        match self.find_named(store, accessor).await? {
            None => Ok(()),
            Some(_) => {
                destroyed?;
                let doing = format!("destroying a secret id of {}", self.role);
                Err(Error::new(Class::Nonsense, doing, "Vault still knows it"))
            }
        }
    }

    /// The accessors of the secret ids that were made for the run `run`.
    async fn made_for(&self, store: &Store, run: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let all = match store.call(&Request::list_secret_ids(&self.role)).await {
            Ok(answer) => answer.data::<Keys>()?.keys,
            Err(error) if error.class() == Class::Missing => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut ours = Vec::new();
        for accessor in all {
            // One of another replica's may end meanwhile.
            if let Some(found) = self.find_named(store, &accessor).await?
                && found.run.as_deref() == Some(run)
            {
                ours.push(found.accessor);
            }
        }
        Ok(ours)
    }
}

/// When a secret id was made, in seconds since 1970: what events give as its version.
fn number(made: Timestamp) -> u64 {
    u64::try_from(made.as_second()).unwrap_or(1).max(1)
}
