//! `GET /watch`: what is asked for, and the stream of server-sent events (WHATWG HTML, section 9.2) that answers it.
//!
//! Does not decide what is told: `access` does. No value is ever in it.

use super::{Content, Reply, Silence, answer, bad::Bad, request};
use crate::{
    access::{Access, Arrival, Cut, Notice, Push, Watch, Watched, Watching},
    clock,
    name::SecretName,
    peer::Peer,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, Uri, header};
use serde::Serialize;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// So many secrets may be watched by one stream.
const MOST: usize = 32;
/// The first bytes: a comment, so that the client sees that the stream is open, and how soon to come back.
const OPENING: &[u8] = b": open\nretry: 1000\n\n";
const BEAT: &[u8] = b": beat\n\n";
const MEDIA: HeaderValue = HeaderValue::from_static("text/event-stream");

/// What the request says.
pub(super) fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Watch, Bad> {
    if method != Method::GET {
        return Err(Bad::Method("GET"));
    }
    let mut names = None;
    for (key, value) in request::query(uri)? {
        if key != "names" || names.is_some() {
            return Err(Bad::request("the query must be names=NAME,NAME, once"));
        }
        names = Some(value.split(',').map(|name| SecretName::new(name).ok()).collect::<Vec<_>>());
    }
    let names = names.ok_or_else(|| Bad::request("the query must be names=NAME,NAME, once"))?;
    if names.len() > MOST {
        return Err(Bad::request("at most 32 secrets may be watched by one stream; open another one"));
    }
    let twice = |(at, name): (usize, &Option<SecretName>)| {
        name.is_some() && names.iter().skip(at + 1).any(|it| it == name)
    };
    if names.iter().enumerate().any(twice) {
        return Err(Bad::request("a name is there twice"));
    }
    let since = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    Ok(Watch { names, since })
}

/// Answers it.
///
/// # Errors
/// [`Silence`].
pub(super) async fn serve(
    access: &Arc<Access>,
    peer: &Arc<Peer>,
    watch: Watch,
    arrival: Arrival,
) -> Result<Reply, Silence> {
    Ok(match access.watch(peer, watch, arrival).await {
        Ok(Watched::Opened(watching)) => {
            let mut response = Response::new(Content::Events(Box::new(Stream::Opening(watching))));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, MEDIA);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response.into()
        }
        Ok(Watched::Refused { why, .. }) if why.is_silent() => return Err(Silence),
        Ok(Watched::Refused { why, id }) => answer::refused(peer.workload(), &why, Some(id)).into(),
        Err(unaudited) => answer::unaudited(&unaudited).into(),
    })
}

type Turn = (Box<Watching>, Result<Option<Push>, Cut>);

/// The body: one frame for each push, made when the client has taken the one before.
pub enum Stream {
    /// Nothing is sent yet.
    Opening(Box<Watching>),
    /// The next one is awaited.
    Waiting(Pin<Box<dyn Future<Output = Turn> + Send>>),
    /// It has ended.
    Over,
}

impl Stream {
    /// The next frame.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        match std::mem::replace(self, Self::Over) {
            Self::Opening(watching) => {
                *self = Self::Waiting(turn(watching));
                Poll::Ready(Some(Ok(Bytes::from_static(OPENING))))
            }
            Self::Waiting(mut waiting) => {
                let Poll::Ready((watching, pushed)) = waiting.as_mut().poll(context) else {
                    *self = Self::Waiting(waiting);
                    return Poll::Pending;
                };
                let Some(push) = pushed.transpose() else { return Poll::Ready(None) };
                let frame = push.map(|push| match push {
                    Push::Beat => Bytes::from_static(BEAT),
                    Push::Notice(notice, id) => render(&notice, &id),
                });
                if frame.is_ok() {
                    *self = Self::Waiting(turn(watching));
                }
                Poll::Ready(Some(frame))
            }
            Self::Over => Poll::Ready(None),
        }
    }
}

fn turn(mut watching: Box<Watching>) -> Pin<Box<dyn Future<Output = Turn> + Send>> {
    Box::pin(async move {
        let pushed = watching.next().await;
        (watching, pushed)
    })
}

#[derive(Serialize)]
struct Data<'a> {
    name: &'a str,
    kind: Option<&'static str>,
    generation: u64,
    rotation_id: Option<&'a str>,
    valid_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

fn render(notice: &Notice, id: &str) -> Bytes {
    let current = notice.current.as_ref();
    let data = Data {
        name: notice.name.as_str(),
        kind: current.map(|value| value.kind()),
        generation: notice.generation,
        rotation_id: current.and_then(|value| value.rotation()).map(|run| &**run),
        valid_until: notice.valid_until.map(clock::rfc3339),
        at: notice.at.map(clock::rfc3339),
    };
    // This shape cannot fail to serialise.
    let data = serde_json::to_string(&data).unwrap_or_default();
    format!("event: {}\nid: {id}\ndata: {data}\n\n", notice.what.word()).into()
}
