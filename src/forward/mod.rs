//! Requests in Vault's own API, sent on with the identity's token.
//!
//! Does not decide what may be sent: it sends what a `Grant` is for, and nothing else. What comes back is held whole and looked
//! through before it is given to anybody; what a client asks about the token itself is answered here, without it.

pub mod cache;
mod child;
mod envelope;
pub mod guarded;
pub mod lease;
mod own;
pub mod stream;
mod top;

use crate::{
    approval::{Approved, Grant, group},
    crypto,
    name::IdentityName,
    policy::{
        forward::{Forwarding, Operation, Own},
        wish::Call,
    },
    upload::{Cut, Upload},
    vault::{
        Vault, backoff,
        error::{Class, Error as VaultError, Fault},
        passage::{Passage, Passed, Repeats},
        rest::Size,
        session::{Identity, Session, State},
        wire::Reply,
    },
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use envelope::Envelope;
use http::{HeaderMap, HeaderName, Method, header};
use lease::Lease;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use stream::Streamed;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long a request waits for its identity to have a token.
const PATIENCE: Duration = Duration::from_secs(5);
/// Has Vault wrap an answer, for so many seconds.
pub const WRAP: HeaderName = HeaderName::from_static("x-vault-wrap-ttl");
/// What of Vault's headers comes back. Nothing that names another place, and nothing about the connection.
const OUT: [&str; 6] =
    ["content-type", "x-vault-index", "retry-after", "etag", "last-modified", "content-disposition"];

/// Every identity that runs.
pub type Identities = Arc<ArcSwap<BTreeMap<IdentityName, Identity>>>;

/// Sends requests on. Cheap to clone.
#[derive(Clone)]
pub struct Forward {
    vault: Vault,
    identities: Identities,
}

/// What Vault said, or what we said in its place.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Vault's own status.
    pub status: u16,
    /// Those that may come back.
    pub headers: HeaderMap,
    /// The whole of it, unless it is passed on piece by piece.
    pub body: Bytes,
    /// It, where it is.
    pub stream: Option<Arc<Streamed>>,
    /// Joins our audit to Vault's.
    pub request_id: Option<String>,
    /// The one that was made, or that lives longer now.
    pub lease: Option<Arc<Lease>>,
    /// Whether it was in the cache, where it was looked for there.
    pub found: Option<Found>,
    /// The number of the login whose token it was asked with.
    pub login: Option<u64>,
    /// Whether what it gives is behind a wrapping token.
    pub wrapped: bool,
}

impl Answer {
    /// One that is whole, and gives nothing that must be kept track of.
    #[must_use]
    pub fn plain(status: u16, headers: HeaderMap, body: Bytes) -> Self {
        Self {
            status,
            headers,
            body,
            stream: None,
            request_id: None,
            lease: None,
            found: None,
            login: None,
            wrapped: false,
        }
    }
}

/// Whether an answer was in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It was, for so long.
    Hit(Duration),
    /// Vault was asked.
    Miss,
}

