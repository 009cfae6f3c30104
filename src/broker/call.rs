//! One call: made of what the client asked for and of the key, sent once, and its answer taken apart.
//!
//! Does not decide and does not record: whoever calls [`Prepared::send`] has the intent on disk.

use super::{
    Broker, Settings, Upstream,
    answer::{self, Prefix},
    buffers::Room,
    fault::Fault,
    held::{Held, declared, whole},
    inject::{self, Slot, material::Material},
    request,
    scrub::{Hits, Scrubber},
    upstream::{
        line::Facts,
        outgoing::{Outgoing, Sent},
        reply::ReplyBody,
    },
};
use crate::{keeper::value::Value, name::WorkloadName};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use hyper::body::{Body as _, Incoming};
use std::{fmt, sync::Arc};

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

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

/// A request with its key, not sent yet.
pub struct Prepared {
    upstream: Arc<Upstream>,
    request: Request<Outgoing>,
    material: Arc<Material>,
    version: String,
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
    /// Puts the key of `value` into `call`. Reads its body only where the key goes into it.
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
        let Settings { base, slot, allow_headers, max_request, timeouts, .. } = &upstream.settings;
        let material = upstream.material(value)?;
        let (mut headers, dropped) = request::headers(&call.headers, slot.header(), allow_headers.as_deref());
        headers.insert(header::HOST, base.authority.clone());
        if let (Some(name), Some(key)) = (slot.header(), material.header()) {
            headers.insert(name.clone(), key);
        }
        let path = format!("{}{}", base.path, call.path);
        let target = match slot {
            Slot::Query(name) => {
                inject::query::attached(&path, call.query.as_deref(), name, material.text())?
            }
            _ => {
                let query = call.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
                PathAndQuery::try_from(format!("{path}{query}")).map_err(|_| Fault::BadTarget)?
            }
        };
        let declared = declared(call);
        if declared.is_some_and(|declared| declared > *max_request) {
            return Err(Fault::TooLarge);
        }
        let body = call.body.take().filter(|body| !body.is_end_stream());
        let (body, room) = if slot.is_in_body() {
            let room = usize::try_from(declared.unwrap_or(u64::MAX))
                .unwrap_or(usize::MAX)
                .min(inject::body::LARGEST);
            let room = self.buffers.take(workload, room).ok_or(Fault::BuffersFull)?;
            let whole = with_key(slot, &material, call, body, timeouts.idle).await?;
            (Outgoing::whole(whole), Some(room))
        } else if let Some(Held { bytes, room }) = call.held.take() {
            call.sent.count(&bytes);
            (Outgoing::whole(bytes), Some(room))
        } else {
            let sent = Arc::clone(&call.sent);
            let stream = |body| Outgoing::Stream { body, sent, left: *max_request };
            (body.map_or_else(Outgoing::nothing, stream), None)
        };
        let mut request = Request::new(body);
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        let (upstream, version) = (Arc::clone(upstream), value.tag().to_owned());
        Ok(Prepared { upstream, request, material, version, dropped, _room: room })
    }
}

/// The whole body with the key in it.
async fn with_key(
    slot: &Slot,
    material: &Material,
    call: &mut Call,
    body: Option<Incoming>,
    limit: std::time::Duration,
) -> Result<Bytes, Fault> {
    let media = match slot {
        Slot::Form(_) => "application/x-www-form-urlencoded",
        _ => "application/json",
    };
    inject::body::check_type(&call.headers, media)?;
    let body = match (call.held.take(), body) {
        (Some(held), _) => held.bytes,
        (None, None) => Bytes::new(),
        (None, Some(body)) => whole(body, limit).await?,
    };
    call.sent.count(&body);
    match slot {
        Slot::Form(name) => inject::body::form(&body, name, material.text()),
        Slot::Json(names) => inject::body::json(&body, names, material.text()),
        _ => Err(Fault::BadBody),
    }
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
        let Self { upstream, request, material, version, .. } = self;
        let settings = &upstream.settings;
        let answered = upstream.pool.send(settings, &version, request, &call.sent).await;
        let answered = answered.map_err(|failed| Unanswered { fault: failed.fault, facts: failed.facts })?;
        let facts = answered.line.facts;
        let unanswered = |fault| Unanswered { fault, facts: Some(facts) };
        let (head, body) = answered.response.into_parts();
        if head.status == StatusCode::UNAUTHORIZED {
            return Err(unanswered(Fault::CredentialRejected));
        }
        answer::check(&head.headers).map_err(unanswered)?;
        let mut hits = Hits::default();
        let masks = material.masks();
        let mut headers = answer::headers(&head.headers, &settings.base, &call.prefix, masks, &mut hits);
        if call.method != Method::HEAD && head.status != StatusCode::NOT_MODIFIED {
            // The body's own length says it: that of a head alone is what there would be.
            headers.remove(header::CONTENT_LENGTH);
        }
        let redirect_host = answer::redirect_host(&head.headers, &settings.base, masks);
        let scrubber = Scrubber::new(Arc::clone(masks), answer::flush(&head.headers));
        let body = ReplyBody::new(body, (Arc::clone(&upstream), version, answered.line), scrubber, hits);
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        Ok(Reply { response, facts, redirect_host })
    }
}
