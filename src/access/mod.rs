//! The path of a request as one function: decide, obtain, fetch, record, answer.
//!
//! Does not read requests or render answers (`api`), and does not know sockets (`listener`). Nothing that it returns was
//! disclosed before its event was on disk: the receipt is in the answer.

mod outcome;

use crate::{
    approval::{self, Grant},
    audit::{Audit, Receipt, event},
    clock, keeper,
    name::{RuleName, SecretName, WorkloadName},
    peer::{self, Peer, Watch, level::Level},
    policy::{self, Permit, Policy, rate::Bucket, rule::AuditMode},
};
use arc_swap::ArcSwap;
use event::{Actor, Cache, Event, Resource, RuleRef, VaultRef};
use outcome::Unsent;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::UnixStream, runtime::Handle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use outcome::{Answered, Done, Refusal, TurnedAway, Unaudited, Why};
// The words of an answer, for `api`, which knows this module only.
pub use crate::{
    audit::event::{Outcome, Reason, Type},
    keeper::{
        Held, Served,
        value::{Content, LeaseTerms, Value},
    },
    policy::wish::{Act, Form, Read, Wish},
};

/// When a journal that cannot be written is worth asking again, if it does not say itself.
const SOON: Duration = Duration::from_secs(1);

/// What one workload's requests go through; shared by its connections.
pub struct Access {
    workload: WorkloadName,
    rules: ArcSwap<Rules>,
    rates: Mutex<Rates>,
    started: Instant,
    parts: Parts,
}

/// What was taken of each rate.
#[derive(Default)]
struct Rates {
    workload: Bucket,
    rules: BTreeMap<RuleName, Bucket>,
}

/// What may change while running, taken over in one step so that no request sees half of a change.
#[derive(Debug)]
pub struct Rules {
    /// Who may connect.
    pub peer: peer::Settings,
    /// What they may ask for.
    pub policy: Policy,
}

/// What the path is joined to.
#[derive(Clone)]
pub struct Parts {
    /// Has the values.
    pub keeper: keeper::Keeper,
    /// Takes the events.
    pub audit: Audit,
    /// Is told of each request.
    pub observe: Arc<dyn Observe>,
    /// Runs what must go on when a client hangs up. Whoever stops the process waits for it before `audit` is flushed.
    pub unfinished: TaskTracker,
    /// Ends waiting for newer values: those that wait are answered with what is in hand.
    pub stopping: CancellationToken,
}

/// Is told of each request, for metrics. Called on the path: must not block.
pub trait Observe: Send + Sync {
    /// One request was answered, or one peer was refused.
    fn seen(&self, seen: &Seen<'_>);

    /// One event of a request is on disk.
    fn recorded(&self, kind: Type, outcome: Outcome);
}

/// One request, as metrics see it. A read that then cannot be delivered is seen a second time, as `undelivered`.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// By which workload's socket it came in.
    pub workload: &'a WorkloadName,
    /// Who asked; `None` if the kernel would not say.
    pub peer: Option<&'a Peer>,
    /// The rule that allowed it.
    pub rule: Option<&'a RuleName>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, unless it was allowed.
    pub reason: Option<Reason>,
    /// From the request's arrival until its event was on disk; `None` for what made no event.
    pub took: Option<Duration>,
}

impl Access {
    /// The path of one workload's requests.
    #[must_use]
    pub fn new(workload: WorkloadName, rules: Rules, parts: Parts) -> Self {
        let rules = ArcSwap::from_pointee(rules);
        Self { workload, rules, rates: Mutex::default(), started: Instant::now(), parts }
    }

    /// Takes over changed rules. Open connections are held to them from their next request on.
    pub fn replace(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Takes from the kernel who connected; nothing is read from it, and nobody waits. Whatever is read from the stream after
    /// this must go through the [`Watch`].
    ///
    /// # Errors
    /// A peer that may not be there, and that [`Self::turn_away`] puts on record.
    pub fn identify(&self, stream: &UnixStream) -> Result<(Peer, Watch), peer::Rejected> {
        peer::identify(stream, &self.rules.load().peer, &self.workload)
    }

    /// Puts on record why an admitted peer's connection was closed. Call it once nothing can be read or written there any more.
    pub async fn breached(&self, peer: &Peer, cause: &peer::Cause) {
        let mut event = self.blank(Type::PeerRejected, Some(peer));
        (event.outcome, event.reason) = (Outcome::Deny, Some(Reason::from(cause)));
        self.observe(Some(peer), None, event.reason, None);
        // That there is no room for it is what the journal itself reports; there is nobody to answer.
        let _ = self.record(event, Some(peer)).await;
    }

    /// Puts on record that a peer's process ended while its connection was open.
    pub async fn exited(&self, peer: &Peer) {
        // As in `breached`.
        let _ = self.record(self.blank(Type::PeerExited, Some(peer)), Some(peer)).await;
    }

    /// Takes one of the workload's own rate, before anything of a request is looked at.
    ///
    /// # Errors
    /// How long until one can be had.
    pub fn take_turn(&self, per_second: u32) -> Result<(), Duration> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.workload.take(per_second, self.started.elapsed())
    }

