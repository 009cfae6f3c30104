//! From an answer of Vault to HTTP.
//!
//! Does not look at what is in it.

use super::Content;
use crate::access::{Answer, Found};
use http::{HeaderValue, Response, StatusCode, header};

/// What Vault said, as it said it. With `X-Cache` and `Age` where the cache was asked, as Vault's own proxy has them.
pub(super) fn answer(answer: &Answer) -> Response<Content> {
    let streamed = answer.stream.as_ref().and_then(|stream| stream.take());
    let whole = || Content::new(answer.body.clone());
    let mut response = Response::new(streamed.map_or_else(whole, |body| Content::Passed(Box::new(body))));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = answer.headers.clone();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match answer.found {
        Some(Found::Hit(age)) => {
            headers.insert("x-cache", HeaderValue::from_static("HIT"));
            headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
        }
        Some(Found::Miss) => drop(headers.insert("x-cache", HeaderValue::from_static("MISS"))),
        None => {}
    }
    response
}
