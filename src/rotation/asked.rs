//! What persons were asked of a rotation, as the journal keeps it, and what is to be asked or done next. Pure.
//!
//! One request for each slot, ahead of it. A no settles the slot, and so does silence. Does not judge votes.

use super::schedule::{Act, Past, Schedule, Turn, plus};
use crate::{approval, clock::Timestamp, name::RotationName};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Who must say yes to each run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Who, and how they are asked.
    pub settings: approval::Settings,
    /// How long before a run may begin they are asked.
    pub lead: Duration,
}

/// One request for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its id.
    pub id: String,
    /// Which slot.
    pub slot: Timestamp,
    /// The slot as people read it.
    pub slot_time: String,
    /// Until when persons may answer.
    pub until: Timestamp,
    /// The hash of all that is asked, but for its end: of another config it is another.
    #[serde(default)]
    pub terms: String,
    /// Why a person asked for the run, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it stands.
    pub state: Stand,
    /// Who said yes; once it ended, who said no.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// The run that it is spent on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Why it ended, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// See [`Asked::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stand {
    /// It waits for persons.
    Pending,
    /// Enough of them said yes, and the slot has not come.
    Granted,
    /// The holder of the lease spends it.
    Spending,
    /// The slot's run has begun with it.
    Used,
    /// There was no yes, and the slot has no run.
    Ended,
}

impl Asked {
    /// Whether something may still come of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, Stand::Pending | Stand::Granted | Stand::Spending)
    }
}

/// What is to be done about persons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// They are to be asked.
    Ask {
        slot: Timestamp,
        /// Why a person wants it, where it is not the schedule's.
        reason: Option<String>,
        /// Until when they may answer.
        until: Timestamp,
    },
    /// They were asked; the run may begin at once where it is due.
    Pursue(Due),
    /// Nothing is to be asked yet.
    Rest,
}

/// Whether a slot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    Later,
}

/// What a rotation is asked about.
pub(super) struct Question<'a> {
    pub(super) name: &'a RotationName,
    pub(super) schedule: &'a Schedule,
    pub(super) consent: &'a Consent,
    pub(super) past: Past,
    /// A person's wish for a run that may begin now.
    pub(super) wish: Option<&'a str>,
    pub(super) known: Option<&'a Asked>,
}

impl Question<'_> {
    /// What is to be done at `now`, and what the schedule says of it.
    pub(super) fn plan(&self, now: Timestamp) -> (Plan, Turn) {
        let schedule = self.unforced();
        let turn = schedule.decide(self.name, &self.past, now);
        let open = self.known.filter(|known| known.is_open());
        let open = open.filter(|open| open.reason.is_some() == self.wish.is_some());
        if let Some(reason) = self.wish {
            let until = plus(now, self.consent.settings.ttl);
            let ask = || Plan::Ask { slot: now, reason: Some(reason.to_owned()), until };
            return (open.map_or_else(ask, |_| Plan::Pursue(Due::Now)), turn);
        }
        let plan = match turn.act {
            Act::Begin(slot) => match open.filter(|open| open.slot == slot) {
                Some(_) => Plan::Pursue(Due::Now),
                None => self.ask(slot, now),
            },
            Act::Wait(_) if open.is_some_and(|open| open.slot > self.past.settled) => {
                Plan::Pursue(Due::Later)
            }
            Act::Wait(_) => {
                let ahead = schedule.decide(self.name, &self.past, plus(now, self.consent.lead));
                match ahead.act {
                    Act::Begin(slot) if slot > self.past.settled && turn.skipped.is_empty() => {
                        self.ask(slot, now)
                    }
                    _ => Plan::Rest,
                }
            }
        };
        (plan, turn)
    }

    fn ask(&self, slot: Timestamp, now: Timestamp) -> Plan {
        let last = self.schedule.last_begin(self.name, &self.past, slot).filter(|last| *last > now);
        let otherwise = || plus(slot, self.schedule.window).max(plus(now, self.consent.settings.ttl));
        Plan::Ask { slot, reason: None, until: last.unwrap_or_else(otherwise) }
    }

    /// The schedule; without its maximal age once persons have not said yes to what that made due: they are asked again for the next
    /// regular slot, and what watches the age tells meanwhile.
    fn unforced(&self) -> Schedule {
        let forced = self.schedule.max_age.map(|age| plus(self.past.succeeded, age));
        let ended = self.known.filter(|known| known.state == Stand::Ended).map(|known| known.slot);
        let was_asked = ended.zip(forced).is_some_and(|(ended, forced)| ended >= forced);
        let max_age = self.schedule.max_age.filter(|_| !was_asked);
        Schedule { max_age, ..self.schedule.clone() }
    }
}

