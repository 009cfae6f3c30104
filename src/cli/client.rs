//! One HTTP/1.1 request to the agent: over a workload's socket, or to its health port.
//!
//! Sends nothing about itself, since the kernel tells the agent who asks. Answers are wiped when dropped; hyper's own read
//! buffer is not, and lives as long as the command does.

use super::exit::{Exit, Failure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::{
    fmt,
    fs::File,
    future::Future,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use zeroize::Zeroizing;

/// The longest answer that is taken, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;
/// What fits into `sun_path` with its closing zero (unix(7)).
const LONGEST_PATH: usize = 107;

/// The way to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    /// The workload's socket.
    pub(super) socket: PathBuf,
    /// The user whom the agent must run as; `None`: any.
    pub(super) server_uid: Option<u32>,
}

/// What came back. Its `Debug` never shows the body.
#[derive(PartialEq, Eq)]
pub(super) struct Reply {
    /// The status of HTTP.
    pub(super) status: StatusCode,
    /// `Retry-After`, in whole seconds.
    pub(super) retry_after: Option<Duration>,
    /// The body.
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Who listened there when listen(2) was called, by the kernel; `None` for the health port.
    pub(super) server_uid: Option<u32>,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("connecting to {}", at.display())]
    Connect {
        at: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("uid {found} listens at {}, and not uid {wanted}", at.display())]
    WrongServer { at: PathBuf, found: u32, wanted: u32 },
    #[error("talking to claviger at {at}")]
    Talk {
        at: String,
        #[source]
        source: hyper::Error,
    },
    #[error("claviger at {at} did not answer within {} s", limit.as_secs())]
    TimedOut { at: String, limit: Duration },
    #[error("claviger at {at} answered with more than 16 MiB")]
    TooLarge { at: String },
    #[error("refused: {said}")]
    Refused { said: String },
    #[error("not ready: {said}")]
    NotReady { said: String, retry_after: Option<Duration> },
    #[error("too many requests: {said}")]
    TooMany { said: String, retry_after: Option<Duration> },
    #[error("claviger answered {status}: {said}")]
    Answered { status: StatusCode, said: String },
    #[error("claviger answered what this command does not understand")]
    Nonsense(#[source] serde_json::Error),
}

impl Client {
    /// Asks for `target` (path and query) and takes nothing but 200 for an answer.
    pub(super) async fn ask(&self, target: &str, limit: Duration) -> Result<Reply, Error> {
        let at = || self.socket.display().to_string();
        let asked = async {
            let (stream, found) = self.reach().await?;
            let reply = exchange(stream, &at(), target).await?;
            Ok(Reply { server_uid: Some(found), ..reply })
        };
        let reply = within(limit, at, asked).await?;
        if reply.status == StatusCode::OK { Ok(reply) } else { Err(reply.into_error()) }
    }

    /// Posts JSON to `target`, and takes nothing but 200 for an answer.
    pub(super) async fn post(&self, target: &str, body: String, limit: Duration) -> Result<Reply, Error> {
        let at = || self.socket.display().to_string();
        let asked = async {
            let (stream, found) = self.reach().await?;
            let mut request = request(target, body.into());
            *request.method_mut() = Method::POST;
            let reply = send(stream, &at(), request).await?;
            Ok(Reply { server_uid: Some(found), ..reply })
        };
        let reply = within(limit, at, asked).await?;
        if reply.status == StatusCode::OK { Ok(reply) } else { Err(reply.into_error()) }
    }

    /// A connection to whom we expect.
    pub(super) async fn connect(&self) -> Result<UnixStream, Error> {
        self.reach().await.map(|(stream, _)| stream)
    }

    async fn reach(&self) -> Result<(UnixStream, u32), Error> {
        let stream = connect(&self.socket).await;
        let stream = stream.map_err(|source| Error::Connect { at: self.socket.clone(), source })?;
        let found = self.check_server(&stream)?;
        Ok((stream, found))
    }

    /// Who listens there, which must be whom we expect, before a byte is sent.
    fn check_server(&self, stream: &UnixStream) -> Result<u32, Error> {
        let known =
            stream.peer_cred().map_err(|source| Error::Connect { at: self.socket.clone(), source })?;
        match self.server_uid {
            Some(wanted) if wanted != known.uid() => {
                Err(Error::WrongServer { at: self.socket.clone(), found: known.uid(), wanted })
            }
            _ => Ok(known.uid()),
        }
    }
}

/// Waits up to `limit`, then says who did not answer.
pub(super) async fn within<T>(
    limit: Duration,
    at: impl FnOnce() -> String,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(Error::TimedOut { at: at(), limit }),
    }
}

/// One request and its answer over `stream`; `at` is what errors call the other end.
pub(super) async fn exchange<S>(stream: S, at: &str, target: &str) -> Result<Reply, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    send(stream, at, request(target, Bytes::new())).await
}

fn request(target: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.uri_mut() = target.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::HOST, header::HeaderValue::from_static("claviger"));
    headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
    request
}

async fn send<S>(stream: S, at: &str, request: Request<Full<Bytes>>) -> Result<Reply, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let talk = |source| Error::Talk { at: at.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(talk)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(talk)?;
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Ok(Reply {
            status: head.status,
            retry_after: retry_after.and_then(|text| text.parse().ok()).map(Duration::from_secs),
            body: read(body, at).await?,
            server_uid: None,
        })
    };
    // The connection ends when the request's sender is dropped; its errors reach the request too.
    let (reply, _) = tokio::join!(answer, connection);
    reply
}

