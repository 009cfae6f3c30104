//! The agent's end: starts the attestor, asks it, and takes what is not answered in time for a refusal.
//!
//! No task of its own: whoever waits for an answer takes in those of others too.

use super::{
    idle::{Found, Idle},
    open::TEXTS,
    wire::{ANSWER, Answer, Depth, Id, MOST_DROPPED, Request},
};
use crate::{
    crypto::Hash,
    peer::{
        kernel,
        process::Process,
        program::{Refusal, Settings},
    },
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, sendmsg, shutdown, socketpair,
    },
};
use std::{
    collections::HashMap,
    io::{self, IoSlice},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{io::unix::AsyncFd, sync::oneshot, time::timeout};

/// How many images are dropped before the attestor is told: each message wakes it. It can hold many times as many.
const DROPPED: usize = 16;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_millis(250);

/// The attestor, started, and not yet asked: it can be started before there is a runtime. Dropping it ends it.
#[derive(Debug)]
pub struct Started {
    socket: OwnedFd,
    child: Child,
}

/// The running attestor. Clones are the same one; it ends with the last.
#[derive(Debug, Clone)]
pub struct Attestor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: AsyncFd<OwnedFd>,
    state: Mutex<State>,
    child: Mutex<Child>,
    limit: Duration,
}

/// A number, and what was passed with it.
type Answered = Result<(u64, Vec<OwnedFd>), Refusal>;

#[derive(Debug, Default)]
struct State {
    last: Id,
    waiting: HashMap<Id, oneshot::Sender<Answered>>,
    /// Those that need not be held any more, and of which that was not said yet.
    dropped: Vec<Id>,
    idle: Idle,
    gone: bool,
}

/// What there is to be read of a process; what is `None` we may not look into.
#[derive(Debug, Default)]
pub struct Opened {
    /// What it executes: where that is, and not to be read.
    pub exe: Option<OwnedFd>,
    /// Its arguments, each with a NUL at its end (proc_pid_cmdline(5)).
    pub arguments: Option<OwnedFd>,
    /// Its environment as it began, each variable with a NUL at its end (proc_pid_environ(5)).
    pub environment: Option<OwnedFd>,
}

/// Proof that a process executed a permitted program when it was looked at last; the attestor holds it until this is dropped,
/// and for the process's next connection a while longer.
#[derive(Debug)]
pub struct Image {
    attestor: Attestor,
    id: Id,
    digest: Hash,
    /// `None` if it is this connection's alone.
    found: Option<Found>,
    /// Something was found against it.
    spent: AtomicBool,
}

impl Started {
    /// Starts it: this program again, as `claviger attestor`. To be called before execve(2) is given up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn now() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("attestor");
        Self::by(command)
    }

    /// Starts it by a command that calls [`super::parent`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn by(mut command: Command) -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // In a group of its own, a terminal's interrupt does not reach it. What it would say on stderr is no log line.
        command.env_clear().process_group(0).stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        // The command holds the other end until it is dropped.
        Ok(Self { socket, child })
    }
}

