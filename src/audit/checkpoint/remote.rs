//! What is asked of Vault for checkpoints and handoffs: signatures of transit, and values in KV 2.
//!
//! Does not decide what an answer means for the record.

use super::TransitKey;
use crate::{
    crypto::{PublicKey, has_signed},
    vault::{
        Vault,
        answer::Answer,
        endpoint::Request,
        error::{Class, Error},
        limiter::Account,
        session::{Identity, Session, State},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The way to Vault with one identity's token.
#[derive(Clone)]
pub(in crate::audit) struct Remote {
    vault: Vault,
    identity: Identity,
    /// Public keys of transit by their version.
    keys: BTreeMap<u64, PublicKey>,
}

impl Remote {
    pub(in crate::audit) fn new(vault: Vault, identity: Identity) -> Self {
        Self { vault, identity, keys: BTreeMap::new() }
    }

    /// Whether there is a token to call with.
    pub(super) fn is_live(&self) -> bool {
        matches!(*self.identity.state.borrow(), State::Live(_))
    }

    /// The signature of transit's `key` under `text`, checked against the public key that Vault names for it.
    pub(super) async fn sign(&mut self, key: &TransitKey, text: &str) -> Result<(PublicKey, Vec<u8>), Error> {
        #[derive(Deserialize)]
        struct Data {
            signature: String,
        }
        let request = Request::transit_sign(&key.mount, &key.name, STANDARD.encode(text))?;
        let answer = self.call(&request).await?;
        let data: Data = answer.data()?;
        let parsed = parse_signature(&data.signature);
        let (version, signature) =
            parsed.ok_or_else(|| answer.nonsense("a signature that is not vault:vN:BASE64"))?;
        if !self.keys.contains_key(&version) {
            self.learn(key).await?;
        }
        match self.keys.get(&version) {
            Some(public) if has_signed(public, text.as_bytes(), &signature) => Ok((*public, signature)),
            _ => Err(answer
                .nonsense("not an Ed25519 signature of the key that it names; is the key of type ed25519?")),
        }
    }

    async fn learn(&mut self, key: &TransitKey) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Data {
            keys: BTreeMap<String, Version>,
        }
        #[derive(Deserialize)]
        struct Version {
            #[serde(default)]
            public_key: String,
        }
        let answer = self.call(&Request::transit_key(&key.mount, &key.name)?).await?;
        let data: Data = answer.data()?;
        let known = data.keys.iter().filter_map(|(version, found)| {
            Some((version.parse().ok()?, super::text::public_key(&found.public_key)?))
        });
        self.keys = known.collect();
        Ok(())
    }

    /// The newest value at `path` and its version; 0 and nothing where there never was one.
    pub(in crate::audit) async fn read(
        &self,
        mount: &str,
        path: &str,
    ) -> Result<(Option<Value>, u64), Error> {
        #[derive(Deserialize)]
        struct Data {
            data: Option<Value>,
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        struct Metadata {
            version: u64,
        }
        #[derive(Deserialize)]
        struct Versions {
            current_version: u64,
        }
        match self.call(&Request::kv2(mount, path, None)?).await {
            Ok(answer) => {
                let Data { data, metadata } = answer.data()?;
                Ok((data, metadata.version))
            }
            // Deleted, or never there: the metadata tell.
            Err(error) if error.class() == Class::Missing => {
                match self.call(&Request::kv2_metadata(mount, path)?).await {
                    Ok(answer) => Ok((None, answer.data::<Versions>()?.current_version)),
                    Err(error) if error.class() == Class::Missing => Ok((None, 0)),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Writes `value` if `version` is still the newest; gives the new version.
    pub(in crate::audit) async fn write(
        &self,
        mount: &str,
        path: &str,
        value: &Value,
        version: u64,
    ) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Data {
            version: u64,
        }
        let answer = self.call(&Request::kv2_write(mount, path, value, version)?).await?;
        Ok(answer.data::<Data>()?.version)
    }

    /// The keys in the folder `path`; a folder's ends in a slash. None where there is no folder.
    pub(in crate::audit) async fn list(&self, mount: &str, path: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Data {
            keys: Vec<String>,
        }
        match self.call(&Request::kv2_list(mount, path)?).await {
            Ok(answer) => Ok(answer.data::<Data>()?.keys),
            Err(error) if error.class() == Class::Missing => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the value at `path` with all its versions.
    pub(in crate::audit) async fn delete(&self, mount: &str, path: &str) -> Result<(), Error> {
        self.call(&Request::kv2_delete(mount, path)?).await.map(drop)
    }

    async fn call(&self, request: &Request) -> Result<Answer, Error> {
        let session = self.session()?;
        let answer = self.vault.call(&Account::Upkeep, &session, request).await;
        if answer.as_ref().is_err_and(|error| error.class() == Class::Denied) {
            self.identity.doubt(&session);
        }
        answer
    }

    fn session(&self) -> Result<Session, Error> {
        match &*self.identity.state.borrow() {
            State::Live(session) => Ok(session.clone()),
            State::Starting => {
                Err(Error::new(Class::Away, "logging in for the audit", "the login is not over"))
            }
            State::Down(error) => Err(error.clone()),
        }
    }
}

/// `vault:v1:BASE64`.
fn parse_signature(text: &str) -> Option<(u64, Vec<u8>)> {
    let (version, signature) = text.strip_prefix("vault:v")?.split_once(':')?;
    Some((version.parse().ok()?, STANDARD.decode(signature).ok()?))
}
