//! Five-field cron in a time zone: which instants a pattern names. Pure.
//!
//! Knows `* , - /`, names of months and weekdays, and `@hourly @daily @weekly @monthly`; no seconds, no years, no `L`, `W` or
//! `#`. A pattern with fixed hours fires once where the clock is put back, and once, at the first instant after it, where the
//! clock is put forward over it; one whose hour is `*` keeps its spacing over both.

use jiff::{
    Timestamp,
    civil::{Date, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};
use std::fmt;

/// As many days are searched for a match: a 29th of February may be eight years away (1896 to 1904).
const FAR: usize = 8 * 366 + 2;

/// A pattern. Equal patterns have equal texts.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both must match, or one of them.
    day_rule: DayRule,
    /// What becomes of hours that come twice or never.
    clock_rule: ClockRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DayRule {
    /// One of the two fields begins with `*`.
    Both,
    /// Both are restricted: either will do (crontab(5)).
    Either,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClockRule {
    /// The hours are named: each day has them once.
    FixedHours,
    /// Every hour: what counts is the spacing.
    EveryHour,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotACron {
    /// Another number of fields than five.
    #[error("it has {0} fields")]
    Fields(usize),
    /// A word that begins with `@` and is none of the four.
    #[error("a word that is not known")]
    Word,
    /// A field that cannot be read.
    #[error("its {0} cannot be read")]
    Field(&'static str),
    /// No day matches.
    #[error("it names no day that ever comes")]
    Never,
}

impl Cron {
    /// Reads five fields or one of the four words.
    ///
    /// # Errors
    /// [`NotACron`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, NotACron> {
        let fields = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" => "0 0 * * *",
            "@weekly" => "0 0 * * SUN",
            "@monthly" => "0 0 1 * *",
            word if word.starts_with('@') => return Err(NotACron::Word),
            fields => fields,
        };
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = *fields.as_slice() else {
            return Err(NotACron::Fields(fields.len()));
        };
        let weekdays = field(weekday, 0, 7, &WEEKDAYS).ok_or(NotACron::Field("weekday"))?;
        let either = !day.starts_with('*') && !weekday.starts_with('*');
        let cron = Self {
            text: text.trim().to_owned(),
            minutes: field(minute, 0, 59, &[]).ok_or(NotACron::Field("minute"))?,
            hours: field(hour, 0, 23, &[]).ok_or(NotACron::Field("hour"))?,
            days: field(day, 1, 31, &[]).ok_or(NotACron::Field("day of the month"))?,
            months: field(month, 1, 12, &MONTHS).ok_or(NotACron::Field("month"))?,
            // 7 is Sunday too.
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            day_rule: if either { DayRule::Either } else { DayRule::Both },
            clock_rule: if hour == "*" { ClockRule::EveryHour } else { ClockRule::FixedHours },
        };
        cron.next_after(&TimeZone::UTC, Timestamp::UNIX_EPOCH).map(|_| cron).ok_or(NotACron::Never)
    }

    /// The first instant after `after`; `None` only at the end of what dates can say.
    #[must_use]
    pub fn next_after(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        // What lies in a gap fires after it, which may be the next day: the day before is looked at too.
        let first = zone.to_datetime(after).date().yesterday().ok()?;
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok());
        days.take(FAR).find_map(|day| self.of_day(zone, day).into_iter().find(|at| *at > after))
    }

    /// The last instant at or before `until` and after `since`.
    #[must_use]
    pub fn last_between(&self, zone: &TimeZone, since: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let oldest = zone.to_datetime(since).date().yesterday().ok()?;
        let newest = zone.to_datetime(until).date();
        let days = std::iter::successors(Some(newest), |day| day.yesterday().ok());
        let days = days.take(FAR).take_while(|day| *day >= oldest);
        days.flat_map(|day| self.of_day(zone, day).into_iter().rev())
            .find(|at| *at <= until)
            .filter(|at| *at > since)
    }

    /// Every instant of one day of the zone, in order.
    fn of_day(&self, zone: &TimeZone, day: Date) -> Vec<Timestamp> {
        let mut instants = Vec::new();
        if !self.names(day) {
            return instants;
        }
        for hour in (0..24_i8).filter(|hour| has(self.hours, *hour)) {
            for minute in (0..60_i8).filter(|minute| has(self.minutes, *minute)) {
                let at = day.at(hour, minute, 0, 0);
                let found = zone.to_ambiguous_timestamp(at);
                match (found.offset(), self.clock_rule) {
                    (AmbiguousOffset::Unambiguous { .. }, _) => instants.extend(found.unambiguous()),
                    (AmbiguousOffset::Gap { .. }, ClockRule::EveryHour) => {}
                    (AmbiguousOffset::Gap { after, .. }, ClockRule::FixedHours) => {
                        let before_it = after.to_timestamp(at).ok();
                        instants.extend(
                            before_it
                                .and_then(|before| zone.following(before).next())
                                .map(|first| first.timestamp()),
                        );
                    }
                    (AmbiguousOffset::Fold { before, after }, rule) => {
                        instants.extend(before.to_timestamp(at));
                        if rule == ClockRule::EveryHour {
                            instants.extend(after.to_timestamp(at));
                        }
                    }
                }
            }
        }
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    fn names(&self, day: Date) -> bool {
        let in_month = has(self.days, day.day());
        let in_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        has(self.months, day.month())
            && match self.day_rule {
                DayRule::Both => in_month && in_week,
                DayRule::Either => in_month || in_week,
            }
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The weekday that `name` (`Mon`, in any case) spells.
pub(super) fn weekday(name: &str) -> Option<Weekday> {
    let at = WEEKDAYS.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    Weekday::from_sunday_zero_offset(i8::try_from(at).ok()?).ok()
}

const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

fn has(set: u64, number: i8) -> bool {
    u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number)).is_some_and(|bit| set & bit != 0)
}

/// The set of numbers that a field names; `names` stand for the numbers from `least` on.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Option<u64> {
    text.split(',').try_fold(0, |set, part| Some(set | part_of(part, least, most, names)?))
}

fn part_of(text: &str, least: u32, most: u32, names: &[&str]) -> Option<u64> {
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u32::try_from(at).ok()?.checked_add(least));
        let digits = || text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        named.or_else(digits).filter(|number| (least..=most).contains(number))
    };
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => {
            (range, Some(step.parse::<u32>().ok().filter(|step| (1..=most).contains(step))?))
        }
        None => (text, None),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None if range == "*" => (least, most),
        // `5/10` is read in two ways elsewhere.
        None if step.is_some() => return None,
        None => (number(range)?, number(range)?),
    };
    let step = usize::try_from(step.unwrap_or(1)).ok()?;
    (first <= last).then(|| (first..=last).step_by(step).fold(0, |set, number| set | (1 << number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The firings of `cron` in `zone` behind `after`, with their offsets.
    fn check(zone: &str, cron: &str, after: &str, expected: &[&str]) {
        let cron = Cron::parse(cron).unwrap();
        let tz = TimeZone::get(zone).unwrap();
        let after: Timestamp = after.parse().unwrap();
        let next = |at: &Timestamp| cron.next_after(&tz, *at);
        let fired: Vec<Timestamp> = std::iter::successors(next(&after), next).take(expected.len()).collect();
        let spelled = |at: &Timestamp| at.to_zoned(tz.clone()).strftime("%Y-%m-%dT%H:%M%:z").to_string();
        assert_eq!(fired.iter().map(spelled).collect::<Vec<_>>(), expected, "{zone} {cron}");
        // The way back gives the same.
        if let Some(last) = fired.last() {
            let before =
                |at: &Timestamp| cron.last_between(&tz, after, *at - jiff::SignedDuration::from_secs(1));
            let mut back: Vec<Timestamp> = std::iter::successors(Some(*last), before).collect();
            back.reverse();
            assert_eq!(back, fired, "{zone} {cron} backwards");
        }
    }

    #[test]
    fn a_fixed_hour_that_is_skipped_runs_once_after_the_gap() {
        check(
            "Europe/Berlin",
            "30 2 * * *",
            "2027-03-27T00:00Z",
            &["2027-03-27T02:30+01:00", "2027-03-28T03:00+02:00", "2027-03-29T02:30+02:00"],
        );
        // Two slots in one gap are one run.
        check(
            "Europe/Berlin",
            "0,30 2 * * *",
            "2027-03-27T12:00Z",
            &["2027-03-28T03:00+02:00", "2027-03-29T02:00+02:00"],
        );
        // And so is one that would run at its end anyway.
        check(
            "Europe/Berlin",
            "30 2,3 * * *",
            "2027-03-27T12:00Z",
            &["2027-03-28T03:00+02:00", "2027-03-28T03:30+02:00", "2027-03-29T02:30+02:00"],
        );
        check(
            "America/New_York",
            "15 2 * * SUN",
            "2027-03-08T00:00Z",
            &["2027-03-14T03:00-04:00", "2027-03-21T02:15-04:00"],
        );
        // Half an hour: 02:00 to 02:30.
        check(
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2027-10-02T12:00Z",
            &["2027-10-03T02:30+11:00", "2027-10-04T02:15+11:00"],
        );
        // A whole day: there was no 30 December 2011.
        check(
            "Pacific/Apia",
            "30 2 * * *",
            "2011-12-29T00:00Z",
            &["2011-12-29T02:30-10:00", "2011-12-31T00:00+14:00", "2011-12-31T02:30+14:00"],
        );
    }

    #[test]
    fn a_fixed_hour_that_comes_twice_runs_the_first_time_only() {
        check(
            "Europe/Berlin",
            "30 2 * * *",
            "2027-10-30T00:00Z",
            &["2027-10-30T02:30+02:00", "2027-10-31T02:30+02:00", "2027-11-01T02:30+01:00"],
        );
        check(
            "America/New_York",
            "0,30 1 * * *",
            "2026-11-01T00:00Z",
            &["2026-11-01T01:00-04:00", "2026-11-01T01:30-04:00", "2026-11-02T01:00-05:00"],
        );
        check(
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2027-04-03T00:00Z",
            &["2027-04-04T01:45+11:00", "2027-04-05T01:45+10:30"],
        );
        check(
            "Pacific/Apia",
            "30 3 * * *",
            "2021-04-03T00:00Z",
            &["2021-04-04T03:30+14:00", "2021-04-05T03:30+13:00"],
        );
        // Fixed hours, though a step names them.
        check(
            "Europe/Berlin",
            "0 */2 * * *",
            "2027-10-30T21:30Z",
            &["2027-10-31T00:00+02:00", "2027-10-31T02:00+02:00", "2027-10-31T04:00+01:00"],
        );
    }

    #[test]
    fn every_n_minutes_keeps_its_spacing_over_both_changes() {
        check(
            "Europe/Berlin",
            "*/30 * * * *",
            "2027-10-30T23:59Z",
            &[
                "2027-10-31T02:00+02:00",
                "2027-10-31T02:30+02:00",
                "2027-10-31T02:00+01:00",
                "2027-10-31T02:30+01:00",
                "2027-10-31T03:00+01:00",
            ],
        );
        check(
            "Europe/Berlin",
            "*/30 * * * *",
            "2027-03-28T00:15Z",
            &["2027-03-28T01:30+01:00", "2027-03-28T03:00+02:00", "2027-03-28T03:30+02:00"],
        );
        check(
            "Australia/Lord_Howe",
            "*/15 * * * *",
            "2027-04-03T14:30Z",
            &[
                "2027-04-04T01:45+11:00",
                "2027-04-04T01:30+10:30",
                "2027-04-04T01:45+10:30",
                "2027-04-04T02:00+10:30",
            ],
        );
    }

    #[test]
    fn utc_has_no_changes_and_days_are_those_of_crontab() {
        check("UTC", "@daily", "2027-03-28T00:00Z", &["2027-03-29T00:00+00:00"]);
        check("UTC", "@hourly", "2027-03-28T23:30Z", &["2027-03-29T00:00+00:00", "2027-03-29T01:00+00:00"]);
        check("UTC", "@weekly", "2026-11-26T00:00Z", &["2026-11-29T00:00+00:00"]);
        check("UTC", "@monthly", "2026-11-26T00:00Z", &["2026-12-01T00:00+00:00"]);
        check("UTC", "0 3 * * 7", "2026-11-26T00:00Z", &["2026-11-29T03:00+00:00"]);
        check(
            "UTC",
            "0 3 13 * FRI",
            "2026-11-26T00:00Z",
            &["2026-11-27T03:00+00:00", "2026-12-04T03:00+00:00"],
        );
        check("UTC", "0 0 29 FEB *", "2096-03-01T00:00Z", &["2104-02-29T00:00+00:00"]);
        check(
            "UTC",
            "5-15/5 9-10 * jan mon",
            "2027-01-01T00:00Z",
            &[
                "2027-01-04T09:05+00:00",
                "2027-01-04T09:10+00:00",
                "2027-01-04T09:15+00:00",
                "2027-01-04T10:05+00:00",
            ],
        );
    }

    #[test]
    fn what_others_read_in_different_ways_is_refused() {
        for (text, expected) in [
            ("0 3 * *", NotACron::Fields(4)),
            ("0 0 3 * * *", NotACron::Fields(6)),
            ("0 0 3 * * * 2027", NotACron::Fields(7)),
            ("", NotACron::Fields(0)),
            ("@yearly", NotACron::Word),
            ("@reboot", NotACron::Word),
            ("60 * * * *", NotACron::Field("minute")),
            ("5/10 * * * *", NotACron::Field("minute")),
            ("*/0 * * * *", NotACron::Field("minute")),
            ("+5 * * * *", NotACron::Field("minute")),
            ("0 24 * * *", NotACron::Field("hour")),
            ("0 5-3 * * *", NotACron::Field("hour")),
            ("0 0 L * *", NotACron::Field("day of the month")),
            ("0 0 0 * *", NotACron::Field("day of the month")),
            ("0 0 * 13 *", NotACron::Field("month")),
            ("0 0 * * MON#1", NotACron::Field("weekday")),
            ("0 0 * * 8", NotACron::Field("weekday")),
            ("0 0 31 2 *", NotACron::Never),
        ] {
            assert_eq!(Cron::parse(text), Err(expected), "{text}");
        }
    }
}
