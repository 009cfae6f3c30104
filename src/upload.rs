//! The body of a request that is not held: read piece by piece by whoever sends it on, counted, and cut off where it is too long, does not
//! go on or breaks off.
//!
//! Changes nothing in it and keeps nothing of it: what went cannot be had again. Does not know where it goes.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    error::Error,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

/// How long a client may leave us waiting for the next piece.
const STALL: Duration = Duration::from_secs(10);
/// How much of a body that nobody wants is read and thrown away, in bytes, and for how long.
const SPILL: (usize, Duration) = (64 * 1024 * 1024, Duration::from_secs(1));

type Source = Pin<Box<dyn Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send>>;

/// Such a body. Its clones are one: each piece goes to whoever asks first.
#[derive(Clone)]
pub struct Upload {
    state: Arc<Mutex<State>>,
    length: Option<u64>,
    held: u64,
}

/// Why there is no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// It is longer than what may be sent, which is so many bytes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// Its client did not go on.
    #[error("the body did not come in time")]
    Late,
    /// Its client hung up, or it is malformed.
    #[error("the body is malformed or cut off")]
    Broken,
    /// [`Upload::close`] was called.
    #[error("the body is not wanted any more")]
    Closed,
}

struct State {
    /// What was read of it, and put back.
    first: Bytes,
    source: Option<Source>,
    /// The most that may be sent.
    most: u64,
    sent: u64,
    is_begun: bool,
    is_over: bool,
    cut: Option<Cut>,
    /// When the last piece went.
    moved: Instant,
    waiting: Option<Pin<Box<Sleep>>>,
    sender: Option<Waker>,
}

