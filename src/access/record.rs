//! What is put on record of a peer and of each of its requests, and what metrics are told.
//!
//! Does not decide. What the events look like on disk is for `audit`.

use super::{
    Access, Arrival, Done, Outcome, Reason, Refusal, Seen, TurnedAway, Type, Unaudited, Value, Why, Wish,
    approve::{approved, unapproved},
    forward,
    outcome::Unsent,
};
use crate::{
    audit::{
        Receipt,
        event::{Actor, Cache, ContainerRef, Event, Resource, RuleRef, VaultRef},
    },
    clock,
    name::RuleName,
    peer::{self, Peer, container::Container},
    policy::{Permit, rule::AuditMode},
};
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// When a journal that cannot be written is worth asking again, if it does not say itself.
const SOON: Duration = Duration::from_secs(1);

impl Access {
    /// Revokes what an admitted peer's process has of its own, and puts on record why its connection was closed. Call it once
    /// nothing can be read or written there any more.
    pub async fn breached(&self, peer: &Peer, cause: &peer::Cause) {
        self.disown(peer, cause);
        let mut event = self.blank(Type::PeerRejected, Some(peer));
        (event.outcome, event.reason) = (Outcome::Deny, Some(Reason::from(cause)));
        self.observe(Some(peer), None, event.reason, None);
        // That there is no room for it is what the journal itself reports; there is nobody to answer.
        let _ = self.record(event, Some(peer)).await;
    }

    /// Revokes what the peer's process has of its own, whose connection is cut for `cause`.
    pub(super) fn disown(&self, peer: &Peer, cause: &peer::Cause) {
        if let Some(process) = peer.process().filter(|_| is_held_against_it(cause)) {
            self.parts.keeper.disown(process);
        }
    }

    /// Puts on record that a peer's process ended while its connection was open.
    pub async fn exited(&self, peer: &Peer) {
        // As in `breached`.
        let _ = self.record(self.blank(Type::PeerExited, Some(peer)), Some(peer)).await;
    }

    /// Puts on record that the socket went over to the container of this peer.
    pub(super) async fn repinned(&self, peer: &Peer, repinned: &peer::Repinned) -> Result<(), Unaudited> {
        let mut event = self.blank(Type::PeerRepinned, Some(peer));
        event.before = Some(container_ref(&repinned.before));
        self.record(event, Some(peer)).await.map(|_| ())
    }

    /// Puts on record that a peer may not be there.
    ///
    /// # Errors
    /// [`Unaudited`] when that cannot be: then it is told only that.
    pub async fn turn_away(&self, rejected: peer::Rejected) -> Result<TurnedAway, Unaudited> {
        let mut event = self.blank(Type::PeerRejected, rejected.peer.as_deref());
        (event.outcome, event.reason) = (Outcome::Deny, Some(Reason::from(&rejected.cause)));
        let receipt = self.record(event, rejected.peer.as_deref()).await?;
        self.observe(rejected.peer.as_deref(), None, Some(Reason::from(&rejected.cause)), None);
        Ok(TurnedAway { rejected, receipt })
    }

    /// Puts on record that a value, whose read is on record already, did not reach its client.
    pub(super) fn undelivered(&self, unsent: &Unsent) {
        let mut event = self.event(&unsent.peer, &unsent.wish, &unsent.outcome, unsent.arrival);
        if !matches!(unsent.wish, Wish::Vault(_)) {
            event.kind = Type::SecretRead;
        }
        let reason = unsent.why_cut().unwrap_or(Reason::Undelivered);
        (event.outcome, event.reason) = (reason.outcome(), Some(reason));
        self.observe(Some(&unsent.peer), unsent.rule(), event.reason, None);
        let (audit, mode) = (self.parts.audit.clone(), self.mode(&event));
        let observe = Arc::clone(&self.parts.observe);
        let recording = async move {
            let (kind, outcome) = (event.kind, event.outcome);
            // That there is no room for it is what the journal itself reports.
            if audit.record(event, mode).await.is_ok() {
                observe.recorded(kind, outcome);
            }
        };
        if let Ok(runtime) = Handle::try_current() {
            self.parts.unfinished.spawn_on(recording, &runtime);
        }
    }

    /// Tells metrics of a request that never became a wish, and so makes no event.
    pub fn observe_other(&self, peer: &Peer, reason: Option<Reason>) {
        self.observe(Some(peer), None, reason, None);
    }

    pub(super) fn observe(
        &self,
        peer: Option<&Peer>,
        rule: Option<&RuleName>,
        reason: Option<Reason>,
        took: Option<Duration>,
    ) {
        let outcome = reason.map_or(Outcome::Allow, Reason::outcome);
        self.parts.observe.seen(&Seen { workload: &self.workload, peer, rule, outcome, reason, took });
    }

    pub(super) async fn record(&self, event: Box<Event>, peer: Option<&Peer>) -> Result<Receipt, Unaudited> {
        let (mode, kind, outcome) = (self.mode(&event), event.kind, event.outcome);
        // Committed from the first poll on, whether the client stays or not: see `Audit::record`.
        let error = match self.parts.audit.record(event, mode).await {
            Ok(receipt) => {
                self.parts.observe.recorded(kind, outcome);
                return Ok(receipt);
            }
            Err(error) => error,
        };
        let unaudited = Unaudited { retry_after: error.retry_after().unwrap_or(SOON), source: error };
        self.observe(peer, None, Some(Reason::AuditUnavailable), None);
        Err(unaudited)
    }

