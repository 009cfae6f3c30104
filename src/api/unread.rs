//! Requests whose head cannot be read, or is larger than it may be: what their clients are told, and what of them is on record.
//!
//! Does not decide: nothing of such a request is done.

use super::{Content, Silence, answer, bad, bad::Bad, refuse, upstream, vault};
use crate::{
    access::{Access, Arrival, Call, Fault, Malformed, Wanted, Wish},
    peer::Peer,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use std::sync::Arc;
use tokio::time::Instant;

use super::upstream::Root;

/// How much of a target is looked at, in bytes: an event shows less.
const LOOKED_AT: usize = 4096;

/// Why a head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its first line alone is more than a head may have.
    Target,
    /// It has more bytes, or more fields, than it may have.
    Head,
    /// It is none.
    Malformed,
}

/// Such a request.
#[derive(Debug)]
pub struct Unread {
    why: Why,
    /// The path that is asked for, as far as it came.
    path: String,
    /// How many bytes its head may have.
    limit: usize,
}

impl Unread {
    /// Of which `sent` came, and whose head may have `limit` bytes.
    #[must_use]
    pub fn of(why: Why, sent: &[u8], limit: usize) -> Self {
        let line = sent.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        let path = String::from_utf8_lossy(path.get(..LOOKED_AT).unwrap_or(path)).into_owned();
        Self { why, path, limit }
    }

    /// A request that came whole, if its head has more than `limit` bytes all the same: the HTTP library looks at what it has read only
    /// where a head is not complete.
    #[must_use]
    pub fn too_large<B>(request: &Request<B>, limit: usize) -> Option<Self> {
        let line = request.method().as_str().len()
            + request.uri().path().len()
            + request.uri().query().map_or(0, str::len);
        let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        let why = match (line > limit, line + fields.sum::<usize>() > limit) {
            (true, _) => Why::Target,
            (false, true) => Why::Head,
            (false, false) => return None,
        };
        let path = request.uri().path();
        Some(Self { why, path: path.get(..LOOKED_AT).unwrap_or(path).to_owned(), limit })
    }
}

/// Puts it on record, where a request of its path would have been, and says why it is not read. The connection ends with it.
///
/// # Errors
/// [`Silence`].
pub async fn serve(
    access: &Arc<Access>,
    peer: &Arc<Peer>,
    root: &Root,
    Unread { why, path, limit }: Unread,
) -> Result<Response<Content>, Silence> {
    let arrival = Arrival { at: Instant::now(), trace: None };
    let (bad, fault, text) = match why {
        Why::Target => (
            Bad::TargetTooLong(limit),
            Fault::TargetTooLong,
            "the request's first line is longer than a head may be",
        ),
        Why::Head => {
            (Bad::HeadTooLarge(limit), Fault::HeadTooLarge, "the request's head is larger than it may be")
        }
        Why::Malformed => (Bad::request(NO_REQUEST), Fault::BadFraming, NO_REQUEST),
    };
    let mut response = match upstream::named(root, &path) {
        Some(upstream) => {
            let wanted = Wanted { upstream, call: Err(fault) };
            upstream::call(access, peer, wanted, arrival).await?.response
        }
        None => match path.strip_prefix(vault::ROOT) {
            Some(rest) => on_record(access, peer, (rest, text), arrival, bad::status(&bad)).await?,
            None => refuse(access, peer, &bad),
        },
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

const NO_REQUEST: &str = "this cannot be read as a request of HTTP/1.1";

/// A request in Vault's own API is on record whatever is wrong with it.
async fn on_record(
    access: &Arc<Access>,
    peer: &Arc<Peer>,
    (path, text): (&str, &'static str),
    arrival: Arrival,
    status: StatusCode,
) -> Result<Response<Content>, Silence> {
    let wish = Wish::Vault(Box::new(Call {
        target: Err(Malformed(text)),
        shown: path.chars().filter(|c| !c.is_control()).collect(),
        query: None,
        head_only: false,
        wrapped: None,
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
        upload: None,
    }));
    match access.answer(peer, wish, arrival).await {
        Ok(answered) if answered.outcome().is_err_and(|refusal| refusal.why.is_silent()) => Err(Silence),
        Ok(answered) => {
            let mut response = answer::answered(peer.workload(), &answered);
            if response.status() == StatusCode::BAD_REQUEST {
                *response.status_mut() = status;
            }
            Ok(response)
        }
        Err(unaudited) => Ok(answer::unaudited(&unaudited)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sent: &str, expected: &str) {
        assert_eq!(Unread::of(Why::Head, sent.as_bytes(), 8192).path, expected, "{sent}");
    }

    #[test]
    fn the_path_is_read_as_far_as_it_came() {
        check("GET /v1/secret/data/x?y=z HTTP/1.1\r\nhost: x\r\n", "/v1/secret/data/x");
        check("GET /upstreams/api/aaaaaaaa", "/upstreams/api/aaaaaaaa");
        check("GET", "");
        check("", "");
        check("\0\0\r\n\r\n", "");
        check(&format!("GET /{} HTTP/1.1", "x".repeat(9000)), &format!("/{}", "x".repeat(4095)));
    }
}
