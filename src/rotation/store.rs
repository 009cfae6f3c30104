//! What a rotation keeps and changes in Vault: KV 2 by check-and-set, with one identity's token.
//!
//! Each call has a hard end. Does not decide what an answer means for the rotation.

use super::object::Field;
use crate::secret::SecretValue;
use crate::vault::{
    Vault,
    answer::Answer,
    approle::{Made, Role},
    caller::{ByIdentity, Caller as _},
    endpoint::Request,
    error::Error,
    kv2::Kv2,
    limiter::Account,
    session::{Identity, Session, State},
};
use std::time::Duration;

pub(super) use crate::vault::kv2::{Place, Written};

/// The way to Vault.
#[derive(Clone)]
pub(super) struct Store(ByIdentity);

/// The newest version of a place.
pub(super) struct Newest {
    /// 0: there never was one.
    pub(super) version: u64,
    /// None where it is deleted, or never was.
    pub(super) fields: Option<Vec<Field>>,
}

impl Store {
    /// Calls as `identity`, each of at most `limit`.
    pub(super) fn new(vault: Vault, identity: Identity, limit: Duration) -> Self {
        let (account, limit) = (Account::Upkeep, Some(limit));
        Self(ByIdentity { vault, identity, account, limit, purpose: "a rotation" })
    }

    /// Waits until there is a token, or none is to be had.
    pub(super) fn state(&self) -> tokio::sync::watch::Receiver<State> {
        self.0.identity.state.clone()
    }

    /// By how much Vault's clock is ahead of ours.
    pub(super) fn skew(&self) -> Duration {
        Duration::from_millis(self.0.vault.skew_ms().unsigned_abs())
    }

    /// The login in use.
    pub(super) fn session(&self) -> Result<Session, Error> {
        self.0.session()
    }

    /// The identity's credential is another one now.
    pub(super) fn log_in_again(&self) {
        self.0.identity.log_in_again();
    }

    /// Logs in with a secret id of the identity's role, and out again; needs no token.
    pub(super) async fn try_secret_id(
        &self,
        role: &Role,
        role_id: &SecretValue,
        secret_id: &SecretValue,
    ) -> Result<(), Error> {
        self.0.in_time(self.0.vault.try_secret_id(role, role_id, secret_id)).await
    }

    /// The secret id in an answer that came wrapped.
    pub(super) async fn unwrap_secret_id(&self, role: &Role, answer: &Answer) -> Result<Made, Error> {
        self.0.in_time(self.0.vault.unwrap_secret_id(role, answer)).await
    }

    /// One call.
    pub(super) async fn call(&self, request: &Request) -> Result<Answer, Error> {
        self.0.call(request).await
    }

    /// The engine of journals and secrets.
    pub(super) fn kv2(&self) -> Kv2<'_> {
        Kv2::by(&self.0)
    }

    /// The newest version at `place`.
    pub(super) async fn read(&self, place: &Place) -> Result<Newest, Error> {
        let newest = self.kv2().newest(place).await?;
        Ok(Newest { version: newest.version, fields: newest.fields()? })
    }

    /// The fields of one version at `place`; `None`: it is deleted, or never was.
    pub(super) async fn version(&self, place: &Place, version: u64) -> Result<Option<Vec<Field>>, Error> {
        let found = self.kv2().version(place, version).await?;
        found.map(|found| found.fields()).transpose()
    }

    /// Writes `object` if `version` is the newest.
    pub(super) async fn write(&self, place: &Place, object: &[u8], version: u64) -> Result<Written, Error> {
        self.kv2().write_object(place, object, version).await
    }

    /// The KV 2 engine that has `path`, `MOUNT/PATH` without `data/`.
    pub(super) async fn place(&self, path: &str) -> Result<Place, Error> {
        self.kv2().place(path).await
    }
}
