//! The path of a request as one function: decide, obtain, fetch, record, answer.
//!
//! Does not read requests or render answers (`api`), and does not know sockets (`listener`). Nothing that it returns was
//! disclosed before its event was on disk: the receipt is in the answer.

mod approve;
mod call;
mod control;
mod forward;
mod glass;
mod guarded;
mod held;
mod leases;
mod limits;
mod outcome;
mod passing;
mod record;
mod room;
mod watch;

use crate::{
    approval::{self, Approvals, Grant},
    audit::Audit,
    broker::Broker,
    forward::{Forward, cache::Cache},
    keeper,
    name::{RotationName, RuleName, SecretName, UpstreamName, WorkloadName},
    peer::{self, Peer, Since, attestor::Attestor, level::Level},
    policy::{
        self, Permit, Policy,
        rate::{Bucket, Buckets},
    },
};
use arc_swap::ArcSwap;
use limits::Floods;
use outcome::Unsent;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::UnixStream, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use call::Wanted;
pub use glass::{Drill, Emergency, Glass, Review};
pub use outcome::{Answered, Called, Done, Refusal, TurnedAway, Unaudited, Why};
pub use room::{Unheld, hold};
pub use watch::{Cut, Push, Watch, Watched, Watching};
// The words of an answer, for `api`, which knows this module only.
pub use crate::{
    approval::{
        Ended as ApprovalEnded, Refusal as Unapproved, State as ApprovalState, Status as ApprovalStatus, Want,
    },
    audit::event::{Outcome, Reason, Trace, Type},
    broker::{
        answer::Prefix,
        buffers::Room,
        call::Call as UpstreamCall,
        fault::Fault,
        request,
        upstream::reply::{Aborted, ReplyBody},
    },
    forward::{Answer, Error as NotForwarded, Found, stream::PassedBody},
    keeper::{
        Held, Served,
        notice::Notice,
        value::{Content, LeaseTerms, Value},
    },
    policy::{
        Bridge, Denial,
        forward::{Control, Operation, Target},
        pattern::{Malformed, Path},
        upstream::{Oddity, canonical},
        wish::{Act, Call, Form, Read, Wish},
    },
};

/// What one workload's requests go through; shared by its connections.
pub struct Access {
    workload: WorkloadName,
    rules: ArcSwap<Rules>,
    rates: Mutex<Rates>,
    floods: Mutex<Floods>,
    started: Instant,
    provers: peer::Provers,
    leases: leases::Leases,
    cache: Arc<Cache>,
    parts: Parts,
}

/// What was taken of each rate.
#[derive(Default)]
struct Rates {
    requests: Buckets,
    connections: Buckets,
    rules: BTreeMap<RuleName, Bucket>,
    /// Of rules for calls, for each user of its own.
    calls: BTreeMap<RuleName, Buckets>,
    /// The day, and how many calls it had.
    days: BTreeMap<RuleName, (i64, u64)>,
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
    /// Asks persons.
    pub approvals: Approvals,
    /// Has the upstreams.
    pub broker: Broker,
    /// Sends requests on; `None` where nothing can be.
    pub forward: Option<Forward>,
    /// Looks at what peers execute; `None` where no level needs that.
    pub attestor: Option<Attestor>,
    /// Takes the events.
    pub audit: Audit,
    /// Is told of each request.
    pub observe: Arc<dyn Observe>,
    /// Runs what must go on when a client hangs up. Whoever stops the process waits for it before `audit` is flushed.
    pub unfinished: TaskTracker,
    /// Ends waiting for newer values: those that wait are answered with what is in hand.
    pub stopping: CancellationToken,
}

/// When a request came, and what it says that it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When its head was read.
    pub at: Instant,
    /// For the event alone: nothing is decided by it.
    pub trace: Option<Trace>,
}

