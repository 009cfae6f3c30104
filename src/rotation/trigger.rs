//! Kind `trigger`: Vault makes the new value and changes the target; we say when.
//!
//! Whether it did is taken from Vault's own record, where there is one: `last_vault_rotation` of a static role (never its
//! `ttl`, which rolls over before the password changes), `latest_version` of a transit key.

use super::{phase, store::Store};
use crate::{
    crypto,
    vault::{
        endpoint::{Request, members},
        error::{Class, Error},
    },
};
use std::time::Duration;

/// Vault's record of a static role.
const LAST_ROTATION: &str = "last_vault_rotation";
/// As long does a read of a static role wait while its password is changed; after that it gets the one that was.
const HOLD: Duration = Duration::from_secs(2);

/// What is written to, and what says that it worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// `database/rotate-role/app`, `transit/keys/orders/rotate`, …
    pub path: String,
    /// Vault's record; without one a rotation whose answer was lost is done again.
    pub evidence: Option<Evidence>,
}

/// A field that changes when Vault has rotated, and not before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Where it is read.
    pub path: String,
    /// Which field.
    pub field: String,
}

impl Evidence {
    /// The record that Vault keeps of what is rotated by writing to `path`, if it is known.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        if let Some((mount, role)) = path.split_once("/rotate-role/") {
            let path = format!("{mount}/static-creds/{role}");
            return Some(Self { path, field: LAST_ROTATION.to_owned() });
        }
        let key = path.strip_suffix("/rotate").filter(|key| key.contains("/keys/"))?;
        Some(Self { path: key.to_owned(), field: "latest_version".to_owned() })
    }
}

/// A counter as it is; a time by its hash, short enough for every reader of JSON.
pub(super) fn mark_of(text: &str) -> u64 {
    let hash =
        crypto::sha256(text.as_bytes()).first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    text.parse().unwrap_or((hash >> 12) | 1)
}

impl Trigger {
    /// Of a static role: the field with its one password, and how long a read waits at most while Vault changes it.
    pub(super) fn held(&self) -> Option<(&'static str, Duration)> {
        let is_role = self.evidence.as_ref().is_some_and(|evidence| evidence.field == LAST_ROTATION);
        is_role.then_some(("password", HOLD))
    }

    /// Vault's record now, as a number that is another one after a rotation; 0 where there is none.
    pub(super) async fn mark(&self, store: &Store) -> Result<u64, Error> {
        let Some(evidence) = &self.evidence else { return Ok(0) };
        let answer = store.call(&Request::read(&evidence.path)).await?;
        let envelope = answer.envelope()?;
        let data = envelope.data.ok_or_else(|| answer.nonsense("an answer without data"))?;
        let members = members(data).map_err(|_| answer.nonsense("a record that is no object"))?;
        let found = members.get(&evidence.field).map(|text| text.get());
        let text = found.ok_or_else(|| {
            let doing = format!("reading {}", evidence.path);
            Error::new(Class::Missing, doing, format!("it has no field {}", evidence.field))
        })?;
        Ok(mark_of(text))
    }

    /// Whether Vault has rotated since `before`.
    pub(super) async fn look(&self, store: &Store, before: u64) -> Result<phase::Place, Error> {
        if self.evidence.is_none() {
            return Ok(phase::Place::Unknown);
        }
        let now = self.mark(store).await?;
        Ok(if now == before { phase::Place::Before } else { phase::Place::New(now) })
    }

    /// Why nobody can be asked what consumers read.
    pub(super) fn without_consumer(&self) -> Error {
        Error::new(Class::Invalid, format!("rotating {}", self.path), "it has no value of ours")
    }

    /// Tells Vault to rotate.
    pub(super) async fn apply(&self, store: &Store) -> Result<(), Error> {
        store.call(&Request::write(&self.path, &serde_json::json!({}))).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vaults_own_record_is_known_for_static_roles_and_transit_keys() {
        for (path, expected) in [
            ("database/rotate-role/app", Some(("database/static-creds/app", "last_vault_rotation"))),
            ("transit/keys/orders/rotate", Some(("transit/keys/orders", "latest_version"))),
            ("database/rotate-root/app", None),
            ("aws/config/rotate-root", None),
        ] {
            let found = Evidence::of(path);
            let found = found.as_ref().map(|it| (it.path.as_str(), it.field.as_str()));
            assert_eq!(found, expected, "{path}");
        }
    }
}
