//! The native routes: which methods each has, and what each asks for.
//!
//! Does not decide and does not render.

use super::{
    bad::Bad,
    request::{self, Route},
    vault, watch,
};
use crate::{
    access::{Act, Watch, Wish},
    name::SecretName,
};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Limited};
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
    /// A nonce for this connection; discloses nothing.
    Challenge,
}

/// Reads a request. Its body is read only where the route has one, and never beyond `limit` bytes.
pub(super) async fn read<B>(request: Request<B>, limit: u64) -> Result<Asked, Bad>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if content_length(&head.headers).is_some_and(|length| length > limit) {
        return Err(Bad::TooLarge(limit));
    }
    if head.uri.path().starts_with(vault::ROOT) {
        return vault::read(head, body, limit).await.map(Asked::Wish);
    }
    if let Some(rest) = vault::CONTROLS.iter().find_map(|root| head.uri.path().strip_prefix(root)) {
        let rest = rest.to_owned();
        return vault::read_control(head, body, rest, limit).await.map(Asked::Wish);
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
        Route::Secret(name) => {
            reads(&head.method)?;
            let read = request::read(&head.uri, &head.headers)?;
            Ok(Asked::Wish(Wish::Secret { name, act: Act::Read(read) }))
        }
        Route::Ack(name) if head.method == Method::POST => {
            request::no_query(&head.uri)?;
            acknowledgement(name, body, limit).await
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

/// A body of at most `limit` bytes.
pub(super) async fn whole<B>(body: B, limit: u64) -> Result<Bytes, Bad>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let cap = usize::try_from(limit).unwrap_or(usize::MAX);
    let body = std::pin::pin!(Limited::new(body, cap));
    match tokio::time::timeout(BODY_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Bad::TooLarge(limit)),
        Ok(Err(_)) => Err(Bad::request("the body is malformed or cut off")),
        Err(_) => Err(Bad::request("the body did not come in time")),
    }
}

/// The body of an ack: `{"generation": N}`, `{}` or nothing.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    generation: Option<u64>,
}

async fn acknowledgement<B>(name: Option<SecretName>, body: B, limit: u64) -> Result<Asked, Bad>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let bytes = whole(body, limit).await?;
    let acknowledgement = if bytes.is_empty() {
        Acknowledgement::default()
    } else {
        let bad = |_| Bad::request("the body must be {\"generation\": NUMBER}, or nothing");
        serde_json::from_slice(&bytes).map_err(bad)?
    };
    Ok(Asked::Wish(Wish::Secret { name, act: Act::Ack(acknowledgement.generation) }))
}
