//! A dynamic credential: made by reading its path, kept by renewing its lease.
//!
//! Does not decide when: `vault::renewal` says when one is renewed or replaced.

use super::{
    LeaseRequest,
    kept::{Fresh, Handle},
    value::Content,
};
use crate::{
    secret::SecretValue,
    vault::{
        Vault, endpoint, endpoint::Request, error::Error, limiter::Account, renewal::Term, session::Session,
    },
};
use std::time::Duration;
use tokio::time::Instant;

/// The field by which a static role of the database engine says when Vault last changed its password (Vault docs: database
/// secrets engine API, "Get static credentials").
const STATIC: &str = "last_vault_rotation";

/// Makes a new credential; of a static role, reads the one that is.
pub(super) async fn obtain(
    vault: &Vault,
    account: &Account,
    session: &Session,
    path: &str,
    request: &LeaseRequest,
) -> Result<Fresh, Error> {
    let request = match request {
        LeaseRequest::Get => Request::read(path),
        LeaseRequest::Post(params) => Request::write(path, &serde_json::Value::Object(params.clone())),
    };
    let answer = vault.call(account, session, &request).await?;
    let mut envelope = answer.envelope()?;
    let data = envelope.data.ok_or_else(|| answer.nonsense("a credential without data"))?;
    let mut fields = endpoint::fields(data).map_err(|_| answer.nonsense("a credential that is no object"))?;
    let is_static = envelope.lease_id.is_empty() && fields.iter().any(|(name, _)| name == STATIC);
    if is_static {
        // It counts down with each look, and is over before the password changes: it says nothing.
        fields.retain(|(name, _)| name != "ttl");
    }
    let content = Content::Fields(fields);
    let ttl = Duration::from_secs(envelope.lease_duration);
    let id = SecretValue::new(std::mem::take(&mut envelope.lease_id));
    let handle = match (is_static, id.is_empty()) {
        (true, _) => Handle::Static,
        (false, true) => Handle::None,
        (false, false) => Handle::Lease(id),
    };
    let renewable = envelope.renewable && matches!(handle, Handle::Lease(_));
    let term = (!is_static).then(|| Term::new(Instant::now(), ttl, renewable));
    Ok(Fresh { content, version: None, term, handle, request_id: Some(envelope.request_id) })
}

/// Asks for more time; gives what was granted and whether more may be asked for.
pub(super) async fn renew(
    vault: &Vault,
    session: &Session,
    id: &SecretValue,
) -> Result<(Duration, bool), Error> {
    let answer = vault.call(&Account::Upkeep, session, &Request::renew_lease(id)).await?;
    let envelope = answer.envelope()?;
    Ok((Duration::from_secs(envelope.lease_duration), envelope.renewable))
}
