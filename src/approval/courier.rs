//! Takes requests to a service of chat or paging, and brings back what it says, while calls go on: nobody waits for the service but who
//! is about to use a yes that it may have taken back.
//!
//! Judges nothing: what is brought goes into the store, where votes are judged whoever left them.

use super::{
    State, Status,
    desk::Inner,
    entry::{EVERY, Entry},
    fact::{Act, Call, Fact},
    hook::{Fault, Hook, in_time},
    outcome,
    request::{Id, Look},
    told::{Teller, somebody},
    webhook::{Answered, Brought, Message},
};
use crate::{
    clock,
    crypto::hex,
    vault::{backoff::ms, error::Error},
};
use std::{collections::BTreeSet, sync::Arc};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How many may be on their way to a service at once.
const AT_ONCE: usize = 8;

/// One request on its way.
struct Courier {
    inner: Arc<Inner>,
    entry: Arc<Entry>,
    hook: Arc<Hook>,
    turns: Arc<Semaphore>,
    failures: u32,
    /// What we are called among those who may tell it.
    us: String,
    /// What is in the store, so that it is brought there once.
    delivered: Vec<Brought>,
}

/// Sends a courier for each request that a service is to be told of, until `stop`.
pub(super) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let (mut couriers, mut sent) = (JoinSet::new(), BTreeSet::<Id>::new());
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        for (entry, status) in inner.open() {
            if let Some(hook) = inner.hook(&entry.settings.name).filter(|_| is_open(&status))
                && sent.insert(status.id)
            {
                let (inner, turns) = (Arc::clone(&inner), Arc::clone(&turns));
                let courier =
                    Courier { inner, entry, hook, turns, failures: 0, us: somebody(), delivered: Vec::new() };
                couriers.spawn(courier.carry());
            }
        }
        for id in inner.outcomes.fresh() {
            couriers.spawn(outcome::carry(Arc::clone(&inner), id, Arc::clone(&turns)));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = inner.opened.notified() => {}
            Some(_) = couriers.join_next() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        sent.retain(|id| inner.knows(id));
    }
}

fn is_open(status: &Status) -> bool {
    status.state == State::Pending || status.state == State::Granted
}

impl Courier {
    async fn carry(mut self) {
        while self.is_needed() {
            match self.inner.teller(&self.entry, &self.us).await {
                Ok(Teller::Us) => {}
                Ok(Teller::Done) => {
                    self.entry.tell_heard();
                    break;
                }
                Ok(Teller::Another) | Err(_) => {
                    tokio::time::sleep(EVERY).await;
                    continue;
                }
            }
            match self.tell().await {
                Ok(answered) => {
                    self.entry.tell_heard();
                    self.deliver(answered).await;
                    self.inner.told(&self.entry, &self.us).await;
                    break;
                }
                Err(fault) => self.later(Call::Tell, &fault).await,
            }
        }
        while self.hook.settings().status_url.is_some() && self.is_needed() {
            tokio::time::sleep(self.hook.settings().poll).await;
            if !self.is_needed() {
                return;
            }
            match self.ask().await {
                Ok(answered) => self.deliver(answered).await,
                Err(fault) => self.later(Call::Ask, &fault).await,
            }
        }
    }

    /// Whether somebody may still ask for it, or use it.
    fn is_needed(&self) -> bool {
        let Some(status) = self.entry.status() else { return false };
        is_open(&status) && clock::now() <= status.last && self.inner.has(&self.entry)
    }

    async fn tell(&mut self) -> Result<Answered, Fault> {
        let Some((id, digest, body)) = self.message().await else { return Ok(Answered::default()) };
        let turn = self.turns.acquire().await;
        let answered = self.hook.tell((&id, &digest), &self.entry.settings.approvers, body).await?;
        drop(turn);
        self.worked(Call::Tell);
        Ok(answered)
    }

    async fn ask(&mut self) -> Result<Answered, Fault> {
        let Some((id, digest, _)) = self.message().await else { return Ok(Answered::default()) };
        let turn = self.turns.acquire().await;
        let answered = self.hook.ask((&id, &digest), &self.entry.settings.approvers).await?;
        drop(turn);
        self.worked(Call::Ask);
        Ok(answered)
    }

    async fn message(&self) -> Option<(Id, String, Vec<u8>)> {
        let turn = self.entry.request.lock().await;
        let request = turn.as_ref()?;
        let body = Message::of(&self.entry.settings, request, clock::now()).body();
        Some((request.id.clone(), hex(request.digest()), body))
    }

