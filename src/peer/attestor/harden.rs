//! What the attestor takes away from itself before it looks at anybody.
//!
//! No Landlock: a process in any Landlock domain may not look at those outside it.

use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal},
    },
    unistd::getppid,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use std::{collections::BTreeMap, io};

/// What it needs for the most processes that it holds, with room.
const DESCRIPTORS: u64 = 4096;

/// System calls that the worker has no use for, and whoever took it over would. Beside them it may open nothing for writing.
const DENIED: &[i64] = &[
    // other programs and processes
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_kcmp,
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
    // files and mounts
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
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    // other ids and namespaces
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    // the kernel's larger surfaces
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_memfd_create,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_personality,
];

/// Of the older calls that only some architectures have.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
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
    libc::SYS_kexec_file_load,
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Whatever every layer of the attestor does first: it cannot be read by others of its uid, gains nothing by execve(2), leaves
/// no core file, and stays while the agent puts its affairs in order: only the agent's end ends it.
///
/// # Errors
/// What the kernel says.
pub(super) fn begin() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
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

/// Gives up the system calls that the worker has no use for: they fail with EPERM from now on, in this thread and in those that
/// it starts.
///
/// # Errors
/// The kernel has no seccomp filters, or nobody has written one for this architecture.
pub(super) fn confine() -> io::Result<()> {
    let failed = |error: seccompiler::Error| io::Error::other(error.to_string());
    let backend = |error: seccompiler::BackendError| io::Error::other(error.to_string());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().chain(DENIED_HERE).map(|call| (*call, Vec::new())).collect();
    // O_WRONLY or O_RDWR.
    let mut writing = Vec::new();
    for mode in [libc::O_WRONLY, libc::O_RDWR] {
        let masked = SeccompCmpOp::MaskedEq(libc::O_ACCMODE as u64);
        let mode = SeccompCondition::new(2, SeccompCmpArgLen::Dword, masked, mode as u64).map_err(backend)?;
        writing.push(SeccompRule::new(vec![mode]).map_err(backend)?);
    }
    rules.insert(libc::SYS_openat, writing);
    let architecture = std::env::consts::ARCH.try_into().map_err(backend)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).map_err(backend)?;
    let filter: BpfProgram = filter.try_into().map_err(backend)?;
    apply_filter(&filter).map_err(failed)
}
