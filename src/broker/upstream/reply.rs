//! The body of an answer on its way to the client: scrubbed while it streams, counted, never ended cleanly where it was not.
//!
//! Does not buffer: what comes in goes out, but for what the scrubber holds back by its position.

use super::{
    super::{
        Upstream,
        decode::Decoder,
        fault::Fault,
        scrub::{Hits, Scrubber},
    },
    line::Line,
};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// How a body ended. What is recorded once.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Why not well; `None`: every byte of it was handed on.
    pub fault: Option<Fault>,
    /// Bytes that were handed on.
    pub bytes: u64,
    /// What was masked.
    pub hits: Hits,
}

/// Is told once how a body ended.
pub type Tell = Box<dyn FnOnce(Ended) + Send + Sync>;

/// The body.
pub struct ReplyBody {
    incoming: Incoming,
    /// Gone once the body has ended; given back for the next request, if it ended well.
    line: Option<(Arc<Upstream>, String, Line)>,
    /// Where it comes encoded.
    decoder: Option<Decoder>,
    scrubber: Option<Scrubber>,
    idle: Pin<Box<Sleep>>,
    limit: Duration,
    left: u64,
    bytes: u64,
    before: Hits,
    /// The last piece, when all is in hand.
    last: Option<Bytes>,
    done: bool,
    tell: Option<Tell>,
}

/// Something ended badly: the client's connection must be cut, so that it does not take what it has for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer ended early")]
pub struct Aborted;

impl ReplyBody {
    /// The body of an answer; `hits` were in its head.
    pub(in crate::broker) fn new(
        incoming: Incoming,
        line: (Arc<Upstream>, String, Line),
        (decoder, scrubber): (Option<Decoder>, Scrubber),
        hits: Hits,
    ) -> Self {
        let settings = &line.0.settings;
        let (limit, left) = (settings.timeouts.idle, settings.max_response.unwrap_or(u64::MAX));
        let mut body = Self {
            incoming,
            decoder,
            scrubber: Some(scrubber),
            idle: Box::pin(sleep(limit)),
            limit,
            left,
            bytes: 0,
            before: hits,
            last: None,
            done: false,
            tell: None,
            line: Some(line),
        };
        if body.incoming.is_end_stream() {
            body.close();
        }
        body
    }

    /// Has `tell` told how it ends; if it has already, at once.
    #[must_use]
    pub fn telling(mut self, tell: Tell) -> Self {
        self.tell = Some(tell);
        if self.done {
            self.end(None);
        }
        self
    }

    /// The connection is free for the next request.
    fn close(&mut self) {
        self.done = true;
        if let Some((upstream, version, line)) = self.line.take() {
            upstream.pool.give_back(&version, line);
        }
    }

    fn end(&mut self, fault: Option<Fault>) {
        self.done = true;
        self.line = None;
        let mut hits = self.before;
        if let Some(scrubber) = self.scrubber.take() {
            hits.add(scrubber.hits());
        }
        if let Some(tell) = self.tell.take() {
            tell(Ended { fault, bytes: self.bytes, hits });
        }
    }

    /// What may go of the next piece, decoded.
    fn scrubbed(&mut self, piece: &[u8]) -> Result<Bytes, Fault> {
        self.left = self.left.checked_sub(piece.len() as u64).ok_or(Fault::ResponseTooLarge)?;
        self.scrubber.as_mut().map(|scrubber| scrubber.push(piece)).ok_or(Fault::UpstreamAborted)
    }

    /// What may go of what was decoded; `None`: another piece must come first.
    fn decoded(&mut self) -> Result<Option<Bytes>, Fault> {
        while let Some(piece) = self.decoder.as_mut().map(Decoder::give).transpose()?.flatten() {
            let out = self.scrubbed(&piece)?;
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
        Ok(None)
    }

    /// All that is left: nothing more comes.
    fn finish(&mut self) -> Result<Bytes, Fault> {
        let frames_its_ends = self.line.as_ref().is_some_and(|(_, _, line)| line.frames_its_ends());
        // A stream that is reset as no longer wanted ends without an error, and without its end.
        if frames_its_ends && !self.incoming.is_end_stream() {
            return Err(Fault::UpstreamAborted);
        }
        let Some(decoder) = &mut self.decoder else { return Ok(self.rest()) };
        let decoded = decoder.finish()?;
        let out = self.scrubbed(&decoded)?;
        Ok([out, self.rest()].concat().into())
    }

    /// What was held back: the body has ended.
    fn rest(&mut self) -> Bytes {
        self.scrubber.as_mut().map(Scrubber::finish).unwrap_or_default()
    }

    fn give(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.bytes += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    /// The last piece: whoever counts bytes may not ask for more, so that it has ended is said now.
    fn give_last(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let frame = if bytes.is_empty() { Poll::Ready(None) } else { self.give(bytes) };
        self.close();
        self.end(None);
        frame
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.end(Some(fault));
        Poll::Ready(Some(Err(Aborted)))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            if let Some(last) = this.last.take() {
                return this.give_last(last);
            }
            match this.decoded() {
                Ok(Some(out)) => return this.give(out),
                Ok(None) => {}
                Err(fault) => return this.fail(fault),
            }
            match Pin::new(&mut this.incoming).poll_frame(context) {
                Poll::Pending => {
                    return match this.idle.as_mut().poll(context) {
                        Poll::Ready(()) => this.fail(Fault::UpstreamTimeout),
                        Poll::Pending => Poll::Pending,
                    };
                }
                Poll::Ready(Some(Err(_))) => return this.fail(Fault::UpstreamAborted),
                Poll::Ready(Some(Ok(frame))) => {
                    let limit = this.limit;
                    this.idle.as_mut().reset(Instant::now() + limit);
                    // Trailers are dropped.
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(decoder) = &mut this.decoder {
                        decoder.feed(data);
                        continue;
                    }
                    let out = match this.scrubbed(&data) {
                        Ok(out) => out,
                        Err(fault) => return this.fail(fault),
                    };
                    if this.incoming.is_end_stream() {
                        let rest = this.rest();
                        if rest.is_empty() || out.is_empty() {
                            return this.give_last(if out.is_empty() { rest } else { out });
                        }
                        this.last = Some(rest);
                    }
                    if !out.is_empty() {
                        return this.give(out);
                    }
                }
                Poll::Ready(None) => {
                    return match this.finish() {
                        Ok(rest) => this.give_last(rest),
                        Err(fault) => this.fail(fault),
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    /// As the upstream said: what is masked is as long as it was. What is decoded is not.
    fn size_hint(&self) -> SizeHint {
        let is_as_long = self.bytes == 0 && !self.done && self.decoder.is_none();
        if is_as_long { self.incoming.size_hint() } else { SizeHint::default() }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        // Who hangs up in the middle leaves a connection behind that nobody can use.
        self.end(Some(Fault::ClientGone));
    }
}
