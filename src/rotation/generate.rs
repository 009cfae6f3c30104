//! Kind `generate`: a random value in KV 2, which nobody but its readers needs to know.
//!
//! The other fields of the secret stay as they are. Does not decide when anything is done.

use super::{
    document::Document,
    object::{self, Field},
    phase,
    store::{Place, Store, Written},
};
use crate::{
    crypto,
    secret::SecretValue,
    vault::{
        endpoint::Request,
        error::{Class, Error},
    },
};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Where the value is, and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generate {
    /// `MOUNT/PATH` without `data/`.
    pub path: String,
    /// The field of the secret.
    pub field: String,
    /// How values are made.
    pub source: Source,
}

/// How values are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// By this password policy of Vault.
    Policy(String),
    /// By ourselves: each character drawn alike.
    Characters {
        /// How many.
        length: usize,
        /// From these; at least two, none twice, ASCII.
        alphabet: String,
    },
}

impl Generate {
    /// A new value.
    pub(super) async fn value(&self, store: &Store) -> Result<SecretValue, Error> {
        match &self.source {
            Source::Policy(policy) => {
                #[derive(Deserialize)]
                struct Data {
                    password: Zeroizing<String>,
                }
                let answer = store.call(&Request::password(policy)).await?;
                let mut made: Data = answer.data()?;
                Ok(SecretValue::new(std::mem::take(&mut *made.password)))
            }
            Source::Characters { length, alphabet } => draw(alphabet.as_bytes(), *length).ok_or_else(|| {
                Error::new(Class::Credential, "drawing a random value", "the system gives no random bytes")
            }),
        }
    }

    /// What readers of the secret get.
    pub(super) async fn look(
        &self,
        store: &Store,
        place: &Place,
        document: &Document,
    ) -> Result<phase::Place, Error> {
        let newest = store.read(place).await?;
        if newest.version == document.state.before {
            return Ok(phase::Place::Before);
        }
        let fields = newest.fields.unwrap_or_default();
        let field = fields.iter().find(|(name, _)| *name == self.field).map(|(_, text)| text);
        let ours =
            document.values.iter().any(|(_, value)| field.is_some_and(|text| object::says(text, value)));
        Ok(if ours { phase::Place::New(newest.version) } else { phase::Place::Stranger(newest.version) })
    }

    /// Lets readers get `value`, with what else of the secret changes by it, if nobody wrote since the rotation began. `before`
    /// is what they read then, where it is known.
    pub(super) async fn promote_with(
        &self,
        store: &Store,
        place: &Place,
        document: &Document,
        (value, others): (&SecretValue, &[(&str, &SecretValue)]),
        before: Option<&[Field]>,
    ) -> Result<Written, Error> {
        let set = [others, &[(self.field.as_str(), value)]].concat();
        let object = match before {
            Some(fields) => object::with_all(fields, &set),
            None => {
                let newest = store.read(place).await?;
                if newest.version != document.state.before {
                    return Ok(Written::Overtaken);
                }
                object::with_all(&newest.fields.unwrap_or_default(), &set)
            }
        };
        store.write(place, &object, document.state.before).await
    }

    /// The version before can no longer be read.
    pub(super) async fn revoke(
        &self,
        store: &Store,
        place: &Place,
        document: &Document,
    ) -> Result<(), Error> {
        match document.state.before {
            0 => Ok(()),
            before => store.kv2().delete_version(place, before).await,
        }
    }
}

/// `length` characters, each drawn alike from `alphabet`; `None` without random bytes.
fn draw(alphabet: &[u8], length: usize) -> Option<SecretValue> {
    let mut text = String::with_capacity(length);
    // What is above the last whole multiple would favour the first characters.
    let fair = 256_usize.checked_div(alphabet.len())?.checked_mul(alphabet.len())?;
    while text.len() < length {
        let bytes = Zeroizing::new(crypto::random::<64>().ok()?);
        for byte in bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair) {
            if text.len() < length {
                text.push(char::from(*alphabet.get(byte.checked_rem(alphabet.len())?)?));
            }
        }
    }
    Some(SecretValue::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_character_is_drawn_alike() {
        let alphabet = "abcdefghijklmnopqrstuvwxyz";
        let drawn = draw(alphabet.as_bytes(), 26_000).unwrap();
        let mut counts = BTreeMap::new();
        for letter in drawn.expose().chars() {
            *counts.entry(letter).or_insert(0) += 1;
        }
        assert_eq!((drawn.expose().len(), counts.len()), (26_000, 26));
        // Ten standard deviations: never by chance.
        assert!(counts.values().all(|count: &i32| (count - 1_000).abs() < 320), "{counts:?}");
        assert!(draw(b"ab", 64) != draw(b"ab", 64));
    }
}
