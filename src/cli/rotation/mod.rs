//! `rotation`: when rotations are due, how they stand, and what a person may ask of them.
//!
//! `plan` needs the config alone; the others log in to Vault as the rotation's identity does, and out again. None of them
//! rotates anything: a running agent does, or `--once`, which is one for a moment.

mod desk;
mod now;
mod once;
mod plan;
mod rehearse;
mod suspend;
mod unorphan;

use super::{
    check,
    exit::{Exit, Failure},
};
use crate::{
    config::{self, Config},
    name::RotationName,
    rotation::Settings,
};
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// Plan, watch and ask for rotations, or do what is due
///
/// Reads the config that the agents run with. Shows no value.
///
/// With --once it is an agent that serves nobody: it begins what is due now, ends what was begun, waits for that, and ends: for a
/// CronJob, or for a pipeline. It goes by the same journals, leases and audit as agents that run all the time, and may run beside them.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
Examples:
  claviger rotation plan --config /etc/claviger/config.yaml                      when is what due?
  claviger rotation status --config config.yaml --json                           how does each stand?
  claviger rotation now webhook --reason 'leaked in a log' --config config.yaml  an agent begins within half a minute
  claviger rotation now webhook --dry-run --config config.yaml                   what would be done, and what is in its way
  claviger rotation suspend webhook --reason 'the database moves' --config c.yaml no run begins until it is resumed
  claviger rotation unorphan webhook --config config.yaml                        a person has looked: go on
  claviger rotation rollback orders-db --config config.yaml                      the user before, while it is valid
  claviger rotation reenable orders-db --config config.yaml                      the login that is in quarantine
  claviger rotation coordinate webhook --config config.yaml                      after the config says another coordination
  claviger rotation --once --config /etc/claviger/config.yaml                    in a CronJob: what is due, and no more
  claviger rotation --once --only webhook --wait 2m --json --config config.yaml  one of them, and what came of it

Exit codes: 0 done, or with --once nothing was due; 1 failed; 2 wrong command line; 4 with --once, not over in time: the next one
goes on; 64 bad config")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    once: once::Once,
}

#[derive(Debug, Subcommand)]
enum Command {
    Plan(plan::Args),
    Status(desk::StatusArgs),
    Now(now::Args),
    Suspend(suspend::SuspendArgs),
    Resume(suspend::ResumeArgs),
    Unorphan(unorphan::Args),
    Rollback(desk::RollbackArgs),
    Reenable(desk::ReenableArgs),
    Coordinate(desk::CoordinateArgs),
}

/// Which config, of an agent that rotates.
#[derive(Debug, clap::Args)]
struct Source {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let Some(command) = &args.command else { return once::run(&args.once) };
    match command {
        Command::Plan(args) => plan::run(args),
        Command::Status(args) => desk::status(args),
        Command::Now(args) => now::run(args),
        Command::Suspend(args) => suspend::suspend(args),
        Command::Resume(args) => suspend::resume(args),
        Command::Unorphan(args) => unorphan::run(args),
        Command::Rollback(args) => desk::rollback(args),
        Command::Reenable(args) => desk::reenable(args),
        Command::Coordinate(args) => desk::coordinate(args),
    }
}

/// The config, or the exit code of a bad one, which has been told of.
pub(super) fn load(file: &Path) -> Result<Config, Exit> {
    match config::load(file) {
        Ok(loaded) => Ok(loaded.config),
        Err(rejected) => {
            check::reject(file, &rejected);
            Err(Exit::BadConfig)
        }
    }
}

/// The one rotation of that name, or all of them.
fn chosen<'a>(config: &'a Config, name: Option<&RotationName>) -> Result<Vec<&'a Settings>, Failure> {
    let chosen: Vec<&Settings> =
        config.rotations.iter().filter(|rotation| name.is_none_or(|name| rotation.name == *name)).collect();
    if let Some(local) = config.local.iter().find(|local| name.is_some_and(|name| local.name == *name)) {
        let text = format!(
            "{} is of kind {}: each agent does it for itself, without a journal",
            local.name,
            local.word()
        );
        let remedy =
            "its events and the metrics rotation_age_seconds and rotation_next_timestamp say how it stands";
        return Err(Failure::new(Exit::Failed, text).remedy(remedy));
    }
    match (chosen.is_empty(), name) {
        (true, Some(name)) => Err(Failure::new(Exit::Failed, format!("the config has no rotation {name}"))),
        (true, None) => Err(Failure::new(Exit::Failed, "the config has no rotations")),
        (false, _) => Ok(chosen),
    }
}

fn name(text: &str) -> Result<RotationName, String> {
    RotationName::new(text).map_err(|error| error.to_string())
}
