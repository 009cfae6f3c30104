//! Kind `control_group`: Vault itself asks the persons. It answers a request with a wrapping token, and does the request once that is
//! unwrapped, which it refuses until enough of its own groups have authorized it.
//!
//! The token stays here, and with whoever unwraps it: no workload, log or event has it. `keep` puts it into the store, sealed by a transit
//! key; `look` asks Vault how it stands. Who may say yes, and how many must, is in Vault's policy, not in the config.

mod keep;
mod look;

use super::{
    Approvals, Ended,
    desk::Inner,
    request::{Around, Request},
};
use crate::{
    policy::Permit,
    secret::SecretValue,
    vault::{
        Vault,
        endpoint::{Request as Call, TransitKey},
        group::Wrapping,
        limiter::Account,
        session::Session,
    },
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// Where the sealed token stands, below the request.
pub const HELD: &str = "held";
/// How long the end of a token may take that nobody will unwrap any more: nobody waits for more.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What this kind has beside the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Seals tokens in the store, so that another start of the agent can go on; `None`: they are in memory alone.
    pub transit_key: Option<TransitKey>,
}

/// A request that waits in Vault.
#[derive(Debug)]
pub struct Wrapped {
    /// What it is unwrapped by, and what names it.
    pub wrapping: Wrapping,
    /// What it was asked with, and is done with: as long as this is held, that token lives.
    pub session: Session,
    /// Where it was asked.
    pub namespace: Option<String>,
    /// When Vault ends it, at the earliest.
    pub until: Instant,
}

/// The way to ask: sends what a permit is for, and hears what waits behind it.
pub trait Door: Send + Sync + std::fmt::Debug {
    /// `None`: Vault asked nobody, or could not be asked. Whoever made the door knows which.
    fn knock(&self) -> Pin<Box<dyn Future<Output = Option<Wrapped>> + Send + '_>>;
}

/// Whoever holds it may have the request done, once.
#[derive(Debug, Clone)]
pub struct Key(Arc<Wrapped>);

impl Key {
    /// What it opens.
    #[must_use]
    pub fn wrapped(&self) -> &Arc<Wrapped> {
        &self.0
    }
}

/// Two are the same where they open the same.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.wrapping == other.0.wrapping
    }
}

impl Eq for Key {}

/// What a request of this kind holds until it is over.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    wrapped: Arc<Wrapped>,
}

impl Guard {
    fn new(wrapped: Wrapped) -> Self {
        Self { wrapped: Arc::new(wrapped) }
    }

    /// For whoever spends the yes.
    pub(super) fn key(&self) -> Key {
        Key(Arc::clone(&self.wrapped))
    }

    /// What persons authorize it by.
    pub(super) fn accessor(&self) -> &SecretValue {
        &self.wrapped.wrapping.accessor
    }

    /// Whether Vault has ended it by now.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.wrapped.until
    }

    /// Ends it in Vault, as far as Vault lets: nobody is to unwrap it.
    pub(super) async fn end(self, vault: &Vault) {
        revoke(vault, &self.wrapped).await;
    }
}

impl Request {
    /// Nobody uses what has ended: what waits in Vault ends too, unless it is being used.
    pub(super) async fn release(&mut self, around: &Around<'_>) {
        match (self.ended, self.guard.take_if(|_| self.ended.is_some())) {
            (Some(Ended::Used | Ended::Taken) | None, _) | (_, None) => {}
            (Some(_), Some(guard)) => guard.end(around.store.vault).await,
        }
    }
}

impl Approvals {
    /// Whether Vault itself asks for what is permitted.
    #[must_use]
    pub fn is_of_group<T>(&self, permit: &Permit<T>) -> bool {
        let settings = permit.approval().and_then(|name| self.inner().settings(name));
        settings.is_some_and(|settings| settings.group.is_some())
    }
}

impl Inner {
    /// Ends what waits in Vault: it is done with a token that ends with the agent.
    pub(super) async fn let_go(&self) {
        let Some(vault) = &self.vault else { return };
        let mut ending = JoinSet::new();
        for entry in self.waiting() {
            // Whoever has its turn is about to use it.
            let Ok(mut turn) = entry.request.try_lock() else { continue };
            if let Some(guard) = turn.as_mut().and_then(|request| request.guard.take()) {
                let vault = vault.clone();
                ending.spawn(async move { guard.end(&vault).await });
            }
        }
        while ending.join_next().await.is_some() {}
    }
}

/// Ends a token that is not to be unwrapped (again). Vault may have ended it already.
pub async fn revoke(vault: &Vault, wrapped: &Wrapped) {
    let Wrapped { wrapping, namespace, .. } = wrapped;
    let call = Call::unwrap_never(namespace.as_deref());
    let ended = vault.call_as(&Account::Upkeep, &wrapping.token, &call);
    match tokio::time::timeout(LAST_WORD, ended).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a wrapping token is not ended by us"),
        Err(_) => tracing::debug!("a wrapping token is not ended by us: no answer in time"),
    }
}
