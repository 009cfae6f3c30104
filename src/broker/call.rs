//! One call: made of what the client asked for and of the key, sent once, and its answer taken apart.
//!
//! Does not decide and does not record: whoever calls [`Prepared::send`] has the intent on disk.

use super::{
    Base, Broker, Settings, Upstream,
    answer::{self, Prefix},
    buffers::Room,
    decode::Decoder,
    fault::Fault,
    inject::{self, Slot, material::Material, sigv4},
    request::{self, Selection},
    scrub::{Hits, Masks, Scrubber},
    upstream::{
        Bound,
        line::Facts,
        outgoing::{Outgoing, Sent},
        reply::ReplyBody,
    },
};
use crate::{clock, keeper::value::Value, name::WorkloadName};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::timeout;

/// What a client asks of an upstream, its form checked.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The canonical path below the upstream's base, from its first slash on.
    pub path: String,
    /// Byte for byte.
    pub query: Option<String>,
    /// As they came.
    pub headers: HeaderMap,
    /// What comes behind the head; taken by the first attempt.
    pub body: Option<Incoming>,
    /// The same, if it was read before it is known whether it is sent.
    pub held: Option<Held>,
    /// How the client spells the upstream's root.
    pub prefix: Prefix,
    /// What went of the body.
    pub sent: Arc<Sent>,
}

/// A body that was read before it is known whether it is sent, and its room.
pub struct Held {
    pub(super) bytes: Bytes,
    pub(super) room: Room,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

/// A request with its key, not sent yet.
pub struct Prepared {
    upstream: Arc<Upstream>,
    request: Request<Outgoing>,
    /// What must not come back.
    masks: Arc<Masks>,
    bound: Bound,
    dropped: Vec<String>,
    _room: Option<Room>,
}

/// An answer.
pub struct Reply {
    /// What the client may see of it.
    pub response: Response<ReplyBody>,
    /// Over which connection it came.
    pub facts: Facts,
    /// Where a redirect leads, if it leads away.
    pub redirect_host: Option<String>,
}

/// Why there is no answer, and what is known of the connection, if there was one.
#[derive(Debug)]
pub struct Unanswered {
    /// Why.
    pub fault: Fault,
    /// Over which connection.
    pub facts: Option<Facts>,
}

impl Call {
    /// Whether it changes nothing and has no body: then it may be sent again.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        let safe = self.method == Method::GET || self.method == Method::HEAD;
        safe && self.sent.bytes() == 0 && self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }
}

impl Broker {
    /// Puts the key of `value` into `call`. Reads its body only where the key goes into it, or signs it.
    ///
    /// # Errors
    /// [`Fault`]; nothing was sent.
    pub async fn prepare(
        &self,
        upstream: &Arc<Upstream>,
        call: &mut Call,
        value: &Value,
        workload: &WorkloadName,
    ) -> Result<Prepared, Fault> {
        let Settings { base, slot, .. } = &upstream.settings;
        let material = upstream.material(value)?;
        if let Slot::SigV4(_) = slot {
            sigv4::check(&call.headers, call.query.as_deref())?;
        }
        let (mut headers, dropped) = request::headers(&call.headers, Selection::of(&upstream.settings));
        headers.insert(header::HOST, base.authority.clone());
        if let (Some(name), Some(key)) = (slot.header(), material.header()) {
            headers.insert(name.clone(), key);
        }
        let target = target(base, slot, &material, call)?;
        let (body, room) = self.body(upstream, call, &material, workload).await?;
        let mut masks = Arc::clone(material.masks());
        if let (Slot::SigV4(signing), Some(keys)) = (slot, material.keys()) {
            let (method, body) = (&call.method, body.piece());
            let request = sigv4::Request { method, target: &target, headers: &headers, body };
            let signed = sigv4::sign(signing, keys, clock::now(), &request)?;
            masks = Arc::new(keys.masks(&[&signed.signature]));
            headers.extend(signed.headers);
        }
        let mut request = Request::new(body);
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        let bound = self.bound(upstream, value.tag(), Some(workload))?;
        Ok(Prepared { upstream: Arc::clone(upstream), request, masks, bound, dropped, _room: room })
    }

