//! What an identity's task reports for the audit.
//!
//! Waits for nobody: what is reported is recorded elsewhere.

use super::{
    error::Error,
    login,
    session::{Act, Fact},
};
use crate::name::IdentityName;
use std::time::Duration;
use tokio::sync::mpsc;

/// Reports what happens to one identity's tokens.
pub(super) struct Reporter {
    identity: IdentityName,
    role: Option<String>,
    facts: mpsc::UnboundedSender<Fact>,
}

impl Reporter {
    pub(super) fn new(settings: &login::Settings, facts: mpsc::UnboundedSender<Fact>) -> Self {
        let role = settings.method.role().map(str::to_owned);
        Self { identity: settings.name.clone(), role, facts }
    }

    pub(super) fn logged_in(&self, fresh: &login::Fresh) {
        tracing::info!(identity = %self.identity, ttl_s = fresh.ttl.as_secs(), "logged in");
        let ttl = (!fresh.ttl.is_zero()).then_some(fresh.ttl);
        let fact = self.fact(Act::Login, None, ttl, fresh.request_id.clone());
        let (entity_id, address) = (fresh.entity_id.clone(), Some(fresh.address.clone()));
        self.send(Fact { entity_id, address, ..fact });
    }

    pub(super) fn revoked(&self, result: Result<(), Error>) {
        if let Err(error) = &result {
            tracing::warn!(identity = %self.identity, %error, "the token was not revoked; it ends by itself");
        }
        self.report(Act::Revoke, result.err(), None, None);
    }

    pub(super) fn report(
        &self,
        act: Act,
        error: Option<Error>,
        ttl: Option<Duration>,
        request_id: Option<String>,
    ) {
        self.send(self.fact(act, error, ttl, request_id));
    }

    fn send(&self, fact: Fact) {
        // Nobody listens any more only when the process is about to end.
        let _ = self.facts.send(fact);
    }

    fn fact(
        &self,
        act: Act,
        error: Option<Error>,
        ttl: Option<Duration>,
        request_id: Option<String>,
    ) -> Fact {
        Fact {
            identity: self.identity.clone(),
            act,
            error,
            ttl,
            request_id,
            entity_id: None,
            role: self.role.clone(),
            address: None,
        }
    }
}
