//! The act that is a request in Vault's own API: between its permit and its answer.
//!
//! What may change something in Vault is on record before it is sent, and what came of it after, whether its client stays or not.

use super::{Access, Arrival, Call, Done, Reason, Refusal, Type, Unheld, Why, guarded::Guarded, held::Way};
use crate::{
    approval::Grant,
    audit::event::{Cache, Event, Outcome, Resource, VaultRef},
    forward::{Answer, Found, lease},
    peer::{Peer, Since},
    policy::{
        self, Denial, Permit,
        forward::{Forwarding, Own, is_never},
        pattern::Malformed,
    },
    upload::Upload,
};
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// The longest part of a path that an event shows, in characters.
const SHOWN: usize = 512;

/// When a workload that has all the leases it may have should ask again.
const FULL: Duration = Duration::from_secs(1);

/// The result of something that is on record as intended. Dropped before there is one, that is on record.
pub(super) struct Pending {
    pub(super) access: Arc<Access>,
    pub(super) event: Option<Box<Event>>,
    pub(super) upload: Option<Upload>,
}

impl Access {
    pub(super) async fn forward(
        self: &Arc<Self>,
        peer: &Peer,
        call: &mut Call,
        arrival: Arrival,
    ) -> Result<Done, Refusal> {
        let permit = self.decide_forward(peer, call).await?;
        self.within_rate(&permit)?;
        self.take_body(&permit, call).await.map_err(|unheld| self.refuse(&permit, unheld.into()))?;
        let call = &*call;
        let grant = match self.obtain_guarded(peer, permit, call, arrival).await? {
            Guarded::Granted(grant) => grant,
            Guarded::Answered(grant, answer) => return Ok(Done::Forwarded(grant, *answer)),
            Guarded::NotOfGroup(permit) => self.obtain_forward(peer, permit, call).await?,
        };
        let refuse = |why: Why| self.refuse(grant.permit(), why);
        let Some(forward) = &self.parts.forward else {
            return Err(refuse(Why::NotForwarded(crate::forward::Error::NoToken(None).into())));
        };
        if self.leases.are_full() {
            return Err(refuse(Why::RateLimited(FULL)));
        }
        if let Some(Own::Control(control)) = grant.permit().subject().own {
            let answer = self.control(control, &call.body).map_err(|why| refuse(why.into()))?;
            return Ok(Done::Forwarded(grant, answer));
        }
        let subject = grant.permit().subject();
        if !subject.operation.changes() && subject.namespace.is_none() {
            // What a rotation has changed, and has not written there yet, is of no use to anybody.
            let turns = self.parts.keeper.wait_for_place(subject.path.as_str()).await;
            self.cache.turned(turns.map_err(|error| refuse(Why::NoValue(Box::new(error))))?);
        }
        let sending = forward.prepare(&grant, call);
        let key = sending.key();
        let way = match key {
            Some(key) => self.way(peer, key, &sending).await,
            None => Way::Send(None),
        };
        let answered = match way {
            Way::Answered(answered) => answered,
            Way::Send(flight) => {
                let pending = self.intend(peer, call, &grant, arrival).await?;
                let answered = self.pass(peer, sending, flight).await;
                pending.settle();
                answered.map(|answer| Answer { found: key.map(|_| Found::Miss), ..answer })
            }
        };
        match answered {
            Ok(answer) => Ok(Done::Forwarded(grant, answer)),
            Err(error) => Err(refuse(Why::NotForwarded(Box::new(error)))),
        }
    }

    /// Holds all of the body where it is known only then what is asked for, and else lets no more of it be sent than the rule says.
    async fn take_body(&self, permit: &Permit<Forwarding>, call: &mut Call) -> Result<(), Unheld> {
        let subject = permit.subject();
        let most = subject.max_request;
        let is_sought = subject.cache == policy::forward::Cache::Leases;
        let is_read = subject.own.is_some() || subject.child.is_some();
        if is_read || is_sought || permit.approval().is_some() {
            self.hold_all(call).await?;
        }
        let length = match &call.upload {
            Some(upload) => upload.length().unwrap_or_default(),
            None => call.body.len() as u64,
        };
        if length > most {
            return Err(Unheld::OverRule(most));
        }
        if let Some(upload) = &call.upload {
            upload.limit(most);
        }
        Ok(())
    }

    async fn decide_forward(&self, peer: &Peer, call: &mut Call) -> Result<Permit<Forwarding>, Refusal> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        if call.target.as_ref().is_ok_and(|target| target.control.is_some() || is_never(target.path.as_str()))
        {
            // Whether it may be done is in its body.
            self.hold_all(call).await?;
        }
        let target = call.target.as_ref().map_err(|malformed: &Malformed| Denial::Malformed(*malformed))?;
        let decide = |policy: &policy::Policy| policy::decide_forward(policy, peer, target, &call.body);
        let permit = self.by_rules(&rules, peer, decide, |permit| permit);
        if call
            .wrapped
            .is_some_and(|asked| !permit.as_ref().is_ok_and(|it| it.subject().may_be_wrapped(asked)))
        {
            return Err(Denial::Wrapped.into());
        }
        let permit = permit?;
        let is_its_own = match permit.subject().own {
            Some(Own::Lease) => lease::named(&call.body).is_some_and(|hash| self.leases.has(&hash)),
            Some(Own::Child) => {
                lease::named_child(&call.body).is_some_and(|hash| self.leases.child(&hash).is_some())
            }
            _ => true,
        };
        if is_its_own { Ok(permit) } else { Err(Denial::Never.into()) }
    }

    /// Puts on record what is about to be changed.
    async fn intend(
        self: &Arc<Self>,
        peer: &Peer,
        call: &Call,
        grant: &Grant<Forwarding>,
        arrival: Arrival,
    ) -> Result<Pending, Refusal> {
        let subject = grant.permit().subject();
        let access = Arc::clone(self);
        if !subject.operation.changes() || is_answered_here(subject) {
            return Ok(Pending { access, event: None, upload: None });
        }
        let mut event = self.blank(Type::VaultIntent, Some(peer));
        event.trace = arrival.trace;
        event.rule = Some(self.rule_ref(grant.permit()));
        super::approve::approved(&mut event, grant);
        describe(&mut event, call, Some(subject));
        let mut result = event.clone();
        (result.kind, result.outcome, result.reason) =
            (Type::VaultResult, Outcome::Error, Some(Reason::Undelivered));
        // Owed from here on: the intent is on record even if its client hangs up before we hear of it.
        let pending = Pending { access, event: Some(result), upload: call.upload.clone() };
        match self.record(event, Some(peer)).await {
            Ok(_) => Ok(pending),
            Err(unaudited) => {
                if unaudited.is_on_record() {
                    pending.unsent();
                } else {
                    pending.settle();
                }
                Err(Why::Unrecorded(unaudited).into())
            }
        }
    }
}

