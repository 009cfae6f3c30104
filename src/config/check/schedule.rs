//! A rotation's `schedule`, `missed` and `blackout`: when it is due.
//!
//! Pure.

use super::{
    super::reader::{Leaf, Map},
    DAY, seconds,
};
use crate::{
    name::RotationName,
    rotation::schedule::{Past, Policy, Schedule, When, Zone, blackout::Blackout, cron::Cron},
};
use jiff::Timestamp;
use std::{ops::RangeInclusive, time::Duration};

/// As many slots are looked at to find the two that are nearest to each other: more than a week of hourly ones.
const SLOTS: usize = 200;

/// All that says when a rotation is done: `schedule`, `missed`, `min_interval` and `blackout`; `rest` is what `min_interval` is without
/// a word, and what it may be.
pub(super) fn whole(
    map: &mut Map<'_>,
    example: &str,
    (rest, allowed): (Duration, RangeInclusive<Duration>),
) -> Option<Schedule> {
    let when = map.need("schedule", example, read);
    let cron = when.as_ref().map(|when| matches!(when.when, When::Cron { .. }));
    let missed = map.or("missed", Missed::default(), |leaf| missed(leaf, cron));
    let rest = map.or("min_interval", rest, |leaf| leaf.duration(allowed));
    let blackouts = map.or("blackout", Vec::new(), |leaf| leaf.each(blackout));
    let Missed { policy, max_lateness, max_age } = missed?;
    let (min_interval, blackouts) = (rest?, blackouts?);
    Some(Schedule { missed: policy, max_lateness, max_age, min_interval, blackouts, ..when? })
}

/// A schedule without what other keys say of it.
pub(super) fn read(leaf: &Leaf<'_>) -> Option<Schedule> {
    let mut map = leaf.map()?;
    let cron = map.given("cron", |leaf| {
        let text = leaf.text()?;
        let cron = Cron::parse(&text);
        cron.inspect_err(|error| {
            leaf.problem(
                format!("no cron of five fields: {error}"),
                "write MINUTE HOUR DAY MONTH WEEKDAY, or @hourly, @daily, @weekly or @monthly",
            );
        })
        .ok()
    });
    let zone = map.given("tz", |leaf| {
        let zone = Zone::named(&leaf.text()?);
        if zone.is_none() {
            leaf.problem("a time zone that is not known", "write an IANA name, as in Europe/Berlin or UTC");
        }
        zone
    });
    let every = map.given("every", |leaf| leaf.duration(seconds(1, 3650 * DAY)));
    let window = map.or("window", Duration::from_secs(3600), |leaf| leaf.duration(seconds(1, 30 * DAY)));
    let jitter = map.or("jitter", Duration::ZERO, |leaf| {
        let jitter = leaf.duration(seconds(0, 30 * DAY))?;
        if window.is_some_and(|window| jitter >= window) {
            leaf.problem("a jitter as long as the window", "make it shorter than window");
            return None;
        }
        Some(jitter)
    });
    map.finish();
    let when = match (cron?, zone?, every?) {
        (Some(cron), Some(zone), None) => When::Cron { cron, zone },
        (None, None, Some(every)) => When::Every(every),
        (Some(_), None, None) => {
            leaf.problem("a cron without a time zone", "write tz: Europe/Berlin, or tz: UTC");
            return None;
        }
        _ => {
            leaf.problem("neither cron with tz, nor every alone", "write one of the two");
            return None;
        }
    };
    Some(Schedule {
        when,
        window: window?,
        jitter: jitter?,
        missed: Policy::OnceInWindow,
        max_lateness: None,
        max_age: None,
        min_interval: Duration::ZERO,
        blackouts: Vec::new(),
    })
}

/// What becomes of missed slots.
#[derive(Clone, Copy)]
struct Missed {
    pub(super) policy: Policy,
    pub(super) max_lateness: Option<Duration>,
    pub(super) max_age: Option<Duration>,
}

impl Default for Missed {
    fn default() -> Self {
        Self { policy: Policy::OnceInWindow, max_lateness: None, max_age: None }
    }
}

fn missed(leaf: &Leaf<'_>, is_cron: Option<bool>) -> Option<Missed> {
    let mut map = leaf.map()?;
    let policy = map.or("policy", Policy::OnceInWindow, |leaf| {
        if is_cron == Some(false) {
            leaf.problem(
                "a policy for slots of `every`: a run that is late begins as soon as it can",
                "remove it",
            );
            return None;
        }
        leaf.word(&[("skip", Policy::Skip), ("once_in_window", Policy::OnceInWindow), ("once", Policy::Once)])
    });
    let max_lateness = map.given("max_lateness", |leaf| {
        if policy.is_some_and(|policy| policy != Policy::Once) {
            leaf.problem("a max_lateness without policy: once", "write policy: once, or remove it");
            return None;
        }
        leaf.duration(seconds(1, 3650 * DAY))
    });
    let max_age = map.given("max_age", |leaf| leaf.duration(seconds(1, 3650 * DAY)));
    map.finish();
    Some(Missed { policy: policy?, max_lateness: max_lateness?, max_age: max_age? })
}

fn blackout(leaf: &Leaf<'_>) -> Option<Blackout> {
    let blackout = Blackout::parse(&leaf.text()?);
    if blackout.is_none() {
        leaf.problem(
            "no blackout",
            "write \"2026-12-20/2027-01-03\" or \"Mon-Fri 09:00-17:00 America/New_York\"",
        );
    }
    blackout
}

/// The shortest time between two of the next slots.
pub(super) fn nearest(schedule: &Schedule) -> Option<Duration> {
    if let When::Every(every) = schedule.when {
        return Some(every);
    }
    let name = RotationName::new("any").ok()?;
    // Any instant will do, so that the answer does not depend on when it is asked: 2027-01-01.
    let from = Timestamp::from_second(1_798_761_600).ok()?;
    let past = Past { settled: from, succeeded: from, not_before: None };
    let slots = schedule.plan(&name, &past, from, SLOTS);
    let gaps = slots.iter().zip(slots.iter().skip(1));
    gaps.filter_map(|(one, next)| Duration::try_from(next.slot.duration_since(one.slot)).ok()).min()
}

/// Slots must leave room for what lies between them.
pub(super) fn spacing(leaf: &Leaf<'_>, schedule: Option<&Schedule>) {
    if let Some(schedule) = schedule
        && let Some(nearest) = nearest(schedule)
        && nearest < schedule.min_interval
    {
        leaf.problem(
            "slots that are nearer to each other than min_interval",
            "write a schedule with fewer slots, or a shorter min_interval",
        );
    }
}
