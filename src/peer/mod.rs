//! The process at the other end of a connection, as the kernel describes it, never as it describes itself.
//!
//! Does not know rules or secrets. Whatever the kernel will not say is a refusal: there are no default credentials.

mod admission;
mod cause;
pub mod attestor;
mod caller;
mod challenge;
pub mod container;
mod control;
mod kernel;
pub mod level;
pub mod process;
pub mod program;
pub mod roster;
mod steerable;
mod started;
mod watch;

use crate::{crypto::Hash, name::WorkloadName};
use admission::Program;
use challenge::Challenge;
use container::Container;
use level::Level;
use nix::sys::socket::{setsockopt, sockopt};
use process::Process;
use std::{io, os::fd::AsFd, sync::Arc};
use tokio::net::{UnixStream, unix::UCred};

pub use admission::{Provers, Repinned, Since};
pub use caller::{Caller, glance};
pub use cause::{Cause, Rejected};
pub use watch::{Fault, Watch};

/// Who may connect to a workload's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Effective user ids that may connect; empty means any.
    pub uids: Vec<u32>,
    /// Effective group ids, one of which the peer must have as its own; empty means any.
    pub gids: Vec<u32>,
    /// Supplementary groups, all of which the peer must have.
    pub groups: Vec<u32>,
    /// How surely it must be known. `auto` of the config is resolved before this value is made.
    pub level: Level,
    /// What those look like whose ids our user namespace does not map.
    pub strangers: Strangers,
    /// What it must execute; there exactly at level `program`.
    pub program: Option<Arc<program::Settings>>,
}

/// The ids by which everybody appears whom our user namespace does not map (user_namespaces(7)): they are nobody's. `None`
/// where every id is mapped, and so that number is somebody's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strangers {
    /// `/proc/sys/kernel/overflowuid`.
    pub uid: Option<u32>,
    /// `/proc/sys/kernel/overflowgid`.
    pub gid: Option<u32>,
}

/// Proof that the kernel said who connected, and by which workload's socket. The ids are frozen at connect(2): a later
/// setuid(2) of the peer does not change them, and is noticed by the connection's [`Watch`].
#[derive(Debug)]
pub struct Peer {
    workload: WorkloadName,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    pid: Option<i32>,
    level: Level,
    watch: Watch,
    challenge: Challenge,
    started: Option<u64>,
    container: Option<Container>,
    program: Option<Program>,
}

