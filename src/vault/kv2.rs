//! The key-value engine, version 2, as a place where processes meet: what is written names the version that it replaces, so that of two
//! who write at once one learns that it lost.
//!
//! Paths, bodies and answers as Vault's API documentation has them (Secrets engines, "KV secrets engine, version 2 (API)"); what it says
//! when a write lost was measured on Vault 1.21.1. Does not try anything again, and does not decide what a lost write means.

use super::{
    answer::Answer,
    caller::Caller,
    endpoint::{self, Request},
    error::{Class, Error},
};
use crate::secret::SecretValue;
use http::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{json, value::RawValue};
use std::{collections::BTreeMap, fmt};
use vaultrs::api::kv2::requests::{DeleteSecretMetadataRequest, ListSecretsRequest};
use zeroize::Zeroizing;

/// Where a value is, or a folder of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where the engine is mounted, without a slash behind it.
    pub mount: String,
    /// The path in it, without `data/`.
    pub path: String,
}

impl Place {
    /// The place of this name below it.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self { mount: self.mount.clone(), path: format!("{}/{name}", self.path) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mount, self.path)
    }
}

/// A version that could be read.
pub struct Versioned {
    /// Its number; the first one is 1.
    pub version: u64,
    answer: Answer,
}

/// The newest version of a place.
pub struct Newest {
    /// What a write must name to be the next one; 0: there never was one.
    pub version: u64,
    /// `None` where it is deleted, or never was.
    pub found: Option<Versioned>,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is this version.
    As(u64),
    /// Somebody wrote before us, or it was we, and the answer was lost.
    Overtaken,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Version,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Versioned {
    /// `None`: Vault has this version, but not what it said.
    fn of(answer: Answer) -> Result<Option<Self>, Error> {
        let Data { data, metadata } = answer.data()?;
        let is_there = data.is_some_and(|data| data.get() != "null");
        Ok(is_there.then_some(Self { version: metadata.version, answer }))
    }

    fn object(&self) -> Result<&RawValue, Error> {
        let data = self.answer.data::<Data<'_>>()?.data;
        data.ok_or_else(|| self.answer.nonsense("an answer without data"))
    }

    /// What it says, if it is of that form.
    #[must_use]
    pub fn value<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.object().ok()?.get()).ok()
    }

    /// Its fields, each as JSON text, in Vault's order.
    ///
    /// # Errors
    /// [`Class::Nonsense`] when it is no object.
    pub fn fields(&self) -> Result<Vec<(String, SecretValue)>, Error> {
        endpoint::fields(self.object()?).map_err(|_| self.answer.nonsense("a value that is no object"))
    }
}

impl Newest {
    /// What it says, if there is one and it is of that form.
    #[must_use]
    pub fn value<T: DeserializeOwned>(&self) -> Option<T> {
        self.found.as_ref()?.value()
    }

    /// Its fields, if there is one.
    ///
    /// # Errors
    /// As for [`Versioned::fields`].
    pub fn fields(&self) -> Result<Option<Vec<(String, SecretValue)>>, Error> {
        self.found.as_ref().map(Versioned::fields).transpose()
    }
}

/// The engine, as one caller uses it. The errors are those of the calls, by class.
#[derive(Clone, Copy)]
pub struct Kv2<'a> {
    caller: &'a dyn Caller,
}

impl<'a> Kv2<'a> {
    /// With the token of `caller`.
    #[must_use]
    pub fn by(caller: &'a dyn Caller) -> Self {
        Self { caller }
    }

