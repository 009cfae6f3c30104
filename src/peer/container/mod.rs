//! Which container a process is in, by an id that no process can choose and no other container ever gets.
//!
//! Does not read mountinfo, which a process can make say anything; does not take the inode of a namespace, which is reused;
//! does not know pods or the names that a runtime gives: the last part of a cgroup's path is a label for events, no more.

mod first;

use super::{
    Cause,
    kernel::{self, ProcessInfo},
    process::{self, Process, Support},
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socketpair, sockopt};
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::{Arc, LazyLock},
};

pub use first::{Containers, Pinned};

/// The id of the hierarchy's own root, where every process is that nobody has put anywhere: not a container.
const ROOT: u64 = 1;
/// What is read of a file in /proc at most: more than a path of 4096 bytes in each of the hierarchies there can be.
const LONGEST: u64 = 128 * 1024;

/// What a container is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerId {
    /// The inode of its cgroup's directory in the version 2 hierarchy (cgroups(7)), from `PIDFD_GET_INFO`: where we see the
    /// process's PID. A process cannot move itself out without the right to write to another cgroup's `cgroup.procs`.
    Cgroup(u64),
    /// The kernel's 64-bit id of its mount namespace (`NS_GET_MNTNS_ID`): where its PID is hidden from us. A process that may
    /// make namespaces gets another one, and so becomes a stranger.
    MountNamespace(u64),
}

/// One container, as far as two of them must be told apart. Equal are those that agree in everything that was read.
#[derive(Debug, Clone)]
pub struct Container {
    id: ContainerId,
    /// All of `/proc/PID/cgroup`, which on a machine with both versions has more to say than the one id.
    places: Option<Arc<str>>,
}

/// What somebody else found out of a peer whose PID is hidden from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// The 64-bit id of its mount namespace, asked for on a pidfd of the same process. Never the inode.
    pub mount_namespace: Option<u64>,
}

impl PartialEq for Container {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.places == other.places
    }
}

impl Eq for Container {}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(id) => write!(f, "cgroup {id}"),
            Self::MountNamespace(id) => write!(f, "mount namespace {id}"),
        }
    }
}

impl Container {
    /// The container that `process` is in at this moment. Reads two small files of /proc and asks the kernel three times; does
    /// not wait.
    ///
    /// # Errors
    /// [`Cause::Hidden`] where its PID is not to be seen (then ask for [`Facts`] and come again), or /proc hides it (hidepid);
    /// [`Cause::Container`] where the kernel says two things, or the machine puts it into no cgroup of version 2;
    /// [`Cause::Exited`]; [`Cause::KernelTooOld`]; [`Cause::Unknown`].
    pub fn of(process: &Process, facts: Facts) -> Result<Self, Cause> {
        let found = match told(process) {
            Ok(before) => by_cgroup(process, before),
            Err(Cause::Hidden) => {
                let id = facts.mount_namespace.filter(|id| *id != 0).ok_or(Cause::Hidden);
                id.map(|id| Self { id: ContainerId::MountNamespace(id), places: None })
            }
            Err(cause) => Err(cause),
        };
        // Last, so that all this was said of a living process; and of a dead one, that it is dead is what counts.
        process.check_alive()?;
        found
    }

    /// Whether `process`, which was found to be in this container, still is: a tenth of the work of [`Self::of`]. Of a mount
    /// namespace nothing can be asked here: take it from [`Self::of`] with new [`Facts`].
    ///
    /// # Errors
    /// [`Cause::Container`] if it was moved; else as [`Self::of`].
    pub fn check_holds(&self, process: &Process) -> Result<(), Cause> {
        let ContainerId::Cgroup(id) = self.id else { return process.check_alive() };
        let found = told(process);
        process.check_alive()?;
        if found?.cgroup == Some(id) { Ok(()) } else { Err(Cause::Container) }
    }

    /// What it is known by.
    #[must_use]
    pub fn id(&self) -> ContainerId {
        self.id
    }

