//! The path of a call of another API as one function: decide, obtain, fetch, prepare, intent on disk, send, result.
//!
//! Does not read requests or render answers (`api`). Nothing is sent before its intent is on disk, and each intent gets one
//! result, also when the client hangs up; one without a result was cut off by the end of the process: nobody knows.

use super::{
    Access, Arrival, CallStep, Denial, Outcome, Reason, Refusal, Since, Type, Unaudited, Why, outcome::Called,
};
use crate::{
    approval::Grant,
    audit::event::{Event, RuleRef, UpstreamRef},
    broker::{
        Upstream,
        call::{Call, Prepared, Reply, Unanswered},
        fault::Fault,
        request,
        upstream::{
            line::Facts,
            outgoing::Sent,
            reply::{Ended, ReplyBody},
        },
    },
    clock,
    keeper::Served,
    name::UpstreamName,
    peer::Peer,
    policy::{
        self,
        rule::AuditMode,
        upstream::{Oddity, Target},
    },
};
use http::Response;
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, time::Instant};

/// How long a refused key's successor is waited for.
const NEWER_WITHIN: Duration = Duration::from_secs(3);
const DAY: i64 = 24 * 3600;

/// What a peer wants to call.
#[derive(Debug)]
pub struct Wanted {
    /// `None` for a name that no upstream can have: answered like one that no rule names.
    pub upstream: Option<UpstreamName>,
    /// What is asked of it, or what is wrong with that.
    pub call: Result<Call, Fault>,
}

/// What is needed for each attempt.
struct Ready {
    upstream: Arc<Upstream>,
    grant: Grant,
    served: Served,
    prepared: Prepared,
}

impl Access {
    /// The path of a call.
    ///
    /// # Errors
    /// [`Unaudited`]: nothing was sent, and nothing may be said.
    pub async fn call(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        wanted: Wanted,
        arrival: Arrival,
    ) -> Result<Called, Unaudited> {
        let Wanted { upstream: name, call } = wanted;
        let mut about = UpstreamRef { name: name.clone(), ..UpstreamRef::default() };
        let mut call = match call {
            Ok(call) => call,
            Err(fault) => return self.turn_down(peer, about, Why::Call(fault).into(), arrival).await,
        };
        describe(&mut about, &call, &self.parts.broker);
        let ready = match self.ready(peer, name.as_ref(), &mut call).await {
            Ok(ready) => ready,
            Err(refusal) => return self.turn_down(peer, about, refusal, arrival).await,
        };
        let (mut ready, mut attempt, mut first) = (ready, 1, None);
        loop {
            let Ready { upstream, grant, served, prepared } = ready;
            let pending = self
                .intend_call(
                    peer,
                    (&about, attempt),
                    (&upstream, &grant, &served),
                    (&prepared, &call),
                    arrival,
                )
                .await?;
            let refused = match prepared.send(&call).await {
                Ok(reply) => return Ok(self.hand_on(peer, pending, reply, arrival)),
                Err(refused) => refused,
            };
            let (rule, id, fault) = (pending.event.rule.clone(), pending.intent.clone(), refused.fault);
            let again = fault == Fault::CredentialRejected && attempt == 1 && call.is_repeatable();
            let newer = if again { self.newer(&upstream, &grant, &served).await } else { None };
            if fault == Fault::CredentialRejected && !again && upstream.may_refetch() {
                // Not for this call, which may have been done: for the next one.
                self.parts.keeper.doubt(&grant);
            }
            let prepared = match &newer {
                Some(newer) => {
                    let value = &newer.held.value;
                    self.parts
                        .broker
                        .prepare(&upstream, &mut call, value, grant.permit().workload())
                        .await
                        .ok()
                }
                None => None,
            };
            pending.failed(&refused);
            let (Some(served), Some(prepared)) = (newer, prepared) else {
                // Where the second attempt has no answer, the first one's counts.
                let (fault, id) = first.filter(|_| !is_of_an_answer(fault)).unwrap_or((fault, id));
                self.observe(
                    Some(peer),
                    rule.as_ref().map(|rule| &rule.name),
                    Some(Reason::Upstream(fault)),
                    None,
                );
                return Ok(Called::Refused { why: Why::Call(fault), id });
            };
            ready = Ready { upstream, grant, served, prepared };
            (first, attempt) = (Some((fault, id)), attempt + 1);
        }
    }

