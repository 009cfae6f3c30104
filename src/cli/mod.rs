//! The command line: one file a command. `run` is the agent; the others ask it, or check what it would read.
//!
//! Decides nothing about secrets. With `main.rs`, the only code that reads environment variables.

mod approvals;
mod attestor;
mod audit;
mod bridge;
mod check;
mod client;
mod cluster;
mod exec;
mod exit;
mod get;
mod glass;
mod probe;
mod reading;
mod report;
mod rotation;
mod run;
mod runner;
mod terminal;
mod version;
mod watch;
mod whoami;

pub use exit::Exit;

use clap::{Parser, Subcommand, error::ErrorKind};
use client::Client;
use exit::Failure;
use std::{ffi::OsString, future::Future, io, path::PathBuf, time::Duration};

/// Where a client looks when nothing says otherwise.
const SOCKET: &str = "/run/claviger/claviger.sock";
/// The environment variable that names another socket.
const SOCKET_VARIABLE: &str = "CLAVIGER_SOCKET";
/// The environment variable that names the user whom the agent must run as.
const SERVER_VARIABLE: &str = "CLAVIGER_SERVER_UID";

/// Carries the keys: logs in to HashiCorp Vault, keeps its tokens alive, and hands each secret to the one process that may
/// have it.
#[derive(Debug, Parser)]
#[command(name = "claviger", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(after_long_help = "\
Examples:
  claviger check /etc/claviger/config.yaml         is this config good?
  claviger run --config /etc/claviger/config.yaml  the agent itself
  claviger get stripe                              one secret, over this container's socket
  claviger audit verify /var/lib/claviger/audit    is the record whole and unchanged?
  curl --unix-socket /run/claviger/claviger.sock http://x/secrets/stripe   the same without this program

Client commands find the socket by --socket, else by CLAVIGER_SOCKET, else at /run/claviger/claviger.sock.

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 refused by policy, 4 not ready in time, 64 bad config;
`exec`, `bridge` and `watch --` give their command's own code, or 125 for a failure before it; `audit verify` adds 10 to 13,
`report` 14.")]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Get(get::Args),
    Exec(exec::Args),
    Watch(watch::Args),
    Whoami(whoami::Args),
    Bridge(bridge::Args),
    Probe(probe::Args),
    Audit(audit::Args),
    Rotation(rotation::Args),
    Report(report::Args),
    Approvals(approvals::ListArgs),
    Approve(approvals::ApproveArgs),
    Refuse(approvals::RefuseArgs),
    BreakGlass(glass::Args),
    Version(version::Args),
    #[command(hide = true)]
    Attestor(attestor::Args),
    #[command(hide = true)]
    Runner(runner::Args),
}

/// Which socket a client command speaks to.
#[derive(Debug, clap::Args)]
struct Socket {
    /// The workload's socket [default: CLAVIGER_SOCKET, else /run/claviger/claviger.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Speak only to a sidecar that runs as this user [default: CLAVIGER_SERVER_UID, else any]
    ///
    /// The kernel says who listens. Where somebody else can write to the socket's directory, this keeps the command from
    /// taking another process for the sidecar.
    #[arg(long, value_name = "UID")]
    server_uid: Option<u32>,
}

/// Reads the command line, does what it says, and says how the process ends. `exec` does not come back when it succeeds.
#[must_use]
pub fn main(line: impl IntoIterator<Item = OsString>) -> Exit {
    cluster::tell();
    let done = match Line::try_parse_from(line) {
        Ok(line) => line.command.run(),
        Err(error) => {
            // Nobody may be there to read it; the code still says it.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            };
        }
    };
    done.unwrap_or_else(|failure| {
        terminal::complain(&failure);
        failure.exit
    })
}

impl Command {
    fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Run(args) => run::run(&args),
            Self::Check(args) => check::run(&args),
            Self::Get(args) => get::run(&args),
            Self::Exec(args) => exec::run(&args),
            Self::Watch(args) => watch::run(&args),
            Self::Whoami(args) => whoami::run(&args),
            Self::Bridge(args) => bridge::run(&args),
            Self::Probe(args) => probe::run(&args),
            Self::Audit(args) => audit::run(&args),
            Self::Rotation(args) => rotation::run(&args),
            Self::Report(args) => report::run(&args),
            Self::Approvals(args) => approvals::list(&args),
            Self::Approve(args) => approvals::approve(&args),
            Self::Refuse(args) => approvals::refuse(&args),
            Self::BreakGlass(args) => glass::run(&args),
            Self::Version(args) => version::run(&args),
            Self::Attestor(args) => attestor::run(&args),
            Self::Runner(args) => runner::run(&args),
        }
    }
}