    /// Puts what was answered into the store, however long that takes.
    async fn deliver(&mut self, answered: Answered) {
        self.inner.warn(&self.entry, &answered);
        let new = |one: &Brought| !self.delivered.contains(one);
        let votes: Vec<Brought> = answered.votes.into_iter().filter(new).collect();
        if votes.is_empty() {
            return;
        }
        while self.is_needed() {
            match self.inner.bring(&self.entry, &votes).await {
                Ok(()) => return self.delivered.extend(votes),
                Err(error) => tracing::debug!(%error, "keeping what a webhook said"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn worked(&mut self, call: Call) {
        self.failures = 0;
        self.inner.called(&self.entry, call, "ok");
    }

    /// Waits before the next try.
    async fn later(&mut self, call: Call, fault: &Fault) {
        self.failures = self.failures.saturating_add(1);
        self.inner.called(&self.entry, call, fault.word);
        let wait = fault.wait(self.failures);
        let (approval, why) = (&self.entry.settings.name, &fault.why);
        tracing::warn!(%approval, call = call.word(), why, again_in_ms = ms(wait), "the webhook does not answer");
        tokio::time::sleep(wait).await;
    }
}

impl Inner {
    /// All that somebody may still ask for, or use.
    fn open(&self) -> Vec<(Arc<Entry>, Status)> {
        self.waiting()
            .into_iter()
            .filter_map(|entry| Some((entry.status()?, entry)).map(|(s, e)| (e, s)))
            .collect()
    }

    /// Whether anything is remembered of a request.
    fn knows(&self, id: &Id) -> bool {
        self.lock().known.contains_key(id)
    }

    /// Whether equal calls join this entry.
    fn has(&self, entry: &Arc<Entry>) -> bool {
        self.lock().open.get(&entry.fingerprint).is_some_and(|open| Arc::ptr_eq(open, entry))
    }

    fn note_call(&self, entry: &Entry, id: Id, act: Act) {
        let (name, workload) = (entry.settings.name.clone(), Some(entry.workload.clone()));
        let ticket = Arc::new(entry.ticket.clone());
        self.tell(Fact { id, name, workload, digest: String::new(), ticket, act });
    }

    /// Asks the service once more, before a use of what was granted is spent: one no ends it.
    ///
    /// # Errors
    /// It does not answer; then nothing is spent.
    pub(super) async fn ask_before_use(&self, entry: &Entry, of: (&Id, &str)) -> Result<Vec<Brought>, Fault> {
        let Some(hook) = self.hook(&entry.settings.name) else { return Ok(Vec::new()) };
        let answered = in_time(hook.ask(of, &entry.settings.approvers)).await;
        let answered = answered.inspect_err(|fault| self.called(entry, Call::Ask, fault.word))?;
        self.warn(entry, &answered);
        Ok(answered.votes)
    }

    async fn teller(&self, entry: &Entry, us: &str) -> Result<Teller, Error> {
        let around = self.around(entry, &|_| {})?;
        let turn = entry.request.lock().await;
        match &*turn {
            Some(request) => request.teller(&around, us).await,
            None => Ok(Teller::Another),
        }
    }

    async fn told(&self, entry: &Entry, us: &str) {
        let Ok(around) = self.around(entry, &|_| {}) else { return };
        let turn = entry.request.lock().await;
        if let Some(request) = &*turn
            && let Err(error) = request.told(&around, us).await
        {
            // Then another may tell it once more.
            tracing::debug!(%error, "noting that a webhook was told");
        }
    }

    /// Puts votes into the store, and looks what they make of the request.
    async fn bring(&self, entry: &Entry, votes: &[Brought]) -> Result<(), Error> {
        let tell = |fact| self.tell(fact);
        let around = self.around(entry, &tell)?;
        let mut turn = entry.request.lock().await;
        let Some(request) = &mut *turn else { return Ok(()) };
        let brought = match request.bring(&around, votes).await {
            Ok(()) => request.look(&around, Look::All).await,
            Err(error) => Err(error),
        };
        entry.note(request);
        brought
    }

    fn called(&self, entry: &Entry, call: Call, result: &'static str) {
        let Some(status) = entry.status() else { return };
        self.note_call(entry, status.id, Act::Called { call, result });
    }

    fn warn(&self, entry: &Entry, answered: &Answered) {
        if answered.strangers > 0 {
            let approval = &entry.settings.name;
            tracing::warn!(%approval, count = answered.strangers, "the webhook brings votes of nobody who may say yes");
            self.called(entry, Call::Ask, "stranger");
        }
    }
}
