//! What is left of an answer that is not held whole: read piece by piece by whoever passes it on.
//!
//! Does not look at it, and has no end of its own but the other side's: whoever reads it has a cap.

use bytes::Bytes;
use hyper::body::Body as _;
use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// How much of an answer is in hand before it is passed on piece by piece, in bytes: what is smaller is held whole.
pub const HELD: usize = 256 * 1024;
/// How long Vault may leave us waiting for the next piece.
const IDLE: Duration = Duration::from_secs(60);

/// How an answer that is larger than [`HELD`] may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Whole, or not at all.
    Whole,
    /// With a [`Rest`].
    Any,
}

/// The rest of an answer.
pub struct Rest {
    body: reqwest::Body,
    idle: Pin<Box<Sleep>>,
}

/// It broke off, or did not go on.
#[derive(Debug, thiserror::Error)]
#[error("an answer of Vault broke off")]
pub struct Broken;

impl Rest {
    pub(super) fn of(response: reqwest::Response) -> Self {
        let body = http::Response::<reqwest::Body>::from(response).into_body();
        Self { body, idle: Box::pin(sleep(IDLE)) }
    }

    /// The next piece; `None` at its end.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                ready!(self.idle.as_mut().poll(context));
                return Poll::Ready(Some(Err(Broken)));
            };
            self.idle.as_mut().reset(Instant::now() + IDLE);
            let Some(frame) = frame else { return Poll::Ready(None) };
            let Ok(frame) = frame else { return Poll::Ready(Some(Err(Broken))) };
            // Trailers are dropped.
            if let Ok(piece) = frame.into_data() {
                return Poll::Ready(Some(Ok(piece)));
            }
        }
    }
}
