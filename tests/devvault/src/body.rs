//! The bodies of answers over HTTP: whole, cut off in the middle, or as long as a script says.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A body that hyper sends.
#[derive(Debug)]
pub(crate) enum Reply {
    /// All of it.
    Whole(Option<Bytes>),
    /// Promises `promised` bytes, sends `part`, then fails, which closes the connection.
    Cut { part: Option<Bytes>, promised: u64, paused: bool },
    /// A JSON string of this total size, made as it is sent.
    Flood { left: u64, begun: bool },
}

const HEAD: &[u8] = b"{\"data\":{\"x\":\"";
const TAIL: &[u8] = b"\"}}";
const CHUNK: u64 = 64 * 1024;

impl Reply {
    pub(crate) fn flood(bytes: u64) -> Reply {
        Reply::Flood { left: bytes.max((HEAD.len() + TAIL.len()) as u64), begun: false }
    }

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self {
            Reply::Whole(all) => all.take().map(Ok),
            Reply::Cut { part, .. } => {
                let lost = || io::Error::new(io::ErrorKind::ConnectionAborted, "scripted cut");
                Some(part.take().ok_or_else(lost))
            }
            Reply::Flood { left: 0, .. } => None,
            Reply::Flood { left, begun } => {
                let piece = match (*begun, *left) {
                    (false, _) => Bytes::from_static(HEAD),
                    (true, n) if n <= TAIL.len() as u64 => Bytes::from_static(TAIL),
                    (true, n) => {
                        let size = CHUNK.min(n - TAIL.len() as u64);
                        Bytes::from(vec![b'a'; usize::try_from(size).unwrap_or(0)])
                    }
                };
                *begun = true;
                *left -= (piece.len() as u64).min(*left);
                Some(Ok(piece))
            }
        }
    }

    /// The whole body in memory, for callers without a socket; `None` for one that is cut.
    pub(crate) fn gathered(mut self) -> Option<Bytes> {
        let mut all = Vec::new();
        while let Some(piece) = self.next() {
            all.extend_from_slice(&piece.ok()?);
        }
        Some(all.into())
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Reply::Cut { part: None, paused, .. } = &mut *self
            && !std::mem::replace(paused, true)
        {
            // hyper sends what it has only while a body makes it wait; without this the head would be lost too.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.get_mut().next().map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Whole(None) | Reply::Flood { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(all) => SizeHint::with_exact(all.as_ref().map_or(0, |b| b.len() as u64)),
            Reply::Cut { promised, .. } => SizeHint::with_exact(*promised),
            Reply::Flood { .. } => SizeHint::default(),
        }
    }
}
