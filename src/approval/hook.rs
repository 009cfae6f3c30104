//! The way to a service of chat or paging: told once of each request, and of what became of it, asked as often as need be.
//!
//! Signs by Standard Webhooks (specification 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`). Follows no redirect, retries
//! nothing; what comes back are votes that nobody has judged yet.

use super::{
    request::Id,
    signed::Approver,
    webhook::{Answered, Webhook, answered, message_id},
};
use crate::{
    clock,
    crypto::chance,
    receiver::{Answer, Client, Credential, LARGEST_ANSWER, Lost, text},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// The longest that a service may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// The wait after the first failure, and the longest one.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How long somebody who needs its answer at this moment waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// One service.
pub(super) struct Hook {
    settings: Webhook,
    client: Mutex<Client>,
}

/// Why there is no answer that counts.
#[derive(Debug)]
pub(super) struct Fault {
    /// `connect`, `timeout`, `io`, `credential`, `redirect`, `status` or `answer`.
    pub(super) word: &'static str,
    /// For the log.
    pub(super) why: String,
    /// When it wants to be asked again.
    pub(super) after: Option<Duration>,
}

impl Fault {
    /// The wait before the next try, after so many failures in a row; some of it is chance.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST);
        ceiling.mul_f64(chance().max(0.1)).max(self.after.unwrap_or_default())
    }
}

/// What `call` gives, for somebody who does not wait long.
///
/// # Errors
/// That of `call`, or `timeout` after five seconds.
pub(super) async fn in_time(call: impl Future<Output = Result<Answered, Fault>>) -> Result<Answered, Fault> {
    let slow = || Fault { word: "timeout", why: format!("no answer within {PATIENCE:?}"), after: None };
    timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(slow()))
}

impl Hook {
    pub(super) fn new(settings: &Webhook) -> Self {
        Self { settings: settings.clone(), client: Mutex::new(Client::new(settings.to.clone())) }
    }

    pub(super) fn settings(&self) -> &Webhook {
        &self.settings
    }

    /// Tells it of a request.
    pub(super) async fn tell(
        &self,
        (id, digest): (&Id, &str),
        approvers: &[Approver],
        body: Vec<u8>,
    ) -> Result<Answered, Fault> {
        let headers = self.headers(&message_id(id), &body)?;
        let mut client = self.client();
        let sent = client.post(self.settings.to.url.clone(), headers, body).await;
        self.read(client, sent).map(|body| answered(&body, approvers, digest))
    }

    /// Tells it what became of a request, by a message of its own. What it answers to that is nothing.
    pub(super) async fn report(&self, message: &str, body: Vec<u8>) -> Result<(), Fault> {
        let headers = self.headers(message, &body)?;
        let mut client = self.client();
        let sent = client.post(self.settings.to.url.clone(), headers, body).await;
        self.read(client, sent).map(drop)
    }

    /// Asks it what became of a request; nothing, where it has no address for that. That it knows none is no fault: it may have forgotten it.
    pub(super) async fn ask(
        &self,
        (id, digest): (&Id, &str),
        approvers: &[Approver],
    ) -> Result<Answered, Fault> {
        let Some(url) = self.settings.status_url.as_ref().and_then(|url| url.of(id.as_str())) else {
            return Ok(Answered::default());
        };
        let headers = self.headers(&message_id(id), b"")?;
        let mut client = self.client();
        match client.get(url, headers).await {
            Ok(Answer { status: 404, .. }) => Ok(Answered::default()),
            asked => self.read(client, asked).map(|body| answered(&body, approvers, digest)),
        }
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The body of an answer that counts.
    fn read(&self, client: Client, sent: Result<Answer, Lost>) -> Result<Vec<u8>, Fault> {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        let Answer { status, after, body } = sent.map_err(Fault::from)?;
        let after = after.map(|after| after.min(LONGEST_WAIT));
        let fault = |word, why: String| Err(Fault { word, why, after });
        match status {
            200..=299 if body.len() >= LARGEST_ANSWER => {
                fault("answer", format!("an answer of {LARGEST_ANSWER} bytes or more"))
            }
            200..=299 => Ok(body),
            300..=399 => fault(
                "redirect",
                format!("HTTP {status}: redirects are not followed; write the address that it points to"),
            ),
            status => fault("status", format!("HTTP {status}")),
        }
    }

    fn headers(&self, message: &str, body: &[u8]) -> Result<HeaderMap, Fault> {
        let now = clock::now().as_second();
        let credential = |why: String| Fault { word: "credential", why, after: None };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("idempotency-key"), text(message));
        headers.insert(HeaderName::from_static("webhook-id"), text(message));
        headers.insert(HeaderName::from_static("webhook-timestamp"), text(&now.to_string()));
        if let Some(file) = &self.settings.hmac_key_file {
            let key = Credential::read(file).map_err(credential)?;
            let signature = key.standard_signature(message, now, body);
            let signature =
                signature.map_err(|why| credential(format!("using {}: {why}", file.display())))?;
            headers.insert(HeaderName::from_static("webhook-signature"), text(&signature));
        }
        if let Some(file) = &self.settings.bearer_file {
            let token = Credential::read(file).and_then(|token| token.header("Bearer"));
            headers.insert(header::AUTHORIZATION, token.map_err(credential)?);
        }
        Ok(headers)
    }
}

impl From<Lost> for Fault {
    fn from(Lost { code, why }: Lost) -> Self {
        Self { word: code, why, after: None }
    }
}