    /// The place of `path`, `MOUNT/PATH` without `data/`. Asks Vault how much of it is the mount, which it tells everyone who may do
    /// anything at all below it.
    ///
    /// # Errors
    /// [`Class::Invalid`] when what is mounted there is another engine, or `path` is the mount.
    pub async fn place(self, path: &str) -> Result<Place, Error> {
        #[derive(Deserialize)]
        struct Mount {
            path: String,
            r#type: String,
            #[serde(default)]
            options: Option<BTreeMap<String, String>>,
        }
        let answer = self.caller.call(&Request::mount_of(path)).await?;
        let mount: Mount = answer.data()?;
        let invalid =
            |said: String| Error::new(Class::Invalid, format!("looking for the engine of {path}"), said);
        let version = mount.options.as_ref().and_then(|options| options.get("version"));
        if mount.r#type != "kv" || version.is_none_or(|version| version != "2") {
            return Err(invalid(format!("{} is no KV engine of version 2", mount.path)));
        }
        let inside = path.strip_prefix(&mount.path).filter(|inside| !inside.is_empty());
        let inside = inside.ok_or_else(|| invalid(format!("it names nothing below {}", mount.path)))?;
        Ok(Place { mount: mount.path.trim_end_matches('/').to_owned(), path: inside.to_owned() })
    }

    /// The newest version at `place`, if it can be read; needs no right to metadata.
    ///
    /// # Errors
    /// The call failed for another reason than that there is none.
    pub async fn read(self, place: &Place) -> Result<Option<Versioned>, Error> {
        self.versioned(Request::kv2(&place.mount, &place.path, None)?).await
    }

    /// That version at `place`, if it can be read.
    ///
    /// # Errors
    /// As for [`Kv2::read`].
    pub async fn version(self, place: &Place, version: u64) -> Result<Option<Versioned>, Error> {
        self.versioned(Request::kv2(&place.mount, &place.path, Some(version))?).await
    }

    async fn versioned(self, request: Request) -> Result<Option<Versioned>, Error> {
        unless_missing(self.caller.call(&request).await)?.map_or(Ok(None), Versioned::of)
    }

    /// The newest version at `place`, and its number where it is deleted too: that is in the metadata.
    ///
    /// # Errors
    /// As for [`Kv2::read`].
    pub async fn newest(self, place: &Place) -> Result<Newest, Error> {
        let newest = self.look(place).await?;
        // It may have been written between the question for it and that for its metadata.
        if newest.version > 0 && newest.found.is_none() { self.look(place).await } else { Ok(newest) }
    }

    async fn look(self, place: &Place) -> Result<Newest, Error> {
        #[derive(Deserialize)]
        struct Versions {
            current_version: u64,
        }
        if let Some(found) = self.read(place).await? {
            return Ok(Newest { version: found.version, found: Some(found) });
        }
        let metadata = self.caller.call(&Request::kv2_metadata(&place.mount, &place.path)?).await;
        let version = match unless_missing(metadata)? {
            Some(answer) => answer.data::<Versions>()?.current_version,
            None => 0,
        };
        Ok(Newest { version, found: None })
    }

    /// Writes `value` if `version` is the newest; 0: if there never was one.
    ///
    /// # Errors
    /// The call failed for another reason than that somebody was faster, or `value` is no JSON.
    pub async fn write(self, place: &Place, value: &impl Serialize, version: u64) -> Result<Written, Error> {
        let object = serde_json::to_vec(value).map(Zeroizing::new);
        let object = object.map_err(|_| Error::new(Class::Invalid, doing_write(place), "it is no JSON"))?;
        self.write_object(place, &object, version).await
    }

    /// The same of an object that is JSON already, and may hold a secret.
    ///
    /// # Errors
    /// As for [`Kv2::write`].
    pub async fn write_object(self, place: &Place, object: &[u8], version: u64) -> Result<Written, Error> {
        match self.caller.call(&behind(place, object, version)).await {
            Ok(answer) => Ok(Written::As(answer.data::<Version>()?.version)),
            // Vault 1.21.1 says so with status 400, as it says everything that is wrong with a request.
            Err(error) if error.class() == Class::Invalid && error.to_string().contains("check-and-set") => {
                Ok(Written::Overtaken)
            }
            Err(error) => Err(error),
        }
    }

    /// The names in the folder at `place`, those of folders with a slash behind them; none where there is no folder.
    ///
    /// # Errors
    /// As for [`Kv2::read`].
    pub async fn list(self, place: &Place) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let path = place.path.trim_end_matches('/');
        let request = Request::typed(
            ListSecretsRequest::builder().mount(&place.mount).path(path).build(),
            format!("listing {}/metadata/{path}", place.mount),
        )?;
        match unless_missing(self.caller.call(&request).await)? {
            Some(answer) => Ok(answer.data::<Keys>()?.keys),
            None => Ok(Vec::new()),
        }
    }

    /// Has the engine keep `versions` of them at `place`, and refuse every write that does not name the version it replaces. Needs the
    /// right to write metadata.
    ///
    /// # Errors
    /// The call failed.
    pub async fn keep(self, place: &Place, versions: u32) -> Result<(), Error> {
        let path = format!("{}/metadata/{}", place.mount, place.path);
        let settings = json!({"max_versions": versions, "cas_required": true});
        self.caller.call(&Request::write(&path, &settings)).await.map(drop)
    }

    /// The end of what is at `place`, with all its versions and metadata.
    ///
    /// # Errors
    /// The call failed; where there is nothing, Vault says that it worked.
    pub async fn delete(self, place: &Place) -> Result<(), Error> {
        let Place { mount, path } = place;
        let request = Request::typed(
            DeleteSecretMetadataRequest::builder().mount(mount).path(path).build(),
            format!("deleting {mount}/metadata/{path}"),
        )?;
        self.caller.call(&request).await.map(drop)
    }

    /// That version at `place` can no longer be read, until somebody undeletes it.
    ///
    /// # Errors
    /// The call failed.
    pub async fn delete_version(self, place: &Place, version: u64) -> Result<(), Error> {
        let path = format!("{}/delete/{}", place.mount, place.path);
        self.caller.call(&Request::write(&path, &json!({"versions": [version]}))).await.map(drop)
    }
}

/// A write of `object`, only if `version` is the newest. By hand: vaultrs would make more copies of a secret than the one that is sent.
fn behind(place: &Place, object: &[u8], version: u64) -> Request {
    let head = format!(r#"{{"options":{{"cas":{version}}},"data":"#);
    // It has exactly the room that it needs, so that no other copy is left in memory.
    let mut body =
        Zeroizing::new(Vec::with_capacity(head.len().saturating_add(object.len()).saturating_add(1)));
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(object);
    body.push(b'}');
    let path = format!("{}/data/{}", place.mount, place.path);
    Request { body: Some(body), ..Request::bare(Method::POST, &path, doing_write(place)) }
}

fn doing_write(place: &Place) -> String {
    format!("writing {}/data/{}", place.mount, place.path)
}

fn unless_missing(called: Result<Answer, Error>) -> Result<Option<Answer>, Error> {
    match called {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.class() == Class::Missing => Ok(None),
        Err(error) => Err(error),
    }
}
