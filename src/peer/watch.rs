//! What stays with a peer's connection: it takes every chunk from the kernel together with the word on who wrote it, and sees
//! the end of the process.
//!
//! Does not look into the bytes and does not end the connection: whoever reads through it must, at the first error.

use super::{
    Cause, kernel,
    level::Level,
    process::{Process, ProcessId},
};
use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{Interest, ReadBuf},
    net::UnixStream,
};

/// Checks what comes in on one connection against the peer that made it. Checking costs system calls and no wait.
#[derive(Debug)]
pub struct Watch {
    /// Uid and gid, effective, when it connected.
    effective: (u32, u32),
    /// Uid and gid that stand on each chunk: the real ones, if the kernel told, else as if they were the effective ones.
    real: (u32, u32),
    level: Level,
    process: Option<Process>,
    checked: Checked,
}

/// How old the last look at the process may be when it has just asked: what it asked is then read, decided and put on record,
/// and whether it lives is asked once more before anything is written.
const LATE: Duration = Duration::from_millis(1);

/// When the process was looked at last.
#[derive(Debug)]
struct Checked {
    began: Instant,
    /// In microseconds after that.
    last: AtomicU64,
}

impl Checked {
    fn now() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }

    fn again(&self) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(0);
        self.last.store(micros, Ordering::Relaxed);
    }

    fn is_late(&self) -> bool {
        self.began.elapsed().saturating_sub(Duration::from_micros(self.last.load(Ordering::Relaxed))) > LATE
    }
}

/// Why a chunk was not taken.
#[derive(Debug)]
pub enum Fault {
    /// The socket failed.
    Socket(io::Error),
    /// The chunk is not one that this peer may send: nothing more may be read from, or written to, the connection.
    Peer(Cause),
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self::Peer(cause)
    }
}

impl Watch {
    /// Below level `process`: there is no process to hold.
    pub(super) fn ids(level: Level, ids: (u32, u32)) -> Self {
        Self {
            effective: ids,
            real: ids,
            level: level.min(Level::User),
            process: None,
            checked: Checked::now(),
        }
    }

    /// At level `process` and above: holds the connector, whose ids are still those of when it connected.
    ///
    /// # Errors
    /// [`Cause::Exited`], [`Cause::Drift`], [`Cause::KernelTooOld`], [`Cause::Unknown`].
    pub(super) fn process(stream: &UnixStream, ids: (u32, u32)) -> Result<Self, Cause> {
        let process = Process::connector(stream.as_fd())?;
        let told = kernel::live_ids(process.as_fd()).map_err(Cause::Unknown)?;
        let real = told.map_or(ids, |told| told.real);
        let watch = Self {
            effective: ids,
            real,
            level: Level::Process,
            process: Some(process),
            checked: Checked::now(),
        };
        if told.is_some_and(|told| told.effective != ids) {
            return Err(Cause::Drift);
        }
        // Last, so that all this was said of a living process.
        watch.check_alive()?;
        Ok(watch)
    }

