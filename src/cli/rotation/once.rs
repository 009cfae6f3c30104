//! `rotation --once`: what is due now, and no more.

use super::{
    super::{
        answer, block_on, duration,
        run::{failed, set_up},
    },
    chosen, load, name,
};
use crate::{
    app::{self, once::Limit},
    cli::exit::{Exit, Failure},
    clock::rfc3339,
    config::Loaded,
    name::RotationName,
    rotation::once::{Done, End},
    sandbox,
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

#[derive(Debug, clap::Args)]
pub(super) struct Once {
    /// Do what is due now, wait for its end, and end
    ///
    /// Nothing due is a success too. A grace that ends within --wait is waited for, and the old value taken out of use; one that ends
    /// later is left to the next one, or to an agent.
    #[arg(long, requires = "config")]
    once: bool,
    /// The config file
    #[arg(long, value_name = "FILE", requires = "once")]
    config: Option<PathBuf>,
    /// This rotation only; may be given again
    #[arg(long, value_name = "NAME", value_parser = name, requires = "once")]
    only: Vec<RotationName>,
    /// As long at most; what is not over then is left to the next one [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "once")]
    wait: Option<Duration>,
    /// What came of each, as one JSON object on the last line of standard output
    #[arg(long, requires = "once")]
    json: bool,
}

const WAIT: Duration = Duration::from_secs(600);

pub(super) fn run(args: &Once) -> Result<Exit, Failure> {
    // Before anything secret is read.
    sandbox::harden().map_err(|error| Failure::of(Exit::Failed, &error))?;
    let Some(file) = args.config.as_ref().filter(|_| args.once) else {
        return Err(Failure::new(Exit::Usage, "write --once, or one of the commands"));
    };
    let config = match load(file) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    if args.only.is_empty() {
        chosen(&config, None)?;
    }
    for name in &args.only {
        chosen(&config, Some(name))?;
    }
    let config = app::once::only(config, &args.only);
    let limit = Limit(args.wait.unwrap_or(WAIT));
    let (log, before) = match set_up(file, &config, Some(limit))? {
        Ok(ready) => ready,
        Err(exit) => return Ok(exit),
    };
    let loaded = Loaded { config, warnings: Vec::new() };
    let done = match block_on(app::once::once(file, loaded, log, before))? {
        Ok(done) => done,
        Err(error) => return Ok(failed(&error)),
    };
    let text = if args.json {
        format!("{}\n", json!({"rotations": done.iter().map(as_json).collect::<Vec<_>>()}))
    } else {
        done.iter().map(as_text).collect()
    };
    answer(text.as_bytes())?;
    Ok(exit(&done))
}

fn exit(done: &[Done]) -> Exit {
    match done.iter().map(|done| done.end).max() {
        Some(End::Failed | End::Orphaned) => Exit::Failed,
        Some(End::Unfinished) => Exit::NotReady,
        _ => Exit::Done,
    }
}

fn as_json(done: &Done) -> Value {
    json!({
        "name": done.name.as_str(), "kind": done.kind, "result": done.end.word(),
        "phase": done.phase.map(|phase| phase.word()), "id": done.id, "slot": done.slot,
        "grace_until": done.grace_until.map(rfc3339), "next": done.next.map(rfc3339),
        "failure": done.failure.map(app::once::word_of),
    })
}

fn as_text(done: &Done) -> String {
    let of =
        |label: &str, text: Option<&str>| text.map(|text| format!(", {label} {text}")).unwrap_or_default();
    let said = match done.end {
        End::Nothing => "nothing is due",
        End::Suspended => "suspended: claviger rotation status says by whom and why",
        End::Revoked => "the value from before is out of use",
        End::Rotated => "rotated",
        End::Unfinished => "not over in time: the next one goes on",
        End::Failed => "failed",
        End::Orphaned => "waits for a person: claviger rotation status, then unorphan",
    };
    let (until, next) = (done.grace_until.map(rfc3339), done.next.map(rfc3339));
    format!(
        "{}: {said}{}{}{}{}\n",
        done.name,
        of("slot", done.slot.as_deref()),
        of("the old value is valid until", until.as_deref()),
        of("next", next.as_deref()),
        of("last failure:", done.failure.map(app::once::word_of)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_result_is_the_exit_code() {
        let check = |ends: &[End], expected: Exit| {
            let done = |end: &End| Done {
                name: RotationName::new("webhook").unwrap(),
                kind: "generate",
                end: *end,
                phase: None,
                id: None,
                slot: None,
                grace_until: None,
                next: None,
                failure: None,
            };
            assert_eq!(exit(&ends.iter().map(done).collect::<Vec<_>>()), expected, "{ends:?}");
        };
        check(&[], Exit::Done);
        check(&[End::Rotated, End::Nothing, End::Revoked, End::Suspended], Exit::Done);
        check(&[End::Unfinished, End::Rotated], Exit::NotReady);
        check(&[End::Unfinished, End::Failed], Exit::Failed);
        check(&[End::Orphaned], Exit::Failed);
    }
}
