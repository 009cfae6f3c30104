//! What a rotation keeps and changes in Vault: KV 2 by check-and-set, with one identity's token.
//!
//! Each call has a hard end. Does not decide what an answer means for the rotation.

use super::object::Field;
use crate::secret::SecretValue;
use crate::vault::{
    Vault,
    answer::Answer,
    approle::{Made, Role},
    endpoint::{self, Request},
    error::{Class, Error},
    limiter::Account,
    session::{Identity, Session, State},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};

/// The way to Vault.
#[derive(Clone)]
pub(super) struct Store {
    vault: Vault,
    identity: Identity,
    limit: Duration,
}

/// A place in a KV 2 engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where the engine is mounted.
    pub mount: String,
    /// The path in it.
    pub path: String,
}

/// The newest version of a place.
pub(super) struct Newest {
    /// 0: there never was one.
    pub(super) version: u64,
    /// None where it is deleted, or never was.
    pub(super) fields: Option<Vec<Field>>,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is this version.
    As(u64),
    /// Somebody wrote before us.
    Overtaken,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Store {
    /// Calls as `identity`, each of at most `limit`.
    pub(super) fn new(vault: Vault, identity: Identity, limit: Duration) -> Self {
        Self { vault, identity, limit }
    }

    /// Waits until there is a token, or none is to be had.
    pub(super) fn state(&self) -> tokio::sync::watch::Receiver<State> {
        self.identity.state.clone()
    }

    /// By how much Vault's clock is ahead of ours.
    pub(super) fn skew(&self) -> Duration {
        Duration::from_millis(self.vault.skew_ms().unsigned_abs())
    }

    /// The login in use.
    pub(super) fn session(&self) -> Result<Session, Error> {
        match &*self.identity.state.borrow() {
            State::Live(session) => Ok(session.clone()),
            State::Starting => {
                Err(Error::new(Class::Away, "logging in for a rotation", "the login is not over"))
            }
            State::Down(error) => Err(error.clone()),
        }
    }

    /// The identity's credential is another one now.
    pub(super) fn log_in_again(&self) {
        self.identity.log_in_again();
    }

    /// Logs in with a secret id of the identity's role, and out again; needs no token.
    pub(super) async fn try_secret_id(
        &self,
        role: &Role,
        role_id: &SecretValue,
        secret_id: &SecretValue,
    ) -> Result<(), Error> {
        self.in_time(self.vault.try_secret_id(role, role_id, secret_id)).await
    }

    /// The secret id in an answer that came wrapped.
    pub(super) async fn unwrap_secret_id(&self, role: &Role, answer: &Answer) -> Result<Made, Error> {
        self.in_time(self.vault.unwrap_secret_id(role, answer)).await
    }

    async fn in_time<T>(&self, calling: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(self.limit, calling).await.unwrap_or_else(|_| {
            Err(Error::new(Class::Away, "calling Vault for a rotation", "the call took longer than it may"))
        })
    }

    /// One call.
    pub(super) async fn call(&self, request: &Request) -> Result<Answer, Error> {
        let session = self.session()?;
        let answer = self.in_time(self.vault.call(&Account::Upkeep, &session, request)).await;
        if answer.as_ref().is_err_and(|error| error.class() == Class::Denied) {
            self.identity.doubt(&session);
        }
        answer
    }

    /// The newest version at `place`.
    pub(super) async fn read(&self, place: &Place) -> Result<Newest, Error> {
        let newest = self.look(place).await?;
        // It may have been written between the question for it and that for its metadata.
        if newest.version > 0 && newest.fields.is_none() { self.look(place).await } else { Ok(newest) }
    }

    async fn look(&self, place: &Place) -> Result<Newest, Error> {
        #[derive(Deserialize)]
        struct Data<'a> {
            #[serde(borrow)]
            data: Option<&'a RawValue>,
            metadata: Version,
        }
        #[derive(Deserialize)]
        struct Versions {
            current_version: u64,
        }
        match self.call(&Request::kv2(&place.mount, &place.path, None)?).await {
            Ok(answer) => {
                let envelope = answer.envelope()?;
                let data = envelope.data.ok_or_else(|| answer.nonsense("an answer without data"))?;
                let data: Data<'_> =
                    serde_json::from_str(data.get()).map_err(|error| answer.nonsense(&error.to_string()))?;
                let object = data.data.filter(|object| object.get() != "null");
                let fields = object.map(endpoint::fields).transpose();
                let fields = fields.map_err(|_| answer.nonsense("a value that is no object"))?;
                Ok(Newest { version: data.metadata.version, fields })
            }
            // Deleted, or never there: the metadata tell.
            Err(error) if error.class() == Class::Missing => {
                let metadata = self.call(&Request::kv2_metadata(&place.mount, &place.path)?).await;
                match metadata {
                    Ok(answer) => {
                        let version = answer.data::<Versions>()?.current_version;
                        Ok(Newest { version, fields: None })
                    }
                    Err(error) if error.class() == Class::Missing => Ok(Newest { version: 0, fields: None }),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The fields of one version at `place`; `None`: it is deleted, or never was.
    pub(super) async fn version(&self, place: &Place, version: u64) -> Result<Option<Vec<Field>>, Error> {
        #[derive(Deserialize)]
        struct Data<'a> {
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        let answer = match self.call(&Request::kv2(&place.mount, &place.path, Some(version))?).await {
            Err(error) if error.class() == Class::Missing => return Ok(None),
            answer => answer?,
        };
        let data = answer.envelope()?.data.ok_or_else(|| answer.nonsense("an answer without data"))?;
        let data: Data<'_> =
            serde_json::from_str(data.get()).map_err(|error| answer.nonsense(&error.to_string()))?;
        let fields = data.data.filter(|object| object.get() != "null").map(endpoint::fields).transpose();
        fields.map_err(|_| answer.nonsense("a value that is no object"))
    }

    /// Writes `object` if `version` is the newest.
    pub(super) async fn write(&self, place: &Place, object: &[u8], version: u64) -> Result<Written, Error> {
        match self.call(&Request::kv2_replace(&place.mount, &place.path, object, version)).await {
            Ok(answer) => Ok(Written::As(answer.data::<Version>()?.version)),
            // Vault 1.21.1 says so with status 400, as it says everything that is wrong with a request.
            Err(error) if error.class() == Class::Invalid && error.to_string().contains("check-and-set") => {
                Ok(Written::Overtaken)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps few old versions of a place, and refuses writes without check-and-set, where we may say so.
    pub(super) async fn keep_few(&self, place: &Place) -> Result<(), Error> {
        let path = format!("{}/metadata/{}", place.mount, place.path);
        let body = serde_json::json!({"max_versions": 5, "cas_required": true});
        self.call(&Request::write(&path, &body)).await.map(drop)
    }

    /// The KV 2 engine that has `path`, `MOUNT/PATH` without `data/`.
    pub(super) async fn place(&self, path: &str) -> Result<Place, Error> {
        #[derive(Deserialize)]
        struct Mount {
            path: String,
            r#type: String,
            #[serde(default)]
            options: Option<BTreeMap<String, String>>,
        }
        let answer = self.call(&Request::mount_of(path)).await?;
        let mount: Mount = answer.data()?;
        let version = mount.options.as_ref().and_then(|options| options.get("version"));
        let inside = path.strip_prefix(&mount.path);
        match inside {
            Some(inside) if mount.r#type == "kv" && version.is_some_and(|version| version == "2") => {
                Ok(Place { mount: mount.path.trim_end_matches('/').to_owned(), path: inside.to_owned() })
            }
            _ => {
                let said = format!("{} is no KV engine of version 2", mount.path);
                Err(Error::new(Class::Invalid, format!("looking for the engine of {path}"), said))
            }
        }
    }
}
