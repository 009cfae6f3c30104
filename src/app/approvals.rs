//! What is asked of persons: where the agent is, what is counted, what is on record.
//!
//! Does not ask anybody itself: `approval` does.

use super::record::outcome_of;
use crate::{
    approval::{
        Ended, Place, Want,
        fact::{Act, Fact, Joined, Said},
        review,
        ticket::{self, Ticket},
    },
    audit::{
        self,
        event::{
            ApprovalRef, Event, Outcome, Pod, Reason, Resource, RotationRef, RuleRef, Type, UpstreamRef,
        },
    },
    clock,
    name::{IdentityName, RotationName, RuleName, SecretName, UpstreamName},
    policy::rule::AuditMode,
    telemetry::metrics::Metrics,
};

/// What a yes is bound to.
pub(super) fn place(audit: &audit::Settings, pod: &Pod) -> Place {
    let source = || pod.source().unwrap_or_else(|| audit.source.clone());
    Place {
        uid: pod.uid.clone().unwrap_or_else(source),
        namespace: pod.namespace.clone(),
        service_account: pod.service_account.clone(),
    }
}

/// Counts what happened to a request.
pub(super) fn count(metrics: &Metrics, fact: &Fact) {
    let (state, reason) = match &fact.act {
        Act::Requested { .. } => ("requested", None),
        Act::Granted(_) => ("granted", None),
        Act::Used(_) => ("used", None),
        Act::Ended { why: Ended::Expired, .. } => ("expired", None),
        Act::Ended { why, .. } => ("refused", Some(why.word())),
        Act::Disabled(why) => ("disabled", Some(why.word())),
        Act::Enabled(_) => ("enabled", None),
        Act::Called { call, result } => return metrics.approval_call(&fact.name, call.word(), result),
    };
    metrics.approval(&fact.name, state, reason);
}

/// What is said of a request by what happened to it.
struct Words {
    kind: Type,
    reason: Option<Reason>,
    said: Vec<Said>,
    how: Option<&'static str>,
}

impl Words {
    /// `None` for what is only counted.
    fn of(act: Act) -> Option<Self> {
        let plain = |kind, said| Self { kind, reason: None, said, how: None };
        let ended = |why| Some(Reason::Approval(Want::Ended(why)));
        Some(match act {
            Act::Requested { joined } => {
                let how = (joined == Joined::Earlier).then_some("joined");
                Self { how, ..plain(Type::ApprovalRequested, Vec::new()) }
            }
            Act::Granted(said) => plain(Type::ApprovalGranted, said),
            Act::Used(said) => plain(Type::ApprovalUsed, said),
            Act::Enabled(said) => plain(Type::ApprovalEnabled, said),
            Act::Disabled(why) => Self { reason: ended(why), ..plain(Type::ApprovalDisabled, Vec::new()) },
            Act::Ended { why, by, notified } => {
                let kind = if why == Ended::Expired { Type::ApprovalExpired } else { Type::ApprovalRefused };
                let how = (notified == Some(false)).then_some("undelivered");
                Self { reason: ended(why), how, ..plain(kind, by) }
            }
            Act::Called { .. } => return None,
        })
    }
}

/// The event of what happened to a request; `None` for what is only counted.
pub(super) fn event(fact: Fact) -> Option<Event> {
    let Words { kind, reason, said, how } = Words::of(fact.act)?;
    let outcome = reason.map_or(outcome_of(true), |_| Outcome::Deny);
    let resource = &fact.ticket.resource;
    let name = resource.name.as_deref().unwrap_or_default();
    let is_upstream = resource.kind == "upstream";
    let upstream = || UpstreamRef {
        name: UpstreamName::new(name).ok(),
        method: Some(fact.ticket.op.clone()),
        path: resource.path.clone(),
        ..UpstreamRef::default()
    };
    let thing = || Resource {
        secret: SecretName::new(name).ok().filter(|_| resource.kind == "secret"),
        path: resource.path.clone(),
        ..Resource::default()
    };
    Some(Event {
        reason,
        workload: fact.workload.clone(),
        identity: IdentityName::new(&fact.ticket.identity).ok(),
        resource: (!is_upstream).then(thing),
        upstream: is_upstream.then(|| Box::new(upstream())),
        rotation: rotation(&fact.ticket),
        rule: behind_glass(&fact.ticket),
        approval: Some(Box::new(ApprovalRef {
            name: fact.name,
            id: Some(fact.id.to_string()),
            digest: Some(fact.digest),
            by: said.iter().map(|said| said.by.clone()).collect(),
            said: said.into_iter().map(|said| said.reason).collect(),
            how,
            ticket: None,
        })),
        ..Event::new(kind, outcome, clock::now())
    })
}

/// The rule that a review is about. What it asks for stands in the ticket alone.
fn behind_glass(ticket: &Ticket) -> Option<RuleRef> {
    let name = RuleName::new(&ticket.rule).ok().filter(|_| ticket.resource.kind == review::KIND)?;
    Some(RuleRef { name, revision: String::new(), mode: AuditMode::StrictRemote })
}

/// The slot that is asked for, of a rotation.
fn rotation(ticket: &Ticket) -> Option<Box<RotationRef>> {
    let ticket::Resource { kind, name, reason, slot, .. } = &ticket.resource;
    let name = RotationName::new(name.as_deref()?).ok().filter(|_| kind == "rotation")?;
    let kinds = ["generate", "trigger", "two-slot", "single", "issue", "bootstrap"];
    Some(Box::new(RotationRef {
        name,
        kind: kinds.into_iter().find(|kind| *kind == ticket.op).unwrap_or("rotation"),
        phase: "idle",
        id: None,
        asked: reason.clone(),
        by: None,
        slot: slot.clone(),
        from: None,
        to: None,
        epoch: 0,
    }))
}
