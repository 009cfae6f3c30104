//! One process, held by pidfd so that it cannot be confused with another, and whether this kernel can do that.
//!
//! Does not read from sockets and does not know credentials.

use super::{
    Cause,
    kernel::{self, Telling},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, getsockopt, setsockopt, socketpair, sockopt},
        stat::fstat,
        statfs::{FsType, fstatfs},
    },
    unistd::write,
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, LazyLock},
};
use tokio::io::unix::AsyncFd;

/// The file system of pidfds since Linux 6.9 (linux/magic.h): on it, and with 64 bits, an inode is one process for as long as
/// the machine runs. Before, all pidfds shared one inode.
const PIDFS: FsType = FsType(0x5049_4446);

/// Names one process from start to end; never used again while the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(u64);

/// A process that is held: its end is seen, and what another process writes can be told from what it writes. Clones hold the
/// same one; each may outlive the connection that it was taken from. Costs a descriptor as long as one of them exists.
#[derive(Debug, Clone)]
pub struct Process {
    pidfd: Arc<AsyncFd<OwnedFd>>,
    id: ProcessId,
}

/// Whether this kernel can prove a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// It did so for ourselves.
    Given,
    /// It lacks this.
    Lacking(&'static str),
    /// It could not be found out, for this reason.
    Unknown(String),
}

impl ProcessId {
    /// The inode of each of its pidfds: a name of the process for people and records, on this machine until it restarts.
    #[must_use]
    pub fn inode(self) -> u64 {
        self.0
    }

    /// The process that a pidfd names.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub(super) fn of(pidfd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fstat(pidfd)?.st_ino))
    }

    /// A process that no kernel has seen, for tests of what comes after.
    #[cfg(test)]
    pub(super) fn for_test(number: u64) -> Self {
        Self(number)
    }
}

impl Process {
    /// Holds the process that connected to us over `socket`, even if something else answers to its number by now. It may have
    /// ended: ask [`Self::check_alive`].
    ///
    /// # Errors
    /// [`Cause::Exited`] where the kernel has nothing left of it to hold;
    /// [`Cause::KernelTooOld`]; [`Cause::Unknown`] for whatever else the kernel says.
    pub(super) fn connector(socket: BorrowedFd<'_>) -> Result<Self, Cause> {
        let pidfd = getsockopt(&socket, sockopt::PeerPidfd).map_err(|errno| match errno {
            // Before Linux 6.16 there is no pidfd of a process that has ended and was waited for.
            Errno::EINVAL | Errno::ESRCH => Cause::Exited,
            Errno::ENOPROTOOPT => Cause::KernelTooOld,
            _ => Cause::Unknown(errno.into()),
        })?;
        let id = ProcessId::of(pidfd.as_fd()).map_err(Cause::Unknown)?;
        let pidfd = kernel::await_end(pidfd).map_err(Cause::Unknown)?;
        Ok(Self { pidfd: Arc::new(pidfd), id })
    }

    /// A process that connected to nobody, for tests of what comes after.
    #[cfg(test)]
    pub(super) fn for_test(pidfd: OwnedFd) -> Self {
        let id = ProcessId::of(pidfd.as_fd()).unwrap();
        Self { pidfd: Arc::new(kernel::await_end(pidfd).unwrap()), id }
    }

    /// Which process it is.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// The pidfd.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }

    /// Asks the kernel, at this moment, whether the process still lives.
    ///
    /// # Errors
    /// [`Cause::Exited`]; [`Cause::Unknown`] if poll(2) fails.
    pub(super) fn check_alive(&self) -> Result<(), Cause> {
        let mut asked = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut asked, PollTimeout::ZERO) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Cause::Exited),
            Err(errno) => Err(Cause::Unknown(errno.into())),
        }
    }

    /// Waits for the end of the process.
    pub async fn exited(&self) {
        // An error can only be that the runtime ends, and then nothing is served any more.
        let _ = self.pidfd.readable().await;
    }
}

/// Whether this kernel can prove level `process`: found out once, by doing it to ourselves, so that a later look can never
/// give a weaker answer.
#[must_use]
pub fn support() -> &'static Support {
    static SUPPORT: LazyLock<Support> = LazyLock::new(probe);
    &SUPPORT
}

fn probe() -> Support {
    if usize::BITS < 64 {
        return Support::Lacking("64-bit inodes of processes");
    }
    match try_on_ourselves() {
        Ok(()) => Support::Given,
        Err(Trouble::Lacking(what)) => Support::Lacking(what),
        Err(Trouble::Failed(error)) => Support::Unknown(error.to_string()),
    }
}

enum Trouble {
    Lacking(&'static str),
    Failed(io::Error),
}

impl<E: Into<io::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn try_on_ourselves() -> Result<(), Trouble> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let pidfd = match getsockopt(&ours, sockopt::PeerPidfd) {
        Err(Errno::ENOPROTOOPT) => return Err(Trouble::Lacking("SO_PEERPIDFD (Linux 6.5)")),
        other => other?,
    };
    match kernel::tell_writers(ours.as_fd(), Telling::On) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            return Err(Trouble::Lacking("SO_PASSPIDFD (Linux 6.5)"));
        }
        other => other?,
    }
    setsockopt(&ours, sockopt::PassCred, &true)?;
    if fstatfs(&pidfd)?.filesystem_type() != PIDFS {
        return Err(Trouble::Lacking("an inode of its own for each process (Linux 6.9)"));
    }
    write(&theirs, b"x")?;
    let chunk = kernel::receive(ours.as_fd(), &mut [0])?;
    let Some(writer) = chunk.writer else {
        return Err(Trouble::Lacking("SCM_PIDFD (Linux 6.5)"));
    };
    if ProcessId::of(writer.as_fd())? != ProcessId::of(pidfd.as_fd())? {
        return Err(Trouble::Lacking("one inode for one process (Linux 6.9)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixStream, process::Command};

    #[tokio::test]
    async fn our_own_end_is_held_and_alive() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let pin = Process::connector(ours.as_fd()).unwrap();
        assert!(pin.check_alive().is_ok());
        let again = Process::connector(ours.as_fd()).unwrap();
        assert_eq!(pin.id(), again.id());
    }

    #[test]
    fn what_is_no_socket_is_an_error_and_no_process() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _entered = runtime.enter();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Process::connector(file.as_fd()), Err(Cause::Unknown(_))));
    }

    #[test]
    fn the_kernel_of_the_tests_can_do_it_or_says_what_it_lacks() {
        let release = Command::new("uname").arg("-r").output().unwrap().stdout;
        let release = String::from_utf8(release).unwrap();
        let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        assert_eq!(*support() == Support::Given, version >= (6, 9), "{:?} on {release}", support());
    }
}
