//! Accepts connections on a workload's socket, within its limits.
//!
//! Does not read requests (`api`) and does not decide who may connect (`peer`, `policy`).
//!
//! The first thing that is asked of a connection is its uid, which is one system call, and the first thing that is done is to
//! take a turn and a place of that user. Whoever has none left is told so at once and closed; of those whom the settings refuse,
//! eight are told at a time, and the others are closed without a word. So no user can take what is another's, and the socket's
//! connections have a bound: beyond it they wait in the kernel's queue. None stays for ever: an idle or slow connection is ended
//! after 10 s, and so is one whose client does not read.

mod connection;
mod floor;
mod room;
mod socket;
mod wire;

use crate::{access::Access, api::Root, name::WorkloadName};
use arc_swap::ArcSwap;
use nix::sys::resource::{Resource, getrlimit};
use room::Room;
use socket::Socket;
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::UnixStream,
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use socket::Error;

/// The longest file name of a socket in a directory of any depth, in bytes. It is bound as `/proc/self/fd/N/NAME` in 107 bytes
/// (`sun_path`, unix(7)): 14 before N, at most 7 digits of N (the kernel's `nr_open` is 1048576), a slash.
pub const LONGEST_NAME: usize = 107 - 14 - 7 - 1;

/// How large a request's head may be, in bytes.
pub const HEAD: usize = 8192;
/// The same, where calls of other APIs come in: cookies and signatures are dropped, but they are sent.
pub const HEAD_OF_CALLS: usize = 32 * 1024;

/// How often the socket file is looked at.
const CHECK: Duration = Duration::from_secs(1);
/// How long nothing is accepted after the kernel could not give us a connection, for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// How many descriptors connections leave free: one for the process of this peer, one for that of each chunk that is received,
/// and some for the journal and for Vault. Without them a peer that has done nothing wrong could not be told from another.
const KEPT_FREE: u64 = 8;

/// One workload's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose socket it is.
    pub workload: WorkloadName,
    /// Absolute; the path has at most 107 bytes (unix(7)), or its file name at most [`LONGEST_NAME`].
    pub path: PathBuf,
    /// Permission bits of the socket file: 0666 by default, since the mount and the kernel's identity are the boundary.
    pub mode: u32,
    /// What each user may use up; may change while running.
    pub limits: Limits,
}

/// What each user that may connect may use up at a workload's socket. Where the settings name no uid, all users together have
/// the connections of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time.
    pub connections: u32,
    /// Requests a second over all its connections, and as many at once; and so many new connections, too.
    pub requests_per_second: u32,
    /// Bytes of one request's body.
    pub body: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, requests_per_second: 1000, body: 1024 * 1024 }
    }
}

/// A workload's socket, bound. It is served by [`Listener::run`]; dropping it removes the file.
pub struct Listener {
    socket: Socket,
    /// Accepted, and not served until there is room for it.
    held_back: Option<UnixStream>,
    mode: u32,
    shared: Arc<Shared>,
    room: Room,
    standing: Arc<Standing>,
}

/// How a socket stands, for whoever watches; kept up to date while it is served.
#[derive(Debug, Default)]
pub struct Standing {
    /// Open connections.
    pub open: AtomicU64,
    /// The file was removed or replaced, and could not be bound again yet.
    pub lost: AtomicBool,
    /// How often it was, and was bound again.
    pub rebinds: AtomicU64,
}

/// What the connections of one workload share.
struct Shared {
    access: Arc<Access>,
    limits: Arc<ArcSwap<Limits>>,
    root: Root,
    /// The largest head of a request, in bytes.
    head: usize,
}

impl Listener {
    /// Binds the socket of `settings`. `limits` stands for `settings.limits`, and may be changed by whoever shares it.
    ///
    /// # Errors
    /// Whatever is wrong with the path; a socket that somebody listens on is left alone.
    pub fn bind(
        settings: &Settings,
        limits: Arc<ArcSwap<Limits>>,
        access: Arc<Access>,
    ) -> Result<Self, Error> {
        Self::bind_root(settings, (Root::Workload, HEAD), limits, access)
    }

