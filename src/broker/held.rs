//! A body that is read before it is known whether it is sent: a person must be able to say yes to it.
//!
//! Does not ask, and does not send.

use super::{
    Broker, Settings, Upstream,
    call::{Call, Held, declared, whole},
    fault::Fault,
    inject::body::LARGEST,
    request::{self, Selection},
};
use crate::name::WorkloadName;
use bytes::Bytes;
use hyper::body::Body as _;
use std::collections::BTreeMap;

/// Headers that differ from call to call and do not say what is to be done: what a person is asked does not hold them, so that the same
/// call, made once more, is the same.
const PASSING: &[&str] = &[
    "user-agent",
    "date",
    "traceparent",
    "tracestate",
    "baggage",
    "idempotency-key",
    "x-request-id",
    "accept",
];
const PASSING_FAMILIES: &[&str] = &["x-stripe-client-", "x-stainless-", "x-datadog-", "x-b3-", "sentry-"];

impl Broker {
    /// Reads the body of `call`, and gives it with the headers that say what is to be done.
    ///
    /// # Errors
    /// [`Fault`]; also for a body of more than 1 MiB.
    pub async fn hold(
        &self,
        upstream: &Upstream,
        call: &mut Call,
        workload: &WorkloadName,
    ) -> Result<(Bytes, BTreeMap<String, String>), Fault> {
        let Settings { timeouts, max_request, .. } = &upstream.settings;
        let (sent, _) = request::headers(&call.headers, Selection::of(&upstream.settings));
        let says = |name: &str| {
            !PASSING.contains(&name) && !PASSING_FAMILIES.iter().any(|family| name.starts_with(family))
        };
        let said = sent.iter().filter(|(name, _)| says(name.as_str()));
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in said {
            let text = headers.entry(name.to_string()).or_default();
            text.push_str(if text.is_empty() { "" } else { ", " });
            text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
        let Some(body) = call.body.take().filter(|body| !body.is_end_stream()) else {
            return Ok((Bytes::new(), headers));
        };
        let declared = declared(call).unwrap_or(u64::MAX);
        let room = usize::try_from(declared).unwrap_or(usize::MAX).min(LARGEST);
        let room = self.buffers.take(workload, room).ok_or(Fault::BuffersFull)?;
        let bytes = whole(body, LARGEST, timeouts.idle).await?;
        if bytes.len() as u64 > *max_request {
            return Err(Fault::TooLarge);
        }
        call.held = Some(Held { bytes: bytes.clone(), room });
        Ok((bytes, headers))
    }
}