impl Pending {
    pub(super) fn settle(mut self) {
        self.event = None;
    }

    /// It is on record here, and not elsewhere: nothing is sent.
    fn unsent(mut self) {
        if let Some(event) = &mut self.event {
            event.reason = Some(Reason::AuditUnavailable);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mut event) = self.event.take() {
            if let Some(upload) = self.upload.take() {
                // What is on record as sent is all that is sent.
                upload.close();
                tell_sent(&mut event, Some(&upload));
            }
            event.time = crate::clock::now();
            let access = Arc::clone(&self.access);
            if let Ok(runtime) = Handle::try_current() {
                // That there is no room for it is what the journal itself reports.
                let recording = async move { drop(access.record(event, None).await) };
                self.access.parts.unfinished.spawn_on(recording, &runtime);
            }
        }
    }
}

/// Whether nothing of it reaches Vault as it is.
fn is_answered_here(subject: &Forwarding) -> bool {
    subject.own.is_some_and(Own::is_answered_here)
}

/// What was asked for: as it was permitted, else as far as it was understood.
pub(super) fn describe(event: &mut Event, call: &Call, subject: Option<&Forwarding>) {
    let target = call.target.as_ref().ok();
    let operation = target.map(|target| target.operation.word());
    let path = match subject {
        Some(subject) => subject.path.as_str(),
        None => target.map_or(call.shown.as_str(), |target| target.path.as_str()),
    };
    let path: String = path.chars().take(SHOWN).collect();
    event.resource = Some(Resource { operation, path: Some(path), ..Resource::default() });
    event.identity = subject.map(|subject| subject.identity.clone());
    let named = || target.and_then(|target| target.namespace.clone()).filter(|name| !name.is_empty());
    let namespace = subject.map_or_else(named, |subject| subject.namespace.clone());
    if namespace.is_some() {
        event.vault = Some(VaultRef { namespace, ..VaultRef::default() });
    }
    tell_sent(event, call.upload.as_ref());
}

/// How much of a body went, where it is not held.
fn tell_sent(event: &mut Event, upload: Option<&Upload>) {
    if let Some(sent) = upload.and_then(Upload::sent) {
        event.vault.get_or_insert_default().sent = Some(sent);
    }
}

/// The event of a request that was sent on, or answered in its place.
pub(super) fn answered(event: &mut Event, call: &Call, grant: &Grant<Forwarding>, answer: &Answer) {
    let subject = grant.permit().subject();
    describe(event, call, Some(subject));
    let is_hit = matches!(answer.found, Some(Found::Hit(_)));
    event.cache = answer.found.map(|found| match found {
        Found::Hit(age) => Cache { hit: true, age },
        Found::Miss => Cache { hit: false, age: Duration::ZERO },
    });
    event.kind = if subject.operation.changes() && !is_answered_here(subject) && !is_hit {
        Type::VaultResult
    } else {
        Type::VaultCalled
    };
    let wrapped = call.wrapped.filter(|_| answer.wrapped);
    if let Some(resource) = &mut event.resource {
        let named = || match subject.own {
            Some(Own::Lease) => lease::named(&call.body),
            _ => None,
        };
        let made = answer.lease.as_ref();
        resource.kind = made.filter(|made| made.is_child()).map(|_| "token").or(wrapped.map(|_| "wrapped"));
        resource.lease_id_hash = made.map(|made| made.id_hash.clone()).or_else(named);
    }
    let vault = event.vault.get_or_insert_default();
    vault.request_id.clone_from(&answer.request_id);
    vault.ttl = wrapped.map(|asked| asked.as_secs());
    event.reason = reason(answer.status);
    if let Some(reason) = event.reason {
        event.outcome = if reason == Reason::VaultDenied { Outcome::Deny } else { Outcome::Error };
        vault.status = Some(answer.status);
    }
}

/// The type of the event of a request that was permitted, and failed.
pub(super) fn kind(call: &Call) -> Type {
    match &call.target {
        Ok(target) if target.operation.changes() => Type::VaultResult,
        _ => Type::VaultCalled,
    }
}

/// Why Vault did not do it, by its status; `None`: it did.
pub(super) fn reason(status: u16) -> Option<Reason> {
    match status {
        0..=399 => None,
        403 => Some(Reason::VaultDenied),
        404 => Some(Reason::VaultMissing),
        429 => Some(Reason::VaultSlow),
        501 | 503 => Some(Reason::VaultSealed),
        400..=499 => Some(Reason::VaultInvalid),
        _ => Some(Reason::VaultAway),
    }
}