    /// The same, for a socket with another root, or with another limit for the head of a request.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_root(
        settings: &Settings,
        (root, head): (Root, usize),
        limits: Arc<ArcSwap<Limits>>,
        access: Arc<Access>,
    ) -> Result<Self, Error> {
        let Settings { workload: _, path, mode, limits: _ } = settings;
        let socket = Socket::bind(path, *mode)?;
        let shared = Shared { access, limits, root, head };
        let (shared, room) = (Arc::new(shared), Room::default());
        Ok(Self { socket, held_back: None, mode: *mode, shared, room, standing: Arc::default() })
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Serves connections until `stop`, then removes the socket file, lets requests that run finish, and ends when they have.
    /// What still runs at `cut` is dropped.
    pub async fn run(mut self, stop: CancellationToken, cut: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut checks = interval(CHECK);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.standing.open.store(connections.len() as u64, Ordering::Relaxed);
            let room =
                connections.len() < room::total(&self.shared.limits.load(), self.shared.access.users());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => report(ended),
                _ = checks.tick() => {
                    self.stay_in_place();
                    self.shared.access.report_floods();
                }
                stream = self.accept(), if room => {
                    if let Some(stream) = stream {
                        // At once: what is held of this peer counts before another is accepted.
                        self.take_in(stream, &mut connections, &stop);
                    }
                }
            }
        }
        self.shared.access.report_floods();
        drop(self);
        tokio::select! {
            () = cut.cancelled() => connections.shutdown().await,
            () = async { while let Some(ended) = connections.join_next().await { report(ended) } } => {}
        }
    }

    /// Gives a connection its place, and serves it there or says why not.
    fn take_in(&self, stream: UnixStream, connections: &mut JoinSet<()>, stop: &CancellationToken) {
        let access = &self.shared.access;
        let placed = access.glance(&stream).and_then(|caller| {
            let limits = self.shared.limits.load();
            let turn = access.take_entry(caller.uid(), limits.requests_per_second);
            match turn.and_then(|()| self.room.take(caller.uid(), &limits)) {
                Ok(place) => Ok((place, access.identify(&stream)?)),
                Err(cause) => Err(caller.refuse(cause)),
            }
        });
        // A peer that is refused has given back its user's place by now.
        let (place, known) = match placed {
            Ok((place, peer)) => (place, Ok(peer)),
            Err(rejected) => match self.room.part(&rejected.cause) {
                Some(place) => (place, Err(rejected)),
                None => return access.count_away(&rejected),
            },
        };
        connections.spawn(connection::serve(Arc::clone(&self.shared), stream, known, place, stop.clone()));
    }

    async fn accept(&mut self) -> Option<UnixStream> {
        let accepted = match self.held_back.take() {
            // Its own number says nothing any more: whether there is room by now, a copy of it tells.
            Some(stream) => stream.as_fd().try_clone_to_owned().map(|copy| (leaves_room(&copy), stream)),
            None => self.socket.accept().await.map(|stream| (leaves_room(&stream), stream)),
        };
        let error = match accepted {
            Ok((true, stream)) => return Some(stream),
            Ok((false, stream)) => {
                self.held_back = Some(stream);
                io::Error::from_raw_os_error(libc::EMFILE)
            }
            Err(error) => error,
        };
        tracing::warn!(path = %self.socket.path().display(), %error, "accepting a connection failed");
        tokio::time::sleep(PAUSE).await;
        None
    }

    /// Binds again when the file was removed or replaced. Connections that are open stay open.
    fn stay_in_place(&mut self) {
        if self.socket.is_in_place() {
            self.standing.lost.store(false, Ordering::Relaxed);
            return;
        }
        let path = self.socket.path().to_owned();
        match Socket::bind(&path, self.mode) {
            Ok(socket) => {
                self.socket = socket;
                self.standing.lost.store(false, Ordering::Relaxed);
                self.standing.rebinds.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(path = %path.display(), "the socket file was removed or replaced; bound again");
            }
            // It is tried again every second, and said once.
            Err(error) => {
                if !self.standing.lost.swap(true, Ordering::Relaxed) {
                    tracing::error!(path = %path.display(), %error, "the socket file was removed or replaced");
                }
            }
        }
    }
}

/// Whether [`KEPT_FREE`] descriptors are left beside this new one: a new one has the lowest number that is free (open(2)).
fn leaves_room(new: &impl AsRawFd) -> bool {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    u64::try_from(new.as_raw_fd()).is_ok_and(|number| number < limit.saturating_sub(KEPT_FREE))
}

/// A panic stays in its connection, and is said.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection's task panicked");
    }
}

#[cfg(test)]
mod tests;
