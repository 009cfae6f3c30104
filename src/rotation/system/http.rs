//! Driver `http`: requests to one of the config's upstreams, which says where it is, whom to trust and which key is attached.
//!
//! The key goes with what changes something; a test goes without it, since the new value is what it tries. A status that is
//! neither expected nor a refusal is no answer.

use super::{
    Act, Order, Said, Unknown,
    template::{filled, filled_json, filled_path},
};
use crate::{
    broker::{
        Broker,
        own::{Key, Own},
    },
    keeper::Keeper,
    name::UpstreamName,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

/// An API that has the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The key in `upstreams`.
    pub upstream: UpstreamName,
    /// Gives the user a value.
    pub set: Template,
    /// Logs in with it.
    pub test: Template,
    /// Takes it out of use; without one, `set` does with a value that nobody keeps.
    pub revoke: Option<Template>,
}

/// One request; `{user}` and the other places are filled in its path, its headers and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The method.
    pub method: Method,
    /// Below the upstream's URL, from its first slash on.
    pub path: String,
    /// Beside those that the upstream and the body need.
    pub headers: Vec<(HeaderName, String)>,
    /// JSON.
    pub body: Option<serde_json::Value>,
    /// The statuses that mean: done, or yes.
    pub expect: Vec<u16>,
    /// The statuses that mean: refused.
    pub refused: Vec<u16>,
}

impl Http {
    fn template(&self, act: Act) -> &Template {
        match act {
            Act::Set => &self.set,
            Act::Test => &self.test,
            Act::Revoke => self.revoke.as_ref().unwrap_or(&self.set),
        }
    }

    /// Sends what `order` says, once.
    pub(super) async fn ask(&self, ways: (&Broker, &Keeper), order: &Order<'_>) -> Result<Said, Unknown> {
        let template = self.template(order.act);
        template.ask(ways, &self.upstream, order).await
    }
}

impl Template {
    /// Sends it, once, and takes its status for an answer.
    pub(super) async fn ask(
        &self,
        ways: (&Broker, &Keeper),
        upstream: &UpstreamName,
        order: &Order<'_>,
    ) -> Result<Said, Unknown> {
        let (status, _) = self.send(ways, upstream, order).await?;
        let unknown = || Unknown::of(order, format!("it answered with status {}", status.as_u16()));
        self.says(status).ok_or_else(unknown)
    }

    /// Sends it, once; with the upstream's key, unless it is a test.
    pub(super) async fn send(
        &self,
        (broker, keeper): (&Broker, &Keeper),
        upstream: &UpstreamName,
        order: &Order<'_>,
    ) -> Result<(StatusCode, Bytes), Unknown> {
        let unknown = |said: String| Unknown::of(order, said);
        let own = self
            .request(order)
            .ok_or_else(|| unknown("what is put into a header is no visible ASCII".to_owned()))?;
        let secret = broker.upstream(upstream).map(|upstream| upstream.settings().secret.clone());
        let secret = secret.ok_or_else(|| unknown(format!("there is no upstream {upstream}")))?;
        let served = keeper.describe(&secret, None).and_then(|shelf| shelf.served(Instant::now()));
        let key = match (order.act, &served) {
            (Act::Test, _) => Key::None,
            (_, Some(served)) => Key::Of(&served.held.value),
            (_, None) => return Err(unknown(format!("there is no valid value of {secret}"))),
        };
        let answered = broker.call_own(upstream, own, key).await;
        answered.map_err(|fault| unknown(fault.to_string()))
    }

    fn says(&self, status: StatusCode) -> Option<Said> {
        let status = status.as_u16();
        if self.expect.contains(&status) {
            Some(Said::Done)
        } else {
            self.refused.contains(&status).then_some(Said::Refused)
        }
    }

    /// `None`: a header cannot be sent.
    fn request(&self, order: &Order<'_>) -> Option<Own> {
        let mut headers = HeaderMap::new();
        for (name, text) in &self.headers {
            let mut value = HeaderValue::from_str(&filled(text, order)).ok()?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        let body = self.body.as_ref().map(|body| Bytes::from_owner(filled_json(body, order)));
        if body.is_some() {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        Some(Own { method: self.method.clone(), path: filled_path(&self.path, order), headers, body })
    }
}
