//! `rotation suspend|resume`: a person's word in the journal, which every replica obeys.
//!
//! Who says so is what the command is told, or what this machine knows: Vault's own audit log has the login.

use super::{super::answer, Source, chosen, desk::at_desk, load, name};
use crate::{
    cli::exit::{Exit, Failure},
    name::RotationName,
    rotation::{
        desk::{Desk, Error},
        phase::Phase,
    },
};
use nix::{
    sys::utsname,
    unistd::{User, getuid},
};
use serde_json::json;

/// Let no run of a rotation begin
///
/// Holds for every replica, over restarts, until it is resumed: no run by the schedule, by `max_age`, by `now` or after a break glass,
/// and what has drifted is told of and not set right. A run that has begun goes on to its end, its grace and the end of the old
/// value included, so that no credential is left half promoted; `rollback` and `reenable` are there for that. Slots that pass are skipped
/// with the reason `suspended`; beyond `max_age` there is a `rotation.failed` with the reason `over_age`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation suspend orders-db --reason 'database moves tonight' --config /etc/claviger/config.yaml
  claviger rotation suspend orders-db --by alice@example.com --reason 'CHG-4711' --config config.yaml --json

Exit codes: 0 suspended, 1 it was suspended before, or failed, 2 wrong command line, 64 bad config")]
pub(super) struct SuspendArgs {
    /// Which rotation
    #[arg(value_parser = name)]
    name: RotationName,
    /// Why, for the record and for whoever looks
    #[arg(long, value_parser = super::now::reason)]
    reason: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    source: Source,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Let runs of a rotation begin again
///
/// What is due then begins within half a minute: a slot whose window is still open, what `max_age` makes due, and what was asked for.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation resume orders-db --config /etc/claviger/config.yaml
  claviger rotation resume orders-db --reason 'the move is over' --config config.yaml

Exit codes: 0 resumed, 1 it was not suspended, or failed, 2 wrong command line, 64 bad config")]
pub(super) struct ResumeArgs {
    /// Which rotation
    #[arg(value_parser = name)]
    name: RotationName,
    /// Why, for the record
    #[arg(long, value_parser = super::now::reason)]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    source: Source,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Who says so.
#[derive(Debug, clap::Args)]
pub(super) struct Who {
    /// Who says so, for the record [default: this machine's user and name]
    #[arg(long, value_name = "WHO", value_parser = super::now::reason)]
    by: Option<String>,
}

impl Who {
    /// As the command is told, else what the kernel says of this process.
    pub(super) fn name(&self) -> String {
        if let Some(by) = &self.by {
            return by.clone();
        }
        let uid = getuid();
        let user = User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name);
        let host = utsname::uname().ok().and_then(|it| it.nodename().to_str().map(str::to_owned));
        format!("{user}@{}", host.unwrap_or_default())
    }
}

pub(super) fn suspend(args: &SuspendArgs) -> Result<Exit, Failure> {
    let by = args.who.name();
    let done = act(&args.source, &args.name, async |desk| desk.suspend(&by, &args.reason).await)?;
    let phase = match done {
        Ok(phase) => phase,
        Err(exit) => return Ok(exit),
    };
    let name = args.name.as_str();
    let text = if args.json {
        json!({"name": name, "state": "suspended", "by": by, "reason": args.reason, "phase": phase.word()})
            .to_string()
    } else {
        let goes_on = match phase {
            Phase::Idle => "no run is under way".to_owned(),
            Phase::Orphaned => "its run waits for a person: claviger rotation status".to_owned(),
            phase => format!("its run is in phase {} and goes on to its end", phase.word()),
        };
        format!("{name}: suspended; {goes_on}")
    };
    answer(format!("{text}\n").as_bytes())
}

pub(super) fn resume(args: &ResumeArgs) -> Result<Exit, Failure> {
    let by = args.who.name();
    let done = act(&args.source, &args.name, async |desk| desk.resume(&by, args.reason.as_deref()).await)?;
    if let Err(exit) = done {
        return Ok(exit);
    }
    let name = args.name.as_str();
    let text = if args.json {
        json!({"name": name, "state": "resumed", "by": by, "reason": args.reason}).to_string()
    } else {
        format!("{name}: resumed; what is due begins within half a minute")
    };
    answer(format!("{text}\n").as_bytes())
}

/// Does `act` at the desk of that rotation; or gives the exit code of a bad config, which has been told of.
pub(super) fn act<T>(
    source: &Source,
    name: &RotationName,
    act: impl AsyncFnOnce(Desk) -> Result<T, Error>,
) -> Result<Result<T, Exit>, Failure> {
    let config = match load(&source.config) {
        Ok(config) => config,
        Err(exit) => return Ok(Err(exit)),
    };
    let chosen = chosen(&config, Some(name))?;
    let [settings] = *chosen.as_slice() else { return Ok(Err(Exit::Failed)) };
    at_desk(&config, settings, act).map(Ok)
}