/// Why there is no answer of Vault.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The identity has no token.
    #[error("the identity has no token")]
    NoToken(#[source] Option<VaultError>),
    /// Vault gave no answer that can be passed on.
    #[error("sending a request on")]
    Vault(#[source] VaultError),
    /// The token, its accessor, or another token was in the answer.
    #[error("there was a token in the answer")]
    Tainted,
    /// Not all of the request's body was sent.
    #[error("sending a request's body on")]
    Upload(#[source] Cut),
    /// Vault no longer knew the token, and the request's body is gone.
    #[error("the token was not known any more")]
    Expired,
    /// A child token that was made is more than was allowed; it has been revoked.
    #[error("{0}")]
    Child(&'static str),
}

/// One request, as far as a grant goes: method, namespace and path are the grant's. Nothing of who asked for it is needed any more.
pub struct Sending {
    forward: Forward,
    forwarding: Forwarding,
    passage: Passage,
    key: Option<cache::Key>,
    /// What Vault does it by, once persons have authorized it there.
    unwraps: Option<group::Key>,
}

impl Forward {
    /// By `vault`, with the tokens of `identities`.
    #[must_use]
    pub fn new(vault: Vault, identities: Identities) -> Self {
        Self { vault, identities }
    }

    /// What of `call` the grant lets be sent.
    #[must_use]
    pub fn prepare(&self, grant: &Grant<Forwarding>, call: &Call) -> Sending {
        let forwarding = grant.permit().subject().clone();
        let mut passage = passage(&forwarding, call);
        let unwraps = match grant.approved() {
            Approved::Spent(spent) => spent.key.clone(),
            _ => None,
        };
        // What an answer is found by is all of a request.
        let is_whole = passage.upload.is_none() && unwraps.is_none();
        let key = is_whole.then(|| cache::key(&forwarding, &passage)).flatten();
        if key.is_none() && forwarding.own.is_none() && forwarding.child.is_none() {
            passage.size = Size::Any;
        }
        if key.is_some() {
            // Its answer is for others too, so that nothing but what finds it may change it.
            passage.headers.clear();
        }
        Sending { forward: self.clone(), forwarding, passage, key, unwraps }
    }

    /// A claim on the token that the identity has, or on the one after login number `before`.
    async fn session(&self, name: &IdentityName, before: Option<u64>) -> Result<Session, Error> {
        let identity = self.identity(name)?;
        let mut state = identity.state.clone();
        let wanted = |state: &State| match state {
            State::Live(session) => Some(session.number()) != before,
            State::Starting | State::Down(_) => false,
        };
        let waited = timeout(PATIENCE, state.wait_for(wanted)).await;
        let found = match waited {
            Ok(Ok(state)) => state.clone(),
            _ => identity.state.borrow().clone(),
        };
        match found {
            State::Live(session) if Some(session.number()) != before => Ok(session),
            State::Down(error) => Err(Error::NoToken(Some(error))),
            State::Live(_) | State::Starting => Err(Error::NoToken(None)),
        }
    }

    fn identity(&self, name: &IdentityName) -> Result<Identity, Error> {
        self.identities.load().get(name).cloned().ok_or(Error::NoToken(None))
    }

    fn doubt(&self, name: &IdentityName, session: &Session) {
        if let Ok(identity) = self.identity(name) {
            identity.doubt(session);
        }
    }
}

impl Sending {
    /// What it is for.
    #[must_use]
    pub fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }

    /// What its answer is found by, if it may be held.
    #[must_use]
    pub fn key(&self) -> Option<cache::Key> {
        self.key
    }

    /// What is sent in it.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.passage.body
    }

    /// Its body, where that is not held.
    #[must_use]
    pub fn upload(&self) -> Option<&Upload> {
        self.passage.upload.as_ref()
    }

    /// Sends it. A request that changes nothing is sent once more after a new login if Vault no longer knew the token.
    ///
    /// # Errors
    /// [`Error`]; an answer of Vault that is itself an error is an answer.
    pub async fn send(&self) -> Result<Answer, Error> {
        let Self { forward, forwarding, passage, .. } = self;
        if let Some(key) = &self.unwraps {
            return self.unwrap(key.wrapped()).await;
        }
        if let Some(own) = forwarding.own.filter(|own| own.is_answered_here()) {
            return own::answer(forward, &forwarding.identity, own).await;
        }
        let session = forward.session(&forwarding.identity, None).await?;
        let answer = self.pass(&session).await?;
        if !says_unknown_token(&answer) {
            return Ok(answer);
        }
        forward.doubt(&forwarding.identity, &session);
        if passage.upload.is_some() {
            return Err(Error::Expired);
        }
        if passage.repeats == Repeats::Never {
            return Ok(answer);
        }
        let before = session.number();
        drop(session);
        match forward.session(&forwarding.identity, Some(before)).await {
            Ok(session) => self.pass(&session).await,
            Err(_) => Ok(answer),
        }
    }

    async fn pass(&self, session: &Session) -> Result<Answer, Error> {
        match self.forward.vault.pass(session, &self.passage).await.map_err(Error::Vault)? {
            Passed::Tainted => Err(Error::Tainted),
            Passed::Cut(cut) => Err(Error::Upload(cut)),
            Passed::Answer(reply) => self.answered(session, reply).await,
        }
    }

    /// Whether its answer is to be wrapped.
    fn wraps(&self) -> bool {
        self.passage.headers.contains_key(WRAP)
    }

    /// What of Vault's reply may be given.
    async fn answered(&self, session: &Session, mut reply: Reply) -> Result<Answer, Error> {
        let rest = reply.rest.take();
        let envelope = if rest.is_some() { Envelope::cut(&reply.body) } else { Envelope::read(&reply.body) };
        let Forwarding { child, own, .. } = &self.forwarding;
        // Of a child of the client's it is the client who has the token.
        let may_have_token = child.is_some() || *own == Some(Own::Child);
        let wrapped = envelope.is_wrapped();
        let as_asked = self.wraps() && envelope.wraps(self.forwarding.path.as_str());
        if wrapped && !as_asked || envelope.gives_token() && !may_have_token {
            return Err(Error::Tainted);
        }
        let made_by = || (session.clone(), self.forwarding.namespace.clone());
        let lease = envelope.lease().map(|(id, seconds)| Arc::new(Lease::new(id, seconds, made_by())));
        let request_id = envelope.request_id();
        let kept = OUT
            .iter()
            .filter_map(|name| Some((HeaderName::from_static(name), reply.headers.get(*name)?.clone())));
        let (status, headers) = (reply.status, kept.collect());
        let (body, stream) = match rest {
            None => (reply.into_bytes(), None),
            Some(rest) => {
                let given = std::mem::take(&mut reply.headers);
                (Bytes::new(), Some(Arc::new(Streamed::begin(session, reply.into_held(), &given, rest))))
            }
        };
        let answer = Answer {
            status,
            headers,
            body,
            stream,
            request_id,
            lease,
            found: None,
            login: Some(session.number()),
            wrapped,
        };
        match child {
            Some(allowed) => child::checked(&self.forward, made_by(), allowed, answer).await,
            None => Ok(answer),
        }
    }
}

impl Error {
    /// What kind of failure of Vault is behind it, if any.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::NoToken(error) => error.as_ref().map(VaultError::class),
            Self::Vault(error) => Some(error.class()),
            Self::Tainted | Self::Upload(_) | Self::Expired | Self::Child(_) => None,
        }
    }

    /// How long to wait before what must be done is tried again, after so many failures; `None`: it would fail again.
    #[must_use]
    pub fn again_in(&self, failures: u32) -> Option<Duration> {
        match self {
            Self::Vault(error) if error.fault() != Fault::Caller => {
                Some(backoff::wait(error, failures, crypto::chance()))
            }
            _ => None,
        }
    }

    /// When it is worth asking again: at least a second.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let said = match self {
            Self::NoToken(error) => error.as_ref().and_then(VaultError::retry_after),
            Self::Vault(error) => error.retry_after(),
            Self::Tainted | Self::Upload(_) | Self::Expired | Self::Child(_) => None,
        };
        said.unwrap_or_default().clamp(Duration::from_secs(1), Duration::from_secs(60))
    }
}

