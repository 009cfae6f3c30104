//! Asks the kernel for what no safe crate reads of a peer: its supplementary groups, who wrote each chunk, its live ids.
//!
//! The only file of the crate with `unsafe`. Does not judge what it reads. Every descriptor that the kernel gives here is owned,
//! and so closed, by the value that holds it.
#![expect(
    unsafe_code,
    reason = "SO_PEERGROUPS, SO_PASSPIDFD, SCM_PIDFD and the requests of a pidfd have no safe wrapper in std, nix, rustix or socket2"
)]

use super::control::{self, Message};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// The most groups a process can have (`NGROUPS_MAX`, setgroups(2)): the cap on what is allocated for a peer.
const MOST: usize = 65_536;
/// asm-generic/socket.h, Linux 6.16. The architectures with another number (alpha, mips, parisc, sparc) are not built for.
const SO_PASSRIGHTS: libc::c_int = 83;
/// Room for one `SCM_CREDENTIALS` (32 bytes), one `SCM_PIDFD` (24), and one `SCM_RIGHTS` of 253 descriptors, the most that the
/// kernel takes (1032): what does not fit was not asked for.
const CONTROL: usize = 1152;

/// One chunk of bytes, as the kernel describes it.
#[derive(Debug)]
pub(super) struct Chunk {
    /// How many bytes; 0 is the end of the stream, of which the kernel says nothing more.
    pub(super) length: usize,
    /// The process that wrote it (`SCM_PIDFD`).
    pub(super) writer: Option<OwnedFd>,
    /// Its real uid and gid when it wrote (`SCM_CREDENTIALS`).
    pub(super) ids: Option<(u32, u32)>,
    /// How many descriptors came with it; they are closed.
    pub(super) descriptors: usize,
    /// Control data did not fit.
    pub(super) truncated: bool,
}

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// From now on each chunk that is received by `socket`, or by a connection that such a listener accepts, says which process
/// wrote it (`SO_PASSPIDFD`, Linux 6.5); or no longer does.
///
/// # Errors
/// ENOPROTOOPT before Linux 6.5, else whatever setsockopt(2) says.
pub(super) fn tell_writers(socket: BorrowedFd<'_>, how: Telling) -> io::Result<()> {
    set(socket, libc::SO_PASSPIDFD, libc::c_int::from(how == Telling::On))
}

/// Whether the kernel makes a pidfd for each chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// It does.
    On,
    /// It does not, and so saves the work.
    Off,
}

/// From now on a peer that passes descriptors gets EPERM (`SO_PASSRIGHTS`, Linux 6.16).
///
/// # Errors
/// ENOPROTOOPT before Linux 6.16, else whatever setsockopt(2) says.
pub(super) fn refuse_descriptors(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, SO_PASSRIGHTS, 0)
}

fn set(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let Ok(size) = libc::socklen_t::try_from(size_of_val(&value)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the descriptor is open while it is borrowed, and `value` is valid for `size` bytes of reads.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), size)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives one chunk, which is never of two writers while `SO_PASSCRED` is set. Does not wait.
///
/// # Errors
/// Whatever recvmsg(2) says; `WouldBlock` when there is nothing.
pub(super) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Chunk> {
    let mut control = Control([0; CONTROL]);
    let (length, filled, truncated) = receive_raw(socket, into, &mut control)?;
    let mut chunk = Chunk { length, writer: None, ids: None, descriptors: 0, truncated };
    for message in control::messages(filled) {
        match message {
            Message::Ids { uid, gid } => chunk.ids = Some((uid, gid)),
            Message::Writer(descriptor) => chunk.writer = adopt(descriptor),
            Message::Descriptors(bytes) => {
                chunk.descriptors += control::numbers(bytes).filter_map(adopt).count();
            }
        }
    }
    Ok(chunk)
}

/// Receives one message and the descriptors that came with it, from a process that may pass some. Does not wait.
///
/// # Errors
/// Whatever recvmsg(2) says; `WouldBlock` when there is nothing. A message that did not fit is an error.
pub(super) fn receive_passed(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control([0; CONTROL]);
    let (length, filled, truncated) = receive_raw(socket, into, &mut control)?;
    let mut passed = Vec::new();
    for message in control::messages(filled) {
        match message {
            Message::Ids { .. } => {}
            Message::Writer(descriptor) => drop(adopt(descriptor)),
            Message::Descriptors(bytes) => passed.extend(control::numbers(bytes).filter_map(adopt)),
        }
    }
    if truncated { Err(io::ErrorKind::InvalidData.into()) } else { Ok((length, passed)) }
}

