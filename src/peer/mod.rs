//! The process at the other end of a connection, as the kernel describes it, never as it describes itself.
//!
//! Does not know rules or secrets. Whatever the kernel will not say is a refusal: there are no default credentials.

mod admission;
pub mod attestor;
mod challenge;
pub mod container;
mod control;
mod kernel;
pub mod level;
pub mod process;
pub mod program;
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
use std::{io, os::fd::AsFd, sync::Arc, time::Duration};
use tokio::net::{UnixStream, unix::UCred};

pub use admission::{Provers, Repinned, Since};
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

/// A peer that may not use the socket.
#[derive(Debug, thiserror::Error)]
#[error("a peer of {workload} is refused")]
pub struct Rejected {
    /// Whose socket it connected to.
    pub workload: WorkloadName,
    /// Who it is, if the kernel said so.
    pub peer: Option<Box<Peer>>,
    /// Why it is refused.
    #[source]
    pub cause: Cause,
}

/// Who connected, by no more than its ids as they were then (`SO_PEERCRED`): enough to count it, too little to serve it.
#[derive(Debug)]
pub struct Caller(Box<Peer>);

/// Why a peer may not use a socket. The texts may be shown to it: they hold nothing that it does not know.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel would not say who it is.
    #[error("the kernel does not say who the peer is")]
    Unknown(#[source] io::Error),
    /// Its effective uid is not one of those.
    #[error("uid {0} may not use this socket")]
    Uid(u32),
    /// Its effective gid is not one of those.
    #[error("gid {0} may not use this socket")]
    Gid(u32),
    /// It lacks a supplementary group.
    #[error("a process without the supplementary group {0} may not use this socket")]
    Group(u32),
    /// Its uid is that of everybody whom our user namespace does not map.
    #[error("uid {0} is what every user from outside our user namespace looks like")]
    StrangeUid(u32),
    /// Its gid is that of every group that our user namespace does not map.
    #[error("gid {0} is what every group from outside our user namespace looks like")]
    StrangeGid(u32),
    /// Its uid or gid is no longer what it was when it connected, or its real one is not its effective one.
    #[error("the peer's uid or gid is not the one it connected with")]
    Drift,
    /// The process that connected has ended.
    #[error("the process that connected has ended")]
    Exited,
    /// Another process than the one that connected wrote to the connection, or the kernel does not say which one did.
    #[error("another process than the one that connected wrote to the connection")]
    Writer,
    /// It passed descriptors.
    #[error("descriptors may not be passed on this socket")]
    Descriptors,
    /// The kernel said more about a chunk than there was room for.
    #[error("the kernel's word on what came in was cut off")]
    Truncated,
    /// The kernel cannot name the process.
    #[error("this kernel cannot name the process of a peer (Linux 6.9 can)")]
    KernelTooOld,
    /// Its user has as many connections open as it may.
    #[error("this user has as many connections open as it may")]
    Connections,
    /// Its user makes connections faster than it may; it may make one after this long.
    #[error("this user makes connections faster than it may")]
    Rate(Duration),
    /// Its process is in a PID namespace, or behind a mount of /proc, that hides it from us.
    #[error("the peer's process is hidden from us (by another PID namespace, or by hidepid)")]
    Hidden,
    /// It runs in another container than the one that uses the socket, or the kernel says two things about which one it is.
    #[error(
        "another container than the peer's uses this socket, or the kernel does not say which one the peer is in"
    )]
    Container,
    /// So many living processes have used this socket that no more can be told apart.
    #[error("too many processes that still live have used this socket")]
    Crowded,
    /// It has not sent back the nonce that its program must be challenged with.
    #[error(
        "the program must be challenged first: GET /challenge on this connection, and send its nonce back in Claviger-Nonce"
    )]
    Unchallenged,
    /// Its program is not the one that is permitted.
    #[error(transparent)]
    Program(#[from] program::Refusal),
    /// Another program is required than when it connected.
    #[error("what program is required has changed since the peer connected; connect again")]
    Reloaded,
    /// That the socket went over to its container could not be put on record.
    #[error("the audit journal cannot be written")]
    Unrecorded,
    /// It is known less surely than required.
    #[error("the peer is known at level {proved}; this socket requires {required}")]
    Level {
        /// What was proved.
        proved: Level,
        /// What the workload requires.
        required: Level,
    },
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

/// Takes one look, of one system call, at who is at the other end: whoever knocks may knock often, and must not cost us more
/// before it is counted. Its uid and gid are checked, and not its groups.
///
/// # Errors
/// [`Rejected`], with its ids for the event.
pub fn glance(stream: &UnixStream, settings: &Settings, workload: &WorkloadName) -> Result<Caller, Rejected> {
    let rejected = |peer, cause| Rejected { workload: workload.clone(), peer, cause };
    let known = stream.peer_cred().map_err(|error| rejected(None, Cause::Unknown(error)))?;
    let peer = Box::new(Peer::of(&known, Vec::new(), settings.level, workload));
    match peer.check_own_ids(settings) {
        Ok(()) => Ok(Caller(peer)),
        Err(cause) => Err(rejected(Some(peer), cause)),
    }
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

impl Caller {
    /// Effective user id when it connected.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// It may not be here after all.
    #[must_use]
    pub fn refuse(self, cause: Cause) -> Rejected {
        Rejected { workload: self.0.workload.clone(), peer: Some(self.0), cause }
    }
}

impl Cause {
    /// Whether the peer is told why. Where somebody else may be at the other end by now, nothing is said to them: the
    /// connection is closed at once.
    #[must_use]
    pub fn is_told(&self) -> bool {
        use program::Refusal;
        !matches!(
            self,
            Self::Drift
                | Self::Exited
                | Self::Writer
                | Self::Descriptors
                | Self::Truncated
                | Self::Program(Refusal::ImageChanged | Refusal::CredsDrift | Refusal::PeerExited)
        )
    }
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