/// Is told of each request, for metrics. Called on the path: must not block.
pub trait Observe: Send + Sync {
    /// One request was answered, or one peer was refused.
    fn seen(&self, seen: &Seen<'_>);

    /// One event of a request is kept as its mode demands: on disk, or queued.
    fn recorded(&self, kind: Type, outcome: Outcome);

    /// A read got the value before although `rotation` has promoted a new one: that has not come here yet.
    fn late(&self, rotation: &RotationName) {
        let _ = rotation;
    }

    /// A call of `upstream` by `rule` came as far as this; each attempt begins and ends once.
    fn called(&self, upstream: &UpstreamName, rule: &RuleName, step: CallStep);
}

/// How far a call of another API is.
#[derive(Debug, Clone, Copy)]
pub enum CallStep {
    /// Its intent is on disk.
    Began,
    /// The head of its answer came, so long after that.
    Heard(Duration),
    /// It has a result.
    Ended {
        /// How it ended.
        outcome: Outcome,
        /// Why, unless it ended well.
        reason: Option<Reason>,
        /// How often the key was masked in its answer.
        masked: u64,
    },
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
        let attestor = parts.attestor.clone();
        let provers = peer::Provers { attestor, ..peer::Provers::default() };
        let (rates, floods) = (Mutex::default(), Mutex::default());
        let (started, leases, cache) = (Instant::now(), leases::Leases::default(), Arc::default());
        Self { workload, rules, rates, floods, started, provers, leases, cache, parts }
    }