impl Upload {
    /// A body that may have `held` bytes at most where it must be held, and any number where it is sent on.
    #[must_use]
    pub fn new<B>(body: B, held: u64) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let length = body.size_hint().exact();
        let state = State {
            first: Bytes::new(),
            is_over: body.is_end_stream(),
            source: Some(Box::pin(body.map_err(Into::into))),
            most: u64::MAX,
            sent: 0,
            is_begun: false,
            cut: None,
            moved: Instant::now(),
            waiting: None,
            sender: None,
        };
        Self { state: Arc::new(Mutex::new(state)), length, held }
    }

    /// How long its client says that it is.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// How many bytes it may have where it must be held.
    #[must_use]
    pub fn largest_held(&self) -> u64 {
        self.held
    }

    /// Lets no more than `most` bytes be sent.
    pub fn limit(&self, most: u64) {
        self.lock().most = most;
    }

    /// The next piece, for whoever holds them: it does not count as sent.
    ///
    /// # Errors
    /// [`Cut`].
    pub async fn piece(&self) -> Option<Result<Bytes, Cut>> {
        poll_fn(|context| self.lock().poll_piece(context)).await
    }

    /// Gives back what was taken by [`Self::piece`], all of it.
    pub fn put_back(&self, first: Bytes) {
        let mut state = self.lock();
        (state.first, state.is_over) = (first, false);
    }

    /// How many bytes were handed over to be sent; `None`: nobody has begun to send it.
    #[must_use]
    pub fn sent(&self) -> Option<u64> {
        let state = self.lock();
        state.is_begun.then_some(state.sent)
    }

    /// Why it was cut off, if it was.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        self.lock().cut
    }

    /// Lets nothing more of it be sent, if there is more.
    pub fn close(&self) {
        let mut state = self.lock();
        if !state.is_over && state.cut.is_none() {
            state.cut = Some(Cut::Closed);
        }
        if let Some(sender) = state.sender.take() {
            sender.wake();
        }
    }

    /// Ends when nothing of it was sent for so long.
    pub async fn still(&self, limit: Duration) {
        let mut until = Instant::now() + limit;
        while Instant::now() < until {
            sleep_until(until).await;
            until = self.lock().moved + limit;
        }
    }

    /// Closes it, and throws away what comes for a while: a client that is still sending would take a closed connection for the answer.
    pub async fn spill(&self) {
        self.close();
        let Some(mut source) = self.lock().source.take() else { return };
        let spilling = async {
            let mut left = SPILL.0;
            while let Some(Ok(frame)) = source.frame().await {
                left = left.saturating_sub(frame.into_data().map_or(0, |data| data.len()));
                if left == 0 {
                    break;
                }
            }
        };
        // Whoever does not listen is nobody's problem.
        let _ = timeout(SPILL.1, spilling).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if let Some(cut) = self.cut {
            return Poll::Ready(Some(Err(cut)));
        }
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        let Some(source) = self.source.as_mut().filter(|_| !self.is_over) else { return Poll::Ready(None) };
        loop {
            let Poll::Ready(frame) = source.as_mut().poll_frame(context) else {
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(STALL)));
                ready!(waiting.as_mut().poll(context));
                return Poll::Ready(Some(Err(self.cut_off(Cut::Late))));
            };
            self.waiting = None;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => {
                    self.is_over = true;
                    return Poll::Ready(None);
                }
                Some(Ok(Ok(piece))) => {
                    self.is_over = source.is_end_stream();
                    return Poll::Ready(Some(Ok(piece)));
                }
                // Trailers are dropped: they would be headers that nobody looked at.
                Some(Ok(Err(_))) => {}
                Some(Err(_)) => return Poll::Ready(Some(Err(self.cut_off(Cut::Broken)))),
            }
        }
    }

    /// The same for whoever sends it.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        self.is_begun = true;
        let polled = self.poll_piece(context);
        self.sender = polled.is_pending().then(|| context.waker().clone());
        let piece = match ready!(polled) {
            Some(Ok(piece)) => piece,
            ended => return Poll::Ready(ended),
        };
        let sent = self.sent + piece.len() as u64;
        if sent > self.most {
            return Poll::Ready(Some(Err(self.cut_off(Cut::TooLarge(self.most)))));
        }
        (self.sent, self.moved) = (sent, Instant::now());
        Poll::Ready(Some(Ok(piece)))
    }

    fn cut_off(&mut self, cut: Cut) -> Cut {
        self.cut = Some(cut);
        cut
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.lock().poll_sent(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.lock();
        state.is_over && state.first.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match (self.length, self.lock().is_begun) {
            (Some(length), false) => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Gives these pieces, and then nothing, or its end.
    struct Client {
        pieces: VecDeque<&'static str>,
        ends: bool,
    }

    impl Body for Client {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            match self.pieces.pop_front() {
                Some("cut") => Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into()))),
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn upload(pieces: &[&'static str], ends: bool) -> Upload {
        Upload::new(Client { pieces: pieces.iter().copied().collect(), ends }, 100)
    }

    /// What a sender gets of it.
    async fn sent(upload: &Upload) -> (String, Option<Cut>) {
        let (mut upload, mut text) = (upload.clone(), String::new());
        loop {
            match upload.frame().await {
                None => return (text, None),
                Some(Ok(frame)) => text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
                Some(Err(cut)) => return (text, Some(cut)),
            }
        }
    }

    async fn check(pieces: &[&'static str], ends: bool, expected: (&str, Option<Cut>)) {
        let upload = upload(pieces, ends);
        upload.limit(6);
        assert_eq!(upload.sent(), None);
        let (text, cut) = sent(&upload).await;
        assert_eq!((text.as_str(), cut), expected, "{pieces:?}");
        assert_eq!((upload.sent(), upload.cut()), (Some(text.len() as u64), cut), "{pieces:?}");
        // Nothing comes behind an end.
        assert_eq!(sent(&upload).await, (String::new(), cut));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_where_its_client_its_limit_or_its_time_ends_it() {
        check(&["abc", "def"], true, ("abcdef", None)).await;
        check(&[], true, ("", None)).await;
        check(&["abc", "defg"], true, ("abc", Some(Cut::TooLarge(6)))).await;
        check(&["abc", "cut"], true, ("abc", Some(Cut::Broken))).await;
        check(&["abc"], false, ("abc", Some(Cut::Late))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_put_back_is_sent_first_and_after_a_close_nothing_is() {
        let upload = upload(&["abc", "def", "ghi"], true);
        let first = upload.piece().await.unwrap().unwrap();
        assert_eq!(upload.sent(), None);
        upload.put_back(first);
        let piece = upload.clone().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((piece.as_ref(), upload.sent()), (&b"abc"[..], Some(3)));
        upload.close();
        assert_eq!(sent(&upload).await, (String::new(), Some(Cut::Closed)));
        upload.spill().await;
        assert_eq!((upload.sent(), upload.cut()), (Some(3), Some(Cut::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_waits_hears_of_a_close_and_one_that_is_over_is_not_closed() {
        let waiting = upload(&[], false);
        let (found, ()) = tokio::join!(sent(&waiting), async { waiting.close() });
        assert_eq!(found, (String::new(), Some(Cut::Closed)));
        let over = upload(&["abc"], true);
        sent(&over).await;
        over.close();
        assert_eq!(over.cut(), None);
        assert!(timeout(Duration::from_secs(59), over.still(Duration::from_secs(60))).await.is_err());
        over.still(Duration::from_secs(60)).await;
    }
}
