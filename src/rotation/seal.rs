//! `wrap: {transit: MOUNT/KEY}`: what the journal keeps of candidates is ciphertext of Vault's transit engine, so that who can read the
//! journal alone has no value, old versions of it included.
//!
//! Bound to its rotation by associated data (AES-GCM; transit's `associated_data`): the ciphertext of another rotation is not taken.
//! Each value is encrypted and decrypted once by each replica. Does not make keys: the transit key is there, of an AEAD type.

use super::{document::Document, store::Store};
use crate::{
    name::RotationName,
    secret::SecretValue,
    vault::{
        endpoint::{Request, TransitKey},
        error::{Class, Error},
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// The way to the key of one rotation.
pub(super) struct Seal {
    store: Store,
    key: TransitKey,
    /// What its ciphertexts are bound to, as transit wants it.
    bound: String,
    /// Ciphertexts of the run, with what they hold.
    known: Mutex<Vec<(String, Arc<SecretValue>)>>,
}

impl Seal {
    pub(super) fn new(store: Store, key: TransitKey, rotation: &RotationName) -> Self {
        let bound = BASE64_STANDARD.encode(format!("claviger/rotation/{rotation}"));
        Self { store, key, bound, known: Mutex::default() }
    }

    /// The ciphertexts of the values of `document`, by their numbers.
    pub(super) async fn seal(&self, document: &Document) -> Result<BTreeMap<u32, String>, Error> {
        let mut sealed = BTreeMap::new();
        for (number, value) in &document.values {
            let known = self.with(|known| {
                known.iter().find(|(_, known)| known == value).map(|(ciphertext, _)| ciphertext.clone())
            });
            let ciphertext = match known {
                Some(ciphertext) => ciphertext,
                None => self.encrypt(value).await?,
            };
            sealed.insert(*number, ciphertext);
        }
        Ok(sealed)
    }

    /// Puts what the ciphertexts of `document` hold among its values.
    pub(super) async fn open(&self, document: &mut Document) -> Result<(), Error> {
        if document.state.candidates.is_empty() {
            // The run is over.
            self.with(Vec::clear);
        }
        for (number, ciphertext) in std::mem::take(&mut document.sealed) {
            let known = self.with(|known| {
                known.iter().find(|(known, _)| *known == ciphertext).map(|(_, value)| Arc::clone(value))
            });
            let value = match known {
                Some(value) => value,
                None => self.decrypt(&ciphertext).await?,
            };
            document.values.push((number, value));
        }
        Ok(())
    }

    async fn encrypt(&self, value: &Arc<SecretValue>) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Made {
            ciphertext: String,
        }
        let TransitKey { mount, name } = &self.key;
        let plain = Zeroizing::new(BASE64_STANDARD.encode(value.expose()));
        let body = self.body("plaintext", &plain);
        let answer = self.store.call(&Request::write_bytes(&format!("{mount}/encrypt/{name}"), body)).await?;
        let made: Made = answer.data()?;
        self.with(|known| known.push((made.ciphertext.clone(), Arc::clone(value))));
        Ok(made.ciphertext)
    }

    async fn decrypt(&self, ciphertext: &str) -> Result<Arc<SecretValue>, Error> {
        #[derive(Deserialize)]
        struct Held {
            plaintext: Zeroizing<String>,
        }
        let TransitKey { mount, name } = &self.key;
        let path = format!("{mount}/decrypt/{name}");
        let answer =
            self.store.call(&Request::write_bytes(&path, self.body("ciphertext", ciphertext))).await?;
        let held: Held = answer.data()?;
        let bytes = BASE64_STANDARD.decode(held.plaintext.as_bytes()).map(Zeroizing::new);
        let text = bytes.ok().and_then(|bytes| std::str::from_utf8(&bytes).ok().map(str::to_owned));
        let text = text.ok_or_else(|| {
            Error::new(Class::Invalid, format!("decrypting by {}", self.key), "what it holds is no text")
        })?;
        let value = Arc::new(SecretValue::new(text));
        self.with(|known| known.push((ciphertext.to_owned(), Arc::clone(&value))));
        Ok(value)
    }

    /// Neither base64 nor a ciphertext of transit has anything to escape.
    fn body(&self, field: &str, text: &str) -> Zeroizing<Vec<u8>> {
        let parts = ["{\"", field, "\":\"", text, "\",\"associated_data\":\"", &self.bound, "\"}"];
        let mut body = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
        parts.iter().for_each(|part| body.extend_from_slice(part.as_bytes()));
        body
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<(String, Arc<SecretValue>)>) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
