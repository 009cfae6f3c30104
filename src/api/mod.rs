//! Requests on a workload's socket: from HTTP to a wish, and from what became of it to HTTP.
//!
//! Does not decide: `access` does. The upstreams are not built yet.

mod answer;
mod native;
mod request;
mod trace;
mod value;
mod vault;

use crate::{
    access::{Access, Answered, Arrival, Done, Reason, TurnedAway, Unaudited},
    peer::Peer,
};
use answer::Bad;
use bytes::Bytes;
use http::{Method, Request, Response, header, header::HeaderValue};
use http_body_util::Full;
use hyper::body::Body;
use native::Asked;
use std::{error::Error, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A whole body in one piece; wiped when dropped if it holds a value.
pub type Content = Full<Bytes>;

/// In it the peer sends back the nonce of `/challenge`.
const NONCE: &str = "claviger-nonce";

/// What is to be sent, and what is to be said of it once it is sent.
pub struct Reply {
    /// To be sent as it is.
    pub response: Response<Content>,
    /// There if the body holds a value: to be told when the body is written, or dropped when it cannot be.
    pub owed: Option<Answered>,
}

/// Nothing is to be said: whoever is at the other end by now may be somebody else than the peer. The connection must be closed.
#[derive(Debug, thiserror::Error)]
#[error("the peer is no longer the one that connected")]
pub struct Silence;

impl From<Response<Content>> for Reply {
    fn from(response: Response<Content>) -> Self {
        Self { response, owed: None }
    }
}

/// Answers one request of `peer`, whose body may have `limit` bytes.
///
/// # Errors
/// [`Silence`]; that there is a reason for it is on record.
pub async fn serve<B>(
    access: &Arc<Access>,
    peer: &Arc<Peer>,
    limit: u64,
    request: Request<B>,
) -> Result<Reply, Silence>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let arrival = Arrival { at: Instant::now(), trace: trace::read(request.headers()) };
    let only_head = request.method() == Method::HEAD;
    if let Some(echo) = request.headers().get(NONCE) {
        peer.challenge().hear(echo.as_bytes());
    }
    Ok(match native::read(request, limit).await {
        Ok(Asked::Wish(wish)) => match access.answer(peer, wish, arrival).await {
            Ok(answered) if answered.outcome().is_err_and(|refusal| refusal.why.is_silent()) => {
                return Err(Silence);
            }
            Ok(answered) => reply(peer, answered, only_head),
            Err(unaudited) => answer::unaudited(&unaudited).into(),
        },
        Ok(Asked::WhoAmI) => match access.rules_of(peer).await {
            Ok((rules, required, bridge)) => {
                access.observe_other(peer, None);
                answer::whoami(peer, &rules, required, bridge).into()
            }
            Err(why) => {
                access.observe_other(peer, Some(why.reason()));
                if why.is_silent() {
                    return Err(Silence);
                }
                answer::refused(peer.workload(), &why, None).into()
            }
        },
        Ok(Asked::Challenge) => {
            let nonce = peer.challenge().ask();
            access.observe_other(peer, nonce.as_ref().err().map(|_| Reason::Internal));
            answer::challenge(nonce).into()
        }
        Err(bad) => refuse(access, peer, &bad).into(),
    })
}

/// The answer to a request over the workload's rate, which was not read.
#[must_use]
pub fn over_rate(access: &Access, peer: &Peer, wait: Duration) -> Response<Content> {
    refuse(access, peer, &Bad::OverRate(wait))
}

/// The answer to a peer that may not be here. The connection ends with it.
#[must_use]
pub fn turned_away(turned_away: &Result<TurnedAway, Unaudited>) -> Response<Content> {
    let mut response = match turned_away {
        Ok(turned_away) => answer::rejected(turned_away),
        Err(unaudited) => answer::unaudited(unaudited),
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refuse(access: &Access, peer: &Peer, bad: &Bad) -> Response<Content> {
    access.observe_other(peer, Some(bad.reason()));
    answer::bad(bad)
}

/// Only a value in a body is owed to the client: of everything else there is nothing to say once it is on record.
fn reply(peer: &Peer, answered: Answered, only_head: bool) -> Reply {
    let response = answer::answered(peer.workload(), &answered);
    if only_head || response.body().is_end_stream() {
        answered.delivered();
        return response.into();
    }
    let owed = matches!(answered.outcome(), Ok(Done::Read(..) | Done::Forwarded(..))).then_some(answered);
    Reply { response, owed }
}