impl Consent {
    /// How long a yes to a slot of `schedule` holds: longer than the slot can wait for its run.
    pub(super) fn valid_for(&self, schedule: &Schedule, reason: Option<&str>) -> Duration {
        if reason.is_some() {
            return self.settings.valid_for;
        }
        let late = schedule.max_lateness.unwrap_or_default().max(schedule.window);
        self.lead.saturating_add(late).saturating_add(self.settings.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        approval::Folder,
        name::ApprovalName,
        rotation::schedule::{Policy, When, Zone, cron::Cron},
    };

    fn at(text: &str) -> Timestamp {
        format!("2026-11-{text}Z").parse().unwrap()
    }

    fn consent() -> Consent {
        let settings = approval::Settings {
            name: ApprovalName::new("two").unwrap(),
            identity: None,
            store: Folder { mount: "kv".into(), path: "approvals".into() },
            approvers: Vec::new(),
            transit: "transit".into(),
            quorum: 1,
            exclude: Vec::new(),
            ttl: Duration::from_secs(900),
            valid_for: Duration::from_secs(600),
            uses: 1,
            hold: Duration::ZERO,
            pending_max: 1,
            observe: false,
            webhook: None,
            group: None,
        };
        Consent { settings, lead: Duration::from_secs(3600) }
    }

    /// Each day at three.
    fn daily() -> Schedule {
        Schedule {
            when: When::Cron { cron: Cron::parse("0 3 * * *").unwrap(), zone: Zone::utc() },
            window: Duration::from_secs(7200),
            jitter: Duration::ZERO,
            missed: Policy::OnceInWindow,
            max_lateness: None,
            max_age: None,
            min_interval: Duration::from_secs(300),
            blackouts: Vec::new(),
        }
    }

    fn asked(slot: &str, state: Stand) -> Asked {
        Asked {
            id: "6a1f3c20-9b1e42aa10f3".into(),
            slot: at(slot),
            slot_time: slot.into(),
            until: at(slot),
            terms: String::new(),
            reason: None,
            state,
            by: Vec::new(),
            run: None,
            why: None,
        }
    }

    #[track_caller]
    fn check(now: &str, known: Option<Asked>, wish: Option<&str>, expected: Plan) {
        let (schedule, consent) = (daily(), consent());
        let past = Past { settled: at("10T03:00:00"), succeeded: at("10T03:00:00"), not_before: None };
        let name = RotationName::new("orders").unwrap();
        let question = Question {
            name: &name,
            schedule: &schedule,
            consent: &consent,
            past,
            wish,
            known: known.as_ref(),
        };
        assert_eq!(question.plan(at(now)).0, expected);
    }

    #[test]
    fn persons_are_asked_ahead_of_the_slot_and_once() {
        let ask = Plan::Ask { slot: at("11T03:00:00"), reason: None, until: at("11T05:00:00") };
        check("11T01:59:59", None, None, Plan::Rest);
        check("11T02:00:00", None, None, ask.clone());
        // Nobody was there an hour before.
        check("11T03:30:00", None, None, ask.clone());
        let open = |state| Some(asked("11T03:00:00", state));
        check("11T02:00:10", open(Stand::Pending), None, Plan::Pursue(Due::Later));
        check("11T02:59:59", open(Stand::Granted), None, Plan::Pursue(Due::Later));
        check("11T03:00:00", open(Stand::Granted), None, Plan::Pursue(Due::Now));
        check("11T04:59:00", open(Stand::Pending), None, Plan::Pursue(Due::Now));
        // Its window is over: what becomes of it is still looked at.
        check("11T05:00:01", open(Stand::Pending), None, Plan::Pursue(Due::Later));
        // What was asked for another slot is none for this.
        check("11T03:00:00", Some(asked("10T03:00:00", Stand::Used)), None, ask);
    }

    #[test]
    fn a_person_who_wants_a_run_now_needs_a_yes_of_its_own() {
        let reason = Some("leaked".to_owned());
        let ask = Plan::Ask { slot: at("10T12:00:00"), reason, until: at("10T12:15:00") };
        check("10T12:00:00", None, Some("leaked"), ask.clone());
        check("10T12:00:00", Some(asked("11T03:00:00", Stand::Pending)), Some("leaked"), ask);
        let known = Asked { reason: Some("leaked".into()), ..asked("10T11:59:00", Stand::Pending) };
        check("10T12:00:00", Some(known.clone()), Some("leaked"), Plan::Pursue(Due::Now));
        // Somebody took the wish back.
        check("10T12:00:00", Some(known), None, Plan::Rest);
    }

    #[test]
    fn what_its_age_makes_due_is_asked_for_once_and_again_with_the_next_slot() {
        let (consent, name) = (consent(), RotationName::new("orders").unwrap());
        let schedule = Schedule { max_age: Some(Duration::from_secs(12 * 3600)), ..daily() };
        let past = Past { settled: at("10T03:00:00"), succeeded: at("10T03:00:00"), not_before: None };
        let plan = |known: Option<Asked>, now: &str| {
            let question = Question {
                name: &name,
                schedule: &schedule,
                consent: &consent,
                past,
                wish: None,
                known: known.as_ref(),
            };
            question.plan(at(now)).0
        };
        let forced = Plan::Ask { slot: at("10T15:00:00"), reason: None, until: at("10T17:00:00") };
        assert_eq!(plan(None, "10T14:30:00"), forced);
        let ended = || Some(asked("10T15:00:00", Stand::Ended));
        assert_eq!(plan(ended(), "10T16:00:00"), Plan::Rest);
        let next = Plan::Ask { slot: at("11T03:00:00"), reason: None, until: at("11T05:00:00") };
        assert_eq!(plan(ended(), "11T02:00:00"), next);
    }
}
