//! `report`: what the record and Vault tell of keys and permissions.
//!
//! Does not judge: `report` does. Changes nothing.

mod keys;
mod login;
mod merged;

use super::exit::{Exit, Failure};
use clap::Subcommand;

/// Report on keys and permissions
///
/// Which of them nobody uses, which are too old, which are too wide: by the config, by what agents recorded, and by what Vault says.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_long_help = "\
Examples:
  claviger report keys --config /etc/claviger/config.yaml                    by this machine's journal
  claviger report keys --config config.yaml --login --fail-on high           also by what Vault grants; for a pipeline
  claviger report keys --config config.yaml --format html pods/*.jsonl > keys.html

Exit codes: 0 done, 1 failed, 2 wrong command line, 14 findings of that severity or worse, 64 bad config")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Keys(keys::Args),
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Keys(args) => keys::run(args),
    }
}
