//! `run`: the agent. Sets up what a process has once (TLS, log, runtime), then hands over to `app`.

use super::{
    block_on, check,
    exit::{Exit, Failure},
    terminal,
};
use crate::{app, config, crypto, peer::attestor, telemetry::log};
use std::{panic, path::PathBuf};

/// Run the agent
///
/// Logs in to Vault, keeps tokens and secrets fresh, and serves each workload on its own socket until SIGTERM or SIGINT.
/// SIGHUP reads the config again; so does a change of the file. The log goes to stderr, audit events to the sinks of the
/// config. A config with a problem starts nothing.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger run --config /etc/claviger/config.yaml

Exit codes: 0 stopped by a signal, in order; 1 failed; 2 wrong command line; 64 bad config, nothing was started")]
pub(super) struct Args {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            check::reject(&args.config, &rejected);
            return Ok(Exit::BadConfig);
        }
    };
    let log = log::init(loaded.config.log, terminal::colour())
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    log_panics();
    crypto::install();
    let attestor = if loaded.config.needs_attestor() { Some(attestor::Started::now()) } else { None };
    let attestor = attestor.transpose().map_err(|error| Failure::of(Exit::Failed, &error))?;
    match block_on(app::run(&args.config, loaded, log, attestor))? {
        Ok(app::Ended::Stopped) => Ok(Exit::Done),
        Err(error) => {
            // Stderr is the log now: one line there instead of a complaint.
            tracing::error!(error = format!("{error:#}"), "claviger failed");
            Ok(Exit::Failed)
        }
    }
}

/// A panic is a line of the log, without its message: that may quote what was being worked on.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, "a task panicked");
    }));
}
