//! The native routes: which methods each has, and what each asks for.
//!
//! Does not decide and does not render.

use super::{
    bad::Bad,
    glass,
    request::{self, Route},
    vault, watch,
};
use crate::{
    access::{Act, Emergency, Room, Watch, Wish, roomed},
    name::SecretName,
};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::{error::Error, time::Duration};

/// How long a body may take to come in.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Something that the path of a request decides on.
    Wish(Wish),
    /// To be told of changes.
    Watch(Watch),
    /// What we see of the peer; discloses nothing else.
    WhoAmI,
    /// How a request for a person's yes stands; discloses nothing of others.
    Approval(String),
    /// To have a rule for emergencies for a while.
    BreakGlass(glass::Act, Emergency),
    /// A nonce for this connection; discloses nothing.
    Challenge,
}

/// What a body may take.
pub(super) struct Bound {
    /// So many bytes.
    pub(super) limit: u64,
    /// Of what there is for all.
    pub(super) room: Room,
}

/// Reads a request. Its body is read only where the route has one, and never beyond its bound.
pub(super) async fn read<B>(request: Request<B>, bound: Bound) -> Result<Asked, Bad>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if content_length(&head.headers).is_some_and(|length| length > bound.limit) {
        return Err(Bad::TooLarge(bound.limit));
    }
    if head.uri.path().starts_with(vault::ROOT) {
        return vault::read(head, body, bound).await.map(Asked::Wish);
    }
    if let Some(rest) = vault::CONTROLS.iter().find_map(|root| head.uri.path().strip_prefix(root)) {
        let rest = rest.to_owned();
        return vault::read_control(head, body, rest, bound).await.map(Asked::Wish);
    }
    match request::route(&head.uri)? {
        Route::Secrets => {
            reads(&head.method)?;
            request::no_query(&head.uri)?;
            Ok(Asked::Wish(Wish::List))
        }
        Route::Watch => watch::read(&head.method, &head.uri, &head.headers).map(Asked::Watch),
        Route::WhoAmI => {
            reads(&head.method)?;
            request::no_query(&head.uri)?;
            Ok(Asked::WhoAmI)
        }
        Route::Challenge if head.method == Method::GET => {
            request::no_query(&head.uri)?;
            Ok(Asked::Challenge)
        }
        Route::Challenge => Err(Bad::Method("GET")),
        Route::Approval(id) => {
            reads(&head.method)?;
            request::no_query(&head.uri)?;
            Ok(Asked::Approval(id))
        }
        Route::BreakGlass(rule) if head.method == Method::POST => {
            request::no_query(&head.uri)?;
            glass::read(&rule, body, bound).await.map(|(act, wanted)| Asked::BreakGlass(act, wanted))
        }
        Route::BreakGlass(_) => Err(Bad::Method("POST")),
        Route::Secret(name) => {
            reads(&head.method)?;
            let read = request::read(&head.uri, &head.headers)?;
            Ok(Asked::Wish(Wish::Secret { name, act: Act::Read(read) }))
        }
        Route::Ack(name) if head.method == Method::POST => {
            request::no_query(&head.uri)?;
            acknowledgement(name, body, bound).await
        }
        Route::Ack(_) => Err(Bad::Method("POST")),
    }
}

fn reads(method: &Method) -> Result<(), Bad> {
    if method == Method::GET || method == Method::HEAD { Ok(()) } else { Err(Bad::Method("GET, HEAD")) }
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A whole body within its bound, whose room is given back when it is dropped.
pub(super) async fn whole<B>(body: B, bound: Bound) -> Result<Bytes, Bad>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    match tokio::time::timeout(BODY_TIMEOUT, collect(body, bound)).await {
        Ok(collected) => collected,
        Err(_) => Err(Bad::request("the body did not come in time")),
    }
}

async fn collect<B>(body: B, Bound { limit, mut room }: Bound) -> Result<Bytes, Bad>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut body, mut first, mut more) = (std::pin::pin!(body), Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Bad::request("the body is malformed or cut off"))?;
        // Trailers are dropped.
        let Ok(piece) = frame.into_data() else { continue };
        if (first.len() + more.len() + piece.len()) as u64 > limit {
            return Err(Bad::TooLarge(limit));
        }
        if !room.grow(piece.len()) {
            return Err(Bad::BuffersFull);
        }
        match first.is_empty() {
            true => first = piece,
            // Most come in one piece.
            false => more.extend_from_slice(&piece),
        }
    }
    let whole = if more.is_empty() { first } else { [&first[..], &more].concat().into() };
    Ok(if whole.is_empty() { whole } else { roomed(whole, room) })
}

/// The body of an ack: `{"generation": N}`, `{}` or nothing.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    generation: Option<u64>,
}

async fn acknowledgement<B>(name: Option<SecretName>, body: B, bound: Bound) -> Result<Asked, Bad>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let bytes = whole(body, bound).await?;
    let acknowledgement = if bytes.is_empty() {
        Acknowledgement::default()
    } else {
        let bad = |_| Bad::request("the body must be {\"generation\": NUMBER}, or nothing");
        serde_json::from_slice(&bytes).map_err(bad)?
    };
    Ok(Asked::Wish(Wish::Secret { name, act: Act::Ack(acknowledgement.generation) }))
}
