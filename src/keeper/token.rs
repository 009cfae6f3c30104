//! A child token for a workload that speaks to Vault itself.
//!
//! Does not outlive the identity's own token: revoking that one ends its children at once.

use super::{
    kept::{Fresh, Handle},
    value::Content,
};
use crate::{
    secret::SecretValue,
    vault::{
        Vault,
        endpoint::{ChildToken, Request},
        error::{Class, Error},
        limiter::Account,
        renewal::Term,
        session::{Session, State},
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
    let accessor = SecretValue::new(std::mem::take(&mut auth.accessor));
    let json =
        serde_json::to_string(token.expose()).map_err(|_| answer.nonsense("a token that is no text"))?;
    Ok(Fresh {
        content: Content::One(SecretValue::new(json)),
        version: None,
        term,
        handle: Handle::Child { token, ttl: child.ttl, accessor },
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

/// Ends a child: by itself, where its own policies let it, or else by the identity that made it, where those do.
pub(super) async fn revoke(
    vault: &Vault,
    account: &Account,
    state: &State,
    child: &SecretValue,
    accessor: &SecretValue,
) -> Result<(), Error> {
    let Err(error) = vault.call_as(account, child, &Request::revoke_self()?).await else { return Ok(()) };
    if error.says_unknown_token() {
        // It has ended before: an answer of Vault's was lost, or its uses are used up.
        return Ok(());
    }
    let (Class::Denied, State::Live(session)) = (error.class(), state) else { return Err(error) };
    let answered = vault.call(account, session, &Request::revoke_accessor(accessor)).await;
    answered.map(drop).map_err(|error| match (error.class(), error.status()) {
        (Class::Denied, Some(status)) => {
            let said = "grant update on auth/token/revoke-self to its policies, or on auth/token/revoke-accessor to its \
                        identity's";
            Error::new(Class::Denied, "revoking the token", said).with_status(status)
        }
        _ => error,
    })
}
