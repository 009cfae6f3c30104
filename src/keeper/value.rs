//! One value of one secret, and what is known about it.
//!
//! Does not fetch anything. Values are shared, never copied, and wiped when the last holder drops them.

use crate::{clock::Timestamp, name::SecretName, secret::SecretValue, vault::session::Session};
use std::{fmt, sync::Arc};

/// What is handed out.
#[derive(PartialEq, Eq)]
pub enum Content {
    /// Fields in Vault's order, each with its JSON text.
    Fields(Vec<(String, SecretValue)>),
    /// The one thing there is, as JSON text (a string with its quotes).
    One(SecretValue),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields(fields) => {
                f.debug_list().entries(fields.iter().map(|(name, _)| format!("{name}: [redacted]"))).finish()
            }
            Self::One(_) => f.write_str("[redacted]"),
        }
    }
}

/// One generation of a secret. Holding one (in an `Arc`) keeps alive the token that it was made with.
#[derive(Debug)]
pub struct Value {
    pub(super) name: SecretName,
    pub(super) kind: &'static str,
    pub(super) mount: Option<String>,
    pub(super) path: Option<String>,
    pub(super) field: Option<String>,
    pub(super) generation: u64,
    pub(super) tag: String,
    pub(super) content: Content,
    pub(super) issued_at: Timestamp,
    pub(super) lease: Option<LeaseTerms>,
    pub(super) request_id: Option<String>,
    pub(super) fingerprint: Option<String>,
    pub(super) rotation: Option<Arc<str>>,
    /// The claim on the token that it falls with.
    pub(super) session: Option<Session>,
}

/// The lease of a value, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTerms {
    /// SHA-256 of the lease id, or of a token's accessor, hex: joins events without naming the lease.
    pub id_hash: Option<String>,
    /// Whether Vault lets it be renewed.
    pub renewable: bool,
}

impl Value {
    /// A value that Vault never gave, for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str, generation: u64, content: Content) -> Self {
        Self {
            name: SecretName::new(name).unwrap(),
            kind: "kv",
            mount: Some("secret".to_owned()),
            path: Some(format!("secret/{name}")),
            field: None,
            generation,
            tag: format!("boot-{generation}"),
            content,
            issued_at: Timestamp::UNIX_EPOCH,
            lease: None,
            request_id: None,
            fingerprint: None,
            rotation: None,
            session: None,
        }
    }

    /// Sets when it was made.
    #[cfg(test)]
    pub(crate) fn issued_at_for_test(&mut self, at: Timestamp) {
        self.issued_at = at;
    }

    /// Which secret it is of.
    #[must_use]
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// `kv`, `lease`, `token` or `certificate`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The engine that has it, where Vault said which: of a kv secret, and of a token.
    #[must_use]
    pub fn mount(&self) -> Option<&str> {
        self.mount.as_deref()
    }

    /// Its keyed hash, for events: `kN:hmac-sha256:HEX`, `none` or `unavailable`. `None`: there is no key.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// The run of a rotation that made it, where that is known.
    #[must_use]
    pub fn rotation(&self) -> Option<&Arc<str>> {
        self.rotation.as_ref()
    }

    /// Where it came from in Vault.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The one field of a kv secret that the config names.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// For people: the KV version, else a counter from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// For programs: opaque, holds our boot id, so a tag of another boot never matches. Visible ASCII without quotes.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The value itself.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// When Vault gave it.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Its lease, if it has one.
    #[must_use]
    pub fn lease(&self) -> Option<&LeaseTerms> {
        self.lease.as_ref()
    }

    /// Vault's id of the request that gave it: joins our audit to Vault's.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}