    /// The last part of its cgroup's path, as a runtime has named it: for people, who find the container by it. Not checked.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let path = version_2(self.places.as_deref()?)?;
        path.rsplit('/').next().filter(|name| !name.is_empty() && *name != "..")
    }
}

/// What the kernel says of it, if we may see it and it says enough.
fn told(process: &Process) -> Result<ProcessInfo, Cause> {
    match kernel::process_info(process.as_fd()) {
        Ok(info) if info.cgroup.is_some() => Ok(info),
        Ok(_) => Err(Cause::KernelTooOld),
        Err(error) => Err(untold(error)),
    }
}

fn untold(error: io::Error) -> Cause {
    match error.raw_os_error() {
        // Of a process that has ended too, which is seen by asking.
        Some(libc::EREMOTE | libc::ESRCH) => Cause::Hidden,
        Some(libc::ENOTTY | libc::EINVAL) => Cause::KernelTooOld,
        _ => Cause::Unknown(error),
    }
}

fn by_cgroup(process: &Process, before: ProcessInfo) -> Result<Container, Cause> {
    let pid = pid_in_proc(process.as_fd())?;
    let places = read(&format!("/proc/{pid}/cgroup")).map_err(unread)?;
    // It was not moved while we read.
    if told(process)?.cgroup != before.cgroup {
        return Err(Cause::Container);
    }
    agreed(before.cgroup, &places)
}

/// What is said twice, by an id and by a path, must fit together.
fn agreed(cgroup: Option<u64>, places: &str) -> Result<Container, Cause> {
    match (cgroup, version_2(places)) {
        // A machine where cgroups are of version 1 only has everybody in the root of version 2.
        (Some(id), Some(_)) if id > ROOT => {
            Ok(Container { id: ContainerId::Cgroup(id), places: Some(places.into()) })
        }
        _ => Err(Cause::Container),
    }
}

/// The path in the version 2 hierarchy (cgroups(7)), relative to our own cgroup namespace: exactly one, and absolute. A line
/// break cannot be part of it.
fn version_2(places: &str) -> Option<&str> {
    let mut found = places.lines().filter_map(|line| line.strip_prefix("0::"));
    let path = found.next().filter(|path| path.starts_with('/'))?;
    found.next().is_none().then_some(path)
}

/// The number by which the process stands in this very /proc, which may be that of another PID namespace than ours.
fn pid_in_proc(pidfd: BorrowedFd<'_>) -> Result<i32, Cause> {
    let info = read(&format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).map_err(unread)?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    // 0 is a process that is not in it, -1 one that has ended.
    pid.filter(|pid| *pid > 0).ok_or(Cause::Hidden)
}

fn unread(error: io::Error) -> Cause {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM) => Cause::Hidden,
        _ => Cause::Unknown(error),
    }
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == LONGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // A cgroup's name is bytes. What is no text is replaced, alike each time; the id tells them apart.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether this machine can prove level `container` of a process whose PID we see: found out once, by asking about ourselves.
/// That the PIDs of peers will be seen is not known before they come.
#[must_use]
pub fn support() -> &'static Support {
    static SUPPORT: LazyLock<Support> = LazyLock::new(probe);
    &SUPPORT
}

fn probe() -> Support {
    match process::support() {
        Support::Given => {}
        lacking => return lacking.clone(),
    }
    match ask_about_ourselves() {
        Ok(support) => support,
        Err(error) => Support::Unknown(error.to_string()),
    }
}

