//! The agent's end of a runner: one request at a time, and what became of it.
//!
//! Does not execute anything itself.

use super::wire::{self, LONGEST, Ran, SAID};
use crate::clock;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UnixDatagram, sync::Mutex, time::timeout};

/// How much longer than the program the runner may take to say what became of it.
const MARGIN: Duration = Duration::from_millis(500);

/// A runner that was started, and not yet asked: it can be started before there is a runtime. Dropping it ends it.
#[derive(Debug)]
pub struct Started {
    socket: OwnedFd,
    child: Child,
}

/// A running runner. Clones are the same one; it ends with the last.
#[derive(Debug, Clone)]
pub struct Runner(Arc<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    // It is one of packets with an end; reading and writing are those of datagrams.
    socket: UnixDatagram,
    last: u64,
    child: Child,
}

impl Started {
    /// Starts one for `program`, its arguments behind it: this program again, as `claviger runner`. To be called before
    /// execve(2) is given up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn now(program: &[String]) -> io::Result<Self> {
        Self::by(Command::new("/proc/self/exe"), program)
    }

    /// The same by the claviger that `command` is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn by(mut command: Command, program: &[String]) -> io::Result<Self> {
        command.arg("runner").arg("--").args(program);
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // In a group of its own, a terminal's interrupt does not reach it.
        command.process_group(0).stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { socket, child: command.spawn()? })
    }
}

impl Runner {
    /// Takes over one that was started.
    ///
    /// # Errors
    /// What the kernel says.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn of(started: Started) -> io::Result<Self> {
        let Started { socket, child } = started;
        let socket = net::UnixDatagram::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        Ok(Self(Arc::new(Mutex::new(Line { socket, last: 0, child }))))
    }

    /// Has the program run with `input`. It is killed at `until`, counted from when the machine booted, and not started
    /// after it.
    ///
    /// # Errors
    /// The runner has ended or does not answer: whether the program ran is not known.
    pub async fn run(&self, input: &[u8], until: Duration) -> io::Result<Ran> {
        if input.len() > LONGEST {
            return Err(io::Error::other("more than what a program is given"));
        }
        let limit = until.saturating_sub(clock::since_boot()).saturating_add(MARGIN);
        let asked = timeout(limit, async {
            let mut line = self.0.lock().await;
            line.last += 1;
            let number = line.last;
            let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
            line.socket.send(&wire::request(number, until, input)).await?;
            line.answer(number).await
        });
        asked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Line {
    /// The answer to request `number`; those to earlier ones, whose asker has gone, are dropped.
    async fn answer(&self, number: u64) -> io::Result<Ran> {
        let mut packet = [0; 64 + SAID];
        loop {
            let length = self.socket.recv(&mut packet).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match packet.get(..length).and_then(wire::read_answer) {
                Some((to, ran)) if to == number => return Ok(ran),
                _ => {}
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // From inside the sandbox it cannot be signalled: it ends when its socket does.
        if self.child.kill().is_ok() {
            let _ = self.child.wait();
        }
    }
}
