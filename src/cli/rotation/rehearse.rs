//! `rotation now --dry-run`: what a run would do, and what stands in its way.
//!
//! Changes nothing: it logs in as the rotation's identity and out again, and asks the system whether it accepts what consumers read.

use super::{super::answer, chosen, desk::at_desk, load, now::Args};
use crate::{
    broker::Broker,
    cli::exit::{Exit, Failure},
    clock::rfc3339,
    config::Config,
    keeper::Keeper,
    rotation::{
        Settings,
        rehearsal::{Check, Rehearsal, Stand, Step},
        runner::Started,
        system::outside::Outside,
    },
};
use serde_json::json;
use std::{fmt::Write as _, io, sync::Arc};

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let config = match load(&args.source.config) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let chosen = chosen(&config, Some(&args.name))?;
    let [settings] = *chosen.as_slice() else { return Ok(Exit::Failed) };
    let failed = |error: io::Error| Failure::of(Exit::Failed, &error);
    // Before there is a runtime, as an agent does it.
    let program = settings.kind.program().map(Started::now).transpose().map_err(failed)?;
    let rehearsal = at_desk(&config, settings, async |desk| {
        let outside = outside(&config, settings, program).map_err(|error| {
            crate::rotation::desk::Error::Journal(format!("starting the program of the rotation: {error}"))
        })?;
        desk.rehearse(Arc::new(outside)).await
    })?;
    let text = if args.json { as_json(settings, &rehearsal) } else { as_text(settings, &rehearsal) };
    answer(text.as_bytes())?;
    Ok(if rehearsal.begins.is_some() { Exit::Done } else { Exit::Failed })
}

/// The ways that an agent has, but for the keys of upstreams: a login is tried without one.
fn outside(config: &Config, settings: &Settings, program: Option<Started>) -> io::Result<Outside> {
    let keeper = Keeper::default();
    let broker = Broker::new(keeper.clone())?;
    broker.replace(&config.upstreams);
    Outside::new(
        program.map(|started| (settings.name.clone(), started)).into_iter().collect(),
        broker,
        keeper,
    )
}

/// What it comes to, in one word.
fn word(rehearsal: &Rehearsal) -> &'static str {
    let waits = rehearsal.checks.iter().any(|check| check.state == Stand::Waits);
    match rehearsal.begins {
        None => "blocked",
        Some(_) if waits => "would_wait",
        Some(_) => "would_begin",
    }
}

fn as_json(settings: &Settings, rehearsal: &Rehearsal) -> String {
    let Rehearsal { checks, steps, begins } = rehearsal;
    let all = json!({
        "name": settings.name.as_str(), "kind": settings.kind.word(), "path": settings.kind.path(),
        "dry_run": true, "result": word(rehearsal), "begins": begins.map(rfc3339), "checks": checks,
        "steps": steps,
    });
    format!("{all}\n")
}

fn as_text(settings: &Settings, rehearsal: &Rehearsal) -> String {
    let Rehearsal { checks, steps, begins } = rehearsal;
    let said = match (word(rehearsal), begins) {
        ("blocked", _) => "a run could not begin".to_owned(),
        ("would_wait", Some(begins)) => {
            format!("a run would wait, and begin at {} at the earliest", rfc3339(*begins))
        }
        _ => "a run would begin within half a minute".to_owned(),
    };
    let mut text =
        format!("{}: {} of {}: {said}\n", settings.name, settings.kind.word(), settings.kind.path());
    for Check { check, state, says, until, remedy, .. } in checks {
        let until = until.as_ref().map(|until| format!(", until {until}")).unwrap_or_default();
        // Writing to a String never fails.
        let _ = writeln!(text, "  {:<8}{check:<13}{says}{until}", state.word());
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "  {:<21}-> {remedy}", "");
        }
    }
    text.push_str("step by step it would\n");
    for (number, Step { does, changes }) in steps.iter().enumerate() {
        let changes = changes.as_ref().map(|it| format!("  [changes {it}]")).unwrap_or_default();
        let _ = writeln!(text, "  {}. {does}{changes}", number + 1);
    }
    text.push_str("nothing was changed\n");
    text
}
