//! `watch`: tells a person, a program or a process when a secret changes.
//!
//! Reads no value: whoever is told asks for it.

mod child;
mod events;

use super::{
    SOCKET_VARIABLE, Socket, block_on,
    client::Error,
    duration,
    exit::{Exit, Failure},
    terminal,
};
use crate::{
    name::SecretName,
    shutdown::{self, Signal as Told},
};
use child::Child;
use events::{Feed, Happened};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use std::{ffi::OsString, fs, future::pending, io, path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Watch secrets and act when one changes
///
/// Waits on the sidecar's socket; no polling. Without an action it prints what happens: `promoted` (a new value is there),
/// `grace_ending` (a fifth of the old one's time is left), `revoked` (it is no longer handed out), `pending_soon` (a rotation begins
/// at the time that it says, a minute before unless the config says otherwise; no action is taken for it). With one, the action is taken
/// once for all changes within --debounce: --signal goes to the process of --pid-file, or to the command after `--`; a command
/// without --signal is stopped by TERM and started anew.
///
/// When the sidecar starts anew, the watch goes on by itself, and what it missed is told then.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger watch stripe orders-db                                    a line for each change
  claviger watch stripe --json | jq -r .event
  claviger watch web-cert --signal HUP --pid-file /run/nginx.pid     somebody else's process reloads
  claviger watch orders-db -- ./server                               started anew with each new password
  claviger watch web-cert --signal HUP -- nginx -g 'daemon off;'     reloads with each new certificate

Exit codes: with a command its own, or 128 + the number of the signal that ended it, 125 failed before it ran, 126 it cannot be
run, 127 there is no such command; without one 0 stopped by a signal, 1 failed, 3 refused by policy; 2 wrong command line")]
pub(super) struct Args {
    /// The secrets' names
    #[arg(value_name = "NAME", required = true, num_args = 1..=32, value_parser = SecretName::new)]
    names: Vec<SecretName>,
    /// What to send when one changes: HUP, USR1, ...
    #[arg(long, value_name = "SIGNAL", value_parser = signal_of)]
    signal: Option<Signal>,
    /// To whom: the process whose number is in this file, read each time
    #[arg(long, value_name = "FILE", requires = "signal", conflicts_with = "command")]
    pid_file: Option<PathBuf>,
    /// Changes that are nearer to each other than this are one
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "500ms")]
    debounce: Duration,
    /// How long to wait for a sidecar that starts
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    wait: Duration,
    /// Each event as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
    /// What to run
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    if args.signal.is_some() && args.pid_file.is_none() && args.command.is_empty() {
        return Err(Failure::new(Exit::Usage, "a signal, and nobody whom it is for")
            .remedy("add --pid-file FILE, or the command after --"));
    }
    let ours = |failure: Failure| match failure.exit {
        Exit::Refused | Exit::Usage => failure,
        _ if args.command.is_empty() => failure,
        _ => Failure { exit: Exit::Ours, ..failure },
    };
    block_on(follow(args)).and_then(|done| done).map_err(|failure| match failure.exit {
        Exit::NotFound | Exit::NotRunnable => failure,
        _ => ours(failure),
    })
}

/// What ends a wait.
enum Woken {
    Happened(Happened),
    Refused(Error),
    Told(Told),
    Ended(u8),
    Due,
}

async fn follow(args: &Args) -> Result<Exit, Failure> {
    let client = args.socket.client()?;
    let mut signals = shutdown::signals().map_err(|error| Failure::of(Exit::Failed, &error))?;
    let socket = std::path::absolute(&client.socket).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let mut feed = Feed::open(client, &args.names, args.wait).await?;
    let mut child = match args.command.split_first() {
        Some((program, arguments)) => {
            Some(Child::start(program, arguments, (SOCKET_VARIABLE, socket.as_os_str()))?)
        }
        None => None,
    };
    let mut due: Option<Instant> = None;
    loop {
        let ended = async {
            match &mut child {
                Some(child) => child.ended().await,
                None => pending().await,
            }
        };
        let woken = tokio::select! {
            biased;
            told = signals.next() => Woken::Told(told),
            code = ended => Woken::Ended(code),
            happened = feed.next() => match happened {
                Ok(happened) => Woken::Happened(happened),
                Err(error) => Woken::Refused(error),
            },
            () = async { match due { Some(at) => sleep_until(at).await, None => pending().await } } => Woken::Due,
        };
        match (woken, &mut child) {
            (Woken::Ended(code), _) => return Ok(Exit::Command(code)),
            (Woken::Told(Told::Terminate), None) => return Ok(Exit::Done),
            (Woken::Told(told), Some(child)) => child.send(match told {
                Told::Terminate => Signal::SIGTERM,
                Told::Reload => Signal::SIGHUP,
            }),
            (Woken::Told(Told::Reload), None) => {}
            (Woken::Refused(error), Some(_)) => {
                // The command goes on with what it has; who ends it is whoever started it.
                terminal::complain(&Failure::from(error));
                feed.forbid();
            }
            (Woken::Refused(error), None) => return Err(error.into()),
            (Woken::Happened(happened), child) => {
                if child.is_none() || args.json {
                    print(&happened, args.json)?;
                }
                if happened.is_change() {
                    // From the first of them on, so that a stream of changes does not put it off for ever.
                    due = due.or(Some(Instant::now() + args.debounce));
                }
            }
            (Woken::Due, child) => {
                due = None;
                act(args, child.as_mut()).await?;
            }
        }
    }
}

async fn act(args: &Args, child: Option<&mut Child>) -> Result<(), Failure> {
    match (child, args.signal, &args.pid_file) {
        (Some(child), Some(signal), _) => child.send(signal),
        (Some(child), None, _) => child.restart().await?,
        (None, Some(signal), Some(file)) => {
            // It may be between two starts: the next change is another try, and it reads the new value when it starts.
            if let Err(failure) = send(signal, file) {
                terminal::complain(&failure);
            }
        }
        (None, ..) => {}
    }
    Ok(())
}

fn send(signal: Signal, file: &PathBuf) -> Result<(), Failure> {
    let said = |what: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("sending {signal} to the process of {}: {what}", file.display()))
    };
    let text = fs::read_to_string(file).map_err(|error| said(&error))?;
    // 0 and negative numbers are whole groups of processes.
    let pid: i32 = text
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or_else(|| said(&"it holds no number of a process"))?;
    signal::kill(Pid::from_raw(pid), signal).map_err(|error| said(&error.desc()))
}

fn print(happened: &Happened, json: bool) -> Result<(), Failure> {
    let text = if json { happened.json() } else { happened.line() };
    match terminal::answer(text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, "nobody reads the answer"))
        }
        Err(error) => Err(Failure::new(Exit::Failed, format!("writing the answer: {error}"))),
    }
}

fn signal_of(text: &str) -> Result<Signal, String> {
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse().map_err(|_| "not a signal; write HUP, USR1, TERM ...".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_its_name_with_or_without_sig() {
        for (text, expected) in [
            ("HUP", Some(Signal::SIGHUP)),
            ("sigusr1", Some(Signal::SIGUSR1)),
            ("1", None),
            ("", None),
            ("HUPP", None),
        ] {
            assert_eq!(signal_of(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_pid_file_with_no_process_of_its_own_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        for text in ["", "0", "-1", "1", "x", "12 13"] {
            fs::write(&file, text).unwrap();
            assert!(send(Signal::SIGCONT, &file).unwrap_err().text.contains("holds no number"), "{text}");
        }
        fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(send(Signal::SIGCONT, &file), Ok(()));
    }
}
