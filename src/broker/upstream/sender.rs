//! The way to send requests over one connection, by HTTP/1.1 or, in builds with the feature `http2`, by HTTP/2.
//!
//! Does not connect. A request is given the form that the protocol wants, and keeps what it says.

use super::outgoing::Outgoing;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

/// The largest head of an answer, in bytes.
const HEAD: usize = 64 * 1024;

/// A request that got no answer.
pub(super) struct Unsent {
    /// It, if nothing of it was sent.
    pub(super) request: Option<Request<Outgoing>>,
    /// Why.
    pub(super) error: hyper::Error,
}

impl From<TrySendError<Request<Outgoing>>> for Unsent {
    fn from(mut error: TrySendError<Request<Outgoing>>) -> Self {
        Self { request: error.take_message(), error: error.into_error() }
    }
}

/// One way to send.
pub(super) enum Sender {
    /// One request at a time.
    One(http1::SendRequest<Outgoing>),
    /// As many as the upstream takes (RFC 9113).
    #[cfg(feature = "http2")]
    Many(hyper::client::conn::http2::SendRequest<Outgoing>),
}

impl Sender {
    /// Begins to speak what was agreed on (RFC 7301); a task in `tasks` moves the bytes, and ends with the connection.
    ///
    /// # Errors
    /// The other side does not speak it.
    pub(super) async fn over<S>(stream: S, agreed: Option<&[u8]>, tasks: &TaskTracker) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        #[cfg(feature = "http2")]
        if agreed == Some(b"h2") {
            return Ok(Self::Many(many::begin(stream, tasks).await?));
        }
        #[cfg(not(feature = "http2"))]
        let _ = agreed;
        let made = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made?;
        tasks.spawn(async move {
            // Whoever waits for an answer is told by its sender.
            let _ = connection.await;
        });
        Ok(Self::One(sender))
    }

    /// Whether a request can be sent now.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_ready(),
            #[cfg(feature = "http2")]
            Self::Many(sender) => sender.is_ready(),
        }
    }

    /// Whether none can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            #[cfg(feature = "http2")]
            Self::Many(sender) => sender.is_closed(),
        }
    }

    /// Another way over the same connection, where there is more than one.
    pub(super) fn another(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            #[cfg(feature = "http2")]
            Self::Many(sender) => Some(Self::Many(sender.clone())),
        }
    }

    /// Sends, and waits for the answer's head.
    ///
    /// # Errors
    /// [`Unsent`].
    pub(super) async fn send(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, Unsent> {
        match self {
            Self::One(sender) => Ok(sender.try_send_request(request).await?),
            #[cfg(feature = "http2")]
            Self::Many(sender) => many::send(sender, request).await,
        }
    }
}

#[cfg(feature = "http2")]
mod many {
    //! Requests as HTTP/2 wants them.

    use super::{
        AsyncRead, AsyncWrite, HEAD, Incoming, Outgoing, Request, Response, TaskTracker, TokioIo, Unsent,
    };
    use http::{HeaderValue, Uri, header, uri::Parts};
    use hyper::{
        client::conn::http2::{Builder, SendRequest},
        rt::Executor,
    };

    /// How much of an answer is taken that nobody reads yet, in bytes: of one, and of all of a connection.
    const WINDOW: u32 = 256 * 1024;
    const WINDOW_OF_ALL: u32 = 1024 * 1024;

    /// Where what a connection does beside is done.
    #[derive(Clone)]
    struct Tasks(TaskTracker);

    impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
        fn execute(&self, task: F) {
            self.0.spawn(task);
        }
    }

    pub(super) async fn begin<S>(stream: S, tasks: &TaskTracker) -> hyper::Result<SendRequest<Outgoing>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = Builder::new(Tasks(tasks.clone()))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW_OF_ALL)
            .max_header_list_size(HEAD as u32)
            .handshake(TokioIo::new(stream))
            .await?;
        tasks.spawn(async move {
            // Whoever waits for an answer is told by its sender.
            let _ = connection.await;
        });
        Ok(sender)
    }

    pub(super) async fn send(
        sender: &mut SendRequest<Outgoing>,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Unsent> {
        let host = request.headers_mut().remove(header::HOST);
        let relative = request.uri().clone();
        if let Some(uri) = host.as_ref().and_then(|host| absolute(host, &relative)) {
            *request.uri_mut() = uri;
        }
        sender.try_send_request(request).await.map_err(|error| {
            let mut unsent = Unsent::from(error);
            // What goes another way goes as it came.
            if let (Some(request), Some(host)) = (&mut unsent.request, host) {
                *request.uri_mut() = relative;
                request.headers_mut().insert(header::HOST, host);
            }
            unsent
        })
    }

    /// The host stands in the target, and nowhere else (RFC 9113 section 8.3.1). Only TLS leads here.
    fn absolute(host: &HeaderValue, target: &Uri) -> Option<Uri> {
        let mut parts = Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.authority = Some(host.to_str().ok()?.parse().ok()?);
        parts.path_and_query = target.path_and_query().cloned();
        Uri::from_parts(parts).ok()
    }
}
