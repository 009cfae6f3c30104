//! A workload's own request, sent on with an identity's token, and its answer, looked through for that token.
//!
//! An answer is held whole before anybody sees a byte of it, so that none leaves before all were looked at; of one that is too large
//! for that the beginning is, and `forward` looks at the rest. Does not decide what may
//! be sent (`policy`), and draws on no budget of ours: the workload's own rates bound it.

use super::{
    Routes, Vault, answer,
    error::{Class, Error},
    rest::Size,
    session::Session,
    wire::{DEADLINE, Lost, Reply},
};
use crate::{
    secret::SecretValue,
    upload::{Cut, Upload},
};
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use memchr::memmem;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// All answers that are held at a time, in bytes.
const ROOM: usize = 16 * 1024 * 1024;

/// A request, as it is sent on.
pub struct Passage {
    /// GET, HEAD, POST, PATCH or DELETE.
    pub method: Method,
    /// Below `/v1/`, encoded.
    pub path: String,
    /// Encoded, without its `?`.
    pub query: Option<String>,
    /// The one that it is to be done in; `None` is the root.
    pub namespace: Option<String>,
    /// Those that may go on.
    pub headers: HeaderMap,
    /// Empty for none.
    pub body: Bytes,
    /// What is sent in place of `body`, piece by piece and once.
    pub upload: Option<Upload>,
    /// Whether sending it twice does no harm.
    pub repeats: Repeats,
    /// How a large answer may come.
    pub size: Size,
}

/// Whether a request may be sent once more where it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// It changes nothing.
    Harmless,
    /// It may change something.
    Never,
}

/// What came back.
pub enum Passed {
    /// Vault's own answer, whatever its status.
    Answer(Reply),
    /// The token that it was asked with, or its accessor, was in it. Nothing of it may be shown.
    Tainted,
    /// Not all of the body was sent, so that there is no answer.
    Cut(Cut),
}

/// What bounds the answers that are held.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ROOM))
}

/// What becomes of a reply.
enum Next {
    Take(Reply),
    Leave(Reply),
    Elsewhere(Option<usize>),
}

impl Vault {
    /// What Vault says of the token of `session`: an answer that has the token in it, and that nobody but us may see.
    ///
    /// # Errors
    /// As for [`Vault::pass`].
    pub async fn look_up(&self, session: &Session) -> Result<Reply, Error> {
        let (path, headers) = ("auth/token/lookup-self".to_owned(), HeaderMap::new());
        let namespace = self.namespace();
        let (method, repeats) = (Method::GET, Repeats::Harmless);
        let (body, upload, size) = (Bytes::new(), None, Size::Whole);
        let passage = Passage { method, path, query: None, namespace, headers, body, upload, repeats, size };
        self.exchange(session.token(), &passage).await
    }

    /// Sends `passage` with the token of `session`: at the address in use, or at the next ones while one refuses, is sealed or is a
    /// standby that will not forward. An answer that says so comes back as it is when there is no better one.
    ///
    /// # Errors
    /// [`Class::Away`] when nothing answered in time, [`Class::Nonsense`] for an answer over 4 MiB or a redirect to a stranger.
    pub async fn pass(&self, session: &Session, passage: &Passage) -> Result<Passed, Error> {
        match (self.exchange(session.token(), passage).await, passage.upload.as_ref().and_then(Upload::cut)) {
            (Ok(reply), _) => Ok(looked_through(session, None, reply)),
            (Err(_), Some(cut)) => Ok(Passed::Cut(cut)),
            (Err(error), None) => Err(error),
        }
    }

    /// The same with another token, which must not come back either.
    ///
    /// # Errors
    /// As for [`Vault::pass`].
    pub(super) async fn pass_by(
        &self,
        token: &SecretValue,
        session: &Session,
        passage: &Passage,
    ) -> Result<Passed, Error> {
        self.exchange(token, passage).await.map(|reply| looked_through(session, Some(token), reply))
    }

    async fn exchange(&self, token: &SecretValue, passage: &Passage) -> Result<Reply, Error> {
        let routes = self.inner.routes.load_full();
        let doing = "passing a request on";
        let (mut last, mut failure) = (None, Error::new(Class::Away, doing, "no address was tried"));
        for tried in 0..=routes.list.len() {
            let Some((at, route)) = routes.in_use() else { break };
            let wired = routes.passing(route, token, passage)?;
            let limit = routes.patience(passage.repeats, tried);
            let lost = match self.send_on(route, wired, passage, limit).await {
                Ok(reply) => match next(&routes, route, reply) {
                    Next::Take(reply) => return Ok(reply),
                    Next::Leave(reply) => {
                        last = Some(reply);
                        true
                    }
                    Next::Elsewhere(Some(known)) if known != at => {
                        routes.use_instead(at, known);
                        if passage.is_spent() {
                            failure = Error::new(Class::Away, doing, "another address is the active one now");
                            break;
                        }
                        continue;
                    }
                    Next::Elsewhere(_) => {
                        return Err(Error::new(
                            Class::Nonsense,
                            doing,
                            "redirected to no other address of ours",
                        ));
                    }
                },
                Err(Lost::TooLarge) => {
                    return Err(Error::new(
                        Class::Nonsense,
                        doing,
                        "an answer over 4 MiB, or no room for it",
                    ));
                }
                Err(Lost::Unsent(said)) => {
                    failure = Error::new(Class::Away, doing, said);
                    true
                }
                Err(Lost::Unanswered(said)) => {
                    failure = Error::new(Class::Away, doing, said);
                    passage.repeats == Repeats::Harmless
                }
            };
            if passage.upload.as_ref().is_some_and(|upload| upload.cut().is_some()) {
                // It is not this address that failed.
                break;
            }
            routes.leave(at);
            if !lost || routes.list.len() == 1 || passage.is_spent() {
                break;
            }
        }
        last.ok_or(failure)
    }

