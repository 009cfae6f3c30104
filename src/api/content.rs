//! What a body is made of: one piece of ours, a watcher's stream, or the answer of an upstream or of Vault on its way.
//!
//! Does not look at it.

use super::watch;
use crate::access::{Aborted, PassedBody, ReplyBody};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A body.
pub enum Content {
    /// In one piece; wiped when dropped if it holds a value.
    Whole(Full<Bytes>),
    /// What a watcher is told, piece by piece, until one of the two ends it.
    Events(Box<watch::Stream>),
    /// An upstream's.
    Stream(Box<ReplyBody>),
    /// Vault's, where it is too large to be held.
    Passed(Box<PassedBody>),
}

impl Content {
    /// One piece.
    pub(super) fn new(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match &mut *self {
            Self::Whole(body) => match Pin::new(body).poll_frame(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(frame) => Poll::Ready(frame.and_then(Result::ok).map(Ok)),
            },
            Self::Events(stream) => {
                stream.poll(context).map(|next| next.map(|piece| piece.map(Frame::data).map_err(|_| Aborted)))
            }
            Self::Stream(body) => Pin::new(&mut **body).poll_frame(context),
            Self::Passed(body) => Pin::new(&mut **body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(_) => false,
            Self::Stream(body) => body.is_end_stream(),
            Self::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
            Self::Stream(body) => body.size_hint(),
            Self::Passed(body) => body.size_hint(),
        }
    }
}