impl Socket {
    #[expect(clippy::disallowed_methods, reason = "the commands may read the environment")]
    fn client(&self) -> Result<Client, Failure> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let named = || variable(SOCKET_VARIABLE).map(PathBuf::from);
        let socket = self.socket.clone().or_else(named).unwrap_or_else(|| SOCKET.into());
        let server_uid = match (self.server_uid, variable(SERVER_VARIABLE)) {
            (None, Some(uid)) => {
                Some(uid.to_str().and_then(|uid| uid.parse().ok()).ok_or_else(|| {
                    Failure::new(Exit::Usage, format!("{SERVER_VARIABLE} is not a user id"))
                })?)
            }
            (uid, _) => uid,
        };
        Ok(Client { socket, server_uid })
    }
}

/// Runs `work` to its end on this thread.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of(Exit::Failed, &error))?;
    let value = runtime.block_on(work);
    // Whatever still hangs in a blocking call must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(value)
}

/// Writes an answer to stdout.
fn answer(bytes: &[u8]) -> Result<Exit, Failure> {
    match terminal::answer(bytes) {
        Ok(()) => Ok(Exit::Done),
        // `claviger get … | head`: the reader has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Failed),
        Err(error) => Err(Failure::new(Exit::Failed, format!("writing the answer: {error}"))),
    }
}

/// Reads `30s`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "not a duration; write 30s or 1m30s".to_owned();
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn check(line: &str, expected: Exit) {
        assert_eq!(main(line.split_whitespace().map(OsString::from)), expected, "{line}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_2_and_help_is_0() {
        check("claviger --help", Exit::Done);
        check("claviger --version", Exit::Done);
        check("claviger version", Exit::Done);
        check("claviger", Exit::Usage);
        check("claviger fly", Exit::Usage);
        check("claviger get", Exit::Usage);
        check("claviger get Not/A/Name", Exit::Usage);
        check("claviger get stripe --wait soon", Exit::Usage);
        check("claviger get stripe --json --field a", Exit::Usage);
        check("claviger exec --env 1K=stripe -- true", Exit::Usage);
        check("claviger exec --env K=stripe", Exit::Usage);
        check("claviger probe happy --config x", Exit::Usage);
        check("claviger attestor boss", Exit::Usage);
        check("claviger watch", Exit::Usage);
        check("claviger watch stripe --signal HUP", Exit::Usage);
        check("claviger watch stripe --pid-file p", Exit::Usage);
        check("claviger watch stripe --signal HUP --pid-file p -- true", Exit::Usage);
        check("claviger approve 6a1f3c20-9b1e42aa10f3", Exit::Usage);
        check("claviger refuse x --reason y", Exit::Usage);
        check("claviger break-glass fire", Exit::Usage);
        check("claviger break-glass fire --reason x", Exit::Usage);
        check("claviger break-glass fire --enable", Exit::Usage);
        check("claviger break-glass fire --drill --enable --reason x --ticket y", Exit::Usage);
        check("claviger bridge --token-file t --listen 0.0.0.0:8200 -- true", Exit::Usage);
    }

    #[test]
    fn every_command_teaches_by_example_and_lists_its_exit_codes() {
        for command in Line::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            assert!(help.contains("Exit codes:"), "{name}");
            assert!(help.contains(&format!("  claviger {name}")), "{name}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("1m30s", Some(90)),
            ("0s", Some(0)),
            ("30", None),
            ("-5s", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn every_exit_has_its_number() {
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Refused,
            Exit::NotReady,
            Exit::Altered,
            Exit::Truncated,
            Exit::DeclaredGaps,
            Exit::UnsignedTail,
            Exit::Findings,
            Exit::BadConfig,
            Exit::Ours,
            Exit::NotRunnable,
            Exit::NotFound,
            Exit::Command(7),
        ];
        assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 64, 125, 126, 127, 7]);
    }
}
