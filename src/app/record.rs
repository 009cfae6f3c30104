//! Puts on record what happens without a request: what `vault` and `keeper` report, and the agent's own events.
//!
//! A task of its own, so that a slow disk holds up neither a renewal nor a signal.

use super::{approvals, rotations, sinks::Ear};
use crate::{
    approval::{Approvals, Place},
    audit::{
        Audit,
        event::{Event, Outcome, Reason, Resource, Type, VaultRef},
    },
    clock,
    forward::Identities,
    keeper,
    name::{IdentityName, SecretName},
    policy::rule::AuditMode,
    telemetry::metrics::Metrics,
    vault::{Vault, session},
};
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How many events may wait for a disk that cannot be written; of more, the log alone tells.
const BACKLOG: usize = 10_000;

/// Takes events and records them in order.
pub(super) struct Recorder {
    events: mpsc::UnboundedSender<Event>,
    metrics: Metrics,
    /// Cancelled when nothing more comes: what waits is still recorded.
    last: CancellationToken,
    forwarding: JoinSet<()>,
    writing: JoinSet<()>,
}

impl Recorder {
    pub(super) fn new(audit: Audit, metrics: Metrics) -> Self {
        // Unbounded, and bounded all the same: each event is a call to Vault, which the budget limits, or a change of
        // the config.
        let (events, queue) = mpsc::unbounded_channel();
        let last = CancellationToken::new();
        let mut writing = JoinSet::new();
        writing.spawn(write(queue, audit, metrics.clone(), last.clone()));
        Self { events, metrics, last, forwarding: JoinSet::new(), writing }
    }

    pub(super) fn record(&self, event: Event) {
        // The task ends only after `finish`.
        let _ = self.events.send(event);
    }

    /// Hears what happens to sinks.
    pub(super) fn ear(&self) -> Ear {
        Ear::new(self.events.clone(), self.metrics.clone())
    }

    /// The counters, for what is counted beside the events.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A channel for what happens to tokens.
    pub(super) fn sessions(&mut self) -> mpsc::UnboundedSender<session::Fact> {
        let (facts, mut queue) = mpsc::unbounded_channel();
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        self.forwarding.spawn(async move {
            while let Some(fact) = queue.recv().await {
                count_session(&metrics, &fact);
                let _ = events.send(session_event(fact));
            }
        });
        facts
    }

    /// A channel for what happens to rotations.
    pub(super) fn rotations(&mut self) -> mpsc::UnboundedSender<crate::rotation::fact::Fact> {
        let (facts, mut queue) = mpsc::unbounded_channel();
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        self.forwarding.spawn(async move {
            while let Some(fact) = queue.recv().await {
                rotations::count(&metrics, &fact);
                if let Some(event) = rotations::event(fact) {
                    let _ = events.send(event);
                }
            }
        });
        facts
    }

    /// What asks persons, and reports here.
    pub(super) fn approvals(&mut self, vault: &Vault, identities: Identities, place: Place) -> Approvals {
        let (facts, mut queue) = mpsc::unbounded_channel();
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        self.forwarding.spawn(async move {
            while let Some(fact) = queue.recv().await {
                approvals::count(&metrics, &fact);
                if let Some(event) = approvals::event(fact) {
                    let _ = events.send(event);
                }
            }
        });
        Approvals::new(vault.clone(), identities, place, facts)
    }

    /// A channel for what happens to leases.
    pub(super) fn leases(&mut self) -> mpsc::UnboundedSender<keeper::fact::Fact> {
        let (facts, mut queue) = mpsc::unbounded_channel::<keeper::fact::Fact>();
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        self.forwarding.spawn(async move {
            while let Some(fact) = queue.recv().await {
                if fact.act == keeper::fact::Act::Renew {
                    metrics.lease_renewed(&fact.secret, outcome_of(fact.error.is_none()).word());
                }
                let _ = events.send(lease_event(fact));
            }
        });
        facts
    }