fn ask_about_ourselves() -> io::Result<Support> {
    let (ours, _theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let pidfd = getsockopt(&ours, sockopt::PeerPidfd)?;
    let told = match kernel::process_info(pidfd.as_fd()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => None,
        told => told?.cgroup,
    };
    if told.is_none() {
        return Ok(Support::Lacking("PIDFD_GET_INFO with the id of a cgroup (Linux 6.13)"));
    }
    if version_2(&read("/proc/self/cgroup")?).is_none() {
        return Ok(Support::Lacking("cgroups of version 2"));
    }
    Ok(Support::Given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[track_caller]
    fn check(cgroup: Option<u64>, places: &str, expected: &str) {
        let found = match agreed(cgroup, places) {
            Ok(container) => format!("{} named {}", container.id(), container.name().unwrap_or("nothing")),
            Err(cause) => format!("{cause:?}"),
        };
        assert_eq!(found, expected, "{cgroup:?} {places:?}");
    }

    #[test]
    fn a_container_is_what_the_kernel_says_twice() {
        let scope = "0::/kubepods.slice/pod7.slice/cri-containerd-ab12.scope\n";
        check(Some(77), scope, "cgroup 77 named cri-containerd-ab12.scope");
        check(Some(77), "0::/../ab12\n", "cgroup 77 named ab12");
        // Our own, in a cgroup namespace of our own; and the one above it.
        check(Some(77), "0::/\n", "cgroup 77 named nothing");
        check(Some(77), "0::/..\n", "cgroup 77 named nothing");
        check(Some(77), "0::/a:b/0::c\n", "cgroup 77 named 0::c");
        check(Some(77), "4:memory:/pod7/ab12\n0::/system.slice\n", "cgroup 77 named system.slice");
        // Nobody's: version 1 only, the root, two answers, none.
        for (cgroup, places) in [
            (Some(1), "4:memory:/pod7/ab12\n"),
            (Some(1), "0::/\n"),
            (Some(0), scope),
            (None, scope),
            (Some(77), ""),
            (Some(77), "4:memory:/pod7/0::/ab12\n"),
            (Some(77), "0::relative\n"),
            (Some(77), "0::/one\n0::/two\n"),
        ] {
            check(cgroup, places, "Container");
        }
    }

    #[test]
    fn one_id_in_two_places_is_two_containers() {
        let memory = |name: &str| agreed(Some(9), &format!("4:memory:/pod7/{name}\n0::/runtime.service\n"));
        assert_eq!(memory("ab12").unwrap(), memory("ab12").unwrap());
        assert_ne!(memory("ab12").unwrap(), memory("cd34").unwrap());
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_a_refusal_with_its_reason() {
        for (errno, expected) in [
            (libc::EREMOTE, "Hidden"),
            (libc::ESRCH, "Hidden"),
            (libc::ENOTTY, "KernelTooOld"),
            (libc::EINVAL, "KernelTooOld"),
        ] {
            assert_eq!(format!("{:?}", untold(io::Error::from_raw_os_error(errno))), expected);
        }
        for errno in [libc::ENOENT, libc::ESRCH, libc::EACCES, libc::EPERM] {
            assert!(matches!(unread(io::Error::from_raw_os_error(errno)), Cause::Hidden));
        }
        let full = || io::Error::from_raw_os_error(libc::EMFILE);
        assert!(matches!((untold(full()), unread(full())), (Cause::Unknown(_), Cause::Unknown(_))));
    }

    #[tokio::test]
    async fn our_own_id_is_that_of_our_cgroup() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let us = Process::connector(ours.as_fd()).unwrap();
        let found = Container::of(&us, Facts { mount_namespace: Some(5) });
        if *support() != Support::Given {
            assert!(found.is_err(), "{found:?} without {:?}", support());
            return;
        }
        assert_eq!(pid_in_proc(us.as_fd()).unwrap(), i32::try_from(std::process::id()).unwrap());
        // The tests may run in the root, which is no container: then that is what is said, whatever the facts are.
        match kernel::process_info(us.as_fd()).unwrap().cgroup.unwrap() {
            ROOT => assert!(matches!(found, Err(Cause::Container)), "{found:?}"),
            id => {
                let found = found.unwrap();
                assert_eq!(found.id(), ContainerId::Cgroup(id));
                found.check_holds(&us).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_process_is_in_no_container() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(pid_in_proc(file.as_fd()).is_err());
        assert!(matches!(kernel::process_info(file.as_fd()).map_err(untold), Err(Cause::KernelTooOld)));
    }
}
