//! The body of a request on its way to the upstream: counted, hashed, and cut off where it is too large.
//!
//! Does not change it.

use crate::crypto::{Hash, Sha256};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

/// What went of a body so far, shared with whoever waits for the answer.
#[derive(Default)]
pub struct Sent {
    bytes: AtomicU64,
    hash: Mutex<Sha256>,
    too_large: std::sync::atomic::AtomicBool,
}

impl Sent {
    /// How many bytes the client sent as the body.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// SHA-256 of them.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone().finish()
    }

    /// Whether it was cut off, since there was more than may be sent.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// Counts the next piece.
    pub(in crate::broker) fn count(&self, piece: &[u8]) {
        self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).update(piece);
    }
}

/// Why a body was cut off.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// It is larger than the upstream's `max_request`.
    #[error("the body is larger than what may be sent")]
    TooLarge,
    /// The client broke off.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

/// A body as it is sent.
pub enum Outgoing {
    /// In one piece; was counted where it was made.
    Whole(Option<Bytes>),
    /// As it comes in, without its trailers.
    Stream {
        /// From the client.
        body: Incoming,
        /// What of it was sent.
        sent: Arc<Sent>,
        /// How many bytes may still be sent.
        left: u64,
    },
}

impl Outgoing {
    /// Nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Whole(None)
    }

    /// All of it, where it is whole.
    #[must_use]
    pub fn piece(&self) -> &[u8] {
        match self {
            Self::Whole(Some(bytes)) => bytes,
            Self::Whole(None) | Self::Stream { .. } => &[],
        }
    }

    /// One piece.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { body, sent, left } => loop {
                let frame = match ready!(Pin::new(&mut *body).poll_frame(context)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(Cut::Broken(error)))),
                    Some(Ok(frame)) => frame,
                };
                // Trailers are dropped: they would be headers that nobody looked at.
                let Ok(data) = frame.into_data() else { continue };
                let Some(rest) = left.checked_sub(data.len() as u64) else {
                    sent.too_large.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(Cut::TooLarge)));
                };
                *left = rest;
                sent.count(&data);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}
