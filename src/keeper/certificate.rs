//! An X.509 certificate and its key, issued by Vault's PKI engine.
//!
//! Does not renew: a new one is issued at a share of its life. It does not fall with the token that asked for it.

use super::{
    kept::{Fresh, Handle},
    value::Content,
};
use crate::{
    clock,
    vault::{
        Vault, endpoint, endpoint::Request, error::Error, limiter::Account, renewal::Term, session::Session,
    },
};
use std::time::Duration;
use tokio::time::Instant;

/// Issues a new one.
pub(super) async fn obtain(
    vault: &Vault,
    account: &Account,
    session: &Session,
    path: &str,
    params: &serde_json::Map<String, serde_json::Value>,
) -> Result<Fresh, Error> {
    let request = Request::write(path, &serde_json::Value::Object(params.clone()));
    let answer = vault.call(account, session, &request).await?;
    let envelope = answer.envelope()?;
    let data = envelope.data.ok_or_else(|| answer.nonsense("a certificate without data"))?;
    let members = endpoint::members(data).map_err(|_| answer.nonsense("a certificate that is no object"))?;
    // Seconds since 1970 (Vault docs: api-docs/secret/pki, "Generate certificate and key").
    let expiration: i64 = members
        .get("expiration")
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .ok_or_else(|| answer.nonsense("a certificate without an expiration"))?;
    let left = u64::try_from(expiration - clock::now().as_second())
        .ok()
        .filter(|left| *left > 0)
        .ok_or_else(|| answer.nonsense("a certificate that has already expired"))?;
    let content = Content::Fields(
        endpoint::fields(data).map_err(|_| answer.nonsense("a certificate that is no object"))?,
    );
    let term = Some(Term::new(Instant::now(), Duration::from_secs(left), false));
    Ok(Fresh { content, version: None, term, handle: Handle::None, request_id: Some(envelope.request_id) })
}
