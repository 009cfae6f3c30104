//! A child token for a workload that speaks to Vault itself.
//!
//! Does not outlive the identity's own token: revoking that one ends its children at once.

use super::{
    kept::{Fresh, Handle},
    value::Content,
};
use crate::{
    crypto,
    secret::SecretValue,
    vault::{
        Vault,
        endpoint::{ChildToken, Request},
        error::Error,
        limiter::Account,
        renewal::Term,
        session::Session,
    },
};
use std::time::Duration;
use tokio::time::Instant;

/// Makes a new child.
pub(super) async fn obtain(
    vault: &Vault,
    account: &Account,
    session: &Session,
    child: &ChildToken<'_>,
) -> Result<Fresh, Error> {
    let answer = vault.call(account, session, &Request::create_token(child)?).await?;
    let mut envelope = answer.envelope()?;
    let mut auth = envelope.auth.take().ok_or_else(|| answer.nonsense("a creation without a token"))?;
    let token = auth.take_token();
    // Each renewal would cost one of a counted number of uses.
    let renewable = auth.renewable && child.uses == 0;
    let ttl = Duration::from_secs(auth.lease_duration);
    let term = (!ttl.is_zero()).then(|| Term::new(Instant::now(), ttl, renewable));
    let accessor = std::mem::take(&mut auth.accessor);
    let id_hash = (!accessor.is_empty()).then(|| crypto::hex(&crypto::sha256(accessor.as_bytes())));
    let json =
        serde_json::to_string(token.expose()).map_err(|_| answer.nonsense("a token that is no text"))?;
    Ok(Fresh {
        content: Content::One(SecretValue::new(json)),
        version: None,
        term,
        handle: Handle::Child { token, ttl: child.ttl, id_hash },
        request_id: Some(envelope.request_id),
    })
}

/// Asks for `ttl` more with the child's own token: its parent need not be allowed to.
pub(super) async fn renew(
    vault: &Vault,
    child: &SecretValue,
    ttl: Duration,
) -> Result<(Duration, bool), Error> {
    let answer = vault.call_as(&Account::Upkeep, child, &Request::renew_self(Some(ttl))?).await?;
    let envelope = answer.envelope()?;
    let auth = envelope.auth.as_ref().ok_or_else(|| answer.nonsense("a renewal without a token"))?;
    Ok((Duration::from_secs(auth.lease_duration), auth.renewable))
}