    /// What the paths of this upstream may hold.
    pub fn oddities(&self, name: Option<&UpstreamName>) -> Vec<Oddity> {
        let upstream = name.and_then(|name| self.parts.broker.upstream(name));
        upstream.map(|upstream| upstream.settings().oddities.clone()).unwrap_or_default()
    }

    async fn ready(
        &self,
        peer: &Peer,
        name: Option<&UpstreamName>,
        call: &mut Call,
    ) -> Result<Ready, Refusal> {
        let name = name.ok_or(Denial::NoRule)?;
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        let target = Target {
            upstream: name,
            method: call.method.as_str(),
            path: &call.path,
            query: call.query.as_deref(),
        };
        let decide = |policy: &policy::Policy| policy::decide_call(policy, peer, &target);
        let (permit, per_day) = self.by_rules(&rules, peer, decide, |(permit, _)| permit)?;
        self.await_turn(&permit, peer).await?;
        if let Some(per_day) = per_day {
            self.within_day(&permit, per_day)?;
        }
        let refuse = |fault| self.refuse(&permit, Why::Call(fault));
        let upstream =
            self.parts.broker.upstream(name).ok_or_else(|| refuse(Fault::CredentialUnavailable))?;
        let held = match permit.approval() {
            Some(_) => {
                let held = self.parts.broker.hold(&upstream, call, permit.workload()).await;
                Some(held.map_err(refuse)?)
            }
            None => None,
        };
        let grant = self.obtain_call(peer, permit, name, call, held).await?;
        let refuse = |fault| self.refuse(grant.permit(), Why::Call(fault));
        // The rules and the upstreams are taken over one after the other: a permit is for one secret only.
        if upstream.settings().secret != *grant.secret() {
            return Err(refuse(Fault::CredentialUnavailable));
        }
        let served = self.parts.keeper.fetch(&grant).map_err(|_| refuse(Fault::CredentialUnavailable))?;
        let workload = grant.permit().workload();
        let prepared = self.parts.broker.prepare(&upstream, call, &served.held.value, workload).await;
        let prepared = prepared.map_err(refuse)?;
        Ok(Ready { upstream, grant, served, prepared })
    }

    /// Counts a call against the rule's calls of this day, by UTC.
    fn within_day(&self, permit: &policy::Permit, per_day: u64) -> Result<(), Refusal> {
        let today = clock::now().as_second().div_euclid(DAY);
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let (day, calls) = rates.days.entry(permit.rule().clone()).or_insert((today, 0));
        if *day != today {
            (*day, *calls) = (today, 0);
        }
        if *calls >= per_day {
            return Err(self.refuse(permit, Why::Call(Fault::BudgetExhausted)));
        }
        *calls += 1;
        Ok(())
    }

    /// A newer value than `served`, whose key the upstream refuses.
    async fn newer(&self, upstream: &Upstream, grant: &Grant, served: &Served) -> Option<Served> {
        let (keeper, used) = (&self.parts.keeper, served.held.value.tag());
        let other = |found: &Served| found.held.value.tag() != used;
        if let Some(found) = keeper.fetch(grant).ok().filter(other) {
            return Some(found);
        }
        if !upstream.may_refetch() {
            return None;
        }
        keeper.doubt(grant);
        keeper.await_newer(grant, Some(used), NEWER_WITHIN).await.ok().filter(other)
    }