    /// Sends it to one address, which has `limit` for the beginning of its answer; of a body on its way, for each piece.
    async fn send_on(
        &self,
        route: &super::Route,
        wired: http::Request<Bytes>,
        passage: &Passage,
        limit: Duration,
    ) -> Result<Reply, Lost> {
        let room = Arc::clone(&self.inner.room);
        let late = async {
            match &passage.upload {
                Some(upload) => upload.still(limit).await,
                None => tokio::time::sleep(limit).await,
            }
        };
        tokio::select! {
            biased;
            sent = route.wire.pass(wired, passage.upload.clone(), room, passage.size) => sent,
            () = late => Err(Lost::Unanswered("timed out".into())),
        }
    }
}

impl Passage {
    /// Whether a part of its body is gone, so that it cannot be sent again.
    fn is_spent(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.sent().is_some())
    }
}

fn next(routes: &Routes, route: &super::Route, reply: Reply) -> Next {
    match reply.status {
        307 | 308 => {
            let location = answer::location(&reply.headers, &route.address);
            Next::Elsewhere(location.and_then(|location| routes.position(&location)))
        }
        472 | 473 | 502 => Next::Leave(reply),
        501 | 503 if std::str::from_utf8(&reply.body).is_ok_and(answer::is_sealed) => Next::Leave(reply),
        _ => Next::Take(reply),
    }
}

fn looked_through(session: &Session, other: Option<&SecretValue>, reply: Reply) -> Passed {
    let secrets = || std::iter::once(session.token()).chain(session.accessor()).chain(other);
    let holds = |bytes: &[u8]| {
        secrets()
            .any(|secret| !secret.is_empty() && memmem::find(bytes, secret.expose().as_bytes()).is_some())
    };
    if holds(&reply.body) || reply.headers.values().any(|value| holds(value.as_bytes())) {
        Passed::Tainted
    } else {
        Passed::Answer(reply)
    }
}

impl Routes {
    /// How long an address may take to begin an answer: where another one is left to ask, and asking twice does no harm, no longer than
    /// our own calls.
    fn patience(&self, repeats: Repeats, tried: usize) -> Duration {
        match repeats == Repeats::Harmless && tried + 1 < self.list.len() {
            true => self.settings.timeout.min(DEADLINE),
            false => DEADLINE,
        }
    }

    fn passing(
        &self,
        route: &super::Route,
        token: &SecretValue,
        passage: &Passage,
    ) -> Result<http::Request<Bytes>, Error> {
        let invalid = |said: &str| Error::new(Class::Invalid, "passing a request on", said);
        let mut url = route.address.clone();
        if let (Some(name), "https") = (&self.settings.server_name, url.scheme()) {
            url.set_host(Some(name)).map_err(|_| invalid("vault.server_name is no host name"))?;
        }
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/v1/{}", passage.path));
        url.set_query(passage.query.as_deref());
        let mut wired = http::Request::new(passage.body.clone());
        *wired.method_mut() = passage.method.clone();
        *wired.uri_mut() = url.as_str().parse().map_err(|_| invalid("its path cannot stand in a URL"))?;
        // What the URL made of the path must be what was matched.
        if !wired.uri().path().ends_with(&passage.path) {
            return Err(invalid("its path has two spellings"));
        }
        *wired.headers_mut() = passage.headers.clone();
        let headers = wired.headers_mut();
        headers.insert("x-vault-request", http::HeaderValue::from_static("true"));
        if !passage.body.is_empty() {
            let json = http::HeaderValue::from_static("application/json");
            headers.entry(header::CONTENT_TYPE).or_insert(json);
        }
        if let Some(namespace) = &passage.namespace {
            let value = http::HeaderValue::from_str(namespace);
            headers.insert("x-vault-namespace", value.map_err(|_| invalid("the namespace is no header"))?);
        }
        headers.insert("x-vault-token", super::token_header(token, "passing a request on")?);
        Ok(wired)
    }
}

/// What must never come back, given to `of`.
pub fn sought<T>(session: &Session, of: impl FnOnce(&[&[u8]]) -> T) -> T {
    let secrets = std::iter::once(session.token()).chain(session.accessor());
    let secrets: Vec<&[u8]> =
        secrets.filter(|secret| !secret.is_empty()).map(|secret| secret.expose().as_bytes()).collect();
    of(&secrets)
}

/// The body of an answer, or the first part of it, which gives back its room when it is dropped.
pub struct Held {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) _room: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Reply {
    /// Its body, wiped and given back once the last clone is dropped.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.into_held())
    }

    /// The same, not shared yet.
    #[must_use]
    pub fn into_held(self) -> Held {
        Held { bytes: self.body, _room: self.room }
    }
}
