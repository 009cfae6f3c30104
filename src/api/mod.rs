//! Requests on a workload's socket: from HTTP to a wish, and from what became of it to HTTP.
//!
//! Does not decide: `access` does.

mod answer;
mod approval;
mod bad;
mod glass;
mod content;
mod native;
mod passed;
mod request;
mod trace;
pub mod unread;
mod upstream;
mod value;
mod vault;
mod watch;

use crate::{
    access::{Access, Answered, Arrival, Done, Reason, TurnedAway, Unaudited, Wish},
    peer::Peer,
};
use bad::Bad;
use http::{Method, Request, Response, header, header::HeaderValue};
use hyper::body::{Body, Incoming};
use native::Asked;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

pub use content::Content;
pub use upstream::Root;

/// In it the peer sends back the nonce of `/challenge`.
const NONCE: &str = "claviger-nonce";

/// What is to be sent, and what is to be said of it once it is sent.
pub struct Reply {
    /// To be sent as it is.
    pub response: Response<Content>,
    /// There if the body holds a value: to be told when the body is written, or dropped when it cannot be.
    pub owed: Option<Box<Answered>>,
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

/// Answers one request of `peer` on a socket with this root. The body of one that is for a native route may have `limit` bytes.
///
/// # Errors
/// [`Silence`]; that there is a reason for it is on record.
pub async fn serve(
    access: &Arc<Access>,
    peer: &Arc<Peer>,
    (root, limit): (&Root, u64),
    request: Request<Incoming>,
) -> Result<Reply, Silence> {
    let arrival = Arrival { at: Instant::now(), trace: trace::read(request.headers()) };
    let head = Head {
        only: request.method() == Method::HEAD,
        expects: request.headers().contains_key(header::EXPECT),
    };
    if let Some(echo) = request.headers().get(NONCE) {
        peer.challenge().hear(echo.as_bytes());
    }
    if let Some(meant) = upstream::meant(root, request.uri().path()) {
        // What most requests do not need is in a box, here and below: a request holds its future for as long as it waits.
        return Box::pin(upstream::serve(access, peer, meant, request, arrival)).await;
    }
    Ok(match native::read(request, native::Bound { limit, room: access.room() }).await {
        Ok(Asked::Wish(wish)) => fulfil(access, peer, wish, arrival, head).await?,
        Ok(Asked::Watch(wanted)) => Box::pin(watch::serve(access, peer, wanted, arrival)).await?,
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
        Ok(Asked::Approval(id)) => match access.approval_of(peer, &id).await {
            Ok(status) => {
                access.observe_other(peer, status.is_none().then_some(Reason::NoRule));
                approval::shown(peer.workload(), status.as_ref()).into()
            }
            Err(why) => {
                access.observe_other(peer, Some(why.reason()));
                if why.is_silent() {
                    return Err(Silence);
                }
                answer::refused(peer.workload(), &why, None).into()
            }
        },
        Ok(Asked::BreakGlass(act, wanted)) => {
            Box::pin(glass::serve(access, peer, (act, wanted), arrival)).await?.into()
        }
        Ok(Asked::Challenge) => {
            let nonce = peer.challenge().ask();
            access.observe_other(peer, nonce.as_ref().err().map(|_| Reason::Internal));
            answer::challenge(nonce).into()
        }
        Err(bad) => refuse(access, peer, &bad).into(),
    })
}

/// What of a request's head is needed for its answer.
#[derive(Clone, Copy)]
struct Head {
    /// The answer has no body.
    only: bool,
    /// The client sends its body only when it is asked to.
    expects: bool,
}

async fn fulfil(
    access: &Arc<Access>,
    peer: &Arc<Peer>,
    wish: Wish,
    arrival: Arrival,
    head: Head,
) -> Result<Reply, Silence> {
    let upload = match &wish {
        Wish::Vault(call) => call.upload.clone(),
        _ => None,
    };
    let reply = match access.answer(peer, wish, arrival).await {
        Ok(answered) if answered.outcome().is_err_and(|refusal| refusal.why.is_silent()) => {
            return Err(Silence);
        }
        Ok(answered) => reply(peer, answered, head.only),
        Err(unaudited) => answer::unaudited(&unaudited).into(),
    };
    if let Some(upload) = upload.filter(|upload| !head.expects || upload.sent().is_some()) {
        access.spill(upload);
    }
    Ok(reply)
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
    bad::answer(bad)
}

/// Only a value in a body is owed to the client: of everything else there is nothing to say once it is on record.
fn reply(peer: &Peer, answered: Answered, only_head: bool) -> Reply {
    let response = answer::answered(peer.workload(), &answered);
    if only_head || response.body().is_end_stream() {
        answered.delivered();
        return response.into();
    }
    let owed =
        matches!(answered.outcome(), Ok(Done::Read(..) | Done::Forwarded(..))).then(|| Box::new(answered));
    Reply { response, owed }
}
