//! Where each kind of secret comes from, and how it is renewed and revoked.
//!
//! Does not decide when, and keeps nothing: the task does.

use super::{
    Kind, Settings, certificate,
    kept::{Handle, Kept},
    kv::{self, Look, Place},
    lease, token,
};
use crate::vault::{
    Vault,
    endpoint::{ChildToken, Request},
    error::{Class, Error},
    limiter::Account,
    session::{Session, State},
};
use std::time::Duration;

/// Asks Vault for the secret; a kv secret only if it is something else than version `known`.
pub(super) async fn look(
    settings: &Settings,
    reader: &mut kv::Reader,
    vault: &Vault,
    account: &Account,
    session: &Session,
    known: Option<u64>,
) -> Result<Look, Error> {
    match &settings.kind {
        Kind::Kv { path, field, version, .. } => {
            let place = Place { name: &settings.name, path, field: field.as_deref(), version: *version };
            reader.look(vault, account, session, &place, known).await
        }
        Kind::Lease { path, request } => {
            let fresh = lease::obtain(vault, account, session, path, request).await?;
            if matches!(fresh.handle, Handle::None) {
                let doing = format!("reading {path}");
                return Err(Error::new(Class::Invalid, doing, "it gives no lease; use kind kv"));
            }
            Ok(Look::Fresh(fresh))
        }
        Kind::Token { policies, ttl, uses, role, no_default_policy, .. } => {
            let child = ChildToken {
                policies,
                ttl: *ttl,
                uses: *uses,
                role: role.as_deref(),
                no_default_policy: *no_default_policy,
            };
            token::obtain(vault, account, session, &child).await.map(Look::Fresh)
        }
        Kind::Certificate { path, params, .. } => {
            certificate::obtain(vault, account, session, path, params).await.map(Look::Fresh)
        }
    }
}

/// The engine that has the secret, as far as Vault said it.
pub(super) fn mount(kind: &Kind, reader: &kv::Reader) -> Option<String> {
    match kind {
        Kind::Kv { path, .. } => reader.mount_of(path),
        Kind::Token { .. } => Some("auth/token".to_owned()),
        Kind::Lease { .. } | Kind::Certificate { .. } => None,
    }
}

/// Asks for more time, where there is a lease or a child to renew; gives what was granted and whether more may be asked
/// for.
pub(super) async fn renew(
    vault: &Vault,
    session: &Session,
    handle: &Handle,
) -> Option<Result<(Duration, bool), Error>> {
    match handle {
        Handle::None | Handle::Static => None,
        Handle::Lease(id) => Some(lease::renew(vault, session, id).await),
        Handle::Child { token, ttl, .. } => Some(token::renew(vault, token, *ttl).await),
    }
}

/// Ends it, where there is a lease or a child to end: a lease with the token that its identity has now, or else with the one
/// it was made with; a child as [`token::revoke`] says.
pub(super) async fn revoke(
    vault: &Vault,
    account: &Account,
    state: &State,
    kept: &Kept,
) -> Option<Result<(), Error>> {
    let answered = match (&kept.handle, state, &kept.value.session) {
        (Handle::None | Handle::Static, ..) | (Handle::Lease(_), State::Starting | State::Down(_), None) => {
            return None;
        }
        (Handle::Lease(id), State::Live(session), _) | (Handle::Lease(id), _, Some(session)) => {
            vault.call(account, session, &Request::revoke_lease(id)).await
        }
        (Handle::Child { token, accessor, .. }, ..) => {
            return Some(token::revoke(vault, account, state, token, accessor).await);
        }
    };
    Some(answered.map(drop))
}
