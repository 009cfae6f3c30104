//! One rotation done once: what is due now is begun, what was begun is ended, and then there is an end.
//!
//! For a job that somebody else starts on a schedule. It goes by the same journal and the same lease as agents that run all the
//! time, and may run beside them. Does not decide what is due: `task` does.

use super::{
    document::Document,
    fact::{Act, Fact, Failure},
    phase::Phase,
    run::Work,
    schedule::{self, Past, plus},
    task::Task,
};
use crate::{
    clock::{self, Timestamp},
    name::RotationName,
    vault::error::Class,
};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Which rotation.
    pub name: RotationName,
    /// Its kind.
    pub kind: &'static str,
    /// What was done.
    pub end: End,
    /// How far it is now, if its journal could be read.
    pub phase: Option<Phase>,
    /// The run that was worked on.
    pub id: Option<String>,
    /// Its slot, in local time with its offset.
    pub slot: Option<String>,
    /// When the old value ends, if both are valid now.
    pub grace_until: Option<Timestamp>,
    /// When the next run begins, where it is known.
    pub next: Option<Timestamp>,
    /// The last thing that did not work.
    pub failure: Option<Failure>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Nothing was to be done.
    Nothing,
    /// A person has suspended it.
    Suspended,
    /// A value from before was taken out of use, its grace being over.
    Revoked,
    /// Consumers read a new value.
    Rotated,
    /// There is more to do, now or soon: there was no more time, or somebody must say yes first, or another one works on it.
    Unfinished,
    /// The run was given up, or nothing could be done.
    Failed,
    /// It waits for a person.
    Orphaned,
}

impl End {
    /// The word of the command.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Rotated => "rotated",
            Self::Unfinished => "unfinished",
            Self::Failed => "failed",
            Self::Orphaned => "orphaned",
        }
    }
}

/// What was reported of the work so far.
#[derive(Default)]
struct Seen {
    promoted: bool,
    revoked: bool,
    failure: Option<Failure>,
    id: Option<String>,
    slot: Option<String>,
}

impl Seen {
    fn note(&mut self, fact: &Fact) {
        match fact.act {
            Act::Promoted => self.promoted = true,
            Act::Revoked => self.revoked = true,
            Act::Failed(failure) => self.failure = Some(failure),
            _ => {}
        }
        if fact.id.is_some() {
            (self.id, self.slot) = (fact.id.clone(), fact.slot.clone());
        }
    }
}

impl Task {
    /// Does what is due, and comes back when nothing more is to be done, at the latest after `limit`. A grace that ends later is left to
    /// whoever looks next.
    pub async fn once(mut self, stop: CancellationToken, limit: Duration) -> Done {
        let (heard_in, mut heard) = mpsc::unbounded_channel();
        let facts = std::mem::replace(&mut self.facts, heard_in);
        let mut seen = Seen::default();
        let mut pass_on = |seen: &mut Seen| {
            while let Ok(fact) = heard.try_recv() {
                seen.note(&fact);
                let _ = facts.send(fact);
            }
        };
        let begun = Instant::now();
        let (over, mut state) = (begun + limit, self.store.state());
        let mut work: Option<Work> = None;
        let end = loop {
            let turn = async {
                match work.take() {
                    Some(work) => self.advance(work).await,
                    None => self.look().await,
                }
            };
            let wait = tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                () = sleep_until(over) => break None,
                (kept, wait) = turn => {
                    work = kept;
                    wait
                }
            };
            pass_on(&mut seen);
            if work.is_none() && !wait.is_zero() {
                let left = over.saturating_duration_since(Instant::now());
                if let Some(end) = self.over(&seen, left).await {
                    break Some(end);
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                () = sleep_until(over) => break None,
                Ok(()) = state.changed() => {}
                () = sleep(wait) => {}
            }
        };
        if let Some(work) = work.take() {
            self.release(work).await;
        }
        pass_on(&mut seen);
        self.done(seen, end).await
    }

    /// Whether there is nothing more to do within `left`, and how it ended then.
    async fn over(&self, seen: &Seen, left: Duration) -> Option<End> {
        if self.failures > 0 {
            let is_refused = match seen.failure {
                Some(Failure::Vault(class)) => class != Class::Away,
                failure => failure.is_some(),
            };
            // Refused once, it would be refused again.
            return is_refused.then_some(End::Failed);
        }
        let document = self.journal.read().await.ok()?.0?;
        let now = clock::now();
        match document.state.phase {
            Phase::Orphaned if document.is_to_be_adopted() => None,
            Phase::Orphaned => Some(End::Orphaned),
            Phase::Idle if document.suspended.is_none() && self.is_due(&document, now) => None,
            Phase::Idle if seen.promoted => Some(End::Rotated),
            Phase::Idle if seen.revoked => Some(End::Revoked),
            // It was begun, and is over without a new value.
            Phase::Idle if seen.id.is_some() && seen.failure.is_some() => Some(End::Failed),
            Phase::Idle if document.suspended.is_some() => Some(End::Suspended),
            Phase::Idle => Some(End::Nothing),
            Phase::Grace if document.grace_until.is_some_and(|until| until > plus(now, left)) => {
                Some(if seen.promoted { End::Rotated } else { End::Nothing })
            }
            _ => None,
        }
    }

    /// Whether a run could begin now, and has not.
    fn is_due(&self, document: &Document, now: Timestamp) -> bool {
        let schedule = &self.settings.schedule;
        let past = Past { settled: document.settled, succeeded: document.succeeded, not_before: None };
        let is_slot = matches!(schedule.decide(&self.settings.name, &past, now).act, schedule::Act::Begin(_));
        let rested = plus(document.succeeded, schedule.min_interval) <= now;
        is_slot || document.asked.is_some() && rested || document.is_overdue()
    }

    async fn done(self, seen: Seen, end: Option<End>) -> Done {
        let document = self.journal.read().await.ok().and_then(|(document, _)| document);
        let next = self.board.read().into_iter().find(|(name, _)| *name == self.settings.name);
        Done {
            name: self.settings.name.clone(),
            kind: self.settings.kind.word(),
            end: end.unwrap_or(End::Unfinished),
            phase: document.as_ref().map(|document| document.state.phase),
            grace_until: document.and_then(|document| document.grace_until),
            id: seen.id,
            slot: seen.slot,
            next: next.and_then(|(_, standing)| standing.next),
            failure: seen.failure,
        }
    }
}
