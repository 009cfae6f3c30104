//! The attestor's first process: started before the agent gives up execve(2), it starts the worker, and another one when that
//! has died.
//!
//! Takes no requests and looks at nobody. Ends when the agent does.

use super::{harden, wire::Answer};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, SockType, getsockopt, send, sockopt},
};
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The second of two workers in a row that lived shorter than this is not replaced at once.
const SHORT: Duration = Duration::from_secs(1);
/// How long until it is, in milliseconds.
const PAUSE: u16 = 200;

/// Keeps a worker running that `worker` starts, which reads its requests from the socket that is our standard input.
///
/// # Errors
/// Standard input is no such socket, or the kernel refuses to make us unreadable for others.
pub fn parent(mut worker: impl FnMut() -> Command) -> io::Result<()> {
    harden::begin()?;
    let socket = socket()?;
    let mut was_short = false;
    loop {
        let begun = Instant::now();
        if let Ok((mut child, life)) = start(&mut worker, &socket) {
            let ended = wait(socket.as_fd(), Some(life.as_fd()), PollTimeout::NONE);
            // It may be stuck, and the agent gone.
            let _ = child.kill();
            let _ = child.wait();
            if ended == Ended::Agent {
                return Ok(());
            }
            // Whoever still waits for its answer need not wait longer. If there is no room for this, they wait in vain.
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            let _ = send(socket.as_raw_fd(), &Answer::Died.encode(), flags);
        }
        let is_short = begun.elapsed() < SHORT;
        if std::mem::replace(&mut was_short, is_short)
            && is_short
            && wait(socket.as_fd(), None, PAUSE.into()) == Ended::Agent
        {
            return Ok(());
        }
    }
}

/// Answers requests, as the child of [`parent`].
///
/// # Errors
/// Standard input is no such socket, or the kernel refuses to confine us.
pub fn worker() -> io::Result<()> {
    let parent = std::os::unix::process::parent_id();
    harden::begin()?;
    harden::end_with(parent)?;
    super::worker::run(socket()?)
}

/// Our standard input, if it is the socket that the agent gives us.
fn socket() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    match getsockopt(&socket, sockopt::SockType) {
        Ok(SockType::SeqPacket) => Ok(socket),
        _ => Err(io::Error::other("standard input is not the agent's socket")),
    }
}

/// Starts a worker; the descriptor hangs up when it ends.
fn start(worker: &mut impl FnMut() -> Command, socket: &OwnedFd) -> io::Result<(Child, OwnedFd)> {
    let (life, its_end) = io::pipe()?;
    let mut command = worker();
    command.env_clear().stdin(Stdio::from(socket.try_clone()?)).stdout(its_end);
    Ok((command.spawn()?, life.into()))
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Agent,
    Worker,
    Nobody,
}

fn wait(socket: BorrowedFd<'_>, life: Option<BorrowedFd<'_>>, limit: PollTimeout) -> Ended {
    loop {
        // Without events asked for, poll(2) tells of the other end only.
        let mut asked = vec![PollFd::new(socket, PollFlags::empty())];
        asked.extend(life.map(|life| PollFd::new(life, PollFlags::empty())));
        match poll(&mut asked, limit) {
            Err(nix::Error::EINTR) => {}
            Ok(0) => return Ended::Nobody,
            _ if asked.first().is_some_and(|socket| socket.any().unwrap_or(true)) => return Ended::Agent,
            _ => return Ended::Worker,
        }
    }
}
