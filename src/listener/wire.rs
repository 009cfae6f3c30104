//! The bytes of one connection: knows when an answer is written, and does not wait for ever for a client that does not read.
//!
//! Does not understand the bytes, writes none that the HTTP library says by itself, and does not judge who wrote them: `peer` does, chunk by chunk. From the first chunk that is
//! not the peer's on, nothing is read or written any more.

use super::floor::Floor;
use crate::{
    access::{Aborted, Answered},
    api,
    peer::{Cause, Fault, Peer},
};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::{Sleep, sleep},
};

/// How long a client may leave a full socket unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answers with values that are not yet written to the socket, in order. Those left when the connection ends were not
/// delivered, and dropping them says so.
#[derive(Default)]
pub(super) struct Owed {
    queue: Mutex<Queue>,
    /// Whose word is written.
    pub(super) floor: Floor,
}

#[derive(Default)]
struct Queue {
    answers: VecDeque<Box<Answered>>,
    /// How many of them, from the front, HTTP has taken into its buffer.
    taken: usize,
}

impl Owed {
    fn with<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        change(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that HTTP had taken is written.
    fn flushed(&self) {
        self.floor.flushed();
        self.with(|queue| {
            let taken = std::mem::take(&mut queue.taken);
            queue.answers.drain(..taken.min(queue.answers.len())).for_each(|answered| answered.delivered());
        });
    }
}

/// A body, and whether something is owed until it is written. Once it is dropped, nothing is added to it.
pub(super) struct Tracked {
    body: api::Content,
    is_owing: bool,
    owed: Arc<Owed>,
}

impl Tracked {
    /// A body after which there is nothing to say.
    pub(super) fn free(body: api::Content, owed: &Arc<Owed>) -> Self {
        Self { body, is_owing: false, owed: Arc::clone(owed) }
    }

    /// The body of `answer`, which is owed from now on.
    pub(super) fn owing(body: api::Content, answer: Box<Answered>, owed: &Arc<Owed>) -> Self {
        owed.with(|queue| queue.answers.push_back(answer));
        Self { body, is_owing: true, owed: Arc::clone(owed) }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let is_last = match &frame {
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if is_last && std::mem::take(&mut self.is_owing) {
            self.owed.with(|queue| queue.taken += 1);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.owed.floor.end();
    }
}

/// Why a connection was ended by us, other than for what HTTP or the socket said.
#[derive(Debug)]
pub(super) enum Breach {
    /// What came in is not from the peer, or no longer from the one that connected.
    Peer(Cause),
    /// The process has ended, and somebody holds its connection open.
    Exited,
}

/// Whose turn it is on a connection.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// What has come in is looked at first: a request that is there whole is begun, and so on record, before it is seen that
    /// its client has hung up since.
    Work,
    /// The next chunk is read.
    Read,
}

/// The stream of one connection.
pub(super) struct Wire {
    stream: UnixStream,
    owed: Arc<Owed>,
    peer: Arc<Peer>,
    breach: Arc<OnceLock<Breach>>,
    turn: Turn,
    stalled: Option<Pin<Box<Sleep>>>,
    /// The HTTP library has answered by itself; nothing of that was written.
    is_unread: bool,
}

impl Wire {
    /// `breach` is set at the first one; the connection is then ended, whatever HTTP makes of it.
    pub(super) fn new(
        stream: UnixStream,
        owed: Arc<Owed>,
        peer: Arc<Peer>,
        breach: Arc<OnceLock<Breach>>,
    ) -> Self {
        Self { stream, owed, peer, breach, turn: Turn::Read, stalled: None, is_unread: false }
    }

    /// Whether the HTTP library gave up on what came in. What is written from here on is ours again.
    pub(super) fn take_unread(&mut self) -> bool {
        self.owed.floor.take();
        std::mem::take(&mut self.is_unread)
    }

    fn end(&self, breach: Breach) -> io::Error {
        // Only the first one counts.
        let _ = self.breach.set(breach);
        io::ErrorKind::PermissionDenied.into()
    }

    /// Nothing is written to a connection whose process has ended: whoever reads it is somebody else.
    fn check_alive(&self) -> io::Result<()> {
        self.peer.watch().check_alive().map_err(|cause| match cause {
            Cause::Exited => self.end(Breach::Exited),
            cause => self.end(Breach::Peer(cause)),
        })
    }

    fn patient<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.turn, Turn::Read) == Turn::Work
            && self.stream.poll_read_ready(context).is_ready()
        {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match ready!(self.peer.watch().poll_receive(&self.stream, context, into)) {
            Ok(()) => {
                self.turn = Turn::Work;
                Ok(())
            }
            Err(Fault::Socket(error)) => Err(error),
            Err(Fault::Peer(cause)) => Err(self.end(Breach::Peer(cause))),
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.owed.floor.is_free() {
            self.is_unread = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        self.check_alive()?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patient(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.owed.floor.is_free() {
            self.is_unread = true;
            return Poll::Ready(Ok(bytes.iter().map(|piece| piece.len()).sum()));
        }
        self.check_alive()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.patient(context, written)
    }

    /// Said of a body in several pieces, so that HTTP sends it as it is instead of copying it into a buffer of its own.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// HTTP calls this once its buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.owed.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_unread {
            // There is something to say yet.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
