//! The seccomp filter (seccomp(2)): system calls that the agent never needs, and that whoever took it over would.
//!
//! A list of what is refused, not of what is allowed: the C library and the kernel may choose new calls for old work. Does not
//! kill: a refused call fails with EPERM, and its caller goes on.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};
use std::collections::BTreeMap;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Large parts of the kernel that nothing here uses.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    // Namespaces and mounts.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Other users and rights.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
];

/// What only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// The same calls by other numbers: x32 (`__X32_SYSCALL_BIT`, asm/unistd.h), which some kernels of this architecture have, and
/// its own execve, ptrace, kexec_load, process_vm_readv, process_vm_writev and execveat.
#[cfg(target_arch = "x86_64")]
const ALIASES: (i64, &[i64]) = (0x4000_0000, &[520, 521, 528, 539, 540, 545]);
#[cfg(not(target_arch = "x86_64"))]
const ALIASES: (i64, &[i64]) = (0, &[]);

/// Filters the system calls of every thread of this process, those to come included.
///
/// # Errors
/// Why it does not.
pub(super) fn filter() -> Result<(), String> {
    apply(&programs(refused()?)?)
}

/// The same, and `beside` it these calls and every opening of a file for writing.
///
/// # Errors
/// Why it does not.
pub(super) fn filter_reader(beside: &[libc::c_long]) -> Result<(), String> {
    let mut rules = refused()?;
    rules.extend(with_aliases(beside.iter().map(|call| (*call, Vec::new())).collect()));
    let writing = [libc::O_WRONLY, libc::O_RDWR].map(|mode| {
        let (all, mode) = (u64::from(libc::O_ACCMODE.unsigned_abs()), u64::from(mode.unsigned_abs()));
        rule(vec![(2, Op::MaskedEq(all), mode)])
    });
    let writing: Result<Vec<SeccompRule>, _> = writing.into_iter().collect();
    let writing = writing.map_err(|error| error.to_string())?;
    rules.extend(with_aliases(Rules::from([(libc::SYS_openat, writing)])));
    apply(&programs(rules)?)
}

fn apply(programs: &[BpfProgram]) -> Result<(), String> {
    programs
        .iter()
        .try_for_each(|program| apply_filter_all_threads(program).map_err(|error| error.to_string()))
}

fn programs(refused: Rules) -> Result<[BpfProgram; 2], String> {
    Ok([compile(refused, libc::EPERM)?, compile(unknown(), libc::ENOSYS)?])
}

fn compile(rules: Rules, errno: libc::c_int) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch);
    filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())
}

/// clone3's flags are behind a pointer, which a filter cannot follow. Told that there is no such call, C libraries use clone.
fn unknown() -> Rules {
    with_aliases(Rules::from([(libc::SYS_clone3, Vec::new())]))
}

fn refused() -> Result<Rules, String> {
    let mut rules: Rules = REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, Vec::new())).collect();
    for (call, when) in by_argument() {
        let when: Result<Vec<SeccompRule>, _> = when.into_iter().map(rule).collect();
        rules.insert(call, when.map_err(|error| error.to_string())?);
    }
    let mut rules = with_aliases(rules);
    let (bit, own) = ALIASES;
    rules.extend(own.iter().flat_map(|call| [(*call, Vec::new()), (call | bit, Vec::new())]));
    Ok(rules)
}

fn with_aliases(rules: Rules) -> Rules {
    let (bit, _) = ALIASES;
    let aliases: Rules = rules.iter().map(|(call, when)| (call | bit, when.clone())).collect();
    rules.into_iter().chain(aliases).collect()
}

/// All of these must hold: the argument's place, the comparison, the value.
type When = Vec<(u8, Op, u64)>;

