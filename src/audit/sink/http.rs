//! Posts a batch to a webhook: lines of JSON, or one CloudEvents batch.
//!
//! `Idempotency-Key` is the same for the same events. With a key, `Claviger-Signature` signs time and body; a receiver
//! that checks both cannot be shown an old batch as a new one.

use super::{
    batch::{self, Item},
    format::Format,
    outlet::{Outlet, Pace, Verdict, verdict},
    settings,
};
use crate::{
    clock,
    receiver::{Client, Credential, text},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::{future::Future, path::PathBuf, pin::Pin};

/// The outlet of kind `http`.
pub(super) struct Webhook {
    client: Client,
    hmac_key_file: Option<PathBuf>,
    bearer_file: Option<PathBuf>,
    format: Format,
}

impl Webhook {
    pub(super) fn new(settings: settings::Http, format: Format) -> Self {
        let settings::Http { to, hmac_key_file, bearer_file } = settings;
        Self { client: Client::new(to), hmac_key_file, bearer_file, format }
    }

    async fn post(&mut self, items: &[Item]) -> Verdict {
        let (kind, body) = self.format.document(items);
        let headers = match self.headers(kind, &batch::key(items), &body) {
            Ok(headers) => headers,
            Err(why) => return Verdict::failed("credential", why),
        };
        match self.client.post(self.client.url().clone(), headers, body).await {
            Ok(answer) => verdict(&answer),
            Err(lost) => lost.into(),
        }
    }

    fn headers(&self, kind: &'static str, key: &str, body: &[u8]) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(HeaderName::from_static("idempotency-key"), text(key));
        if let Some(file) = &self.hmac_key_file {
            let signature = Credential::read(file)?.signature(clock::now().as_second(), body);
            headers.insert(HeaderName::from_static("claviger-signature"), text(&signature));
        }
        if let Some(file) = &self.bearer_file {
            headers.insert(header::AUTHORIZATION, Credential::read(file)?.header("Bearer")?);
        }
        Ok(headers)
    }
}

impl Outlet for Webhook {
    fn send<'a>(&'a mut self, items: &'a [Item]) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        Box::pin(self.post(items))
    }

    fn pace(&self) -> Pace {
        Pace::REMOTE
    }
}
