//! What a person is asked of a call, and what is on record of a person's yes.
//!
//! Does not ask: `approval` does.

use super::{Access, Call, Reason, Refusal, Why};
use crate::{
    approval::{
        self, Approved, Asked, Grant, Id, Status, Want,
        glass::{Broken, Taken},
        ticket::{Body, Resource},
    },
    audit::event::{ApprovalRef, Event},
    forward::WRAP,
    name::UpstreamName,
    peer::{Peer, Since},
    policy::{
        Permit,
        forward::{Forwarding, Operation},
    },
};
use bytes::Bytes;
use http::header;
use std::{collections::BTreeMap, time::Duration};

/// What an emergency is called where other events name an approval.
pub(super) const GLASS: &str = "break-glass";

impl Access {
    /// How a request of this peer's workload stands; `None`: it has none of that id.
    ///
    /// # Errors
    /// The settings changed, and the peer may no longer be here.
    pub async fn approval_of(&self, peer: &Peer, id: &str) -> Result<Option<Status>, Why> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        Ok(Id::parse(id).and_then(|id| self.parts.approvals.status(peer.workload(), &id)))
    }

    /// A grant to read the permit's secret.
    pub(super) async fn obtain(
        &self,
        peer: &Peer,
        permit: Permit,
        patience: Option<Duration>,
    ) -> Result<Grant, Refusal> {
        let resource = |permit: &Permit| Resource {
            kind: "secret".to_owned(),
            name: Some(permit.secret().to_string()),
            ..Resource::default()
        };
        self.ask(peer, permit, |permit| ("read".to_owned(), resource(permit)), patience).await
    }

    /// A grant to use the permit's secret for one call.
    pub(super) async fn obtain_call(
        &self,
        peer: &Peer,
        permit: Permit,
        upstream: &UpstreamName,
        call: &crate::broker::call::Call,
        held: Option<(Bytes, BTreeMap<String, String>)>,
    ) -> Result<Grant, Refusal> {
        let (body, headers) = held.unwrap_or_default();
        let resource = Resource {
            body: Body::of(&body),
            headers,
            kind: "upstream".to_owned(),
            name: Some(upstream.to_string()),
            path: Some(call.path.clone()),
            query: call.query.clone(),
            ..Resource::default()
        };
        self.ask(peer, permit, |_| (call.method.to_string(), resource), None).await
    }

    /// A grant to send a request on. What is answered about the asker's own token and leases needs nobody's yes.
    pub(super) async fn obtain_forward(
        &self,
        peer: &Peer,
        permit: Permit<Forwarding>,
        call: &Call,
    ) -> Result<Grant<Forwarding>, Refusal> {
        if permit.subject().own.is_some() {
            return Ok(approval::waive(permit));
        }
        if permit.break_glass().is_some() {
            let taken = taken(permit.subject());
            return self.by_glass(peer, permit, taken);
        }
        let asked = |permit: &Permit<Forwarding>| asked_of_vault(peer, permit, call);
        let obtained = self.parts.approvals.obtain(permit, asked, None).await;
        obtained.map_err(|(permit, refusal)| self.refuse(&permit, Why::Unapproved(Box::new(refusal))))
    }

    async fn ask(
        &self,
        peer: &Peer,
        permit: Permit,
        what: impl FnOnce(&Permit) -> (String, Resource),
        patience: Option<Duration>,
    ) -> Result<Grant, Refusal> {
        let approvals = &self.parts.approvals;
        if permit.break_glass().is_some() {
            let taken = Taken::Secret(permit.secret().clone());
            return self.by_glass(peer, permit, Some(taken));
        }
        let asked = |permit: &Permit| {
            let (op, resource) = what(permit);
            asked(peer, op, resource, approvals.identity_of(permit.secret()))
        };
        let obtained = approvals.obtain(permit, asked, patience).await;
        obtained.map_err(|(permit, refusal)| self.refuse(&permit, Why::Unapproved(Box::new(refusal))))
    }

    fn by_glass<T>(&self, peer: &Peer, permit: Permit<T>, taken: Option<Taken>) -> Result<Grant<T>, Refusal> {
        let whole = |permit: Permit<T>| self.refuse(&permit, Why::GlassWhole(permit.rule().clone()));
        self.parts.approvals.by_glass(permit, peer.uid(), taken).map_err(whole)
    }
}

