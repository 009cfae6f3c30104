//! What came back in an answer and lives on in Vault, a lease or a child token: what is needed to find it again and to end it.
//!
//! Does not keep it and does not decide when it ends: `access` does, which knows whose it is.

use super::{Error, Forward};
use crate::{
    crypto,
    policy::child::Child,
    secret::SecretValue,
    vault::{
        endpoint::Request,
        error::{Class, Error as VaultError},
        limiter::Account,
        session::Session,
    },
};
use serde::{Deserialize, de::IgnoredAny};
use std::{fmt, time::Duration};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A lease, with a claim on the token that it was made with: that token is not revoked while this is held, since the lease would fall
/// with it.
pub struct Lease {
    handle: Handle,
    session: Session,
    namespace: Option<String>,
    /// What it is found by, and called on record: SHA-256 of its id, or of a child token's accessor, hex.
    pub id_hash: String,
    /// SHA-256 of a child token itself, hex: the other thing that it is found by.
    pub token_hash: Option<String>,
    /// Whether it is a child token whose uses are counted.
    is_counted: bool,
    /// When it ends in Vault, if nobody renews it; a child token, whoever renews it.
    pub until: Instant,
}

/// The login whose token made it, and the namespace that it is in.
pub(super) type Made = (Session, Option<String>);

/// What it is ended by.
enum Handle {
    Lease(SecretValue),
    Child { token: SecretValue, accessor: SecretValue },
}

impl Lease {
    pub(super) fn new(id: Zeroizing<String>, seconds: u64, (session, namespace): Made) -> Self {
        let (id_hash, until) = (id_hash(&id), ends(seconds));
        let handle = Handle::Lease(SecretValue::new(id.to_string()));
        Self { handle, session, namespace, id_hash, token_hash: None, is_counted: false, until }
    }

    pub(super) fn child(token: &str, accessor: &str, allowed: &Child, (session, namespace): Made) -> Self {
        let (id_hash, token_hash) = (id_hash(accessor), Some(id_hash(token)));
        let (until, is_counted) = (ends(allowed.longest.as_secs()), allowed.uses > 0);
        let [token, accessor] = [token, accessor].map(|text| SecretValue::new(text.to_owned()));
        let handle = Handle::Child { token, accessor };
        Self { handle, session, namespace, id_hash, token_hash, is_counted, until }
    }

    /// Whether it is a child token.
    #[must_use]
    pub fn is_child(&self) -> bool {
        matches!(self.handle, Handle::Child { .. })
    }

    /// Whether it is a child token that can be used so often only: then it is for one.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.is_counted
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {}", self.id_hash)
    }
}

impl Forward {
    /// Ends a lease, by the token that it was made with; a child token by itself, where its own policies let it, else by the one that
    /// it was made with.
    ///
    /// # Errors
    /// [`Error::Vault`].
    pub async fn revoke(&self, lease: &Lease) -> Result<(), Error> {
        let account = Account::Upkeep;
        let request = match &lease.handle {
            Handle::Lease(id) => Request::revoke_lease(id),
            Handle::Child { token, accessor } => {
                let request = Request::revoke_self().map_err(Error::Vault)?.within(lease.namespace.clone());
                match self.vault.call_as(&account, token, &request).await {
                    Ok(_) => return Ok(()),
                    // It has ended before: its uses are used up, or somebody revoked it.
                    Err(error) if error.says_unknown_token() => return Ok(()),
                    Err(error) if error.class() == Class::Denied => Request::revoke_accessor(accessor),
                    Err(error) => return Err(Error::Vault(error)),
                }
            }
        };
        let ended = self.vault.call(&account, &lease.session, &request.within(lease.namespace.clone())).await;
        ended.map(drop).map_err(|error| Error::Vault(explained(lease, error)))
    }
}

/// With what to do about it, if the policies are in the way.
fn explained(lease: &Lease, error: VaultError) -> VaultError {
    match error.status() {
        Some(status) if error.class() == Class::Denied && lease.is_child() => {
            let said = "grant update on auth/token/revoke-self to its policies, or on auth/token/revoke-accessor to its identity's";
            VaultError::new(Class::Denied, "revoking a child token", said).with_status(status)
        }
        _ => error,
    }
}

/// What a lease is found by.
#[must_use]
pub fn id_hash(id: &str) -> String {
    crypto::hex(&crypto::sha256(id.as_bytes()))
}

/// The one lease that the body of a request to `sys/leases/` names, by its hash; `None` if it names none.
#[must_use]
pub fn named(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        lease_id: Zeroizing<String>,
    }
    // serde_json refuses a name that is there twice.
    serde_json::from_slice::<Named>(body).ok().map(|named| id_hash(&named.lease_id))
}

/// The one token that the body of a request about a child names, itself or by its accessor, by its hash; `None` if it says anything
/// that is not known.
#[must_use]
pub fn named_child(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        token: Option<Zeroizing<String>>,
        accessor: Option<Zeroizing<String>>,
        #[serde(rename = "increment")]
        _increment: Option<IgnoredAny>,
    }
    match serde_json::from_slice(body).ok()? {
        Named { token: Some(id), accessor: None, .. } | Named { token: None, accessor: Some(id), .. } => {
            Some(id_hash(&id))
        }
        Named { .. } => None,
    }
}

/// An end so many seconds from now.
pub(super) fn ends(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds.min(10 * 365 * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_one_lease_or_none() {
        let hash = Some(id_hash("database/creds/app/x"));
        for (body, expected) in [
            ("{\"lease_id\": \"database/creds/app/x\", \"increment\": 60}", hash),
            ("{\"lease_id\": \"a\", \"lease_id\": \"b\"}", None),
            ("{\"LEASE_ID\": \"a\"}", None),
            ("{\"prefix\": \"a\"}", None),
            ("{\"lease_id\": 1}", None),
            ("", None),
        ] {
            assert_eq!(named(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_body_names_one_child_or_none() {
        let hash = Some(id_hash("hvs.x"));
        for (body, expected) in [
            ("{\"token\": \"hvs.x\", \"increment\": \"5m\"}", hash.clone()),
            ("{\"accessor\": \"hvs.x\"}", hash),
            ("{\"token\": \"hvs.x\", \"accessor\": \"b\"}", None),
            ("{\"token\": \"hvs.x\", \"Token\": \"b\"}", None),
            ("{\"token\": \"hvs.x\", \"token\": \"b\"}", None),
            ("{\"increment\": 1}", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(named_child(body.as_bytes()), expected, "{body}");
        }
    }
}