fn rule(when: When) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = when.into_iter().map(|(place, op, value)| {
        // The kernel takes each of these as an int or as flags that fit into one.
        SeccompCondition::new(place, SeccompCmpArgLen::Dword, op, value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// Calls that are refused for some arguments: any of the rules is enough.
fn by_argument() -> Vec<(libc::c_long, Vec<When>)> {
    let bits = |bits: libc::c_int| u64::from(bits.unsigned_abs());
    let set = |place: u8, flags: u64| (place, Op::MaskedEq(flags), flags);
    let thread = bits(libc::CLONE_THREAD);
    // A process of its own, or a thread in other namespaces.
    let mut clone: Vec<When> = vec![vec![(0, Op::MaskedEq(thread), 0)]];
    for space in
        [libc::CLONE_NEWNS, libc::CLONE_NEWUTS, libc::CLONE_NEWIPC, libc::CLONE_NEWNET, libc::CLONE_NEWCGROUP]
    {
        clone.push(vec![set(0, bits(space))]);
    }
    // Only what the sockets, Vault and name resolution need.
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let other_family: When = families.iter().map(|family| (0, Op::Ne, bits(*family))).collect();
    let other_netlink: When =
        vec![(0, Op::Eq, bits(libc::AF_NETLINK)), (2, Op::Ne, bits(libc::NETLINK_ROUTE))];
    let (write, exec) = (bits(libc::PROT_WRITE), bits(libc::PROT_EXEC));
    vec![
        (libc::SYS_clone, clone),
        (libc::SYS_socket, vec![other_family.clone(), other_netlink]),
        (libc::SYS_socketpair, vec![other_family]),
        // Memory that was written is never run.
        (libc::SYS_mmap, vec![vec![set(2, write | exec)]]),
        (libc::SYS_mprotect, vec![vec![set(2, exec)]]),
        (libc::SYS_pkey_mprotect, vec![vec![set(2, exec)]]),
        (libc::SYS_prctl, vec![vec![(0, Op::Eq, bits(libc::PR_SET_DUMPABLE))]]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_for_each_architecture_that_is_built_for() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            let filter = SeccompFilter::new(
                refused().unwrap(),
                SeccompAction::Allow,
                SeccompAction::Errno(libc::EPERM.unsigned_abs()),
                arch,
            );
            let program = BpfProgram::try_from(filter.unwrap()).unwrap();
            // BPF_MAXINSNS of the kernel.
            assert!(program.len() < 4096, "{}", program.len());
        }
    }

    /// Does `act` on a thread of its own behind the filter.
    fn behind<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let filtered = std::thread::spawn(|| {
            for program in programs(refused().unwrap()).unwrap() {
                seccompiler::apply_filter(&program).unwrap();
            }
            act()
        });
        filtered.join().unwrap()
    }

    #[test]
    fn behind_it_no_program_is_started() {
        let error = behind(|| std::process::Command::new("true").status().unwrap_err());
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn behind_it_threads_are_made_and_names_are_resolved_all_the_same() {
        use std::net::ToSocketAddrs as _;
        assert_eq!(behind(|| std::thread::spawn(|| 7).join().unwrap()), 7);
        assert!(behind(|| ("localhost", 80).to_socket_addrs().unwrap().count()) > 0);
    }

    #[test]
    fn behind_it_only_four_families_of_sockets_are_left() {
        use nix::sys::socket::{AddressFamily as Family, SockFlag, SockProtocol, SockType, socket};
        fn check(family: Family, protocol: Option<SockProtocol>, expected: Option<nix::Error>) {
            let kind = if protocol.is_some() { SockType::Raw } else { SockType::Stream };
            let made = behind(move || socket(family, kind, SockFlag::empty(), protocol).err());
            assert_eq!(made, expected, "{family:?} {protocol:?}");
        }
        check(Family::Unix, None, None);
        check(Family::Inet, None, None);
        check(Family::Netlink, Some(SockProtocol::NetlinkRoute), None);
        check(Family::Netlink, Some(SockProtocol::NetlinkSockDiag), Some(nix::Error::EPERM));
        check(Family::Vsock, None, Some(nix::Error::EPERM));
        check(Family::Alg, None, Some(nix::Error::EPERM));
    }

    #[test]
    fn behind_it_nobody_becomes_dumpable_again_or_another_user() {
        use nix::{sys::prctl, unistd};
        assert_eq!(behind(|| prctl::set_dumpable(true)), Err(nix::Error::EPERM));
        let own = unistd::getuid();
        // By the call itself: the C library would do it for every thread.
        assert_eq!(behind(move || unistd::setfsuid(own)).as_raw(), u32::MAX);
        assert_eq!(behind(|| unistd::chroot("/")), Err(nix::Error::EPERM));
    }

    #[test]
    fn no_call_is_refused_that_the_agent_lives_on() {
        let refused = refused().unwrap();
        for call in [libc::SYS_read, libc::SYS_openat, libc::SYS_futex, libc::SYS_connect, libc::SYS_clone3] {
            assert!(!refused.contains_key(&call), "{call}");
        }
        assert!(unknown().contains_key(&libc::SYS_clone3));
    }
}
