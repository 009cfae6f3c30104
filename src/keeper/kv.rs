//! A value in a KV engine: found out once which version the engine has, then looked at cheaply.
//!
//! Does not decide when: the task does. A version check that Vault does not permit is not tried again.

use super::kept::{Fresh, Handle};
use super::value::Content;
use crate::{
    name::SecretName,
    vault::{
        Vault,
        answer::Answer,
        endpoint::{self, Request},
        error::{Class, Error},
        limiter::Account,
        session::Session,
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What is known of each mount, shared by all secrets. Keys end in `/`.
#[derive(Clone, Default)]
pub struct Engines(Arc<Mutex<BTreeMap<String, Engine>>>);

/// Which API a KV mount has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    V1,
    V2,
}

/// Where a kv secret is.
pub(super) struct Place<'a> {
    pub(super) name: &'a SecretName,
    pub(super) path: &'a str,
    pub(super) field: Option<&'a str>,
    pub(super) version: Option<u64>,
}

/// What a look found.
pub(super) enum Look {
    /// The version that is known already.
    Unchanged,
    /// Another one.
    Fresh(Fresh),
}

/// Reads one kv secret again and again.
pub(super) struct Reader {
    engines: Engines,
    /// Whether the metadata may be read: assumed until Vault refuses.
    metadata: Permission,
}

#[derive(PartialEq, Eq)]
enum Permission {
    Assumed,
    Refused,
}

impl Engines {
    fn of(&self, path: &str) -> Option<(String, Engine)> {
        let engines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        engines
            .iter()
            .find(|(mount, _)| path.starts_with(mount.as_str()))
            .map(|(mount, engine)| (mount.clone(), *engine))
    }

    fn learn(&self, mount: String, engine: Engine) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(mount, engine);
    }

    fn forget(&self, mount: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(mount);
    }
}

impl Reader {
    pub(super) fn new(engines: Engines) -> Self {
        Self { engines, metadata: Permission::Assumed }
    }

    /// The engine of `path`, if Vault said which.
    pub(super) fn mount_of(&self, path: &str) -> Option<String> {
        self.engines.of(path).map(|(mount, _)| mount.trim_end_matches('/').to_owned())
    }

    /// Looks whether there is something else than version `known`, and reads it if so.
    pub(super) async fn look(
        &mut self,
        vault: &Vault,
        account: &Account,
        session: &Session,
        place: &Place<'_>,
        known: Option<u64>,
    ) -> Result<Look, Error> {
        let (mount, engine) = self.engine(vault, account, session, place).await?;
        let path = place.path.strip_prefix(&mount).unwrap_or(place.path);
        let mount = mount.trim_end_matches('/');
        let read = match engine {
            Engine::V1 => {
                let answer = vault.call(account, session, &Request::kv1(mount, path)?).await;
                answer.and_then(|answer| fresh_v1(&answer, place))
            }
            Engine::V2 => {
                if let Some(known) = known
                    && place.version.is_none()
                    && self.newest(vault, account, session, mount, path).await? == Some(known)
                {
                    return Ok(Look::Unchanged);
                }
                let answer = vault.call(account, session, &Request::kv2(mount, path, place.version)?).await;
                answer.and_then(|answer| fresh_v2(&answer, place))
            }
        };
        if read.as_ref().is_err_and(|error| error.class() == Class::Missing) {
            // The mount may have been upgraded or made anew: it is asked about again next time.
            self.engines.forget(&format!("{mount}/"));
        }
        read.map(Look::Fresh)
    }

