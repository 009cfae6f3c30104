//! `rotation plan`: the next runs, by the schedule alone.
//!
//! Asks nobody: that a journal says otherwise (a run that is late, a maximal age, a person who suspended it) it cannot know, unless it is
//! told to read it.

use super::{
    super::answer,
    Source, chosen,
    desk::{at_desk, suspended},
    load, name,
};
use crate::{
    cli::{
        exit::{Exit, Failure},
        terminal::{self, Sink},
    },
    clock::{self, Timestamp, rfc3339},
    name::RotationName,
    rotation::{
        Settings,
        desk::Status,
        schedule::{Past, Planned, When, local},
    },
};
use jiff::{ToSpan as _, civil::Date};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write as _};

/// Show the next runs
///
/// Each with its slot in the schedule's zone and in UTC, and when it begins, jitter included, which is the same on all
/// replicas. On a terminal with a small calendar.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation plan --config /etc/claviger/config.yaml
  claviger rotation plan webhook --count 20 --config config.yaml
  claviger rotation plan --journal --config config.yaml             from the last success on; and what is suspended
  claviger rotation plan --from 2027-03-27T00:00:00Z --config config.yaml --json

Exit codes: 0 done, 1 no such rotation, 2 wrong command line, 64 bad config")]
pub(super) struct Args {
    /// One rotation only
    #[arg(value_parser = name)]
    name: Option<RotationName>,
    #[command(flatten)]
    source: Source,
    /// How many runs of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Read the journals in Vault too: runs count from the last success, and a suspended rotation has none
    #[arg(long)]
    journal: bool,
    /// As of this time (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let config = match load(&args.source.config) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let from = args.from.unwrap_or_else(clock::now);
    let mut text = String::new();
    let mut list = Vec::new();
    for settings in chosen(&config, args.name.as_ref())? {
        let status = match args.journal {
            true => at_desk(&config, settings, async |desk| desk.status().await)?,
            false => None,
        };
        let planned = plan(settings, status.as_ref(), from, usize::from(args.count));
        if args.json {
            list.push(as_json(settings, status.as_ref(), &planned));
        } else {
            text.push_str(&as_text(settings, status.as_ref(), &planned));
            if terminal::sink() == Sink::Screen {
                text.push_str(&calendar(settings, &planned));
            }
        }
    }
    if args.json {
        text = format!("{}\n", json!({"rotations": list}));
    }
    answer(text.as_bytes())
}

/// By the schedule alone, or by what the journal says of earlier runs; of a suspended rotation there is none.
fn plan(settings: &Settings, status: Option<&Status>, from: Timestamp, count: usize) -> Vec<Planned> {
    if status.is_some_and(|status| status.suspended.is_some()) {
        return Vec::new();
    }
    let (settled, succeeded) = status.map_or((from, from), |status| (status.settled, status.succeeded));
    let past = Past { settled, succeeded, not_before: None };
    settings.schedule.plan(&settings.name, &past, from, count)
}

fn when(settings: &Settings) -> String {
    match &settings.schedule.when {
        When::Cron { cron, zone } => format!("{cron} ({zone})"),
        When::Every(every) => format!("every {}s after a success", every.as_secs()),
    }
}

fn as_json(settings: &Settings, status: Option<&Status>, planned: &[Planned]) -> Value {
    let run = |run: &Planned| {
        json!({
            "slot": settings.schedule.spell(run.slot), "slot_utc": rfc3339(run.slot), "begins": rfc3339(run.begins),
            "blackout_until": run.blackout.map(rfc3339), "asks": asks(settings, run).map(rfc3339),
        })
    };
    json!({
        "name": settings.name.as_str(), "kind": settings.kind.word(), "path": settings.kind.path(),
        "schedule": when(settings), "zone": settings.schedule.zone().to_string(),
        "suspended": status.and_then(|status| status.suspended.as_ref()),
        "runs": planned.iter().map(run).collect::<Vec<_>>(),
    })
}

/// When persons are asked for their yes to a run, if they are.
fn asks(settings: &Settings, run: &Planned) -> Option<Timestamp> {
    let lead = settings.consent.as_ref().filter(|consent| !consent.settings.observe)?.lead;
    run.blackout.unwrap_or(run.begins).saturating_sub(lead).ok()
}

fn as_text(settings: &Settings, status: Option<&Status>, planned: &[Planned]) -> String {
    let zone = settings.schedule.zone();
    let mut text = format!(
        "{}: {} of {}, {}{}\n",
        settings.name,
        settings.kind.word(),
        settings.kind.path(),
        when(settings),
        status.and_then(|status| status.suspended.as_ref()).map(suspended).unwrap_or_default(),
    );
    for run in planned {
        let slot = local(&zone, run.slot).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string();
        let utc = run.slot.strftime("%Y-%m-%d %H:%M:%SZ");
        let begins = if run.begins == run.slot {
            String::new()
        } else {
            format!("  begins {}", local(&zone, run.begins).strftime("%H:%M:%S"))
        };
        let asked = asks(settings, run)
            .map(|at| format!("  asks for a yes {}", local(&zone, at).strftime("%a %H:%M:%S")));
        let held = run
            .blackout
            .map(|until| format!("  blackout until {}", local(&zone, until).strftime("%a %H:%M")));
        // Writing to a String never fails.
        let _ = writeln!(
            text,
            "  {slot}  {utc}{begins}{}{}",
            held.unwrap_or_default(),
            asked.unwrap_or_default()
        );
    }
    text
}

/// The months of the first runs, two at most, with their days marked.
fn calendar(settings: &Settings, planned: &[Planned]) -> String {
    let zone = settings.schedule.zone();
    let days: BTreeSet<Date> = planned.iter().map(|run| local(&zone, run.slot).date()).collect();
    let months: BTreeSet<Date> = days.iter().map(|day| day.first_of_month()).collect();
    months.into_iter().take(2).fold(String::new(), |text, month| text + &of_month(month, &days))
}

fn of_month(month: Date, marked: &BTreeSet<Date>) -> String {
    let mut text = format!("\n  {}\n  Mo  Tu  We  Th  Fr  Sa  Su\n ", month.strftime("%B %Y"));
    for _ in 0..month.weekday().to_monday_zero_offset() {
        text.push_str("    ");
    }
    let days = std::iter::successors(Some(month), |day| day.checked_add(1.day()).ok());
    for day in days.take_while(|day| day.month() == month.month()) {
        let mark = if marked.contains(&day) { '*' } else { ' ' };
        let _ = write!(text, "{:>3}{mark}", day.day());
        if day.weekday().to_monday_zero_offset() == 6 {
            text.push_str("\n ");
        }
    }
    format!("{}\n\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_marks_the_days_of_the_runs() {
        let marked: BTreeSet<Date> = [jiff::civil::date(2026, 11, 29)].into_iter().collect();
        let text = of_month(jiff::civil::date(2026, 11, 1), &marked);
        let lines: Vec<&str> = text.trim_matches('\n').lines().collect();
        assert_eq!(lines[0], "  November 2026");
        assert_eq!(lines[1], "  Mo  Tu  We  Th  Fr  Sa  Su");
        assert_eq!(lines[2].trim_end(), "                           1");
        assert_eq!(lines[6].trim_end(), "  23  24  25  26  27  28  29*");
        assert_eq!(lines[7], "  30");
    }
}
