//! The command that a watch runs: started, signalled, started anew, and waited for.

use super::super::exit::{Exit, Failure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt as _,
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// How long it may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A command that runs. Dropping it kills it.
pub(super) struct Child {
    command: Command,
    program: String,
    running: tokio::process::Child,
}

impl Child {
    pub(super) fn start(
        program: &OsStr,
        arguments: &[OsString],
        (variable, socket): (&str, &OsStr),
    ) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(arguments).env(variable, socket).kill_on_drop(true);
        let program = program.to_string_lossy().into_owned();
        let running = spawn(&mut command, &program)?;
        Ok(Self { command, program, running })
    }

    /// Its own code, or what a shell says of a signal.
    pub(super) async fn ended(&mut self) -> u8 {
        let Ok(ended) = self.running.wait().await else { return Exit::Ours.code() };
        let code = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }

    pub(super) fn send(&self, signal: Signal) {
        if let Some(pid) = self.running.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended just now.
            let _ = signal::kill(Pid::from_raw(pid), signal);
        }
    }

    /// Stops it, by force in the end, and starts it anew.
    pub(super) async fn restart(&mut self) -> Result<(), Failure> {
        self.send(Signal::SIGTERM);
        if timeout(STOP_WITHIN, self.running.wait()).await.is_err() {
            // It may have ended just now.
            let _ = self.running.kill().await;
        }
        self.running = spawn(&mut self.command, &self.program)?;
        Ok(())
    }
}

fn spawn(command: &mut Command, program: &str) -> Result<tokio::process::Child, Failure> {
    command.spawn().map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::NotRunnable,
        };
        Failure::new(exit, format!("running {program}: {error}"))
    })
}