    /// Records what still waits, and then what `last` makes of that. Ends only when whoever reports has ended, and so
    /// dropped its channel.
    pub(super) async fn finish(&mut self, audit: &Audit, last: impl Future<Output = Event>) {
        while self.forwarding.join_next().await.is_some() {}
        self.last.cancel();
        while self.writing.join_next().await.is_some() {}
        let (events, queue) = mpsc::unbounded_channel();
        // Its other end is below.
        let _ = events.send(last.await);
        write(queue, audit.clone(), self.metrics.clone(), self.last.clone()).await;
    }
}

async fn write(
    mut queue: mpsc::UnboundedReceiver<Event>,
    audit: Audit,
    metrics: Metrics,
    last: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            biased;
            event = queue.recv() => event,
            () = last.cancelled() => queue.try_recv().ok(),
        };
        let Some(event) = event else { return };
        let (kind, outcome) = (event.kind.word(), event.outcome.word());
        loop {
            // Never weaker than the disk: the room that is held back is for these.
            match audit.record(event.clone(), audit.mode().max(AuditMode::Buffered)).await {
                Ok(_) => break metrics.audit_recorded(kind, outcome),
                // It waits for the disk, as all behind it do; nothing that is kept alive waits for it.
                Err(error) if error.retry_after().is_some() && queue.len() < BACKLOG => tokio::select! {
                    () = last.cancelled() => break tracing::error!(%error, event = kind, outcome, "not on record"),
                    () = tokio::time::sleep(error.retry_after().unwrap_or_default()) => {}
                },
                Err(error) => break tracing::error!(%error, event = kind, outcome, "not on record"),
            }
        }
    }
}

pub(super) fn outcome_of(worked: bool) -> Outcome {
    if worked { Outcome::Allow } else { Outcome::Error }
}

fn count_session(metrics: &Metrics, fact: &session::Fact) {
    let identity: &IdentityName = &fact.identity;
    let outcome = outcome_of(fact.error.is_none()).word();
    match fact.act {
        session::Act::Login => metrics.logged_in(identity, outcome),
        session::Act::Renew => metrics.token_renewed(identity, outcome),
        session::Act::Revoke => {}
    }
}

fn session_event(fact: session::Fact) -> Event {
    let kind = match (fact.act, &fact.error) {
        (session::Act::Revoke, _) => Type::AuthRevoke,
        (_, Some(_)) => Type::AuthFailed,
        (session::Act::Login, None) => Type::AuthLogin,
        (session::Act::Renew, None) => Type::AuthRenew,
    };
    Event {
        identity: Some(fact.identity),
        reason: fact.error.as_ref().map(|error| Reason::from(error.class())),
        vault: Some(VaultRef {
            address: fact.address,
            request_id: fact.request_id,
            entity_id: fact.entity_id,
            role: fact.role,
            ttl: fact.ttl.as_ref().map(Duration::as_secs),
            status: fact.error.as_ref().and_then(|error| error.status()),
            namespace: None,
            sent: None,
        }),
        ..Event::new(kind, outcome_of(fact.error.is_none()), clock::now())
    }
}

fn lease_event(fact: keeper::fact::Fact) -> Event {
    let kind = match fact.act {
        keeper::fact::Act::Renew => Type::LeaseRenewed,
        keeper::fact::Act::Revoke => Type::LeaseRevoked,
    };
    let secret: SecretName = fact.secret;
    Event {
        reason: fact.error.as_ref().map(|error| Reason::from(error.class())),
        resource: Some(Resource {
            secret: Some(secret),
            kind: Some(fact.kind),
            path: fact.path,
            version: Some(fact.generation),
            lease_id_hash: fact.lease_id_hash,
            ..Resource::default()
        }),
        vault: Some(VaultRef {
            ttl: fact.ttl.as_ref().map(Duration::as_secs),
            status: fact.error.as_ref().and_then(|error| error.status()),
            ..VaultRef::default()
        }),
        ..Event::new(kind, outcome_of(fact.error.is_none()), clock::now())
    }
}
