//! When a rotation is due, and what becomes of slots that were missed. Pure.
//!
//! A slot is the instant that a schedule names; it is settled by a run or by being skipped, and is then never run again. All
//! replicas come to the same answers: jitter is a hash. Does not know what a rotation does.

pub mod blackout;
pub mod cron;

use crate::{crypto::sha256_of, name::RotationName};
use blackout::Blackout;
use cron::Cron;
use jiff::{Timestamp, Zoned, tz::TimeZone};
use std::{fmt, time::Duration};

/// As many missed slots are told of one by one; of older ones nothing is said.
const TOLD: usize = 32;
/// With `missed: {policy: skip}`, who comes later than this after a slot's start has missed it.
const AT_ONCE: Duration = Duration::from_secs(60);
/// Blackouts that follow one another are looked through this often.
const BLACKOUTS: usize = 16;

/// A time zone by its IANA name, from the database that is built in.
#[derive(Debug, Clone)]
pub struct Zone {
    name: String,
    tz: TimeZone,
}

impl Zone {
    /// The zone of that name, if the database has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let tz = TimeZone::get(name).ok()?;
        // As the database spells it.
        Some(Self { name: tz.iana_name().unwrap_or(name).to_owned(), tz })
    }

    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), tz: TimeZone::UTC }
    }

    /// The zone itself.
    #[must_use]
    pub fn tz(&self) -> &TimeZone {
        &self.tz
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What names the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// A pattern, by the clock of a zone.
    Cron {
        /// The pattern.
        cron: Cron,
        /// Whose clock.
        zone: Zone,
    },
    /// This long after the last success; a run that is late begins as soon as it can.
    Every(Duration),
}

/// What becomes of a slot whose time passed while nobody could run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It is skipped unless it begins at once.
    Skip,
    /// It begins within its window, or is skipped.
    OnceInWindow,
    /// It begins as soon as it can, unless the next slot has come.
    Once,
}

/// Everything that decides when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What names the slots.
    pub when: When,
    /// How long after its slot a run may begin.
    pub window: Duration,
    /// A run begins up to this long after its slot; less than the window.
    pub jitter: Duration,
    /// What becomes of missed slots.
    pub missed: Policy,
    /// The longest that policy `once` may be late; `None`: until the next slot.
    pub max_lateness: Option<Duration>,
    /// A credential older than this is rotated outside of windows too.
    pub max_age: Option<Duration>,
    /// The shortest time from a success to the next run.
    pub min_interval: Duration,
    /// When no run begins.
    pub blackouts: Vec<Blackout>,
}

/// What the journal says of earlier slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Slots up to this one are settled.
    pub settled: Timestamp,
    /// The last success, else when the journal was begun.
    pub succeeded: Timestamp,
    /// No run may begin before, for the sake of others of its group.
    pub not_before: Option<Timestamp>,
}

/// What is to be done at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Slots that are over without a run, oldest first. They are settled now.
    pub skipped: Vec<Skipped>,
    /// And then.
    pub act: Act,
}

/// A slot without a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Which one.
    pub slot: Timestamp,
    /// Why.
    pub why: Why,
}

/// Why a slot had no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Nobody was there to run it in its time.
    Missed,
    /// A blackout lasted longer than its window.
    Blackout,
    /// The last success was too near.
    MinInterval,
    /// Others of its group were too near.
    Group,
    /// Persons who must say yes did not.
    Approval,
    /// A person had suspended it.
    Suspended,
}

impl Why {
    /// The word of the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Blackout => "blackout",
            Self::MinInterval => "min_interval",
            Self::Group => "group",
            Self::Approval => "approval",
            Self::Suspended => "suspended",
        }
    }
}

/// To begin, or to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing is due before this instant.
    Wait(Timestamp),
    /// A run for this slot begins now.
    Begin(Timestamp),
}

/// A run to come, as far as it can be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its slot.
    pub slot: Timestamp,
    /// When it begins: the slot and its jitter.
    pub begins: Timestamp,
    /// It lies in a blackout until then.
    pub blackout: Option<Timestamp>,
}

impl Schedule {
    /// The zone whose clock people read the schedule by.
    #[must_use]
    pub fn zone(&self) -> Zone {
        match &self.when {
            When::Cron { zone, .. } => zone.clone(),
            When::Every(_) => Zone::utc(),
        }
    }

