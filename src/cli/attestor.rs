//! `attestor`: the agent's own second process, which it starts itself. Not for people, and so not in the help.

use super::exit::{Exit, Failure};
use crate::peer::attestor;
use std::process::Command;

/// Look at what other processes execute, for the agent
///
/// `claviger run` starts this by itself, where a workload's peer has level program. It answers the agent over the socket that is
/// its standard input, and ends with it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger attestor          what `claviger run` starts
  claviger attestor worker   what that starts, and starts again when it has died

Exit codes: 0 the agent has ended; 1 failed, as when a person starts it; 2 wrong command line")]
pub(super) struct Args {
    /// Which of its two processes
    #[arg(value_enum, default_value_t = Layer::Parent)]
    layer: Layer,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Layer {
    /// The one that starts the other.
    Parent,
    /// The one that looks.
    Worker,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let ended = match args.layer {
        Layer::Parent => attestor::parent(|| {
            let mut command = Command::new("/proc/self/exe");
            command.args(["attestor", "worker"]);
            command
        }),
        Layer::Worker => attestor::worker(),
    };
    ended.map(|()| Exit::Done).map_err(|error| Failure::of(Exit::Failed, &error))
}
