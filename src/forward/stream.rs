//! An answer of Vault that is too large to be held: passed on piece by piece, and cut off where the token turns up in it, in any of the
//! spellings that `broker::scrub` knows.
//!
//! Nothing of the token leaves before the cut: as much is held back, by position, as its longest spelling is long. An answer is never
//! ended cleanly where it was cut.

use super::top::Top;
use crate::{
    broker::{
        scrub::{Flush, Masks, Scrubber},
        upstream::reply::Aborted,
    },
    vault::{
        passage::{self, Held},
        rest::Rest,
        session::Session,
    },
};
use bytes::Bytes;
use http::{HeaderMap, header};
use hyper::body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
};

/// The largest answer that is passed on, in bytes.
pub const LARGEST: u64 = 1024 * 1024 * 1024;

/// Why an answer was cut off, other than for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The token or its accessor was in it, or it gave out a token, a lease or something wrapped.
    Tainted,
    /// Vault broke off, or did not go on.
    Broken,
    /// It is larger than [`LARGEST`].
    TooLarge,
}

/// The body of an answer on its way, to be taken once.
pub struct Streamed {
    body: Mutex<Option<PassedBody>>,
    cut: Arc<Mark>,
}

/// Where it is said that it was cut.
#[derive(Default)]
struct Mark(AtomicU8);

/// What the client is sent.
pub struct PassedBody {
    first: Option<Bytes>,
    rest: Rest,
    scrubber: Scrubber,
    top: Top,
    /// As Vault says; nothing is ever made longer or shorter.
    length: Option<u64>,
    taken: u64,
    done: bool,
    cut: Arc<Mark>,
}

impl Streamed {
    /// The answer that begins with `held`.
    pub(super) fn begin(session: &Session, held: Held, headers: &HeaderMap, rest: Rest) -> Self {
        let masks = passage::sought(session, Masks::of);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let cut = Arc::<Mark>::default();
        let body = PassedBody {
            first: Some(Bytes::from_owner(held)),
            rest,
            scrubber: Scrubber::new(Arc::new(masks), Flush::ByPosition),
            top: Top::new(),
            length,
            taken: 0,
            done: false,
            cut: Arc::clone(&cut),
        };
        Self { body: Mutex::new(Some(body)), cut }
    }

    /// The body, the first time.
    #[must_use]
    pub fn take(&self) -> Option<PassedBody> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Why it was cut off, if it was.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        match self.cut.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Cut::Tainted),
            2 => Some(Cut::TooLarge),
            _ => Some(Cut::Broken),
        }
    }
}

impl std::fmt::Debug for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streamed").field("cut", &self.cut()).finish_non_exhaustive()
    }
}

impl PassedBody {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        self.rest.poll_piece(context).map(|piece| piece.transpose().map_err(|_| Cut::Broken))
    }

    /// What may go on of the next piece; at the end, all that is left.
    fn passed(&mut self, piece: Option<&Bytes>) -> Result<Bytes, Cut> {
        let mut out = match piece {
            Some(piece) => {
                self.taken += piece.len() as u64;
                if self.taken > LARGEST {
                    return Err(Cut::TooLarge);
                }
                self.top.push(piece).map_err(|_| Cut::Tainted)?;
                self.scrubber.push(piece)
            }
            None => Bytes::new(),
        };
        if self.scrubber.hits().iter().next().is_some() {
            return Err(Cut::Tainted);
        }
        self.done = piece.is_none() || self.length == Some(self.taken);
        if self.done {
            let last = self.scrubber.finish();
            out = if out.is_empty() { last } else { [out, last].concat().into() };
        }
        Ok(out)
    }

    fn cut_off(&mut self, cut: Cut) -> Aborted {
        self.done = true;
        let mark = match cut {
            Cut::Tainted => 1,
            Cut::TooLarge => 2,
            Cut::Broken => 3,
        };
        self.cut.0.store(mark, Ordering::Relaxed);
        Aborted
    }
}

impl Body for PassedBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
        while !this.done {
            let passed = ready!(this.next(context)).and_then(|piece| this.passed(piece.as_ref()));
            match passed {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                Err(cut) => return Poll::Ready(Some(Err(this.cut_off(cut)))),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        match (self.length, self.taken) {
            (Some(length), 0) => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}
