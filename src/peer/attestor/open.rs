//! The texts of a process that the agent may look into, and that its sandbox does not let it open: handed to it as descriptors.
//!
//! Runs in the attestor. Reads none of them: what stands in an environment passes nobody who need not see it.

use super::image::check_alive;
use crate::peer::{kernel, program::Refusal};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

/// Each text, by its bit in the answer, in the order in which they are passed.
pub(super) const TEXTS: [(u64, &str); 3] = [(1, "exe"), (2, "cmdline"), (4, "environ")];

/// Opens what may be opened; says by its bits what that is.
///
/// # Errors
/// The process is not to be seen, or has ended.
pub(super) fn open(pidfd: &OwnedFd) -> Result<(u64, Vec<OwnedFd>), Refusal> {
    let (pid, _) = match kernel::live(pidfd.as_fd()) {
        Ok(told) => told.ok_or(Refusal::PidNotVisible)?,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EREMOTE | libc::ESRCH)) => {
            return Err(Refusal::PidNotVisible);
        }
        Err(_) => return Err(Refusal::AttestorFailed),
    };
    let (mut bits, mut opened) = (0, Vec::new());
    for (bit, name) in TEXTS {
        if let Ok(file) = one(&format!("/proc/{pid}/{name}"), name) {
            bits |= bit;
            opened.push(file.into());
        }
    }
    // If it lives now, its number was its own all the while.
    check_alive(pidfd.as_fd()).map(|()| (bits, opened))
}

fn one(path: &str, name: &str) -> io::Result<File> {
    // Of what it executes, only where it is.
    let flags = if name == "exe" { libc::O_PATH } else { 0 };
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Sends an answer, and what goes with it.
pub(super) fn send(socket: BorrowedFd<'_>, answer: &[u8], opened: &[OwnedFd]) {
    let numbers: Vec<_> = opened.iter().map(|file| file.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &rights[..0] } else { &rights[..] };
    // If the agent is gone, `watch` sees it.
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(answer)], rights, MsgFlags::MSG_NOSIGNAL, None);
}
