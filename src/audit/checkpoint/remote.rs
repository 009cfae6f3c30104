//! What is asked of Vault for checkpoints and handoffs: signatures of transit, and values in KV 2.
//!
//! Does not decide what an answer means for the record.

use crate::{
    crypto::{PublicKey, has_signed},
    vault::{
        Vault,
        caller::{ByIdentity, Caller as _},
        endpoint::{Request, TransitKey},
        error::Error,
        kv2::Kv2,
        limiter::Account,
        session::{Identity, State},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The way to Vault with one identity's token.
#[derive(Clone)]
pub(in crate::audit) struct Remote {
    caller: ByIdentity,
    /// Public keys of transit by their version.
    keys: BTreeMap<u64, PublicKey>,
}

impl Remote {
    pub(in crate::audit) fn new(vault: Vault, identity: Identity) -> Self {
        let caller =
            ByIdentity { vault, identity, account: Account::Upkeep, limit: None, purpose: "the audit" };
        Self { caller, keys: BTreeMap::new() }
    }

    /// Whether there is a token to call with.
    pub(super) fn is_live(&self) -> bool {
        matches!(*self.caller.identity.state.borrow(), State::Live(_))
    }

    /// The signature of transit's `key` under `text`, checked against the public key that Vault names for it.
    pub(super) async fn sign(&mut self, key: &TransitKey, text: &str) -> Result<(PublicKey, Vec<u8>), Error> {
        #[derive(Deserialize)]
        struct Data {
            signature: String,
        }
        let request = Request::transit_sign(&key.mount, &key.name, STANDARD.encode(text))?;
        let answer = self.caller.call(&request).await?;
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
        let answer = self.caller.call(&Request::transit_key(&key.mount, &key.name)?).await?;
        let data: Data = answer.data()?;
        let known = data.keys.iter().filter_map(|(version, found)| {
            Some((version.parse().ok()?, super::text::public_key(&found.public_key)?))
        });
        self.keys = known.collect();
        Ok(())
    }

    /// The engine of anchors and handoffs.
    pub(in crate::audit) fn kv2(&self) -> Kv2<'_> {
        Kv2::by(&self.caller)
    }
}

/// `vault:v1:BASE64`.
fn parse_signature(text: &str) -> Option<(u64, Vec<u8>)> {
    let (version, signature) = text.strip_prefix("vault:v")?.split_once(':')?;
    Some((version.parse().ok()?, STANDARD.decode(signature).ok()?))
}