    /// Takes over changed rules. Open connections are held to them from their next request on.
    pub fn replace(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Takes from the kernel who connected; nothing is read from it, and nobody waits. Whatever is read from the stream after
    /// this must go through the peer's `watch`.
    ///
    /// # Errors
    /// A peer that may not be there, and that [`Self::turn_away`] puts on record.
    pub fn identify(&self, stream: &UnixStream) -> Result<Peer, peer::Rejected> {
        peer::identify(stream, &self.rules.load().peer, &self.workload)
    }

    /// Has the peer prove what is required beyond its process, which may take a moment. Nothing may be read from the stream
    /// before.
    ///
    /// # Errors
    /// As [`Self::identify`].
    pub async fn admit(&self, mut peer: Peer) -> Result<Peer, peer::Rejected> {
        let rules = self.rules.load_full();
        let admitted = match peer.admit(&rules.peer, &self.provers).await {
            Ok(None) => Ok(()),
            Ok(Some(repinned)) => self.repinned(&peer, &repinned).await.map_err(|_| peer::Cause::Unrecorded),
            Err(cause) => Err(cause),
        };
        match admitted {
            Ok(()) => Ok(peer),
            Err(cause) => {
                Err(peer::Rejected { workload: self.workload.clone(), peer: Some(Box::new(peer)), cause })
            }
        }
    }

    /// The path. When the client hangs up, this future is dropped, at worst while it waits for a newer value; between
    /// reading a value and recording it there is no wait, and what is being recorded is committed all the same.
    ///
    /// # Errors
    /// [`Unaudited`]: nothing may be disclosed, not even a refusal.
    pub async fn answer(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        mut wish: Wish,
        arrival: Arrival,
    ) -> Result<Answered, Unaudited> {
        let outcome = match self.attempt(peer, &mut wish, arrival).await {
            Err(Refusal { why: Why::Unrecorded(unaudited), .. }) => return Err(unaudited),
            outcome => outcome,
        };
        if let Err(Refusal { why: Why::Rejected(cause), .. }) = &outcome {
            self.disown(peer, cause);
        }
        let event = self.event(peer, &wish, &outcome, arrival);
        let mut unsent = Unsent::new(self, peer, wish, outcome, arrival);
        let receipt = self.record(event, Some(peer)).await.inspect_err(|unaudited| {
            // What is on record as given, and is not given, is put right when `unsent` is dropped.
            if !unaudited.is_on_record() {
                unsent.settle();
            }
        })?;
        self.observe(Some(peer), unsent.rule(), unsent.reason(), Some(arrival.at.elapsed()));
        if let Ok(Done::Acked(grant, value)) = &unsent.outcome {
            // On record first: it may end an old value.
            self.parts.keeper.acked(value.name(), grant.permit().workload(), value.generation());
        }
        Ok(Answered { unsent, receipt })
    }

    async fn attempt(
        self: &Arc<Self>,
        peer: &Peer,
        wish: &mut Wish,
        arrival: Arrival,
    ) -> Result<Done, Refusal> {
        let (name, act) = match wish {
            Wish::List => return Ok(Done::Listed(self.list(peer).await?)),
            // In a box: it holds much more than the others do while they wait.
            Wish::Vault(call) => return Box::pin(self.forward(peer, call, arrival)).await,
            Wish::Secret { name, act } => (&*name, &*act),
        };
        let permit = self.decide(peer, name.as_ref(), Since::Asked).await?;
        self.within_rate(&permit)?;
        let mut grant = match act {
            Act::Read(read) => self.obtain(peer, permit, read.wait).await?,
            // It gives nothing, and so needs nobody's yes.
            Act::Ack(_) => approval::waive(permit),
        };
        let mut waited = Ok(());
        if let Act::Read(Read { wait, since, .. }) = act
            && let Some(limit) = wait.or_else(|| self.parts.keeper.patience(&grant))
        {
            waited = self.await_newer(&grant, since.as_deref(), limit).await;
            // The rules may have changed meanwhile, and the peer.
            let permit = self.decide(peer, name.as_ref(), Since::Waited).await?;
            grant = match grant.again(permit) {
                Ok(grant) => grant,
                Err(permit) => self.obtain(peer, permit, None).await?,
            };
        }
        match (waited.and_then(|()| self.parts.keeper.fetch(&grant)), act) {
            (Ok(served), Act::Read(read)) => self.give(grant, served, read),
            (Ok(served), Act::Ack(generation)) => self.acknowledge(grant, served, *generation),
            (Err(error), _) => Err(self.refuse(grant.permit(), Why::NoValue(Box::new(error)))),
        }
    }

    async fn decide(&self, peer: &Peer, name: Option<&SecretName>, since: Since) -> Result<Permit, Refusal> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, since).await?;
        self.by_rules(&rules, peer, |policy| policy::decide(policy, peer, name), |permit| permit)
    }

    fn within_rate<T>(&self, permit: &Permit<T>) -> Result<(), Refusal> {
        let Some(per_second) = permit.requests_per_second() else { return Ok(()) };
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = rates.rules.entry(permit.rule().clone()).or_default();
        let taken = bucket.take(per_second, self.started.elapsed());
        taken.map_err(|wait| self.refuse(permit, Why::RateLimited(wait)))
    }

    async fn await_newer(
        &self,
        grant: &Grant,
        since: Option<&str>,
        limit: Duration,
    ) -> Result<(), keeper::Error> {
        tokio::select! {
            biased;
            () = self.parts.stopping.cancelled() => Ok(()),
            // What it gives is fetched again: the rules are asked in between.
            waited = self.parts.keeper.await_newer(grant, since, limit) => waited.map(drop),
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

    /// The names of the rules that speak of this peer's workload, the level that it requires, and whether it may have a bridge.
    ///
    /// # Errors
    /// The settings changed, and the peer may no longer be here.
    pub async fn rules_of(&self, peer: &Peer) -> Result<(Vec<RuleName>, Level, Bridge), Why> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        Ok((rules.policy.rules().cloned().collect(), rules.peer.level, rules.policy.bridge()))
    }

    async fn list(&self, peer: &Peer) -> Result<Vec<(SecretName, Option<Held>)>, Refusal> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        let held = |permit: Permit| {
            let shelf = self.parts.keeper.describe(permit.secret(), permit.process());
            (permit.secret().clone(), shelf.and_then(|shelf| shelf.current))
        };
        Ok(policy::permits(&self.in_force(&rules, peer), peer).map(held).collect())
    }
}