impl Attestor {
    /// Takes over one that was started.
    ///
    /// # Errors
    /// What the kernel says.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn of(started: Started) -> io::Result<Self> {
        Self::within(started, LIMIT)
    }

    /// The same, and its answers may take so long.
    pub(super) fn within(started: Started, limit: Duration) -> io::Result<Self> {
        let Started { socket, child } = started;
        let socket = kernel::await_messages(socket)?;
        Ok(Self(Arc::new(Inner { socket, state: Mutex::default(), child: Mutex::new(child), limit })))
    }

    /// Whether the attestor still runs. Its worker may be a new one; if this is `false`, nothing starts it again.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.take_in();
        !self.0.state().gone
    }

    /// The first process of the attestor, by its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Whether the process that this pidfd names executes a permitted program. Holds it: what comes after must be asked of the
    /// [`Image`].
    ///
    /// # Errors
    /// The first thing against it, [`Refusal::Timeout`] after 250 ms, [`Refusal::AttestorFailed`].
    pub async fn pin(&self, pidfd: BorrowedFd<'_>, settings: &Settings) -> Result<Image, Refusal> {
        // From now on, whatever happens, it is not held for nothing.
        let mut image = self.image(self.0.next_id(), [0; 32]);
        let (which, _) = self.0.ask(image.id, &Request::Pin(image.id, settings.clone()), Some(pidfd)).await?;
        let digest = usize::try_from(which).ok().and_then(|which| settings.exe_sha256.get(which));
        image.digest = *digest.ok_or(Refusal::AttestorFailed)?;
        Ok(image)
    }

    /// As [`Self::pin`], for the connection of a process that is held. If it had one before, and that image is held still, it is
    /// only asked whether it is the same: everything that is asked of a kept connection.
    ///
    /// # Errors
    /// As [`Self::pin`].
    pub async fn pin_process(&self, process: &Process, settings: &Arc<Settings>) -> Result<Image, Refusal> {
        if let Some(image) = self.pin_again(process, settings).await {
            return Ok(image);
        }
        let since = Instant::now();
        let mut image = self.pin(process.as_fd(), settings).await?;
        let (process, settings) = (process.id(), Arc::clone(settings));
        image.found = Some(Found { id: image.id, process, settings, digest: image.digest, since });
        Ok(image)
    }

    /// Whatever speaks against the image from before, as execve(2) does, says nothing about what the process is now.
    async fn pin_again(&self, process: &Process, settings: &Settings) -> Option<Image> {
        let found = self.0.state().idle.take(process.id(), settings, Instant::now())?;
        let mut image = self.image(found.id, found.digest);
        image.found = Some(found);
        image.check(Depth::Light).await.ok().map(|()| image)
    }

    /// What there is to be read of a process: its own, whoever has its number by then.
    ///
    /// # Errors
    /// Why there is nothing: [`Refusal::PidNotVisible`], [`Refusal::PeerExited`] and the like.
    pub async fn open(&self, process: &Process) -> Result<Opened, Refusal> {
        let id = self.0.next_id();
        let (bits, passed) = self.0.ask(id, &Request::Open(id), Some(process.as_fd())).await?;
        let mut files = passed.into_iter();
        let [exe, arguments, environment] =
            TEXTS.map(|(bit, _)| if bits & bit == 0 { None } else { files.next() });
        Ok(Opened { exe, arguments, environment })
    }

    fn image(&self, id: Id, digest: Hash) -> Image {
        Image { attestor: self.clone(), id, digest, found: None, spent: AtomicBool::new(false) }
    }

    /// In which mount namespace the process is, by the number that the kernel never gives again.
    ///
    /// # Errors
    /// Why that cannot be known: [`Refusal::PidNotVisible`] if we may not look into it.
    pub async fn mount_namespace(&self, pidfd: BorrowedFd<'_>) -> Result<u64, Refusal> {
        let id = self.0.next_id();
        self.0.ask(id, &Request::MountNamespace(id), Some(pidfd)).await.map(|(number, _)| number)
    }
}

impl Image {
    /// SHA-256 of the executable.
    #[must_use]
    pub fn digest(&self) -> &Hash {
        &self.digest
    }

    /// Whether the process still executes it, lives, and is as it must be.
    ///
    /// # Errors
    /// The first thing against it; after one, this image is of no use any more.
    pub async fn check(&self, depth: Depth) -> Result<(), Refusal> {
        let attestor = &self.attestor.0;
        let id = attestor.next_id();
        let asked = attestor.ask(id, &Request::Again(id, self.id, depth), None).await.map(|_| ());
        asked.inspect_err(|_| self.spent.store(true, Ordering::Relaxed))
    }
}