/// Prepares a socket before listen(2), so that whatever is ever written to its connections is stamped with who wrote it, bytes
/// that come before accept(2) too; and so that peers cannot pass descriptors, where the kernel can refuse them (Linux 6.16).
///
/// # Errors
/// Whatever setsockopt(2) says, except that the kernel is too old for what level `user` does without.
pub fn prepare(listener: &impl AsFd) -> io::Result<()> {
    let too_old = |error: &io::Error| error.raw_os_error() == Some(libc::ENOPROTOOPT);
    setsockopt(listener, sockopt::PassCred, &true)?;
    let listener = listener.as_fd();
    for told in [kernel::tell_writers(listener, kernel::Telling::On), kernel::refuse_descriptors(listener)] {
        told.or_else(|error| if too_old(&error) { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

/// Takes from the kernel who is at the other end, before a byte of it is read, and checks that it may be there. Proves the level
/// that is required up to `process`, and no higher one; what is above it is for [`Peer::admit`], which must be asked before
/// anything is read. The peer's [`Watch`] must see every byte that is read from the connection.
///
/// # Errors
/// [`Rejected`], with all that is known of the peer for the event.
pub fn identify(stream: &UnixStream, settings: &Settings, workload: &WorkloadName) -> Result<Peer, Rejected> {
    let rejected = |peer, cause| Rejected { workload: workload.clone(), peer, cause };
    let asked = ask(stream, settings.level, workload);
    let mut peer = asked.map_err(|error| rejected(None, Cause::Unknown(error)))?;
    let proved = peer.check_ids(settings).and_then(|()| peer.prove(stream, settings.level));
    match proved {
        Ok(()) => Ok(peer),
        Err(cause) => Err(rejected(Some(Box::new(peer)), cause)),
    }
}

fn ask(stream: &UnixStream, level: Level, workload: &WorkloadName) -> io::Result<Peer> {
    let known = stream.peer_cred()?;
    Ok(Peer::of(&known, kernel::groups(stream.as_fd())?, level, workload))
}

impl Peer {
    fn of(known: &UCred, groups: Vec<u32>, level: Level, workload: &WorkloadName) -> Self {
        Self {
            workload: workload.clone(),
            uid: known.uid(),
            gid: known.gid(),
            groups,
            // 0 is what the kernel says of a process in a PID namespace that ours cannot see into.
            pid: known.pid().filter(|pid| *pid > 0),
            level: level.min(Level::User),
            watch: Watch::ids(level, (known.uid(), known.gid())),
            challenge: Challenge::default(),
            started: None,
            container: None,
            program: None,
        }
    }

    fn check(&self, settings: &Settings) -> Result<(), Cause> {
        self.check_ids(settings)?;
        if self.level < settings.level {
            return Err(Cause::Level { proved: self.level, required: settings.level });
        }
        Ok(())
    }

    /// Proves what the kernel alone can prove of `level`.
    fn prove(&mut self, stream: &UnixStream, level: Level) -> Result<(), Cause> {
        if level < Level::Process {
            // The kernel is spared making a pidfd for each chunk. Before Linux 6.5 there is nothing to switch off.
            let _ = kernel::tell_writers(stream.as_fd(), kernel::Telling::Off);
            return Ok(());
        }
        self.watch = Watch::process(stream, (self.uid, self.gid))?;
        self.started = self.process().zip(self.pid).and_then(|(process, pid)| started::of(process, pid));
        self.level = Level::Process;
        Ok(())
    }

    fn check_ids(&self, settings: &Settings) -> Result<(), Cause> {
        self.check_own_ids(settings)?;
        match settings.groups.iter().find(|group| !self.groups.contains(group)) {
            Some(missing) => Err(Cause::Group(*missing)),
            None => Ok(()),
        }
    }

    fn check_own_ids(&self, settings: &Settings) -> Result<(), Cause> {
        let Settings { uids, gids, groups: _, level, strangers, program: _ } = settings;
        // At level `reach` nobody's ids are looked at.
        if *level > Level::Reach && strangers.uid == Some(self.uid) {
            return Err(Cause::StrangeUid(self.uid));
        }
        if *level > Level::Reach && strangers.gid == Some(self.gid) {
            return Err(Cause::StrangeGid(self.gid));
        }
        if !uids.is_empty() && !uids.contains(&self.uid) {
            return Err(Cause::Uid(self.uid));
        }
        if !gids.is_empty() && !gids.contains(&self.gid) {
            return Err(Cause::Gid(self.gid));
        }
        Ok(())
    }

    /// Whose socket it connected to.
    #[must_use]
    pub fn workload(&self) -> &WorkloadName {
        &self.workload
    }

    /// Effective user id when it connected.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Effective group id when it connected.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Supplementary groups when it connected.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// Process id in our PID namespace; `None` where another namespace hides it. A label, not an identity: ids are reused.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Clock ticks from boot to its start, where level `process` was proved and its number is to be seen. A label too.
    #[must_use]
    pub fn start_time(&self) -> Option<u64> {
        self.started
    }

    /// The process itself, where level `process` was proved.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.watch.held()
    }

    /// The container that it is in, where level `container` was proved.
    #[must_use]
    pub fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }

    /// SHA-256 of the executable that it executes, where level `program` was proved.
    #[must_use]
    pub fn exe_sha256(&self) -> Option<&Hash> {
        self.program.as_ref().map(Program::digest)
    }

    /// What must see every byte that is read from its connection.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What its program is challenged with.
    #[must_use]
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// The level that was proved.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// A peer that no kernel has seen, for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn for_test(workload: &WorkloadName, uid: u32, gid: u32, groups: &[u32]) -> Self {
        let (workload, groups) = (workload.clone(), groups.to_vec());
        let watch = Watch::ids(Level::User, (uid, gid));
        let (challenge, container, program) = (Challenge::default(), None, None);
        Self {
            workload,
            uid,
            gid,
            groups,
            pid: None,
            level: Level::User,
            watch,
            challenge,
            started: None,
            container,
            program,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> WorkloadName {
        WorkloadName::new("report-job").unwrap()
    }

    fn anyone() -> Settings {
        Settings {
            uids: vec![],
            gids: vec![],
            groups: vec![],
            level: Level::User,
            strangers: Strangers::default(),
            program: None,
        }
    }

    #[track_caller]
    fn check(settings: Settings, expected: &str) {
        let peer = Peer::for_test(&workload(), 20001, 20002, &[5, 6]);
        let found =
            peer.check(&settings).err().map_or_else(|| "admitted".to_owned(), |cause| cause.to_string());
        assert_eq!(found, expected);
    }

    #[test]
    fn every_thing_asked_for_must_hold() {
        check(anyone(), "admitted");
        check(
            Settings { uids: vec![1, 20001], gids: vec![20002], groups: vec![6, 5], ..anyone() },
            "admitted",
        );
        check(Settings { uids: vec![0], ..anyone() }, "uid 20001 may not use this socket");
        check(Settings { gids: vec![20001], ..anyone() }, "gid 20002 may not use this socket");
        // A supplementary group is not the effective one, and the other way round.
        check(Settings { gids: vec![5], ..anyone() }, "gid 20002 may not use this socket");
        let without = "a process without the supplementary group 20002 may not use this socket";
        check(Settings { groups: vec![5, 20002], ..anyone() }, without);
        let low = "the peer is known at level user; this socket requires process";
        check(Settings { level: Level::Process, ..anyone() }, low);
    }

    #[test]
    fn ids_that_are_nobodys_are_refused_even_where_they_are_named() {
        let strange = |uid, gid| Settings { strangers: Strangers { uid, gid }, ..anyone() };
        let uid = "uid 20001 is what every user from outside our user namespace looks like";
        check(strange(Some(20001), Some(20002)), uid);
        check(Settings { uids: vec![20001], ..strange(Some(20001), None) }, uid);
        let gid = "gid 20002 is what every group from outside our user namespace looks like";
        check(strange(Some(20002), Some(20002)), gid);
        check(strange(Some(1), Some(1)), "admitted");
        check(Settings { level: Level::Reach, ..strange(Some(20001), Some(20002)) }, "admitted");
    }

    #[tokio::test]
    async fn the_kernel_says_who_connected() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = identify(&ours, &anyone(), &workload()).unwrap();
        assert_eq!(peer.level(), Level::User);
        assert_eq!(peer.uid(), nix::unistd::geteuid().as_raw());
        assert_eq!(peer.gid(), nix::unistd::getegid().as_raw());
        assert_eq!(peer.pid(), i32::try_from(std::process::id()).ok());
    }

    #[tokio::test]
    async fn a_glance_sees_the_ids_and_not_the_groups() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let own = nix::unistd::geteuid().as_raw();
        let glance = |settings| glance(&ours, &settings, &workload());
        let caller = glance(Settings { uids: vec![own], groups: vec![u32::MAX - 1], ..anyone() }).unwrap();
        assert_eq!(caller.uid(), own);
        let rejected = caller.refuse(Cause::Connections);
        assert_eq!(rejected.peer.map(|peer| (peer.uid(), peer.level())), Some((own, Level::User)));
        let rejected = glance(Settings { uids: vec![own + 1], ..anyone() }).unwrap_err();
        assert!(matches!(rejected.cause, Cause::Uid(uid) if uid == own));
        let gid = nix::unistd::getegid().as_raw();
        let rejected = glance(Settings { gids: vec![gid + 1], ..anyone() }).unwrap_err();
        assert!(matches!(rejected.cause, Cause::Gid(found) if found == gid));
    }

    #[tokio::test]
    async fn another_uid_is_refused_and_the_event_can_name_it() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let other = nix::unistd::geteuid().as_raw() + 1;
        let rejected = identify(&ours, &Settings { uids: vec![other], ..anyone() }, &workload()).unwrap_err();
        assert_eq!(rejected.peer.map(|peer| peer.uid()), Some(other - 1));
        assert!(matches!(rejected.cause, Cause::Uid(uid) if uid == other - 1));
    }
}