fn passage(forwarding: &Forwarding, call: &Call) -> Passage {
    let method = match forwarding.operation {
        Operation::Read if call.head_only => Method::HEAD,
        Operation::Read | Operation::List => Method::GET,
        Operation::Write => Method::POST,
        Operation::Patch => Method::PATCH,
        Operation::Delete => Method::DELETE,
    };
    let query = match (forwarding.operation, &call.query) {
        (Operation::List, Some(query)) => Some(format!("list=true&{query}")),
        (Operation::List, None) => Some("list=true".to_owned()),
        (_, query) => query.clone(),
    };
    let repeats = if forwarding.operation.changes() { Repeats::Never } else { Repeats::Harmless };
    let (path, namespace) = (forwarding.path.encoded(), forwarding.namespace.clone());
    let mut headers = call.headers.clone();
    if let Some(asked) = call.wrapped {
        headers.insert(WRAP, asked.as_secs().into());
    }
    if forwarding.own.is_some() || forwarding.child.is_some() {
        // Its body was read as JSON, and must be read so by Vault.
        headers.remove(header::CONTENT_TYPE);
    }
    let body = forwarding.child.as_ref().map_or(&call.body, |child| &child.body).clone();
    let upload = call.upload.clone();
    Passage { method, path, query, namespace, headers, body, upload, repeats, size: Size::Whole }
}

/// Vault 1.21.1 tells a token that it does not know from one that may not do this by its text.
fn says_unknown_token(answer: &Answer) -> bool {
    answer.status == 403
        && ["invalid token", "bad token"]
            .iter()
            .any(|said| memchr::memmem::find(&answer.body, said.as_bytes()).is_some())
}

/// A body that is wiped once its last clone is dropped.
fn body(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Zeroizing::new(bytes))
}

/// JSON as Vault sends it.
fn json(status: u16, body: &impl serde::Serialize) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    // These shapes cannot fail to serialise.
    let body = serde_json::to_vec(body).unwrap_or_default().into();
    Answer::plain(status, headers, body)
}
