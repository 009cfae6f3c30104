//! Calls of other APIs: which upstream a request means, and what the client reads of what became of it.
//!
//! Does not decide and does not send: `access` does.

use super::{Content, Reply, Silence, answer};
use crate::{
    access::{
        Access, Arrival, Called, Fault, Oddity, Prefix, Reason, UpstreamCall as Call, Wanted, canonical,
        request,
    },
    name::UpstreamName,
    peer::Peer,
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration};

/// What a socket's root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The workload's own socket: the native routes, and upstreams below `/upstreams/`.
    Workload,
    /// One upstream's socket.
    Upstream(UpstreamName),
}

/// Which upstream is meant, how its root is spelled, and what stands behind that.
pub(super) struct Meant {
    upstream: Option<UpstreamName>,
    prefix: String,
    rest: String,
}

/// The upstream that a request on a socket with this root means; `None`: it is for a native route.
pub(super) fn meant(root: &Root, path: &str) -> Option<Meant> {
    match root {
        Root::Upstream(name) => {
            Some(Meant { upstream: Some(name.clone()), prefix: String::new(), rest: path.to_owned() })
        }
        Root::Workload => {
            let below = path.strip_prefix("/upstreams/")?;
            let (name, rest) = match below.find('/') {
                Some(at) => below.split_at(at),
                None => (below, "/"),
            };
            let upstream = UpstreamName::new(name).ok();
            Some(Meant { upstream, prefix: format!("/upstreams/{name}"), rest: rest.to_owned() })
        }
    }
}

/// The upstream that is named there, if it is none of the native routes; `None` within: by a name that none can have.
pub(super) fn named(root: &Root, path: &str) -> Option<Option<UpstreamName>> {
    meant(root, path).map(|meant| meant.upstream)
}

/// Makes the call.
pub(super) async fn serve(
    access: &Arc<Access>,
    peer: &Arc<Peer>,
    meant: Meant,
    request: Request<Incoming>,
    arrival: Arrival,
) -> Result<Reply, Silence> {
    let allowed = access.oddities(meant.upstream.as_ref());
    let wanted = Wanted { upstream: meant.upstream.clone(), call: read(meant, &allowed, request) };
    call(access, peer, wanted, arrival).await
}

/// Makes the call that is wanted, or says why not.
pub(super) async fn call(
    access: &Arc<Access>,
    peer: &Arc<Peer>,
    wanted: Wanted,
    arrival: Arrival,
) -> Result<Reply, Silence> {
    match access.call(peer, wanted, arrival).await {
        Ok(Called::Answered { response, id }) => {
            let (mut head, body) = response.into_parts();
            if let Ok(id) = HeaderValue::try_from(id) {
                head.headers.insert("x-claviger-request-id", id);
            }
            Ok(Response::from_parts(head, Content::Stream(Box::new(body))).into())
        }
        Ok(Called::Refused { why, .. }) if why.is_silent() => Err(Silence),
        Ok(Called::Refused { why, id }) => {
            let mut response = answer::refused(peer.workload(), &why, Some(id));
            mark(&mut response, why.reason());
            Ok(response.into())
        }
        Err(unaudited) => {
            let mut response = answer::unaudited(&unaudited);
            mark(&mut response, Reason::AuditUnavailable);
            Ok(response.into())
        }
    }
}

fn read(meant: Meant, allowed: &[Oddity], request: Request<Incoming>) -> Result<Call, Fault> {
    let (head, body) = request.into_parts();
    request::check(&head)?;
    let path = canonical(&meant.rest, allowed).map_err(|_| Fault::BadTarget)?;
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(only), None) => only.to_str().ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    Ok(Call {
        method: head.method,
        path,
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body: Some(body),
        held: None,
        prefix: Prefix { host, path: meant.prefix },
        sent: Arc::default(),
    })
}

/// Says that it is ours and not the upstream's; and where bytes may have reached it, that clients which send again by themselves
/// must not (OpenAI's and Anthropic's obey the one header, Stripe's the other).
fn mark(response: &mut Response<Content>, reason: Reason) {
    let headers = response.headers_mut();
    headers.insert("x-claviger-error", HeaderValue::from_static(reason.word()));
    if matches!(reason, Reason::Upstream(fault) if fault.may_have_been_sent()) {
        for name in ["x-should-retry", "stripe-should-retry"] {
            headers.insert(name, HeaderValue::from_static("false"));
        }
    }
}

/// The status of a call that has no answer of the upstream's own.
pub(super) fn status(fault: Fault) -> StatusCode {
    match fault {
        Fault::TargetTooLong => StatusCode::URI_TOO_LONG,
        Fault::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Fault::BadTarget | Fault::BadHeader | Fault::BadFraming | Fault::BadQuery | Fault::BadBody => {
            StatusCode::BAD_REQUEST
        }
        Fault::CredentialRejected => StatusCode::UNAUTHORIZED,
        Fault::MethodDenied => StatusCode::METHOD_NOT_ALLOWED,
        Fault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::BudgetExhausted => StatusCode::TOO_MANY_REQUESTS,
        Fault::UpgradeUnsupported => StatusCode::NOT_IMPLEMENTED,
        Fault::BuffersFull | Fault::CredentialUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Fault::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Fault::DnsFailed
        | Fault::DnsDenied
        | Fault::ConnectFailed
        | Fault::TlsFailed
        | Fault::UpstreamProtocol
        | Fault::ResponseEncoded
        | Fault::ResponseTooLarge
        | Fault::ClientGone
        | Fault::UpstreamAborted => StatusCode::BAD_GATEWAY,
    }
}

/// When it is worth calling again, where waiting helps.
pub(super) fn retry_after(fault: Fault) -> Option<Duration> {
    match fault {
        Fault::BuffersFull | Fault::CredentialUnavailable => Some(Duration::from_secs(1)),
        Fault::BudgetExhausted => {
            let second = crate::clock::now().as_second().rem_euclid(24 * 3600);
            Some(Duration::from_secs(u64::try_from(24 * 3600 - second).unwrap_or(1)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(Option<&str>, &str, &str)>) {
        let found = meant(&Root::Workload, path);
        let found = found.as_ref().map(|meant| {
            (meant.upstream.as_ref().map(UpstreamName::as_str), meant.prefix.as_str(), meant.rest.as_str())
        });
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn an_upstream_is_meant_by_the_path_or_by_the_socket() {
        check("/upstreams/stripe", Some((Some("stripe"), "/upstreams/stripe", "/")));
        check("/upstreams/stripe/", Some((Some("stripe"), "/upstreams/stripe", "/")));
        check("/upstreams/stripe/v1/charges", Some((Some("stripe"), "/upstreams/stripe", "/v1/charges")));
        check("/upstreams/Stripe/v1", Some((None, "/upstreams/Stripe", "/v1")));
        check("/upstreams//v1", Some((None, "/upstreams/", "/v1")));
        check("/upstream%73/stripe/v1", None);
        check("/secrets/stripe", None);
        let own = Root::Upstream(UpstreamName::new("stripe").unwrap());
        assert_eq!(meant(&own, "/secrets/stripe").unwrap().rest, "/secrets/stripe");
    }
}