/// What a peer may know after a request: a value that was read, or that it wrote itself.
fn taken(subject: &Forwarding) -> Option<Taken> {
    let is_known = matches!(subject.operation, Operation::Read | Operation::Write | Operation::Patch);
    (is_known && subject.child.is_none()).then(|| Taken::Path(subject.path.to_string()))
}

fn asked(peer: &Peer, op: String, resource: Resource, identity: Option<crate::name::IdentityName>) -> Asked {
    Asked { op, resource, identity, uid: peer.uid(), exe_sha256: peer.exe_sha256().copied(), door: None }
}

/// What a person is asked of a request in Vault's API.
pub(super) fn asked_of_vault(peer: &Peer, permit: &Permit<Forwarding>, call: &Call) -> Asked {
    let Forwarding {
        identity,
        namespace,
        operation,
        path,
        own: _,
        child: _,
        cache: _,
        max_request: _,
        wrap: _,
    } = permit.subject();
    let resource = Resource {
        body: Body::of(&call.body),
        headers: headers(call),
        kind: "vault".to_owned(),
        namespace: namespace.clone(),
        path: Some(path.to_string()),
        query: call.query.clone(),
        ..Resource::default()
    };
    asked(peer, operation.word().to_owned(), resource, Some(identity.clone()))
}

/// What Vault reads a body by, and for how long the answer is to be wrapped.
fn headers(call: &Call) -> BTreeMap<String, String> {
    let media = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media.map(|value| ("content-type".to_owned(), value.to_owned()));
    let wrapped = call.wrapped.map(|asked| (WRAP.as_str().to_owned(), format!("{}s", asked.as_secs())));
    media.into_iter().chain(wrapped).collect()
}

/// The word for why there is no grant.
pub(super) fn reason_of(refusal: &approval::Refusal) -> Reason {
    match refusal {
        approval::Refusal::Pending { .. } => Reason::Approval(Want::Pending),
        approval::Refusal::Ended { why, .. } => Reason::Approval(Want::Ended(*why)),
        approval::Refusal::Unreachable { .. } => Reason::Approval(Want::Unreachable),
        approval::Refusal::Unguarded { .. } => Reason::Approval(Want::Unguarded),
        approval::Refusal::Crowded => Reason::Approval(Want::Crowded),
        approval::Refusal::Missing => Reason::NotReady,
        approval::Refusal::Vault(error) => error.class().into(),
    }
}

/// By whose yes it is done.
pub(super) fn approved<T>(event: &mut Event, grant: &Grant<T>) {
    let about = match grant.approved() {
        Approved::Unneeded => return,
        Approved::Broken(broken) => return event.approval = about_glass(broken, "break_glass"),
        Approved::Observed(name) => ApprovalRef { how: Some("observed"), ..about(name, None) },
        Approved::Spent(spent) => ApprovalRef {
            by: spent.by.clone(),
            digest: Some(spent.digest.clone()),
            ..about(&spent.name, Some(&spent.id))
        },
    };
    event.approval = Some(Box::new(about));
}

/// For want of whose yes it is not done.
pub(super) fn unapproved(event: &mut Event, why: &Why) {
    let Why::Unapproved(refusal) = why else { return };
    if let approval::Refusal::Unguarded { name } = &**refusal {
        event.approval = Some(Box::new(about(name, None)));
    }
    if let approval::Refusal::Pending { id, name, .. }
    | approval::Refusal::Ended { id, name, .. }
    | approval::Refusal::Unreachable { id, name } = &**refusal
    {
        event.approval = Some(Box::new(about(name, Some(id))));
    }
}

pub(super) fn about(name: &crate::name::ApprovalName, id: Option<&Id>) -> ApprovalRef {
    ApprovalRef {
        name: name.clone(),
        id: id.map(Id::to_string),
        digest: None,
        by: Vec::new(),
        said: Vec::new(),
        how: None,
        ticket: None,
    }
}

/// The glass that was broken.
pub(super) fn about_glass(broken: &Broken, how: &'static str) -> Option<Box<ApprovalRef>> {
    let name = crate::name::ApprovalName::new(GLASS).ok()?;
    let Broken { id, reason, ticket, .. } = broken;
    let about = about(&name, Some(id));
    Some(Box::new(ApprovalRef {
        said: vec![reason.clone()],
        how: Some(how),
        ticket: Some(ticket.clone()),
        ..about
    }))
}