#[cfg(test)]
impl Image {
    /// Under which the attestor holds it.
    pub(super) fn id(&self) -> Id {
        self.id
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut state = self.attestor.0.state();
        let gone = match self.found.take().filter(|_| !*self.spent.get_mut()) {
            Some(found) => state.idle.put(found, Instant::now()),
            None => vec![self.id],
        };
        state.dropped.extend(gone);
        let many = state.dropped.len() >= DROPPED;
        drop(state);
        if many {
            self.attestor.0.say_dropped();
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> Id {
        let mut state = self.state();
        state.last += 1;
        state.last
    }

    async fn ask(&self, id: Id, request: &Request, passed: Option<BorrowedFd<'_>>) -> Answered {
        let packet = request.encode().ok_or(Refusal::AttestorFailed)?;
        // The death of an earlier worker is not this request's.
        self.take_in();
        let (answered, answer) = oneshot::channel();
        self.state().waiting.insert(id, answered);
        let _waits = Waits { inner: self, id };
        timeout(self.limit, self.exchange(&packet, passed, answer)).await.unwrap_or(Err(Refusal::Timeout))
    }

    async fn exchange(
        &self,
        packet: &[u8],
        passed: Option<BorrowedFd<'_>>,
        mut answer: oneshot::Receiver<Answered>,
    ) -> Answered {
        while let Err(errno) = self.send(packet, passed) {
            if errno != Errno::EAGAIN {
                return Err(Refusal::AttestorFailed);
            }
            self.socket.writable().await.map_err(|_| Refusal::AttestorFailed)?.clear_ready();
        }
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or(Err(Refusal::AttestorFailed)),
                ready = self.socket.readable() => {
                    let mut ready = ready.map_err(|_| Refusal::AttestorFailed)?;
                    // Cleared first: what comes while it is taken in makes it ready again.
                    ready.clear_ready();
                    self.take_in();
                }
            }
        }
    }

    fn send(&self, packet: &[u8], passed: Option<BorrowedFd<'_>>) -> nix::Result<()> {
        let passed = passed.map(|passed| [passed.as_raw_fd()]);
        let passed: Vec<_> = passed.iter().map(|passed| ControlMessage::ScmRights(passed)).collect();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let socket = self.socket.get_ref().as_raw_fd();
        sendmsg::<()>(socket, &[IoSlice::new(packet)], &passed, flags, None).map(|_| ())
    }

    /// Gives each answer that is there to whoever waits for it.
    fn take_in(&self) {
        let mut packet = [0; ANSWER + 1];
        let mut state = self.state();
        while !state.gone {
            match kernel::receive_passed(self.socket.get_ref().as_fd(), &mut packet) {
                Ok((length, passed)) if length > 0 => match packet.get(..length).and_then(Answer::decode) {
                    Some(Answer::To(id, answer)) => {
                        if let Some(waiting) = state.waiting.remove(&id) {
                            // Whoever has gone away is told nothing.
                            let _ = waiting.send(answer.map(|number| (number, passed)));
                        }
                    }
                    // They are told by being dropped.
                    Some(Answer::Died) => state.waiting.clear(),
                    None => {}
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    state.gone = true;
                    state.waiting.clear();
                }
            }
        }
    }

    fn say_dropped(&self) {
        let mut state = self.state();
        while !state.dropped.is_empty() {
            let rest = state.dropped.len().saturating_sub(MOST_DROPPED);
            let ids = state.dropped.split_off(rest);
            let sent = Request::Drop(ids.clone()).encode().map(|packet| self.send(&packet, None));
            if sent == Some(Err(Errno::EAGAIN)) {
                state.dropped.extend(ids);
                return;
            }
        }
    }
}

/// Whoever stops waiting is forgotten.
struct Waits<'a> {
    inner: &'a Inner,
    id: Id,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.inner.state().waiting.remove(&self.id);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It ends when it has nobody to answer any more, and so even if our sandbox does not let us signal it.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        if child.kill().is_ok() {
            let _ = child.wait();
        }
    }
}