    /// Puts the intent on disk: from here on there will be a result.
    async fn intend_call(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        (about, attempt): (&UpstreamRef, u32),
        (upstream, grant, served): (&Upstream, &Grant, &Served),
        (prepared, call): (&Prepared, &Call),
        arrival: Arrival,
    ) -> Result<Pending, Unaudited> {
        let mut event = self.blank(Type::UpstreamIntent, Some(peer));
        super::record::describe(&mut event, &served.held.value);
        event.rule = Some(self.rule_ref(grant.permit()));
        super::approve::approved(&mut event, grant);
        (event.latency, event.trace) = (Some(arrival.at.elapsed()), arrival.trace);
        let about = UpstreamRef {
            attempt: Some(attempt),
            dropped: prepared.dropped().to_vec(),
            slot: Some(upstream.settings().slot.word()),
            ..about.clone()
        };
        event.upstream = Some(Box::new(about.clone()));
        let receipt = self.record(event.clone(), Some(peer)).await?;
        let intent = receipt.id().to_string();
        // What is said once is not said again.
        event.upstream = Some(Box::new(UpstreamRef {
            intent: Some(intent.clone()),
            dropped: Vec::new(),
            query: Vec::new(),
            query_hmac: None,
            ..about
        }));
        let (access, sent) = (Arc::clone(self), Arc::clone(&call.sent));
        let pending =
            Pending { access, event, intent, sent, began: Instant::now(), facts: None, is_settled: false };
        pending.seen(CallStep::Began);
        Ok(pending)
    }

    fn hand_on(&self, peer: &Peer, mut pending: Pending, reply: Reply, arrival: Arrival) -> Called {
        let Reply { response, facts, redirect_host } = reply;
        pending.heard(facts, response.status().as_u16(), redirect_host);
        let rule = pending.event.rule.as_ref().map(|rule| rule.name.clone());
        self.observe(Some(peer), rule.as_ref(), None, Some(arrival.at.elapsed()));
        let id = pending.intent.clone();
        let tell = Box::new(move |ended: Ended| pending.ended(&ended));
        let response: Response<ReplyBody> = response.map(|body| body.telling(tell));
        Called::Answered { response: Box::new(response), id }
    }

    /// Puts a call on record that is not made.
    async fn turn_down(
        &self,
        peer: &Arc<Peer>,
        about: UpstreamRef,
        refusal: Refusal,
        arrival: Arrival,
    ) -> Result<Called, Unaudited> {
        let Refusal { why, rule } = refusal;
        let kind = match &why {
            Why::Rejected(cause) => {
                self.disown(peer, cause);
                Type::PeerRejected
            }
            _ => Type::UpstreamDenied,
        };
        let mut event = self.blank(kind, Some(peer));
        (event.reason, event.outcome) = (Some(why.reason()), why.reason().outcome());
        (event.latency, event.trace) = (Some(arrival.at.elapsed()), arrival.trace);
        event.rule.clone_from(&rule);
        super::approve::unapproved(&mut event, &why);
        event.upstream = Some(Box::new(about));
        let receipt = self.record(event, Some(peer)).await?;
        let rule = rule.as_ref().map(|rule: &RuleRef| &rule.name);
        self.observe(Some(peer), rule, Some(why.reason()), Some(arrival.at.elapsed()));
        Ok(Called::Refused { why, id: receipt.id().to_string() })
    }
}

/// Whether there was an answer's head.
fn is_of_an_answer(fault: Fault) -> bool {
    matches!(fault, Fault::CredentialRejected | Fault::ResponseEncoded)
}

/// What is known of a call before it is made.
fn describe(about: &mut UpstreamRef, call: &Call, broker: &crate::broker::Broker) {
    about.method = Some(call.method.to_string());
    about.path = Some(call.path.clone());
    about.query = request::query_names(call.query.as_deref());
    about.query_hmac = call.query.as_ref().map(|query| broker.keyed(query.as_bytes()));
}

