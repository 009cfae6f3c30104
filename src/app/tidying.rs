//! Tidies the stores of approvals: a while after the start, and each hour.
//!
//! Does not know what may go: `approval::tidy` does.

use super::{
    kept::{Identities, Kept},
    keys::asks,
};
use crate::{
    approval::{Folder, tidy::Tidy},
    clock,
    config::Config,
    crypto,
    name::IdentityName,
    vault::{
        Vault,
        error::{Class, Error},
        session::State,
    },
};
use arc_swap::ArcSwap;
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::sleep};

/// Between two passes.
const EVERY: Duration = Duration::from_secs(3600);
/// The next one, where there was no token.
const SOON: Duration = Duration::from_secs(30);
/// The first one comes after this long at most: replicas that start together do not come together.
const FIRST: Duration = Duration::from_secs(10);

/// The task, while there are approvals.
pub(super) struct Tidying {
    vault: Vault,
    identities: Arc<ArcSwap<Identities>>,
    tasks: JoinSet<()>,
}

impl Tidying {
    /// Starts it.
    pub(super) fn start(config: &Config, (kept, vault): (&Kept, &Vault)) -> Self {
        let mut tidying = Self { vault: vault.clone(), identities: kept.identities(), tasks: JoinSet::new() };
        tidying.take_over(config);
        tidying
    }

    /// Goes by this config from now on.
    pub(super) fn take_over(&mut self, config: &Config) {
        self.tasks.abort_all();
        while self.tasks.try_join_next().is_some() {}
        let mut stores: Vec<(Folder, IdentityName)> = Vec::new();
        for approval in &config.approvals {
            let asking = config.identities.iter().find(|login| asks(config, approval, &login.name));
            if let Some(login) = asking
                && stores.iter().all(|(folder, _)| *folder != approval.store)
            {
                stores.push((approval.store.clone(), login.name.clone()));
            }
        }
        if stores.is_empty() {
            return;
        }
        let (vault, identities) = (self.vault.clone(), Arc::clone(&self.identities));
        self.tasks.spawn(async move {
            sleep(FIRST.mul_f64(crypto::chance())).await;
            loop {
                let mut next = EVERY;
                for (folder, identity) in &stores {
                    if pass(&vault, &identities, (folder, identity)).await.is_none() {
                        next = SOON;
                    }
                }
                sleep(next).await;
            }
        });
    }
}

/// One pass; `None`: there is no token to do it with.
async fn pass(
    vault: &Vault,
    identities: &ArcSwap<Identities>,
    (folder, identity): (&Folder, &IdentityName),
) -> Option<()> {
    let State::Live(session) = identities.load().get(identity)?.state.borrow().clone() else { return None };
    let tidy = Tidy { vault, session: &session, folder, now: clock::now() };
    let done: Result<usize, Error> = tidy.pass().await;
    match done {
        Ok(0) => {}
        Ok(requests) => tracing::info!(requests, "old requests for a person's yes are deleted in Vault"),
        Err(error) if error.class() == Class::Denied => {
            tracing::info!(%error, "old requests for a person's yes stay in Vault: its policy does not let them be deleted");
        }
        Err(error) => tracing::warn!(%error, "old requests for a person's yes stay in Vault for now"),
    }
    Some(())
}
