//! Times in which no rotation begins. Pure.
//!
//! Does not stop one that runs: half a rotation is worse than one at a bad time.

use super::{Zone, cron::weekday};
use jiff::{
    Timestamp,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};

/// One such time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blackout {
    /// From the first date through the last, in the schedule's zone.
    Dates {
        /// The first day.
        first: Date,
        /// The last day; not before the first.
        last: Date,
    },
    /// On each of these weekdays from one time to another; over midnight where the end is not after the beginning.
    Hours {
        /// On which days it begins.
        days: Vec<Weekday>,
        /// When it begins.
        from: Time,
        /// When it is over.
        to: Time,
        /// Whose clock.
        zone: Zone,
    },
}

impl Blackout {
    /// Reads `2026-12-20/2027-01-03` or `Mon-Fri 09:00-17:00 America/New_York`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((first, last)) = text.split_once('/')
            && let (Ok(first), Ok(last)) = (first.parse::<Date>(), last.parse::<Date>())
        {
            return (first <= last).then_some(Self::Dates { first, last });
        }
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [days, hours, zone] = *parts.as_slice() else { return None };
        let (from, to) = hours.split_once('-')?;
        let time = |text: &str| Time::strptime("%H:%M", text).ok();
        Some(Self::Hours { days: days_of(days)?, from: time(from)?, to: time(to)?, zone: Zone::named(zone)? })
    }

    /// When it is over, if `at` lies in it; `zone` is the schedule's.
    #[must_use]
    pub fn until(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Dates { first, last } => {
                let today = zone.to_datetime(at).date();
                (*first <= today && today <= *last)
                    .then(|| start(zone, last.tomorrow().ok()?, Time::midnight()))?
            }
            Self::Hours { days, from, to, zone } => {
                let today = zone.tz().to_datetime(at).date();
                [today.yesterday().ok(), Some(today)].into_iter().flatten().find_map(|day| {
                    let last = if to > from { day } else { day.tomorrow().ok()? };
                    let (begin, end) = (start(zone.tz(), day, *from)?, start(zone.tz(), last, *to)?);
                    (days.contains(&day.weekday()) && begin <= at && at < end).then_some(end)
                })
            }
        }
    }
}

fn start(zone: &TimeZone, day: Date, time: Time) -> Option<Timestamp> {
    zone.to_timestamp(day.to_datetime(time)).ok()
}

/// `Mon`, `Mon-Fri`, `Sat,Sun`, `*`.
fn days_of(text: &str) -> Option<Vec<Weekday>> {
    if text == "*" {
        return Some(Weekday::Sunday.cycle_forward().take(7).collect());
    }
    let mut days = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (weekday(first)?, weekday(last)?);
                let mut range: Vec<_> =
                    first.cycle_forward().take(7).take_while(|day| *day != last).collect();
                range.push(last);
                days.extend(range);
            }
            None => days.push(weekday(part)?),
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(blackout: &str, at: &str, expected: Option<&str>) {
        let until = Blackout::parse(blackout).unwrap().until(at.parse().unwrap(), &TimeZone::UTC);
        assert_eq!(until, expected.map(|at| at.parse().unwrap()), "{blackout} at {at}");
    }

    #[test]
    fn a_blackout_ends_when_it_says() {
        let dates = "2026-12-20/2027-01-03";
        check(dates, "2026-12-19T23:59:59Z", None);
        check(dates, "2026-12-20T00:00:00Z", Some("2027-01-04T00:00:00Z"));
        check(dates, "2027-01-03T23:59:59Z", Some("2027-01-04T00:00:00Z"));
        check(dates, "2027-01-04T00:00:00Z", None);
        let hours = "Mon-Fri 09:00-17:00 America/New_York";
        // A Thursday in winter: five hours behind.
        check(hours, "2026-11-26T13:59:59Z", None);
        check(hours, "2026-11-26T14:00:00Z", Some("2026-11-26T22:00:00Z"));
        check(hours, "2026-11-26T22:00:00Z", None);
        check(hours, "2026-11-28T15:00:00Z", None);
        let night = "Fri 22:00-06:00 UTC";
        check(night, "2026-11-27T23:00:00Z", Some("2026-11-28T06:00:00Z"));
        check(night, "2026-11-28T05:00:00Z", Some("2026-11-28T06:00:00Z"));
        check(night, "2026-11-28T23:00:00Z", None);
        check("Sat-Mon 00:00-12:00 UTC", "2026-11-29T11:00:00Z", Some("2026-11-29T12:00:00Z"));
        check("* 10:00-11:00 UTC", "2026-11-25T10:30:00Z", Some("2026-11-25T11:00:00Z"));
    }

    #[test]
    fn what_is_no_blackout_is_refused() {
        for text in [
            "",
            "2027-01-03/2026-12-20",
            "2026-12-20",
            "Mon-Fri 09:00-17:00",
            "Mon-Fri 9-17 UTC",
            "Moon 09:00-17:00 UTC",
            "Mon 09:00-17:00 Mars/Olympus",
            "Mon 25:00-26:00 UTC",
        ] {
            assert_eq!(Blackout::parse(text), None, "{text}");
        }
    }
}