    /// The body as it is sent: with the key in it where that is its slot, whole where it must be, else as it comes in.
    async fn body(
        &self,
        upstream: &Upstream,
        call: &mut Call,
        material: &Material,
        workload: &WorkloadName,
    ) -> Result<(Outgoing, Option<Room>), Fault> {
        let Settings { slot, max_request, timeouts, .. } = &upstream.settings;
        let declared = declared(call);
        if declared.is_some_and(|declared| declared > *max_request) {
            return Err(Fault::TooLarge);
        }
        let (held, body) = (call.held.take(), call.body.take().filter(|body| !body.is_end_stream()));
        let Some(largest) = slot.largest_whole() else {
            if let Some(Held { bytes, room }) = held {
                call.sent.count(&bytes);
                return Ok((Outgoing::whole(bytes), Some(room)));
            }
            let sent = Arc::clone(&call.sent);
            let stream = |body| Outgoing::Stream { body, sent, left: *max_request };
            return Ok((body.map_or_else(Outgoing::nothing, stream), None));
        };
        if let Some(media) = slot.media() {
            inject::body::check_type(&call.headers, media)?;
        }
        let most = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let largest = largest.min(most(*max_request));
        let room = |bytes: usize| self.buffers.take(workload, bytes).ok_or(Fault::BuffersFull);
        let had = held.is_some() || body.is_some();
        let (whole, room) = match (held, body) {
            (Some(Held { bytes, room }), _) => (bytes, room),
            (None, None) => (Bytes::new(), room(0)?),
            (None, Some(body)) => {
                let room = room(declared.map_or(largest, most).min(largest))?;
                (whole(body, largest, timeouts.idle).await?, room)
            }
        };
        call.sent.count(&whole);
        let whole = match slot {
            Slot::Form(name) => inject::body::form(&whole, name, material.text())?,
            Slot::Json(names) => inject::body::json(&whole, names, material.text())?,
            _ if !had => return Ok((Outgoing::nothing(), Some(room))),
            _ => whole,
        };
        Ok((Outgoing::whole(whole), Some(room)))
    }
}

/// What is asked of the upstream, with the key where that is its slot.
fn target(base: &Base, slot: &Slot, material: &Material, call: &Call) -> Result<PathAndQuery, Fault> {
    let path = format!("{}{}", base.path, call.path);
    if let Slot::Query(name) = slot {
        return inject::query::attached(&path, call.query.as_deref(), name, material.text());
    }
    let query = call.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    PathAndQuery::try_from(format!("{path}{query}")).map_err(|_| Fault::BadTarget)
}

impl Prepared {
    /// The headers of the client that are not sent.
    #[must_use]
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Sends it, once, and gives the head of the answer with its body on the way.
    ///
    /// # Errors
    /// [`Unanswered`]; also where the answer may not be handed on.
    pub async fn send(self, call: &Call) -> Result<Reply, Unanswered> {
        let Self { upstream, request, masks, bound, .. } = self;
        let settings = &upstream.settings;
        let answered = upstream.pool.send(settings, &bound, request, &call.sent).await;
        let answered = answered.map_err(|failed| Unanswered { fault: failed.fault, facts: failed.facts })?;
        let facts = answered.line.facts;
        let unanswered = |fault| Unanswered { fault, facts: Some(facts) };
        let (head, body) = answered.response.into_parts();
        if head.status == StatusCode::UNAUTHORIZED {
            return Err(unanswered(Fault::CredentialRejected));
        }
        let coding = answer::check(&head.headers, &settings.decode).map_err(unanswered)?;
        let mut hits = Hits::default();
        let mut headers = answer::headers(&head.headers, &settings.base, &call.prefix, &masks, &mut hits);
        let has_body = call.method != Method::HEAD && head.status != StatusCode::NOT_MODIFIED;
        if has_body || coding.is_some() {
            // The body's own length says it: that of a head alone is what there would be.
            headers.remove(header::CONTENT_LENGTH);
        }
        let redirect_host = answer::redirect_host(&head.headers, &settings.base, &masks);
        let scrubber = Scrubber::new(masks, answer::flush(&head.headers));
        let decoder = coding.filter(|_| has_body).map(Decoder::new);
        let line = (Arc::clone(&upstream), bound.version, answered.line);
        let body = ReplyBody::new(body, line, (decoder, scrubber), hits);
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        Ok(Reply { response, facts, redirect_host })
    }
}

/// How long the client says that the body is.
pub(super) fn declared(call: &Call) -> Option<u64> {
    call.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A whole body of at most `largest` bytes.
pub(super) async fn whole(body: Incoming, largest: usize, limit: Duration) -> Result<Bytes, Fault> {
    match timeout(limit, Limited::new(body, largest).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Fault::TooLarge),
        _ => Err(Fault::BadBody),
    }
}