    /// The process that is held; `None` below level `process`.
    pub(super) fn held(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Reads one chunk into `into`, and nothing of a chunk that is not the peer's. A chunk may have come from a process that has
    /// ended since: ask [`Self::check_alive`] before anything is written.
    ///
    /// # Errors
    /// [`Fault`]; then `into` holds nothing new.
    pub fn poll_receive(
        &self,
        stream: &UnixStream,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Fault>> {
        let chunk = loop {
            ready!(stream.poll_read_ready(context)).map_err(Fault::Socket)?;
            let room = into.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || kernel::receive(stream.as_fd(), room)) {
                // The readiness was an old one, and is taken back.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(Fault::Socket(error))),
                Ok(chunk) => break chunk,
            }
        };
        self.check(&chunk)?;
        into.advance(chunk.length);
        // A short chunk may end where the next writer's begins, so it does not mean that there is no more. If there is none,
        // the readiness is taken back at once, which saves receiving nothing.
        if chunk.length > 0 && kernel::waiting(stream.as_fd()).is_ok_and(|bytes| bytes == 0) {
            let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn check(&self, chunk: &kernel::Chunk) -> Result<(), Cause> {
        if chunk.truncated {
            return Err(Cause::Truncated);
        }
        if chunk.descriptors > 0 {
            return Err(Cause::Descriptors);
        }
        // Nobody writes the end of a stream.
        if chunk.length == 0 || self.level < Level::User {
            return Ok(());
        }
        if let Some(process) = &self.process {
            let writer = chunk.writer.as_ref().map(|writer| ProcessId::of(writer.as_fd()));
            if !matches!(writer, Some(Ok(writer)) if writer == process.id()) {
                return Err(Cause::Writer);
            }
            self.check_effective(process)?;
            self.checked.again();
        }
        if chunk.ids == Some(self.real) { Ok(()) } else { Err(Cause::Drift) }
    }

    /// Its effective ids are what they were, as far as the kernel tells.
    fn check_effective(&self, process: &Process) -> Result<(), Cause> {
        let ids = kernel::live_ids(process.as_fd()).map_err(Cause::Unknown)?;
        if ids.is_some_and(|ids| ids.effective != self.effective) { Err(Cause::Drift) } else { Ok(()) }
    }

    /// As [`Self::check_now`], if the last chunk is older than a millisecond: as a request is that waited behind another one,
    /// but not one that has just come. Whether it lives is then for [`Self::check_alive`].
    ///
    /// # Errors
    /// As [`Self::check_now`].
    pub(super) fn check_of_late(&self) -> Result<(), Cause> {
        if self.checked.is_late() { self.check_now() } else { Ok(()) }
    }

    /// Asks the kernel, at this moment, whether the process lives and is what it was; below level `process` nothing is known of
    /// that.
    ///
    /// # Errors
    /// [`Cause::Drift`], [`Cause::Exited`], or [`Cause::Unknown`].
    pub(super) fn check_now(&self) -> Result<(), Cause> {
        let Some(process) = &self.process else { return Ok(()) };
        self.check_effective(process)?;
        // Last, so that the other was said of a living process.
        process.check_alive()
    }

    /// Asks the kernel, at this moment, whether the process still lives; below level `process` nothing is known of that.
    ///
    /// # Errors
    /// [`Cause::Exited`], or [`Cause::Unknown`].
    pub fn check_alive(&self) -> Result<(), Cause> {
        self.process.as_ref().map_or(Ok(()), Process::check_alive)
    }

    /// Waits for the end of the process; below level `process` for ever.
    pub async fn exited(&self) {
        match &self.process {
            Some(process) => process.exited().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        name::WorkloadName,
        peer::{Peer, Settings, Strangers, identify},
    };
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
    use std::{
        io::{IoSlice, Read},
        os::fd::AsRawFd,
    };
    use tokio::io::AsyncWriteExt;

    /// A connection of ourselves with ourselves, watched at `level`.
    fn watched(level: Level) -> (Peer, UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        setsockopt(&ours, sockopt::PassCred, &true).unwrap();
        kernel::tell_writers(ours.as_fd(), kernel::Telling::On).unwrap();
        let workload = WorkloadName::new("report-job").unwrap();
        let none = Vec::new;
        let settings = Settings {
            uids: none(),
            gids: none(),
            groups: none(),
            level,
            strangers: Strangers::default(),
            program: None,
        };
        let peer = identify(&ours, &settings, &workload).unwrap();
        assert_eq!((peer.level(), peer.process().is_some()), (level, level == Level::Process));
        (peer, ours, theirs)
    }

    #[test]
    fn a_request_that_has_waited_behind_another_is_looked_at_again() {
        let hour = Duration::from_secs(3600);
        let mut checked =
            Checked { began: Instant::now().checked_sub(hour).unwrap(), last: AtomicU64::new(0) };
        assert!(checked.is_late());
        // As if no time passed from here on.
        checked.again();
        checked.began += Duration::from_secs(1);
        assert!(!checked.is_late());
        checked.began -= Duration::from_secs(2);
        assert!(checked.is_late());
    }

    async fn receive(watch: &Watch, stream: &UnixStream) -> Result<usize, Fault> {
        let mut bytes = [0; 64];
        let mut into = ReadBuf::new(&mut bytes);
        std::future::poll_fn(|context| watch.poll_receive(stream, context, &mut into)).await?;
        Ok(into.filled().len())
    }

    #[tokio::test]
    async fn what_the_peer_writes_is_taken_up_to_its_end() {
        for level in [Level::Reach, Level::User, Level::Process] {
            let (peer, ours, mut theirs) = watched(level);
            let watch = peer.watch();
            theirs.write_all(b"hello").await.unwrap();
            assert_eq!(receive(watch, &ours).await.unwrap(), 5);
            drop(theirs);
            assert_eq!(receive(watch, &ours).await.unwrap(), 0);
            assert!(watch.check_alive().is_ok());
        }
    }

    #[tokio::test]
    async fn passed_descriptors_are_refused_and_closed_at_every_level() {
        for level in [Level::Reach, Level::User, Level::Process] {
            let (peer, ours, theirs) = watched(level);
            let watch = peer.watch();
            let (mut far, near) = std::io::pipe().unwrap();
            let raw = [near.as_raw_fd(); 253];
            let bytes = [IoSlice::new(b"x")];
            let rights = [ControlMessage::ScmRights(&raw)];
            sendmsg::<()>(theirs.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
            let refused = receive(watch, &ours).await;
            assert!(matches!(refused, Err(Fault::Peer(Cause::Descriptors))), "{refused:?}");
            // The last writing end of the pipe is gone: the copies are closed.
            drop(near);
            assert_eq!(far.read(&mut [0]).unwrap(), 0);
        }
    }

    #[track_caller]
    fn check(watch: &Watch, change: impl FnOnce(&mut kernel::Chunk), expected: &str) {
        let ids = Some(watch.real);
        let writer = watch.process.as_ref().map(|process| process.as_fd().try_clone_to_owned().unwrap());
        let mut chunk = kernel::Chunk { length: 1, writer, ids, descriptors: 0, truncated: false };
        change(&mut chunk);
        let found =
            watch.check(&chunk).err().map_or_else(|| "taken".to_owned(), |cause| format!("{cause:?}"));
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_chunk_of_which_the_kernel_says_too_little_or_something_else_is_refused() {
        let (process, _ours, _theirs) = watched(Level::Process);
        let (user, _ours, _theirs) = watched(Level::User);
        let (reach, _ours, _theirs) = watched(Level::Reach);
        let (process, user, reach) = (process.watch(), user.watch(), reach.watch());
        for watch in [process, user, reach] {
            check(watch, |_| {}, "taken");
            check(watch, |chunk| chunk.truncated = true, "Truncated");
            check(watch, |chunk| (chunk.length, chunk.writer, chunk.ids) = (0, None, None), "taken");
        }
        check(reach, |chunk| chunk.ids = None, "taken");
        for watch in [process, user] {
            check(watch, |chunk| chunk.ids = None, "Drift");
            check(watch, |chunk| chunk.ids = Some((watch.real.0 + 1, watch.real.1)), "Drift");
            check(watch, |chunk| chunk.ids = Some((watch.real.0, watch.real.1 + 1)), "Drift");
        }
        check(process, |chunk| chunk.writer = None, "Writer");
        // Something that is no process at all.
        check(
            process,
            |chunk| chunk.writer = Some(std::fs::File::open("/dev/null").unwrap().into()),
            "Writer",
        );
    }
}