/// The body of a 200, as it comes in.
pub(super) async fn opened(response: http::Response<Incoming>, at: &str) -> Result<Incoming, Error> {
    let (head, body) = response.into_parts();
    if head.status == StatusCode::OK {
        return Ok(body);
    }
    let (status, body) = (head.status, read(body, at).await?);
    Err(Reply { status, retry_after: None, body, server_uid: None }.into_error())
}

async fn read(mut body: Incoming, at: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let announced =
        hyper::body::Body::size_hint(&body).exact().and_then(|length| usize::try_from(length).ok());
    // All of the room at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced.unwrap_or_default().min(LARGEST)));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Talk { at: at.to_owned(), source })?;
        let Some(piece) = frame.data_ref() else { continue };
        if bytes.len().saturating_add(piece.len()) > LARGEST {
            return Err(Error::TooLarge { at: at.to_owned() });
        }
        if bytes.capacity() - bytes.len() < piece.len() {
            let mut wider = Zeroizing::new(Vec::with_capacity((bytes.len() + piece.len()) * 2));
            wider.extend_from_slice(&bytes);
            bytes = wider;
        }
        bytes.extend_from_slice(piece);
    }
    Ok(bytes)
}

/// Connects to a socket whose path may be longer than `sun_path`: then by way of its directory's descriptor.
pub(super) async fn connect(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= LONGEST_PATH {
        return UnixStream::connect(socket).await;
    }
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return UnixStream::connect(socket).await;
    };
    let directory = File::open(directory)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}

/// The agent's errors, as its answers carry them.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    errors: Vec<String>,
    reason: Option<String>,
    request_id: Option<String>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Reply {
    fn into_error(self) -> Error {
        let Self { status, retry_after, body, server_uid: _ } = self;
        let said = said(&body);
        match status {
            StatusCode::FORBIDDEN => Error::Refused { said },
            // 202: a person must say yes first.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::ACCEPTED => Error::NotReady { said, retry_after },
            StatusCode::TOO_MANY_REQUESTS => Error::TooMany { said, retry_after },
            status => Error::Answered { status, said },
        }
    }
}

/// What the agent says is wrong: its own texts, without what could play with a terminal.
fn said(body: &[u8]) -> String {
    let Ok(Said { errors, reason, request_id }) = serde_json::from_slice(body) else {
        return "no reason was given".to_owned();
    };
    let marks = [("reason", reason), ("request", request_id)];
    let marks: Vec<String> =
        marks.into_iter().filter_map(|(word, mark)| Some(format!("{word} {}", mark?))).collect();
    let mut text = if errors.is_empty() { "no reason was given".to_owned() } else { errors.join("; ") };
    if !marks.is_empty() {
        text.push_str(&format!(" ({})", marks.join(", ")));
    }
    text.replace(char::is_control, " ")
}

impl Error {
    /// When it is worth asking again: `None` if the same question would get the same answer.
    pub(super) fn again(&self) -> Option<Duration> {
        let soon = Duration::from_secs(1);
        match self {
            Self::NotReady { retry_after, .. } | Self::TooMany { retry_after, .. } => {
                Some(retry_after.unwrap_or(soon).max(soon))
            }
            // The sidecar starts just now, or starts anew.
            Self::Connect { source, .. } => {
                // Or its queue is full of others.
                let starts = matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
                );
                starts.then_some(soon / 4)
            }
            Self::Talk { .. } => Some(soon),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Connect { source, .. } => Some(match source.kind() {
                io::ErrorKind::NotFound => {
                    "is the sidecar running? is this the socket directory of this container? CLAVIGER_SOCKET or --socket \
                     names another socket"
                }
                io::ErrorKind::ConnectionRefused => {
                    "the socket is there and nobody listens: is the sidecar running? has it just stopped?"
                }
                io::ErrorKind::PermissionDenied => {
                    "this user may not reach the socket: is this the socket directory of this container? look at its mode \
                     and owner"
                }
                _ => "is the sidecar running? is this the socket directory of this container?",
            }),
            Self::WrongServer { .. } => Some(
                "somebody else has put a socket there, or the sidecar runs as another user than --server-uid or \
                 CLAVIGER_SERVER_UID says",
            ),
            Self::Talk { .. } => Some(
                "the connection was cut: is it claviger that listens there? its log and audit say why it closes connections",
            ),
            Self::TimedOut { .. } => {
                Some("is the sidecar stopped or out of CPU? its log says what it waits for")
            }
            Self::Refused { .. } => Some(
                "`claviger whoami` says what the sidecar sees of this process and which rules it has; a name that does \
                 not exist and one that is not permitted answer alike",
            ),
            Self::NotReady { .. } => Some(
                "--wait 30s waits for it; the sidecar's log and `claviger probe ready` say what is missing",
            ),
            Self::TooMany { .. } => Some("ask less often, or raise the workload's `limits` in the config"),
            Self::TooLarge { .. } | Self::Answered { .. } => None,
            Self::Nonsense(_) => Some("are the command and the sidecar of the same version?"),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Refused { .. } => Exit::Refused,
            Self::NotReady { .. } => Exit::NotReady,
            _ => Exit::Failed,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::of(error.exit(), &error);
        match error.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}