    async fn engine(
        &self,
        vault: &Vault,
        account: &Account,
        session: &Session,
        place: &Place<'_>,
    ) -> Result<(String, Engine), Error> {
        #[derive(Deserialize)]
        struct Mount {
            path: String,
            r#type: String,
            #[serde(default)]
            options: Option<BTreeMap<String, String>>,
        }
        if let Some(known) = self.engines.of(place.path) {
            return Ok(known);
        }
        let answer = vault.call(account, session, &Request::mount_of(place.path)).await?;
        let envelope = answer.envelope()?;
        let data = envelope.data.ok_or_else(|| answer.nonsense("a mount without data"))?;
        let mount: Mount =
            serde_json::from_str(data.get()).map_err(|error| answer.nonsense(&error.to_string()))?;
        if mount.r#type != "kv" && mount.r#type != "generic" {
            let doing = format!("reading the kv secret {}", place.name);
            let said = format!("{} is an engine of type {}", mount.path, mount.r#type);
            return Err(Error::new(Class::Invalid, doing, said));
        }
        let version = mount.options.and_then(|mut options| options.remove("version"));
        let engine = if version.as_deref() == Some("2") { Engine::V2 } else { Engine::V1 };
        self.engines.learn(mount.path.clone(), engine);
        Ok((mount.path, engine))
    }

    /// The newest version by the metadata; `None` where they may not be read, or the newest is deleted.
    async fn newest(
        &mut self,
        vault: &Vault,
        account: &Account,
        session: &Session,
        mount: &str,
        path: &str,
    ) -> Result<Option<u64>, Error> {
        #[derive(Deserialize)]
        struct Metadata {
            current_version: u64,
            #[serde(default)]
            versions: BTreeMap<String, Version>,
        }
        #[derive(Deserialize)]
        struct Version {
            #[serde(default)]
            deletion_time: String,
            #[serde(default)]
            destroyed: bool,
        }
        if self.metadata == Permission::Refused {
            return Ok(None);
        }
        let answer = match vault.call(account, session, &Request::kv2_metadata(mount, path)?).await {
            Err(error) if error.class() == Class::Denied => {
                self.metadata = Permission::Refused;
                return Ok(None);
            }
            answer => answer?,
        };
        let envelope = answer.envelope()?;
        let data = envelope.data.ok_or_else(|| answer.nonsense("metadata without data"))?;
        let metadata: Metadata =
            serde_json::from_str(data.get()).map_err(|error| answer.nonsense(&error.to_string()))?;
        let gone = metadata
            .versions
            .get(&metadata.current_version.to_string())
            .is_some_and(|version| version.destroyed || !version.deletion_time.is_empty());
        Ok((!gone).then_some(metadata.current_version))
    }
}

fn fresh_v1(answer: &Answer, place: &Place<'_>) -> Result<Fresh, Error> {
    let envelope = answer.envelope()?;
    let data = envelope.data.ok_or_else(|| answer.nonsense("a secret without data"))?;
    fresh(answer, place, data, None, envelope.request_id.clone())
}

fn fresh_v2(answer: &Answer, place: &Place<'_>) -> Result<Fresh, Error> {
    #[derive(Deserialize)]
    struct Versioned<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        version: u64,
    }
    let envelope = answer.envelope()?;
    let data = envelope.data.ok_or_else(|| answer.nonsense("a secret without data"))?;
    let versioned: Versioned<'_> =
        serde_json::from_str(data.get()).map_err(|error| answer.nonsense(&error.to_string()))?;
    let data = versioned.data.filter(|data| data.get() != "null");
    let data = data.ok_or_else(|| answer.nonsense("a secret without data"))?;
    fresh(answer, place, data, Some(versioned.metadata.version), envelope.request_id.clone())
}

fn fresh(
    answer: &Answer,
    place: &Place<'_>,
    data: &RawValue,
    version: Option<u64>,
    request_id: String,
) -> Result<Fresh, Error> {
    let mut fields = endpoint::fields(data).map_err(|_| answer.nonsense("a secret that is no object"))?;
    let content = match place.field {
        None => Content::Fields(fields),
        Some(field) => {
            let at = fields.iter().position(|(name, _)| name == field).ok_or_else(|| {
                let doing = format!("reading the kv secret {}", place.name);
                Error::new(Class::Missing, doing, format!("it has no field {field}"))
            })?;
            Content::One(fields.swap_remove(at).1)
        }
    };
    Ok(Fresh { content, version, term: None, handle: Handle::None, request_id: Some(request_id) })
}
