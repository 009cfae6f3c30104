//! Tells a service that is told of requests what became of one, so that it can put its message right: each state once, in their order.
//!
//! Nobody waits for it and nothing depends on it. Among replicas the one tells that says so in the store first; one that dies right then
//! leaves the service with what it knew.

use super::{
    Ended, Id, Settings,
    desk::Inner,
    fact::{Act, Call, Fact, Said},
    hook::Fault,
    request::TRIES,
    store::Written,
    webhook::{After, message_id},
};
use crate::{
    clock,
    name::IdentityName,
    vault::{
        backoff::ms,
        error::{Class, Error},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

/// Where it stands, below the request, which states were told.
pub const SLOT: &str = "outcome";
/// How long a service may be away that is to be told.
const PATIENCE: Duration = Duration::from_secs(600);
/// The wait after the store could not be used.
const AGAIN: Duration = Duration::from_secs(1);
/// Of so many requests something may be untold.
const MOST: usize = 1_000;

/// What is to be told, of each request in order.
#[derive(Default)]
pub(super) struct Outcomes(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    of: BTreeMap<Id, VecDeque<Outcome>>,
    /// Of those nobody tells yet.
    fresh: Vec<Id>,
}

/// What became of a request.
pub(super) struct Outcome {
    fact: Fact,
    state: &'static str,
    reason: Option<&'static str>,
    by: Vec<Said>,
}

#[derive(Default, Serialize, Deserialize)]
struct Told {
    #[serde(default)]
    states: Vec<String>,
}

impl Outcome {
    /// That of a fact; `None`: nothing became of the request.
    fn of(fact: &Fact) -> Option<Self> {
        let (state, reason, by) = match &fact.act {
            Act::Granted(said) => ("granted", None, said),
            Act::Used(said) => ("used", None, said),
            Act::Ended { why: Ended::Expired, by, .. } => ("expired", None, by),
            Act::Ended { why: Ended::Used, by, .. } => ("used", None, by),
            Act::Ended { why, by, .. } => ("refused", Some(why.word()), by),
            Act::Requested { .. } | Act::Called { .. } | Act::Disabled(_) | Act::Enabled(_) => return None,
        };
        Some(Self { fact: fact.clone(), state, reason, by: by.clone() })
    }
}

impl Outcomes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of which something is to be told, and nobody tells yet.
    pub(super) fn fresh(&self) -> Vec<Id> {
        std::mem::take(&mut self.lock().fresh)
    }

    fn next(&self, id: &Id) -> Option<Outcome> {
        let mut queues = self.lock();
        let next = queues.of.get_mut(id).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.of.remove(id);
        }
        next
    }
}

impl Inner {
    /// Takes note of what the service is to be told, if it is one that wants to know.
    pub(super) fn follow(&self, fact: &Fact) {
        let wants = |name| self.hook(name).is_some_and(|hook| hook.settings().outcomes);
        let Some(outcome) = Outcome::of(fact).filter(|_| wants(&fact.name)) else { return };
        let mut queues = self.outcomes.lock();
        if let Some(queue) = queues.of.get_mut(&fact.id) {
            return queue.push_back(outcome);
        }
        if queues.of.len() < MOST {
            queues.of.insert(fact.id.clone(), VecDeque::from([outcome]));
            queues.fresh.push(fact.id.clone());
            self.opened.notify_one();
        }
    }

    /// Whether it is ours to tell it: nobody else has, nor will.
    async fn is_ours(&self, settings: &Settings, outcome: &Outcome) -> Result<bool, Error> {
        let none = || Error::new(Class::Invalid, "telling a webhook what became of a request", "nobody acts");
        let identity = IdentityName::new(&outcome.fact.ticket.identity).map_err(|_| none())?;
        let around = self.around_any((settings, &identity), None, &|_| {})?;
        let place = format!("{}/{SLOT}", outcome.fact.id);
        for _ in 0..TRIES {
            let found = around.store.read(&place).await?;
            let mut told: Told =
                found.data.and_then(|data| serde_json::from_value(data).ok()).unwrap_or_default();
            if told.states.iter().any(|state| state == outcome.state) {
                return Ok(false);
            }
            told.states.push(outcome.state.to_owned());
            if around.store.write(&place, &told, found.version).await? == Written::Done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn report(&self, outcome: &Outcome, turns: &Semaphore) {
        let until = Instant::now() + PATIENCE;
        let Some(settings) = self.settings(&outcome.fact.name) else { return };
        loop {
            match self.is_ours(&settings, outcome).await {
                Ok(true) => break,
                Ok(false) => return,
                Err(error) => tracing::debug!(%error, "telling a webhook what became of a request"),
            }
            if Instant::now() > until {
                return;
            }
            sleep(AGAIN).await;
        }
        let mut failures = 0_u32;
        while let Err(fault) = self.report_once(&settings, outcome, turns).await {
            failures = failures.saturating_add(1);
            let wait = fault.wait(failures);
            let (approval, state, why) = (&settings.name, outcome.state, &fault.why);
            tracing::warn!(%approval, state, why, again_in_ms = ms(wait), "the webhook does not hear what became of a request");
            if Instant::now() + wait > until {
                return;
            }
            sleep(wait).await;
        }
    }

    async fn report_once(
        &self,
        settings: &Settings,
        outcome: &Outcome,
        turns: &Semaphore,
    ) -> Result<(), Fault> {
        // Who is not in the config any more is not told.
        let Some(hook) = self.hook(&settings.name) else { return Ok(()) };
        let Outcome { fact, state, reason, by } = outcome;
        let body = After::of(fact, (state, *reason), by, clock::now()).body();
        let turn = turns.acquire().await;
        let told = hook.report(&format!("{}-{state}", message_id(&fact.id)), body).await;
        drop(turn);
        let result = told.as_ref().map_or_else(|fault| fault.word, |()| "ok");
        self.tell(Fact { act: Act::Called { call: Call::Report, result }, ..fact.clone() });
        told
    }
}

/// Tells all that is to be told of one request.
pub(super) async fn carry(inner: Arc<Inner>, id: Id, turns: Arc<Semaphore>) {
    while let Some(outcome) = inner.outcomes.next(&id) {
        inner.report(&outcome, &turns).await;
    }
}