/// One recvmsg(2): how many bytes came, what the kernel says beside them, and whether any of that was cut off. Each descriptor
/// in it must be adopted once.
fn receive_raw<'a>(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    control: &'a mut Control,
) -> io::Result<(usize, &'a [u8], bool)> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: a msghdr is made of integers and pointers, all of which may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    // SAFETY: the descriptor is open while it is borrowed; `message` points to one iovec over `into` and to the control
    // buffer, each with its true length, and all of them outlive the call.
    let length = unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT)
    };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    let truncated = message.msg_flags & (libc::MSG_CTRUNC | libc::MSG_TRUNC) != 0;
    let filled = control.0.get(..message.msg_controllen as usize).unwrap_or(&control.0);
    Ok((length, filled, truncated))
}

/// How many bytes wait to be received, of all writers together (`SIOCINQ`, unix(7)).
///
/// # Errors
/// Whatever ioctl(2) says.
pub(super) fn waiting(socket: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes one `int`.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if answer == 0 { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

/// Takes over a descriptor that the kernel has just opened for us; a negative number is an error of its own.
fn adopt(descriptor: RawFd) -> Option<OwnedFd> {
    // SAFETY: the kernel put this number into a control message of the call before, which obliges us to close it; nobody else
    // knows it, and each message is looked at once.
    (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The ids of a process at one moment, each a uid and a gid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LiveIds {
    /// What it is allowed by; `SO_PEERCRED` has these, as of connect(2).
    pub(super) effective: (u32, u32),
    /// Whose it is; `SCM_CREDENTIALS` has these. They differ in a program with a set-user-id or set-group-id bit.
    pub(super) real: (u32, u32),
}

/// The ids that the process has now (`PIDFD_GET_INFO`, Linux 6.13); `None` where the kernel does not tell: it is older, the
/// process is in a PID namespace that ours cannot see into, or it has ended.
///
/// # Errors
/// Anything else that ioctl(2) says.
pub(super) fn live_ids(process: BorrowedFd<'_>) -> io::Result<Option<LiveIds>> {
    match ask_about(process, libc::PIDFD_INFO_CREDS) {
        Ok(info) => {
            let told = info.mask & u64::from(libc::PIDFD_INFO_CREDS) != 0;
            let ids = LiveIds { effective: (info.euid, info.egid), real: (info.ruid, info.rgid) };
            Ok(told.then_some(ids))
        }
        Err(error) => match error.raw_os_error() {
            Some(libc::EREMOTE | libc::ESRCH | libc::ENOTTY | libc::EINVAL) => Ok(None),
            _ => Err(error),
        },
    }
}

/// What a process is at one moment, by numbers of our own PID namespace. They are said of the process that the pidfd names,
/// whoever has such a number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessInfo {
    /// The thread that the pidfd names: of a peer's pidfd its first one.
    pub(super) pid: u32,
    /// The process.
    pub(super) tgid: u32,
    /// Its parent; 0 if that is outside our PID namespace.
    pub(super) ppid: u32,
    /// Its cgroup in the version 2 hierarchy, by an id that no other cgroup gets as long as the machine runs: the inode of its
    /// directory. `None` if the kernel does not say.
    pub(super) cgroup: Option<u64>,
}

/// What the process is now (`PIDFD_GET_INFO`, Linux 6.13).
///
/// # Errors
/// EREMOTE, before Linux 6.15 ESRCH, where the process is in a PID namespace that ours cannot see into; ESRCH if it has ended;
/// ENOTTY or EINVAL where the kernel is older; or whatever else ioctl(2) says.
pub(super) fn process_info(process: BorrowedFd<'_>) -> io::Result<ProcessInfo> {
    let info = ask_about(process, libc::PIDFD_INFO_PID | libc::PIDFD_INFO_CGROUPID)?;
    let told = info.mask & u64::from(libc::PIDFD_INFO_CGROUPID) != 0;
    let cgroup = told.then_some(info.cgroupid);
    Ok(ProcessInfo { pid: info.pid, tgid: info.tgid, ppid: info.ppid, cgroup })
}

fn ask_about(process: BorrowedFd<'_>, what: libc::c_uint) -> io::Result<libc::pidfd_info> {
    // SAFETY: the struct is made of integers, all of which may be zero.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(what);
    // SAFETY: the descriptor is open while it is borrowed; the request carries the size of `info`, of which the kernel reads
    // and writes no more than that.
    let answer = unsafe { libc::ioctl(process.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if answer == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

/// The number that the process has in our PID namespace, and its ids; `None` where the kernel tells only one of them. The number
/// is the process's as long as the pidfd does not poll readable.
///
/// # Errors
/// As [`process_info`].
pub(super) fn live(process: BorrowedFd<'_>) -> io::Result<Option<(u32, LiveIds)>> {
    let wanted = libc::PIDFD_INFO_PID | libc::PIDFD_INFO_CREDS;
    let info = ask_about(process, wanted)?;
    let told = info.mask & u64::from(wanted) == u64::from(wanted) && info.pid != 0 && info.pid == info.tgid;
    let ids = LiveIds { effective: (info.euid, info.egid), real: (info.ruid, info.rgid) };
    Ok(told.then_some((info.pid, ids)))
}

/// The mount namespace that the process is in, by the number that the kernel never gives again (`PIDFD_GET_MNT_NAMESPACE` and
/// `NS_GET_MNTNS_ID`, Linux 6.11). An inode of a namespace is given again, and says nothing.
///
/// # Errors
/// EACCES where we may not look into the process, ESRCH if it has ended, ENOTTY before Linux 6.11.
pub(super) fn mount_namespace(process: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: the descriptor is open while it is borrowed; this request takes no argument.
    let namespace = unsafe { libc::ioctl(process.as_raw_fd(), libc::PIDFD_GET_MNT_NAMESPACE, 0) };
    let Some(namespace) = adopt(namespace) else { return Err(io::Error::last_os_error()) };
    let mut id: u64 = 0;
    // SAFETY: the descriptor is ours and open, and the kernel writes one u64.
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_MNTNS_ID, &raw mut id) };
    if answer == 0 { Ok(id) } else { Err(io::Error::last_os_error()) }
}

/// Has the runtime watch a pidfd, which is readable once its process has ended.
///
/// # Errors
/// Whatever epoll_ctl(2) says.
///
/// # Panics
/// Outside a runtime.
pub(super) fn await_end(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same descriptor as long as it exists, and closes it only when it is dropped, which the
    // `AsyncFd` does after it has stopped watching.
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Has the runtime watch a socket.
///
/// # Errors
/// Whatever epoll_ctl(2) says.
///
/// # Panics
/// Outside a runtime.
pub(super) fn await_messages(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: as for `await_end`.
    let watched = unsafe { AsyncFd::register(socket) };
    watched.map_err(io::Error::from)
}

/// The peer's supplementary groups when it connected (`SO_PEERGROUPS`, Linux 4.13).
///
/// # Errors
/// Whatever getsockopt(2) says; more than [`MOST`] groups is an error too.
pub(super) fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    let mut groups = vec![0; 32];
    loop {
        let (answer, needed) = ask(socket, &mut groups);
        match answer {
            Ok(()) if needed <= groups.len() => {
                groups.truncate(needed);
                return Ok(groups);
            }
            // The kernel says how many there are. It cannot shrink: a peer's groups are frozen when it connects.
            Err(error)
                if error.raw_os_error() == Some(libc::ERANGE) && needed > groups.len() && needed <= MOST =>
            {
                groups.resize(needed, 0);
            }
            Err(error) => return Err(error),
            Ok(()) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// One getsockopt(2), and how many groups it says there are.
fn ask(socket: BorrowedFd<'_>, groups: &mut [libc::gid_t]) -> (io::Result<()>, usize) {
    let Ok(mut size) = libc::socklen_t::try_from(size_of_val(groups)) else {
        return (Err(io::ErrorKind::InvalidInput.into()), 0);
    };
    // SAFETY: the descriptor is open while it is borrowed; `groups` is valid for `size` bytes of writes and `size` for
    // one `socklen_t`, both for the whole call; the kernel writes at most `size` bytes, any of which make valid gids.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    let error = if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    (error, usize::try_from(size).unwrap_or(usize::MAX) / size_of::<libc::gid_t>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{fd::AsFd, unix::net::UnixStream};

    #[test]
    fn the_kernel_names_our_own_groups() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut told = groups(one.as_fd()).unwrap();
        let mut ours: Vec<_> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        told.sort_unstable();
        ours.sort_unstable();
        assert_eq!(told, ours);
    }

    #[test]
    fn the_kernel_tells_what_we_are() {
        let (one, _other) = UnixStream::pair().unwrap();
        let pidfd = nix::sys::socket::getsockopt(&one, nix::sys::socket::sockopt::PeerPidfd).unwrap();
        let Ok(told) = process_info(pidfd.as_fd()) else { return };
        let ours = std::process::id();
        assert_eq!((told.pid, told.tgid), (ours, ours));
        assert_eq!(told.ppid, std::os::unix::process::parent_id());
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(groups(file.as_fd()).is_err());
    }
}