    /// What is to be done at `now`.
    #[must_use]
    pub fn decide(&self, name: &RotationName, past: &Past, now: Timestamp) -> Turn {
        let forced = self.max_age.map(|age| plus(past.succeeded, age));
        let is_forced = forced.is_some_and(|at| at <= now);
        let Some(slot) = self.latest(past, now) else {
            let next = self.begins(name, self.next_after(past, now));
            let (brake, _) = self.brakes(past, now);
            let act = match forced {
                Some(slot) if is_forced && brake <= now => Act::Begin(slot),
                Some(_) if is_forced => Act::Wait(next.min(brake)),
                Some(at) => Act::Wait(next.min(at)),
                None => Act::Wait(next),
            };
            return Turn { skipped: Vec::new(), act };
        };
        let start = self.begins(name, slot);
        let (begin, brake) = self.brakes(past, start);
        let last = self.last(slot, begin);
        if now < begin && begin <= last {
            return Turn { skipped: Vec::new(), act: Act::Wait(begin) };
        }
        let mut skipped = self.missed_before(past, slot);
        let is_free = self.brakes(past, now).0 <= now;
        if is_free && ((begin <= now && now <= last) || is_forced) {
            return Turn { skipped, act: Act::Begin(slot) };
        }
        if begin <= now && now <= last {
            // A brake has come since: the slot may still have its turn.
            return Turn { skipped: Vec::new(), act: Act::Wait(self.brakes(past, now).0) };
        }
        let why = if begin > last { brake.unwrap_or(Why::Missed) } else { Why::Missed };
        skipped.push(Skipped { slot, why });
        let past = Past { settled: slot, ..*past };
        let next = self.begins(name, self.next_after(&past, now));
        Turn { skipped, act: Act::Wait(forced.filter(|at| *at > now).map_or(next, |at| next.min(at))) }
    }

    /// The last moment at which the run of `slot` may begin; `None`: as late as it likes.
    #[must_use]
    pub fn last_begin(&self, name: &RotationName, past: &Past, slot: Timestamp) -> Option<Timestamp> {
        let (begin, _) = self.brakes(past, self.begins(name, slot));
        Some(self.last(slot, begin)).filter(|last| *last < Timestamp::MAX)
    }

    fn last(&self, slot: Timestamp, begin: Timestamp) -> Timestamp {
        match self.missed {
            // It counts from the last success: late is late, and there is nothing to wait for.
            _ if matches!(self.when, When::Every(_)) => Timestamp::MAX,
            Policy::Skip => plus(begin, AT_ONCE).min(plus(slot, self.window)),
            Policy::OnceInWindow => plus(slot, self.window),
            Policy::Once => {
                self.max_lateness.map_or(Timestamp::MAX, |late| plus(slot, late.max(self.window)))
            }
        }
    }

    /// The next `count` runs behind `now`.
    #[must_use]
    pub fn plan(&self, name: &RotationName, past: &Past, now: Timestamp, count: usize) -> Vec<Planned> {
        let first = self.next_after(past, now);
        let next = |slot: &Timestamp| {
            Some(self.next_after(&Past { settled: *slot, succeeded: *slot, ..*past }, *slot))
        };
        let slots =
            std::iter::successors(Some(first), next).take_while(|slot| *slot < Timestamp::MAX).take(count);
        slots
            .map(|slot| {
                let begins = self.begins(name, slot);
                Planned { slot, begins, blackout: self.blackout(begins).filter(|end| *end > begins) }
            })
            .collect()
    }

