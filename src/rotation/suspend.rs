//! A rotation that a person has suspended begins no run, on any replica, until a person resumes it: the journal says so.
//!
//! A run that began before goes on to its end, its grace and its revocation included, so that no credential is left half promoted; what
//! can be gone back from is gone back from by `rollback` and `reenable`. Slots that pass meanwhile are skipped with that reason, and an
//! age above `max_age` is told of once. The commands have no record of their own: `said` has what the next agent puts on record.

use super::{
    document::Document,
    fact::{Act, Failure},
    journal::{Entry, Error},
    run::Work,
    schedule::{self, Past, Schedule, Skipped, Why, plus},
    store::Written,
    task::Task,
};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So many acts of persons wait for an agent at most; the oldest are dropped first.
const SAID: usize = 16;

/// Since when no run begins, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Who did it, as the command was told or as its machine knows; Vault's own audit log has the login.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, by that machine's clock.
    pub at: Timestamp,
    /// That it is older than `max_age` was told of.
    #[serde(default)]
    pub over_age: bool,
}

/// What a person did to a rotation by a command, and no agent has put on record yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) what: Verb,
    pub(super) by: String,
    pub(super) reason: Option<String>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verb {
    Suspended,
    Resumed,
    Unorphaned,
    Adopted,
}

impl Verb {
    fn act(self) -> Act {
        match self {
            Self::Suspended => Act::Suspended,
            Self::Resumed => Act::Resumed,
            Self::Unorphaned => Act::Unorphaned,
            Self::Adopted => Act::Adopted,
        }
    }
}

impl Document {
    /// Has an agent put on record what a person did.
    pub(super) fn say(&mut self, what: Verb, by: &str, reason: Option<&str>) {
        let over = (self.said.len() + 1).saturating_sub(SAID);
        self.said.drain(..over);
        self.said.push(Said { what, by: by.to_owned(), reason: reason.map(str::to_owned) });
    }
}

impl Task {
    /// Puts on record what persons did by commands; gives whether the journal was written.
    pub(super) async fn mind_said(&self, document: &Document, version: u64) -> Result<bool, Error> {
        if document.said.is_empty() {
            return Ok(false);
        }
        let told = Document { said: Vec::new(), ..document.clone() };
        if let Written::As(_) = self.journal.write(&told, version).await? {
            for Said { what, by, reason } in &document.said {
                let mut fact = self.fact(document, what.act(), None);
                (fact.by, fact.reason) = (Some(by.clone()), reason.clone());
                self.send(fact);
            }
        }
        Ok(true)
    }

    /// No run, and none begins: slots that are over are settled, and the age is watched.
    pub(super) async fn idle_suspended(
        &mut self,
        entry: Entry,
        suspended: Suspended,
        now: Timestamp,
    ) -> Result<(Option<Work>, Duration), Error> {
        self.stand(&entry.document, None);
        self.say_soon(None);
        let max_age = self.settings.schedule.max_age;
        let is_over = max_age.is_some_and(|age| plus(entry.document.succeeded, age) <= now);
        if is_over && !suspended.over_age {
            let suspended = Some(Suspended { over_age: true, ..suspended });
            let document = Document { suspended, ..entry.document };
            if let Written::As(_) = self.journal.write(&document, entry.version).await? {
                tracing::warn!(rotation = %self.settings.name, "older than its max_age, and suspended");
                self.report(&document, Act::Failed(Failure::OverAge));
            }
            return Ok((None, Duration::ZERO));
        }
        let document = &entry.document;
        let past = Past { settled: document.settled, succeeded: document.succeeded, not_before: None };
        // What its age makes due is no slot.
        let schedule = Schedule { max_age: None, ..self.settings.schedule.clone() };
        let turn = schedule.decide(&self.settings.name, &past, now);
        let skipped = skipped(turn.skipped, suspended.at, schedule.window);
        let until = match turn.act {
            schedule::Act::Wait(until) => until,
            schedule::Act::Begin(_) => plus(now, self.idle_look()),
        };
        self.wait(entry, &skipped, (until, now)).await
    }
}

/// Slots whose window was not over at `since` had no run because of it.
fn skipped(skipped: Vec<Skipped>, since: Timestamp, window: Duration) -> Vec<Skipped> {
    let why = |it: Skipped| match it.why {
        Why::Missed if plus(it.slot, window) > since => Skipped { why: Why::Suspended, ..it },
        _ => it,
    };
    skipped.into_iter().map(why).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-{text}:00Z").parse().unwrap()
    }

    #[test]
    fn a_slot_is_skipped_for_the_suspension_only_if_its_window_was_open_then() {
        let check = |slot: &str, why: Why, expected: Why| {
            let slots = vec![Skipped { slot: at(slot), why }];
            let found = skipped(slots, at("10T04:00"), Duration::from_secs(3600));
            assert_eq!(found, [Skipped { slot: at(slot), why: expected }], "{slot}");
        };
        check("10T03:00", Why::Missed, Why::Missed);
        check("10T03:01", Why::Missed, Why::Suspended);
        check("11T03:00", Why::Missed, Why::Suspended);
        check("11T03:00", Why::Blackout, Why::Blackout);
    }

    #[test]
    fn what_persons_did_waits_for_an_agent_and_not_without_end() {
        let mut document = Document::new(Timestamp::UNIX_EPOCH);
        for number in 0..SAID + 2 {
            document.say(Verb::Suspended, &number.to_string(), Some("a test"));
        }
        let by: Vec<&str> = document.said.iter().map(|said| said.by.as_str()).collect();
        assert_eq!((by.len(), by[0]), (SAID, "2"));
    }
}
