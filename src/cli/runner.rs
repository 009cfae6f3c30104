//! `runner`: the process that executes one program of a rotation for the agent, which starts it itself. Not for people, and so not
//! in the help.

use super::exit::{Exit, Failure};
use crate::rotation::runner;
use std::ffi::OsString;

/// Execute one program, for the agent
///
/// `claviger run` starts one of these for each rotation with the driver exec. It takes requests over the socket that is its
/// standard input, and ends with the agent.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger runner -- /usr/local/bin/set-password --host db   what `claviger run` starts

Exit codes: 0 the agent has ended; 1 failed, as when a person starts it; 2 wrong command line")]
pub(super) struct Args {
    /// The program with its arguments
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    runner::serve(&args.program).map(|()| Exit::Done).map_err(|error| Failure::of(Exit::Failed, &error))
}
