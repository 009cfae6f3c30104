//! Whose signature a checkpoint gets: the key of this start, with or without Vault's word for it, or Vault itself.
//!
//! Does not decide when.

use super::{
    Settings, Signer as Who, TransitKey,
    remote::Remote,
    text::{Certificate, Checkpoint, spell_key},
};
use crate::{
    audit::{event::Signed, note::Note},
    clock::Timestamp,
    crypto::SigningKey,
    vault::error::{Class, Error},
};
use std::io;

/// Who signs the chain of this start, before the chain exists.
#[derive(Debug)]
pub struct Key {
    who: Who,
    boot: Option<SigningKey>,
    since: Timestamp,
}

impl Key {
    /// The signer that `settings` ask for. `since` is a moment before the journal is opened: no event will be older.
    ///
    /// # Errors
    /// The system gives no random bytes for a key.
    pub fn new(settings: &Settings, since: Timestamp) -> io::Result<Self> {
        let boot = match settings.signer {
            Who::Boot => Some(SigningKey::generate()?),
            Who::Transit => None,
        };
        Ok(Self { who: settings.signer, boot, since })
    }

    /// What `agent.started` says: that checkpoints come.
    #[must_use]
    pub fn declaration(&self) -> Signed {
        let key = self.boot.as_ref().map(|key| spell_key(&key.public()));
        Signed { by: self.who.word(), key, certificate: None, note: None }
    }
}

/// Signs the checkpoints of one chain.
pub(super) struct Signer {
    key: Key,
    transit: Option<TransitKey>,
    origin: String,
    pub(super) certificate: Option<String>,
}

impl Signer {
    /// `origin` is `SOURCE/CHAIN`.
    pub(super) fn new(key: Key, transit: Option<TransitKey>, origin: String) -> Self {
        Self { key, transit, origin, certificate: None }
    }

    /// Whether it can sign without Vault.
    pub(super) fn is_local(&self) -> bool {
        self.key.boot.is_some()
    }

    /// Whether Vault's word for the boot key is still to be had.
    pub(super) fn lacks_certificate(&self) -> bool {
        self.key.boot.is_some() && self.transit.is_some() && self.certificate.is_none()
    }

    /// Asks Vault to certify the boot key for this chain.
    pub(super) async fn certify(&mut self, remote: &mut Remote) -> Result<(), Error> {
        let (Some(boot), Some(transit)) = (&self.key.boot, &self.transit) else { return Ok(()) };
        let certificate =
            Certificate { origin: self.origin.clone(), key: boot.public(), since: self.key.since };
        let text = certificate.text();
        let (key, signature) = remote.sign(transit, &text).await?;
        self.certificate = Some(Note::new(text).signed(&transit.to_string(), &key, &signature).to_string());
        Ok(())
    }

    /// Signs `checkpoint`; with the boot key this needs no Vault.
    pub(super) async fn sign(
        &self,
        checkpoint: &Checkpoint,
        remote: Option<&mut Remote>,
    ) -> Result<Signed, Error> {
        let text = checkpoint.text();
        let (key, name, signature) = match (&self.key.boot, &self.transit, remote) {
            (Some(boot), ..) => (boot.public(), self.origin.clone(), boot.sign(text.as_bytes())),
            (None, Some(transit), Some(remote)) => {
                let (key, signature) = remote.sign(transit, &text).await?;
                (key, transit.to_string(), signature)
            }
            _ => {
                return Err(Error::new(
                    Class::Away,
                    "signing a checkpoint",
                    "only Vault can, and it is not asked now",
                ));
            }
        };
        let note = Note::new(text).signed(&name, &key, &signature).to_string();
        Ok(Signed {
            by: self.key.who.word(),
            key: Some(spell_key(&key)),
            certificate: self.certificate.clone(),
            note: Some(note),
        })
    }
}
