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
    access::{Act, Emergency, Room, Watch, Wish, hold},
    name::SecretName,
    upload::Upload,
};
use bytes::Bytes;
use http::{Method, Request, header};
use hyper::body::Body;
use std::error::Error;

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
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if head.uri.path().starts_with(vault::ROOT) {
        return vault::read(head, body, bound).await.map(Asked::Wish);
    }
    if content_length(&head.headers).is_some_and(|length| length > bound.limit) {
        return Err(Bad::TooLarge(bound.limit));
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

pub(super) fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A whole body within its bound, whose room is given back when it is dropped.
pub(super) async fn whole<B>(body: B, Bound { limit, room }: Bound) -> Result<Bytes, Bad>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    hold(&Upload::new(body, limit), limit, room).await?.ok_or(Bad::TooLarge(limit))
}

/// The body of an ack: `{"generation": N}`, `{}` or nothing.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    generation: Option<u64>,
}

async fn acknowledgement<B>(name: Option<SecretName>, body: B, bound: Bound) -> Result<Asked, Bad>
where
    B: Body<Data = Bytes> + Send + 'static,
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