    /// The path. When the client hangs up, this future is dropped, at worst while it waits for a newer value; between
    /// reading a value and recording it there is no wait, and what is being recorded is committed all the same.
    ///
    /// # Errors
    /// [`Unaudited`]: nothing may be disclosed, not even a refusal.
    pub async fn answer(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        wish: Wish,
        arrived: Instant,
    ) -> Result<Answered, Unaudited> {
        let outcome = self.attempt(peer, &wish).await;
        let event = self.event(peer, &wish, &outcome, arrived);
        let mut unsent = Unsent::new(self, peer, wish, outcome, arrived);
        let receipt = self.record(event, Some(peer)).await.inspect_err(|_| unsent.settle())?;
        self.observe(Some(peer), unsent.rule(), unsent.reason(), Some(arrived.elapsed()));
        Ok(Answered { unsent, receipt })
    }

    async fn attempt(&self, peer: &Peer, wish: &Wish) -> Result<Done, Refusal> {
        let Wish::Secret { name, act } = wish else {
            return Ok(Done::Listed(self.list(peer)?));
        };
        let mut permit = self.decide(peer, name.as_ref())?;
        self.within_rate(&permit)?;
        let mut grant = approval::obtain(permit);
        if let Act::Read(Read { wait: Some(limit), since, .. }) = act {
            self.await_newer(&grant, since.as_deref(), *limit).await;
            // The rules may have changed meanwhile.
            permit = self.decide(peer, name.as_ref())?;
            grant = approval::obtain(permit);
        }
        match (self.parts.keeper.fetch(&grant), act) {
            (Ok(served), Act::Read(read)) => self.give(grant, served, read),
            (Ok(served), Act::Ack(generation)) => self.acknowledge(grant, served, *generation),
            (Err(error), _) => Err(self.refuse(grant.permit(), Why::NoValue(Box::new(error)))),
        }
    }

    fn decide(&self, peer: &Peer, name: Option<&SecretName>) -> Result<Permit, Refusal> {
        let rules = self.rules.load();
        peer.check(&rules.peer)?;
        Ok(policy::decide(&rules.policy, peer, name)?)
    }

    fn within_rate(&self, permit: &Permit) -> Result<(), Refusal> {
        let Some(per_second) = permit.requests_per_second() else { return Ok(()) };
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = rates.rules.entry(permit.rule().clone()).or_default();
        let taken = bucket.take(per_second, self.started.elapsed());
        taken.map_err(|wait| self.refuse(permit, Why::RateLimited(wait)))
    }

    async fn await_newer(&self, grant: &Grant, since: Option<&str>, limit: Duration) {
        tokio::select! {
            biased;
            () = self.parts.stopping.cancelled() => {}
            // What it gives is fetched again: the rules are asked in between.
            _ = self.parts.keeper.await_newer(grant, since, limit) => {}
        }
    }

    fn give(&self, grant: Grant, served: Served, read: &Read) -> Result<Done, Refusal> {
        let value = &served.held.value;
        if read.known.iter().any(|tag| tag == value.tag() || tag == "*") {
            return Ok(Done::Unchanged(grant, served));
        }
        match value.content() {
            Content::Fields(fields) if read.form == Form::Plain && fields.len() != 1 => {
                let names = fields.iter().map(|(name, _)| name.clone()).collect();
                Err(self.refuse(grant.permit(), Why::NotOneField(names)))
            }
            _ => Ok(Done::Read(grant, served)),
        }
    }

    fn acknowledge(&self, grant: Grant, served: Served, generation: Option<u64>) -> Result<Done, Refusal> {
        let Served { held, previous, .. } = served;
        let wanted = generation.unwrap_or(held.value.generation());
        match std::iter::once(held).chain(previous).find(|held| held.value.generation() == wanted) {
            Some(held) => Ok(Done::Acked(grant, held.value)),
            None => Err(self.refuse(grant.permit(), Why::OtherGeneration(wanted))),
        }
    }

    fn list(&self, peer: &Peer) -> Result<Vec<(SecretName, Option<Held>)>, Refusal> {
        let rules = self.rules.load();
        peer.check(&rules.peer)?;
        let held = |permit: Permit| {
            let shelf = self.parts.keeper.describe(permit.secret());
            (permit.secret().clone(), shelf.and_then(|shelf| shelf.current))
        };
        Ok(policy::permits(&rules.policy, peer).map(held).collect())
    }