    /// When the blackout of `now` ends, if there is one.
    #[must_use]
    pub fn blackout_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.blackout(now).filter(|end| *end > now)
    }

    /// A slot as people read it, and as the journal keeps it: local time with its offset.
    #[must_use]
    pub fn spell(&self, slot: Timestamp) -> String {
        local(&self.zone(), slot).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// The newest slot up to `now` that is not settled.
    fn latest(&self, past: &Past, now: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Cron { cron, zone } => cron.last_between(&zone.tz, past.settled, now),
            When::Every(every) => {
                Some(plus(past.settled.max(past.succeeded), *every)).filter(|slot| *slot <= now)
            }
        }
    }

    /// The first slot behind `now` and behind what is settled.
    fn next_after(&self, past: &Past, now: Timestamp) -> Timestamp {
        match &self.when {
            When::Cron { cron, zone } => {
                cron.next_after(&zone.tz, past.settled.max(now)).unwrap_or(Timestamp::MAX)
            }
            When::Every(every) => plus(past.settled.max(past.succeeded), *every),
        }
    }

    /// The unsettled slots before `slot`: those that nobody ran.
    fn missed_before(&self, past: &Past, slot: Timestamp) -> Vec<Skipped> {
        let When::Cron { cron, zone } = &self.when else { return Vec::new() };
        let before = |at: &Timestamp| cron.last_between(&zone.tz, past.settled, minus_a_moment(*at));
        let slots = std::iter::successors(before(&slot), before).take(TOLD);
        let mut skipped: Vec<_> = slots.map(|slot| Skipped { slot, why: Why::Missed }).collect();
        skipped.reverse();
        skipped
    }

    /// When a run that would begin at `at` may, and what held it up the longest.
    fn brakes(&self, past: &Past, at: Timestamp) -> (Timestamp, Option<Why>) {
        let rested = plus(past.succeeded, self.min_interval);
        let mut brake = (at, None);
        for (until, why) in [(Some(rested), Why::MinInterval), (past.not_before, Why::Group)] {
            if let Some(until) = until.filter(|until| *until > brake.0) {
                brake = (until, Some(why));
            }
        }
        match self.blackout(brake.0) {
            Some(until) if until > brake.0 => (until, Some(Why::Blackout)),
            _ => brake,
        }
    }

    /// The first instant from `at` on that lies in no blackout.
    fn blackout(&self, at: Timestamp) -> Option<Timestamp> {
        let zone = self.zone();
        let mut free = at;
        for _ in 0..BLACKOUTS {
            match self.blackouts.iter().filter_map(|blackout| blackout.until(free, &zone.tz)).max() {
                Some(until) => free = until,
                None => break,
            }
        }
        Some(free).filter(|free| *free > at)
    }

    /// A slot with its jitter: the same on every replica.
    fn begins(&self, name: &RotationName, slot: Timestamp) -> Timestamp {
        let hash = sha256_of(&[name.as_str().as_bytes(), b"|", &slot.as_second().to_be_bytes()]);
        let draw = hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let most = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        plus(slot, Duration::from_millis(draw.checked_rem(most).unwrap_or(0)))
    }
}

/// `at` by the clock of `zone`.
#[must_use]
pub fn local(zone: &Zone, at: Timestamp) -> Zoned {
    at.to_zoned(zone.tz.clone())
}

/// `at` and `span` after it, or the end of what dates can say.
#[must_use]
pub fn plus(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_add(span).unwrap_or(Timestamp::MAX)
}

/// `span` before `at`, or the beginning of what dates can say.
pub(super) fn minus(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_sub(span).unwrap_or(Timestamp::MIN)
}

