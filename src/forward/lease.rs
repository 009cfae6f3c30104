//! A lease that came back in an answer: what is needed to find it again and to end it.
//!
//! Does not keep it and does not decide when it ends: `access` does, which knows whose it is.

use super::{Error, Forward};
use crate::{
    crypto,
    secret::SecretValue,
    vault::{endpoint::Request, limiter::Account, session::Session},
};
use serde::Deserialize;
use std::{fmt, time::Duration};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A lease, with a claim on the token that it was made with: that token is not revoked while this is held, since the lease would fall
/// with it.
pub struct Lease {
    id: SecretValue,
    session: Session,
    /// What it is found by, and called on record: SHA-256 of its id, hex.
    pub id_hash: String,
    /// When it ends in Vault.
    pub until: Instant,
}

impl Lease {
    pub(super) fn new(id: Zeroizing<String>, seconds: u64, session: Session) -> Self {
        let id_hash = id_hash(&id);
        let until = ends(seconds);
        Self { id: SecretValue::new(id.to_string()), session, id_hash, until }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {}", self.id_hash)
    }
}

impl Forward {
    /// Ends a lease, by the token that it was made with.
    ///
    /// # Errors
    /// [`Error::Vault`].
    pub async fn revoke(&self, lease: &Lease) -> Result<(), Error> {
        let request = Request::revoke_lease(&lease.id);
        self.vault.call(&Account::Upkeep, &lease.session, &request).await.map(drop).map_err(Error::Vault)
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

/// An end so many seconds from now.
fn ends(seconds: u64) -> Instant {
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
}