    fn refuse(&self, permit: &Permit, why: Why) -> Refusal {
        Refusal { why, rule: Some(self.rule_ref(permit)) }
    }
}

impl Access {
    /// Puts on record that a peer may not be there.
    ///
    /// # Errors
    /// [`Unaudited`] when that cannot be: then it is told only that.
    pub async fn turn_away(&self, rejected: peer::Rejected) -> Result<TurnedAway, Unaudited> {
        let mut event = self.blank(Type::PeerRejected, rejected.peer.as_ref());
        (event.outcome, event.reason) = (Outcome::Deny, Some(Reason::from(&rejected.cause)));
        let receipt = self.record(event, rejected.peer.as_ref()).await?;
        self.observe(rejected.peer.as_ref(), None, Some(Reason::from(&rejected.cause)), None);
        Ok(TurnedAway { rejected, receipt })
    }

    /// Puts on record that a value, whose read is on record already, did not reach its client.
    fn undelivered(&self, unsent: &Unsent) {
        let mut event = self.event(&unsent.peer, &unsent.wish, &unsent.outcome, unsent.arrived);
        (event.kind, event.outcome, event.reason) =
            (Type::SecretRead, Outcome::Error, Some(Reason::Undelivered));
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

    /// The names of the rules that speak of this peer's workload.
    ///
    /// # Errors
    /// The settings changed, and the peer may no longer be here.
    pub fn rules_of(&self, peer: &Peer) -> Result<(Vec<RuleName>, Level), Why> {
        let rules = self.rules.load();
        peer.check(&rules.peer)?;
        Ok((rules.policy.rules().cloned().collect(), rules.peer.level))
    }

    fn observe(
        &self,
        peer: Option<&Peer>,
        rule: Option<&RuleName>,
        reason: Option<Reason>,
        took: Option<Duration>,
    ) {
        let outcome = reason.map_or(Outcome::Allow, Reason::outcome);
        self.parts.observe.seen(&Seen { workload: &self.workload, peer, rule, outcome, reason, took });
    }

    async fn record(&self, event: Event, peer: Option<&Peer>) -> Result<Receipt, Unaudited> {
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

    fn mode(&self, event: &Event) -> AuditMode {
        event.rule.as_ref().map_or(self.parts.audit.mode(), |rule| rule.mode)
    }

    fn blank(&self, kind: Type, peer: Option<&Peer>) -> Event {
        let actor =
            |peer: &Peer| Actor { uid: peer.uid(), gid: peer.gid(), pid: peer.pid(), level: peer.level() };
        Event {
            workload: Some(self.workload.clone()),
            actor: peer.map(actor),
            ..Event::new(kind, Outcome::Allow, clock::now())
        }
    }

    /// The one event of a request, whichever way it went.
    fn event(&self, peer: &Peer, wish: &Wish, outcome: &Result<Done, Refusal>, arrived: Instant) -> Event {
        let mut event = self.blank(Type::SecretRead, Some(peer));
        event.latency = Some(arrived.elapsed());
        if let Wish::Secret { name, .. } = wish {
            event.resource = Some(Resource { secret: name.clone(), ..Resource::default() });
        }
        match outcome {
            Ok(Done::Listed(_)) => {}
            Ok(Done::Read(grant, served) | Done::Unchanged(grant, served)) => {
                if served.stale {
                    event.kind = Type::SecretStaleServed;
                }
                event.rule = Some(self.rule_ref(grant.permit()));
                event.cache = Some(Cache { hit: true, age: served.age });
                describe(&mut event, &served.held.value);
            }
            Ok(Done::Acked(grant, value)) => {
                event.kind = Type::SecretAcked;
                event.rule = Some(self.rule_ref(grant.permit()));
                describe(&mut event, value);
            }
            Err(refusal) => {
                event.kind = match refusal.why {
                    Why::Rejected(_) => Type::PeerRejected,
                    _ => Type::SecretDenied,
                };
                event.reason = Some(refusal.why.reason());
                event.outcome = refusal.why.reason().outcome();
                event.rule.clone_from(&refusal.rule);
            }
        }
        event
    }

    fn rule_ref(&self, permit: &Permit) -> RuleRef {
        RuleRef {
            name: permit.rule().clone(),
            revision: permit.revision().to_owned(),
            mode: permit.audit_mode(self.parts.audit.mode()),
        }
    }
}

fn describe(event: &mut Event, value: &Value) {
    event.resource = Some(Resource {
        secret: Some(value.name().clone()),
        kind: Some(value.kind()),
        path: value.path().map(str::to_owned),
        field: value.field().map(str::to_owned),
        version: Some(value.generation()),
        lease_id_hash: value.lease().and_then(|lease| lease.id_hash.clone()),
    });
    let request_id = value.request_id().map(str::to_owned);
    event.vault = request_id.map(|id| VaultRef { request_id: Some(id), ..VaultRef::default() });
}
