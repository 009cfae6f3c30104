//! `audit`: reads the record that agents left. Needs no agent, no config and no Vault.

mod export;
mod tail;
mod verify;

use super::exit::{Exit, Failure};
use crate::audit::verify::{Input, Unreadable};
use clap::Subcommand;
use std::{io, path::PathBuf};

/// Where a journal lies when nothing says otherwise.
const JOURNAL: &str = "/var/lib/claviger/audit";

/// Check, show or export the record
///
/// Works on a journal's directory, on single segments of it, and on the JSON lines that a sink printed. Changes nothing, and
/// may run beside the agent.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_long_help = "\
Examples:
  claviger audit verify /var/lib/claviger/audit    is anything missing, changed or forged?
  claviger audit tail -n 20                        the last twenty events, one line each
  claviger audit export > events.jsonl             every event as one JSON line

Exit codes: 0 good or done, 1 failed, 2 wrong command line; `verify` adds 10 altered or forged, 11 truncated or rolled back,
12 declared gaps only, 13 unsigned tail longer than allowed")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Args),
    Tail(tail::Args),
    Export(export::Args),
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Verify(args) => verify::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Export(args) => export::run(args),
    }
}

/// What the paths of a command line name; none is the journal where it lies by default, `-` is standard input.
fn inputs(paths: &[PathBuf]) -> Vec<Input> {
    let one = |path: &PathBuf| match path.as_os_str() {
        dash if dash == "-" => Input::Stdin,
        _ => Input::Path(path.clone()),
    };
    match paths {
        [] => vec![Input::Path(JOURNAL.into())],
        paths => paths.iter().map(one).collect(),
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        let remedy = match &error {
            Unreadable::NoJournal { .. } => Some(
                "name the directory of audit.journal.dir, or the files that a sink wrote, or - for standard input",
            ),
            Unreadable::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Some("is it the directory of audit.journal.dir of the config?"),
                io::ErrorKind::PermissionDenied => {
                    Some("a journal is for the agent's user alone: run this as that user, or as root")
                }
                _ => None,
            },
            Unreadable::Stdin { .. } | Unreadable::Write { .. } => None,
        };
        let failure = Self::of(Exit::Failed, &error);
        match remedy {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}
