//! `run`: the agent. Sets up what a process has once (TLS, log, runtime), then hands over to `app`.

use super::{
    block_on, check,
    exit::{Exit, Failure},
    terminal,
};
use crate::{
    app::{self, once::Limit},
    audit::{
        Audit,
        event::{Pod, visible},
    },
    config::{self, Config},
    crypto,
    peer::attestor,
    rotation::{Settings, runner, system::outside::Programs},
    sandbox::{self, Need},
    telemetry::log::{self, Log},
};
use anyhow::Context as _;
use std::{
    io,
    os::unix::ffi::OsStrExt as _,
    panic,
    path::{Path, PathBuf},
};

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
    // Before anything secret is read.
    sandbox::harden().map_err(|error| Failure::of(Exit::Failed, &error))?;
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            check::reject(&args.config, &rejected);
            return Ok(Exit::BadConfig);
        }
    };
    let (log, before) = match set_up(&args.config, &loaded.config, None)? {
        Ok(ready) => ready,
        Err(exit) => return Ok(exit),
    };
    match block_on(app::run(&args.config, loaded, log, before))? {
        Ok(app::Ended::Stopped) => Ok(Exit::Done),
        Err(error) => Ok(failed(&error)),
    }
}

/// What a process has once: a log, a TLS library, a sandbox for `config`, which was read from `file`. Where that fails, the log says why.
pub(super) fn set_up(
    file: &Path,
    config: &Config,
    once: Option<Limit>,
) -> Result<Result<(Log, app::Before), Exit>, Failure> {
    let log = log::init(config.log, terminal::colour()).map_err(|error| Failure::of(Exit::Failed, &error))?;
    log_panics();
    crypto::install();
    Ok(begin(file, config, once).map(|before| (log, before)).map_err(|error| failed(&error)))
}

/// Stderr is the log now: one line there instead of a complaint.
pub(super) fn failed(error: &anyhow::Error) -> Exit {
    tracing::error!(error = format!("{error:#}"), "claviger failed");
    Exit::Failed
}

/// Gives up what the config does not need, while there is one thread.
fn begin(file: &Path, config: &Config, once: Option<Limit>) -> anyhow::Result<app::Before> {
    // Its parent is out of reach afterwards.
    Audit::prepare(&config.audit)?;
    // The sandbox is for good, and would blind it. It ends when its end of the connection closes, since a signal of ours no
    // longer reaches it.
    let attestor = if config.needs_attestor() { Some(attestor::Started::now()) } else { None };
    let attestor = attestor.transpose().context("starting the attestor")?;
    let programs = programs(config).context("starting the runner of a rotation")?;
    let mut plan = config.plan(file);
    plan.extend(trust_roots());
    let inside = sandbox::enter(config.sandbox, &plan).context("giving up what is not needed")?;
    inside.say();
    Ok(app::Before { inside, attestor, programs, pod: pod(), once })
}

/// One runner for each rotation that runs a program.
fn programs(config: &Config) -> io::Result<Programs> {
    let of = |rotation: &Settings| Some((rotation.name.clone(), rotation.kind.program()?.to_vec()));
    let programs = config.rotations.iter().filter_map(of);
    programs.map(|(name, program)| Ok((name, runner::Started::now(&program)?))).collect()
}

/// The pod, if the downward API is given to us under these names.
#[expect(clippy::disallowed_methods, reason = "the commands may read the environment")]
fn pod() -> Pod {
    let named = |name| {
        let said = std::env::var_os(name).filter(|said| !said.is_empty());
        said.map(|said| visible(said.as_bytes()))
    };
    Pod {
        cluster: named("CLAVIGER_CLUSTER"),
        namespace: named("CLAVIGER_NAMESPACE"),
        name: named("CLAVIGER_POD_NAME"),
        uid: named("CLAVIGER_POD_UID"),
        service_account: named("CLAVIGER_SERVICE_ACCOUNT"),
        node: named("CLAVIGER_NODE"),
        owner: named("CLAVIGER_OWNER"),
    }
}

/// Where the environment says that the system's trust roots are; read by the TLS library when `vault.ca_file` is not given.
#[expect(clippy::disallowed_methods, reason = "the commands may read the environment")]
fn trust_roots() -> impl Iterator<Item = Need> {
    let named = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let directory = named("SSL_CERT_DIR").map(|directory| directory.join("roots"));
    named("SSL_CERT_FILE").into_iter().chain(directory).map(Need::Read)
}

/// A panic is a line of the log, without its message: that may quote what was being worked on.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, "a task panicked");
    }));
}