    pub(super) fn mode(&self, event: &Event) -> AuditMode {
        event.rule.as_ref().map_or(self.parts.audit.mode(), |rule| rule.mode)
    }

    /// An event of this workload; in a box, since it is handed from future to future.
    pub(super) fn blank(&self, kind: Type, peer: Option<&Peer>) -> Box<Event> {
        let actor = |peer: &Peer| Actor {
            uid: peer.uid(),
            gid: peer.gid(),
            pid: peer.pid(),
            start_time: peer.start_time(),
            pidfd_ino: peer.process().map(|process| process.id().inode()),
            level: peer.level(),
            exe_sha256: peer.exe_sha256().copied(),
            container: peer.container().map(container_ref),
        };
        Box::new(Event {
            workload: Some(self.workload.clone()),
            actor: peer.map(actor),
            ..Event::new(kind, Outcome::Allow, clock::now())
        })
    }

    /// The one event of a request, whichever way it went.
    pub(super) fn event(
        &self,
        peer: &Peer,
        wish: &Wish,
        outcome: &Result<Done, Refusal>,
        arrival: Arrival,
    ) -> Box<Event> {
        let mut event = self.blank(Type::SecretRead, Some(peer));
        event.latency = Some(arrival.at.elapsed());
        event.trace = arrival.trace;
        if let Wish::Secret { name, .. } = wish {
            event.resource = Some(Resource { secret: name.clone(), ..Resource::default() });
        }
        if let Wish::Vault(call) = wish {
            event.kind = Type::VaultCalled;
            forward::describe(&mut event, call, None);
        }
        match outcome {
            Ok(Done::Listed(_)) => {}
            Ok(Done::Read(grant, served) | Done::Unchanged(grant, served)) => {
                if served.stale {
                    event.kind = Type::SecretStaleServed;
                }
                if let Some(rotation) = &served.late {
                    self.parts.observe.late(rotation);
                }
                event.rule = Some(self.rule_ref(grant.permit()));
                approved(&mut event, grant);
                event.cache = Some(Cache { hit: served.held.confirmed <= arrival.at, age: served.age });
                describe(&mut event, &served.held.value);
            }
            Ok(Done::Acked(grant, value)) => {
                event.kind = Type::SecretAcked;
                event.rule = Some(self.rule_ref(grant.permit()));
                describe(&mut event, value);
            }
            Ok(Done::Forwarded(grant, answer)) => {
                event.rule = Some(self.rule_ref(grant.permit()));
                approved(&mut event, grant);
                if let Wish::Vault(call) = wish {
                    forward::answered(&mut event, call, grant, answer);
                }
            }
            Err(refusal) => {
                event.kind = match (wish, &refusal.why) {
                    (_, Why::Rejected(_)) => Type::PeerRejected,
                    (Wish::Vault(call), Why::NotForwarded(_)) => forward::kind(call),
                    (Wish::Vault(_), _) => Type::VaultDenied,
                    _ => Type::SecretDenied,
                };
                event.reason = Some(refusal.why.reason());
                event.outcome = refusal.why.reason().outcome();
                event.rule.clone_from(&refusal.rule);
                unapproved(&mut event, &refusal.why);
            }
        }
        event
    }

    pub(super) fn refuse<T>(&self, permit: &Permit<T>, why: Why) -> Refusal {
        Refusal { why, rule: Some(self.rule_ref(permit)) }
    }

    pub(super) fn rule_ref<T>(&self, permit: &Permit<T>) -> RuleRef {
        RuleRef {
            name: permit.rule().clone(),
            revision: permit.revision().to_owned(),
            mode: permit.audit_mode(self.parts.audit.mode()),
        }
    }
}

fn container_ref(container: &Container) -> ContainerRef {
    ContainerRef { id: container.id().to_string(), name: container.name().map(str::to_owned) }
}

pub(super) fn describe(event: &mut Event, value: &Value) {
    event.resource = Some(Resource {
        secret: Some(value.name().clone()),
        kind: Some(value.kind()),
        operation: None,
        path: value.path().map(str::to_owned),
        field: value.field().map(str::to_owned),
        version: Some(value.generation()),
        lease_id_hash: value.lease().and_then(|lease| lease.id_hash.clone()),
        mount: value.mount().map(str::to_owned),
        fingerprint: value.fingerprint().map(str::to_owned),
    });
    let request_id = value.request_id().map(str::to_owned);
    event.vault = request_id.map(|id| VaultRef { request_id: Some(id), ..VaultRef::default() });
}

/// Whether a cause speaks against the process, rather than against its haste or what could be found out in time.
fn is_held_against_it(cause: &peer::Cause) -> bool {
    use peer::{Cause, program::Refusal};
    !matches!(
        cause,
        Cause::Connections
            | Cause::Rate(_)
            | Cause::Crowded
            | Cause::Unchallenged
            | Cause::Reloaded
            | Cause::Unrecorded
            | Cause::Program(Refusal::AttestorFailed | Refusal::Timeout)
    )
}
