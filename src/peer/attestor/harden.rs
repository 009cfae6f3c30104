//! What the attestor takes away from itself before it looks at anybody.
//!
//! No Landlock: a process in any Landlock domain may not look at those outside it.

use crate::sandbox;
use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal},
    },
    unistd::getppid,
};
use std::io;

/// What it needs for the most processes that it holds, with room.
const DESCRIPTORS: u64 = 4096;

/// System calls that the agent needs and the worker does not, and that whoever took it over would.
const DENIED: &[libc::c_long] = &[
    // other processes
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpriority,
    libc::SYS_prlimit64,
    // the network
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // files
    libc::SYS_openat2,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_setxattr,
    libc::SYS_fsetxattr,
    libc::SYS_memfd_create,
];

/// Of the older calls that only some architectures have.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

/// Whatever every layer of the attestor does first: it cannot be read by others of its uid, gains nothing by execve(2), leaves
/// no core file, and stays while the agent puts its affairs in order: only the agent's end ends it.
///
/// # Errors
/// What the kernel says.
pub(super) fn begin() -> io::Result<()> {
    sandbox::harden()?;
    prctl::set_no_new_privs()?;
    let stays = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE];
    stays.into_iter().collect::<SigSet>().thread_block()?;
    Ok(())
}

/// Ends this process when the one that started it ends.
///
/// # Errors
/// What the kernel says, and that it has ended already: `parent` is who it was.
pub(super) fn end_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if u32::try_from(getppid().as_raw()) == Ok(parent) {
        Ok(())
    } else {
        Err(io::Error::other("the attestor's first process has ended"))
    }
}

/// Raises the limit of open descriptors as far as is needed and allowed; says how far.
///
/// # Errors
/// What the kernel says.
pub(super) fn raise_descriptors() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = soft.max(hard.min(DESCRIPTORS));
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    Ok(wanted)
}

/// Gives up the system calls that the worker has no use for: they fail with EPERM from now on, in all its threads.
///
/// # Errors
/// The kernel has no seccomp filters.
pub(super) fn confine() -> io::Result<()> {
    sandbox::confine_reader(&[DENIED, DENIED_HERE].concat())
}
