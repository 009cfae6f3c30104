//! The runner itself: takes a request, has its program run, says what became of it, until the agent has ended.
//!
//! One at a time. Does not look at what it hands on.

use super::wire::{self, PACKET, Ran, SAID};
use crate::{clock, sandbox};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, Signal, killpg},
        socket::{MsgFlags, SockType, getsockopt, recv, send, sockopt},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};
use zeroize::Zeroizing;

/// How long the last words of a program that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Serves the agent at the other end of standard input: runs `program`, and nothing else.
///
/// # Errors
/// Standard input is no such socket, the kernel refuses to make us unreadable for others, or there is no program.
pub fn serve(program: &[OsString]) -> io::Result<()> {
    sandbox::harden()?;
    prctl::set_no_new_privs()?;
    // Only the agent's end ends it. A program that it starts has them all again.
    let stays = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE];
    stays.into_iter().collect::<SigSet>().thread_block()?;
    let (name, arguments) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let socket = socket()?;
    let mut packet = Zeroizing::new(vec![0; PACKET]);
    loop {
        let length = match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => return Ok(()),
            Ok(length) => length,
        };
        if let Some((number, until, input)) = packet.get(..length).and_then(wire::read_request) {
            let ran = run(Command::new(name).args(arguments), input, Duration::from_millis(until));
            // It fails if the agent has gone, which the next turn sees.
            let _ = send(socket.as_raw_fd(), &wire::answer(number, &ran), MsgFlags::MSG_NOSIGNAL);
        }
    }
}

/// Our standard input, if it is the socket that the agent gives us.
fn socket() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    match getsockopt(&socket, sockopt::SockType) {
        Ok(SockType::SeqPacket) => Ok(socket),
        _ => Err(io::Error::other("standard input is not the agent's socket")),
    }
}

/// Runs `command` to its end, or to `until`, counted from when the machine booted.
fn run(command: &mut Command, input: &[u8], until: Duration) -> Ran {
    let left = until.saturating_sub(clock::since_boot());
    if left.is_zero() {
        return Ran::Late;
    }
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ran::NotStarted(error.to_string()),
    };
    feed(&mut child, Zeroizing::new(input.to_vec()));
    let said = listen(&mut child);
    let pid = Pid::from_raw(child.id().cast_signed());
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || {
        // It stays a zombie, so that its number is nobody else's when its group is ended below.
        while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        tell.send(())
    });
    let in_time = ended.recv_timeout(left).is_ok();
    // What it started and left behind ends with it.
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait();
    let said = said.recv_timeout(LAST_WORDS).unwrap_or_default();
    match status.ok().and_then(|status| status.code()) {
        Some(code) if in_time => Ran::Ended(code, said),
        _ => Ran::Killed,
    }
}

/// Writes `input`, which may be more than a pipe holds, while the program runs.
fn feed(child: &mut Child, input: Zeroizing<Vec<u8>>) {
    if let Some(mut stdin) = child.stdin.take() {
        thread::spawn(move || {
            // A program need not read it.
            let _ = stdin.write_all(&input);
        });
    }
}

/// Reads what it says, and keeps the beginning.
fn listen(child: &mut Child) -> mpsc::Receiver<String> {
    let (tell, said) = mpsc::channel();
    if let Some(mut stderr) = child.stderr.take() {
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.by_ref().take(SAID as u64).read_to_end(&mut text);
            let _ = io::copy(&mut stderr, &mut io::sink());
            tell.send(String::from_utf8_lossy(&text).trim().to_owned())
        });
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, input: &str, expected: &Ran) {
        let until = clock::since_boot() + Duration::from_secs(60);
        let ran = run(Command::new("/bin/sh").args(["-c", script]), input.as_bytes(), until);
        assert_eq!(ran, *expected, "{script}");
    }

    #[test]
    fn a_program_reads_its_input_and_its_code_and_words_are_told() {
        check("read -r line; [ \"$line\" = secret ]", "secret\n", &Ran::Ended(0, String::new()));
        check("echo no such user >&2; exit 10", "x", &Ran::Ended(10, "no such user".to_owned()));
        check("kill -9 $$", "", &Ran::Killed);
        // More than a pipe holds, and nobody reads it.
        check("exit 3", &"x".repeat(1 << 20), &Ran::Ended(3, String::new()));
        // What is left behind holds nobody up.
        check("/bin/sleep 600 & exit 0", "", &Ran::Ended(0, String::new()));
    }

    #[test]
    fn a_program_ends_at_its_time_and_is_not_started_after_it() {
        let mut sleeps = Command::new("/bin/sleep");
        let soon = clock::since_boot() + Duration::from_millis(30);
        assert_eq!(run(sleeps.arg("600"), b"", soon), Ran::Killed);
        assert_eq!(run(&mut Command::new("/bin/true"), b"", Duration::ZERO), Ran::Late);
        let later = clock::since_boot() + Duration::from_secs(60);
        assert!(matches!(run(&mut Command::new("/no/such/program"), b"", later), Ran::NotStarted(_)));
    }
}
