//! Calls of an upstream that no workload asked for: a rotation's, of what it rotates there.
//!
//! The same connections, the same trust and the same key as a workload's calls. Does not decide who may call, and what comes
//! back goes to nobody: no answer is scrubbed here.

use super::{
    Broker,
    fault::Fault,
    inject::{self, Slot, sigv4},
    upstream::outgoing::{Outgoing, Sent},
};
use crate::{clock, keeper::value::Value, name::UpstreamName};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};

/// The largest answer that is read, in bytes.
const LARGEST: usize = 1024 * 1024;

/// A request.
pub struct Own {
    /// The method.
    pub method: Method,
    /// Below the upstream's base, from its first slash on.
    pub path: String,
    /// Beside the key's and those that frame the message.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Option<Bytes>,
}

/// Which key is attached.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// The upstream's, of this value of its secret.
    Of(&'a Value),
    /// None.
    None,
}

impl Broker {
    /// Sends `own` to `upstream` once, and gives status and body of the answer.
    ///
    /// # Errors
    /// [`Fault`]: whether the upstream has done it is then not known, unless the fault says that nothing was sent.
    pub async fn call_own(
        &self,
        upstream: &UpstreamName,
        own: Own,
        key: Key<'_>,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let upstream = self.upstream(upstream).ok_or(Fault::ConnectFailed)?;
        let settings = &upstream.settings;
        let (path, query) = match own.path.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (own.path, None),
        };
        let path = format!("{}{path}", settings.base.path);
        let plain = || {
            let query = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
            PathAndQuery::try_from(format!("{path}{query}")).map_err(|_| Fault::BadTarget)
        };
        let (mut headers, mut body, mut version) = (own.headers, own.body, "");
        headers.insert(header::HOST, settings.base.authority.clone());
        let mut target = plain()?;
        if let Key::Of(value) = key {
            let material = upstream.material(value)?;
            version = value.tag();
            match &settings.slot {
                Slot::Query(name) => {
                    target = inject::query::attached(&path, query.as_deref(), name, material.text())?;
                }
                Slot::Json(names) => {
                    let bare = body.unwrap_or_else(|| Bytes::from_static(b"{}"));
                    body = Some(inject::body::json(&bare, names, material.text())?);
                }
                Slot::Form(_) => return Err(Fault::BadBody),
                Slot::SigV4(signing) => {
                    let (method, body) = (&own.method, body.as_deref().unwrap_or_default());
                    let request = sigv4::Request { method, target: &target, headers: &headers, body };
                    let keys = material.keys().ok_or(Fault::CredentialUnavailable)?;
                    headers.extend(sigv4::sign(signing, keys, clock::now(), &request)?.headers);
                }
                slot => {
                    if let (Some(name), Some(key)) = (slot.header(), material.header()) {
                        headers.insert(name.clone(), key);
                    }
                }
            }
        }
        let body = body.map_or_else(Outgoing::nothing, Outgoing::whole);
        let mut request = Request::new(body);
        *request.method_mut() = own.method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        let bound = self.bound(&upstream, version, None)?;
        let answered = upstream.pool.send(settings, &bound, request, &Sent::default()).await;
        let answered = answered.map_err(|failed| failed.fault)?;
        let (head, body) = answered.response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|_| Fault::UpstreamAborted)?;
        upstream.pool.give_back(&bound.version, answered.line);
        Ok((head.status, body.to_bytes()))
    }
}