/// An intent on disk whose result is owed: dropped without one, the client has hung up.
struct Pending {
    access: Arc<Access>,
    event: Box<Event>,
    intent: String,
    sent: Arc<Sent>,
    began: Instant,
    facts: Option<Facts>,
    is_settled: bool,
}

impl Pending {
    fn seen(&self, step: CallStep) {
        let upstream = self.event.upstream.as_ref().and_then(|about| about.name.as_ref());
        if let (Some(upstream), Some(rule)) = (upstream, &self.event.rule) {
            self.access.parts.observe.called(upstream, &rule.name, step);
        }
    }

    fn about(&mut self) -> &mut UpstreamRef {
        self.event.upstream.get_or_insert_default()
    }

    /// The head of an answer is there.
    fn heard(&mut self, facts: Facts, status: u16, redirect: Option<String>) {
        self.facts = Some(facts);
        let waited = self.began.elapsed();
        self.seen(CallStep::Heard(waited));
        let waited = u64::try_from(waited.as_micros()).ok();
        let about = self.about();
        (about.status, about.redirect, about.first_byte_us) = (Some(status), redirect, waited);
    }

    /// There is no answer that may be handed on.
    fn failed(mut self, unanswered: &Unanswered) {
        self.facts = unanswered.facts;
        if unanswered.fault == Fault::CredentialRejected {
            self.about().status = Some(401);
        }
        self.settle(Some(unanswered.fault));
    }

    /// The answer's body has ended.
    fn ended(mut self, ended: &Ended) {
        let about = self.about();
        about.received = Some(ended.bytes);
        about.masked = ended.hits.iter().map(|(form, times)| (form.word(), times)).collect();
        if let (Some(fault), Some(peer)) = (ended.fault, &self.event.rule) {
            let rule = peer.name.clone();
            self.access.observe(None, Some(&rule), Some(Reason::Upstream(fault)), None);
        }
        self.settle(ended.fault);
    }

    /// Puts the result on record, once; nobody waits for it.
    fn settle(&mut self, fault: Option<Fault>) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let (sent, facts) = (self.sent.bytes(), self.facts);
        let body_hmac = (sent > 0).then(|| self.access.parts.broker.keyed(&self.sent.hash()));
        let about = self.about();
        (about.sent, about.body_hmac) = (Some(sent), body_hmac);
        about.end = Some(fault.map_or("complete", Fault::word));
        if let Some(Facts { address, tls, spki }) = facts {
            (about.address, about.tls, about.spki) = (Some(address), tls, spki);
        }
        let mut event = self.event.clone();
        event.kind = Type::UpstreamResult;
        event.time = clock::now();
        event.latency = Some(self.began.elapsed());
        event.reason = fault.map(Reason::Upstream);
        event.outcome = if fault.is_some() { Outcome::Error } else { Outcome::Allow };
        let masked = event.upstream.iter().flat_map(|about| &about.masked).map(|(_, times)| times).sum();
        self.seen(CallStep::Ended { outcome: event.outcome, reason: event.reason, masked });
        let (audit, observe) = (self.access.parts.audit.clone(), Arc::clone(&self.access.parts.observe));
        // Nobody waits for it, and the next call's intent should not wait for it either: it is written at once and synced with what
        // comes next, within 50 ms. If the machine dies before that, what became of the call is unknown, as after any intent alone.
        let mode = self.access.mode(&event).min(AuditMode::Buffered);
        let recording = async move {
            let (kind, outcome) = (event.kind, event.outcome);
            // That there is no room for it is what the journal itself reports.
            if audit.record(event, mode).await.is_ok() {
                observe.recorded(kind, outcome);
            }
        };
        if let Ok(runtime) = Handle::try_current() {
            self.access.parts.unfinished.spawn_on(recording, &runtime);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.settle(Some(Fault::ClientGone));
    }
}