fn minus_a_moment(at: Timestamp) -> Timestamp {
    at.saturating_sub(Duration::from_nanos(1)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn nightly() -> Schedule {
        Schedule {
            when: When::Cron {
                cron: Cron::parse("0 3 * * *").unwrap(),
                zone: Zone::named("Europe/Berlin").unwrap(),
            },
            window: Duration::from_secs(2 * 3600),
            jitter: Duration::ZERO,
            missed: Policy::OnceInWindow,
            max_lateness: None,
            max_age: None,
            min_interval: Duration::from_secs(3600),
            blackouts: Vec::new(),
        }
    }

    fn name() -> RotationName {
        RotationName::new("payments-db").unwrap()
    }

    /// `slot why, …; begin slot` or `… wait until`, all in Berlin.
    fn check(schedule: &Schedule, past: &Past, now: &str, expected: &str) {
        let Turn { skipped, act } = schedule.decide(&name(), past, at(now));
        let spell = |at: Timestamp| {
            local(&Zone::named("Europe/Berlin").unwrap(), at).strftime("%d %H:%M").to_string()
        };
        let skipped = skipped.iter().map(|it| format!("{} {}; ", spell(it.slot), it.why.word()));
        let act = match act {
            Act::Wait(until) => format!("wait {}", spell(until)),
            Act::Begin(slot) => format!("begin {}", spell(slot)),
        };
        assert_eq!(skipped.collect::<String>() + &act, expected, "at {now}");
    }

    fn past(settled: &str) -> Past {
        Past { settled: at(settled), succeeded: at(settled), not_before: None }
    }

    /// Runs of `cron` in `zone` from `from` on, looked for each five minutes of five days, and what was planned.
    fn over_a_change(zone: &str, cron: &str, from: &str) -> (Vec<Timestamp>, Vec<Timestamp>) {
        let when = When::Cron { cron: Cron::parse(cron).unwrap(), zone: Zone::named(zone).unwrap() };
        let schedule = Schedule { when, window: Duration::from_secs(1200), ..nightly() };
        let schedule = Schedule { jitter: Duration::ZERO, min_interval: Duration::ZERO, ..schedule };
        let (mut now, mut past) = (at(from), past(from));
        let planned = schedule.plan(&name(), &past, now, 5).iter().map(|run| run.slot).collect();
        let mut runs = Vec::new();
        for _ in 0..5 * 24 * 12 {
            let turn = schedule.decide(&name(), &past, now);
            assert_eq!(turn.skipped, [], "{zone} {cron} {now}");
            if let Act::Begin(slot) = turn.act {
                runs.push(slot);
                past = Past { settled: slot, succeeded: now, not_before: None };
            }
            now = plus(now, Duration::from_secs(300));
        }
        (runs, planned)
    }

    #[test]
    fn over_both_changes_of_the_clocks_each_slot_runs_once_as_the_plan_said() {
        // One hour in New York and in Lisbon, half of one on Lord Howe.
        for (zone, spring, autumn) in [
            ("America/New_York", "2027-03-12T12:00Z", "2027-11-05T12:00Z"),
            ("Europe/Lisbon", "2027-03-26T12:00Z", "2027-10-29T12:00Z"),
            ("Australia/Lord_Howe", "2027-10-01T12:00Z", "2027-04-02T12:00Z"),
        ] {
            for from in [spring, autumn] {
                for cron in ["15 2 * * *", "30 1 * * *", "45 1 * * *"] {
                    let (runs, planned) = over_a_change(zone, cron, from);
                    assert_eq!(runs, planned, "{zone} {cron} {from}");
                }
            }
        }
    }

    #[test]
    fn a_slot_runs_in_its_window_and_never_again() {
        let (schedule, past) = (nightly(), past("2026-11-25T02:00Z"));
        check(&schedule, &past, "2026-11-25T12:00Z", "wait 26 03:00");
        check(&schedule, &past, "2026-11-26T02:00Z", "begin 26 03:00");
        check(&schedule, &past, "2026-11-26T04:00Z", "begin 26 03:00");
        let past = Past { settled: at("2026-11-26T02:00Z"), succeeded: at("2026-11-26T02:00:09Z"), ..past };
        check(&schedule, &past, "2026-11-26T02:00:10Z", "wait 27 03:00");
    }

    #[test]
    fn after_three_missed_slots_there_is_one_catch_up_or_one_skip_each() {
        let past = past("2026-11-23T02:00Z");
        let missed = "24 03:00 missed; 25 03:00 missed; ";
        check(&nightly(), &past, "2026-11-26T03:30Z", &format!("{missed}begin 26 03:00"));
        let late = "2026-11-26T05:00Z";
        check(&nightly(), &past, late, &format!("{missed}26 03:00 missed; wait 27 03:00"));
        let old = Schedule { max_age: Some(Duration::from_secs(3 * 86_400)), ..nightly() };
        check(&old, &past, late, &format!("{missed}begin 26 03:00"));
        let once = Schedule { missed: Policy::Once, ..nightly() };
        check(&once, &past, late, &format!("{missed}begin 26 03:00"));
        let once = Schedule { max_lateness: Some(Duration::from_secs(2 * 3600)), ..once };
        check(&once, &past, late, &format!("{missed}26 03:00 missed; wait 27 03:00"));
        let skip = Schedule { missed: Policy::Skip, ..nightly() };
        check(&skip, &past, "2026-11-26T02:00:59Z", &format!("{missed}begin 26 03:00"));
        check(&skip, &past, "2026-11-26T02:02Z", &format!("{missed}26 03:00 missed; wait 27 03:00"));
    }

    #[test]
    fn a_credential_that_is_too_old_is_rotated_between_slots() {
        let weekly = When::Cron {
            cron: Cron::parse("0 3 * * SUN").unwrap(),
            zone: Zone::named("Europe/Berlin").unwrap(),
        };
        let old = Schedule { when: weekly, max_age: Some(Duration::from_secs(2 * 86_400)), ..nightly() };
        let past = past("2026-11-23T10:00Z");
        check(&old, &past, "2026-11-25T09:59Z", "wait 25 11:00");
        check(&old, &past, "2026-11-25T10:00Z", "begin 25 11:00");
        let held = Schedule {
            blackouts: vec![Blackout::parse("Mon-Fri 09:00-17:00 Europe/Berlin").unwrap()],
            ..old
        };
        check(&held, &past, "2026-11-25T10:00Z", "wait 25 17:00");
        check(&held, &past, "2026-11-25T16:00Z", "begin 25 11:00");
    }

    #[test]
    fn what_holds_a_run_up_past_its_window_is_named() {
        let past = past("2026-11-25T02:00Z");
        let black = |text: &str| Schedule { blackouts: vec![Blackout::parse(text).unwrap()], ..nightly() };
        check(&black("* 02:00-04:00 Europe/Berlin"), &past, "2026-11-26T02:30Z", "wait 26 04:00");
        check(&black("* 02:00-04:00 Europe/Berlin"), &past, "2026-11-26T03:00Z", "begin 26 03:00");
        check(
            &black("2026-11-26/2026-11-26"),
            &past,
            "2026-11-26T02:30Z",
            "26 03:00 blackout; wait 27 03:00",
        );
        let recent = Past { succeeded: at("2026-11-26T01:30Z"), ..past };
        check(&nightly(), &recent, "2026-11-26T02:00Z", "wait 26 03:30");
        let long = Schedule { min_interval: Duration::from_secs(86_400), ..nightly() };
        check(&long, &recent, "2026-11-26T02:00Z", "26 03:00 min_interval; wait 27 03:00");
        let grouped = Past { not_before: Some(at("2026-11-26T02:15Z")), ..past };
        check(&nightly(), &grouped, "2026-11-26T02:00Z", "wait 26 03:15");
        check(&nightly(), &grouped, "2026-11-26T02:15Z", "begin 26 03:00");
        let far = Past { not_before: Some(at("2026-11-26T09:00Z")), ..past };
        check(&nightly(), &far, "2026-11-26T02:00Z", "26 03:00 group; wait 27 03:00");
    }

    #[test]
    fn every_counts_from_the_last_success_and_never_bursts() {
        let every = Schedule { when: When::Every(Duration::from_secs(6 * 3600)), ..nightly() };
        let past = Past { succeeded: at("2026-11-25T02:30Z"), ..past("2026-11-25T02:00Z") };
        check(&every, &past, "2026-11-25T03:00Z", "wait 25 09:30");
        check(&every, &past, "2026-11-25T08:30Z", "begin 25 09:30");
        // Two days later one run is late, not eight.
        check(&every, &past, "2026-11-27T08:30Z", "begin 25 09:30");
        let past = Past { settled: at("2026-11-25T08:30Z"), succeeded: at("2026-11-27T08:31Z"), ..past };
        check(&every, &past, "2026-11-27T08:32Z", "wait 27 15:31");
    }

    #[test]
    fn jitter_is_the_same_on_every_replica_and_differs_by_slot_and_name() {
        let jittered = Schedule { jitter: Duration::from_secs(1200), ..nightly() };
        let plan = |name: &str| {
            jittered.plan(
                &RotationName::new(name).unwrap(),
                &past("2026-11-25T02:00Z"),
                at("2026-11-25T12:00Z"),
                3,
            )
        };
        let (one, two) = (plan("payments-db"), plan("orders-db"));
        assert_eq!(one, plan("payments-db"));
        assert_ne!(one, two);
        for planned in &one {
            assert!(planned.begins >= planned.slot && planned.begins < plus(planned.slot, jittered.jitter));
        }
        assert_ne!(one[0].begins.duration_since(one[0].slot), one[1].begins.duration_since(one[1].slot));
        let spelled: Vec<String> = one.iter().map(|planned| jittered.spell(planned.slot)).collect();
        assert_eq!(
            spelled,
            ["2026-11-26T03:00:00+01:00", "2026-11-27T03:00:00+01:00", "2026-11-28T03:00:00+01:00"]
        );
    }
}
