//! The way to one receiver over HTTP: a client of our own making, which is made anew after every failure, so that
//! changed certificates count.
//!
//! No redirect is followed, nothing is retried here, no environment variable and no proxy is looked at. The one file
//! beside `vault` that names the HTTP library: what it sends has nothing to do with Vault.

use super::{
    outlet::{Code, Failure, Verdict},
    settings::Receiver,
};
use http::{HeaderMap, HeaderValue, header};
use reqwest::{Certificate, Identity, redirect, retry, tls};
use std::{fs, path::Path, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// How much of an answer is read, in bytes.
const LARGEST_ANSWER: usize = 64 * 1024;
/// A certificate file's cap, in bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What to do where the system has no trust roots, as in an image FROM scratch.
pub(super) const NO_ROOTS: &str = "the system's trust roots, since ca_file is not given (name the receiver's CA there, or \
                                   mount a bundle and name it in SSL_CERT_FILE)";

/// One receiver.
pub(super) struct Client {
    to: Receiver,
    inner: Option<reqwest::Client>,
}

/// What it answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) after: Option<Duration>,
    /// The first 64 KiB.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// What the status alone says: 400, 413 and 415 are about these bytes, everything else but success about the
    /// receiver.
    pub(super) fn verdict(&self) -> Verdict {
        match self.status {
            200..=299 => Verdict::Delivered,
            400 | 413 | 415 => Verdict::Refused(Code::Status(self.status)),
            _ => self.failed(format!("HTTP {}", self.status)),
        }
    }

    pub(super) fn failed(&self, why: String) -> Verdict {
        Verdict::Failed(Failure { code: Code::Status(self.status), why, after: self.after })
    }
}

impl Client {
    pub(super) fn new(to: Receiver) -> Self {
        Self { to, inner: None }
    }

    /// Where it posts to.
    pub(super) fn url(&self) -> &Url {
        &self.to.url
    }

    /// Posts `body` to `url` once.
    ///
    /// # Errors
    /// There was no whole answer in time; the texts hold no header and no body.
    pub(super) async fn post(
        &mut self,
        url: Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, Verdict> {
        let client = match self.inner.take() {
            Some(client) => client,
            None => build(&self.to).map_err(|why| Verdict::failed("credential", why))?,
        };
        let answer = ask(&client, url, headers, body).await?;
        if answer.status < 400 {
            self.inner = Some(client);
        }
        Ok(answer)
    }
}

async fn ask(
    client: &reqwest::Client,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<Answer, Verdict> {
    let sent = client.post(url).headers(headers).body(body).send().await;
    let mut response = sent.map_err(|error| lost(&error))?;
    let after = retry_after(response.headers());
    let (status, mut body) = (response.status().as_u16(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(&error))? {
        let room = LARGEST_ANSWER.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if body.len() >= LARGEST_ANSWER {
            break;
        }
    }
    Ok(Answer { status, after, body })
}

fn build(to: &Receiver) -> Result<reqwest::Client, String> {
    let (tls, timeout) = (&to.tls, to.timeout);
    let mut builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(5)))
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(30))
        .tls_version_min(tls::Version::TLS_1_2);
    if let Some(file) = &tls.ca_file {
        let unusable = |why: String| format!("using {}: {why}", file.display());
        let roots = Certificate::from_pem_bundle(&read(file)?).map_err(|error| unusable(chain(&error)))?;
        if roots.is_empty() {
            return Err(unusable("there is no certificate in it".into()));
        }
        builder = builder.tls_certs_only(roots);
    } else if to.url.scheme() == "http" {
        // As to Vault: without TLS the system's roots are not looked for.
        builder = builder.tls_certs_only([]);
    }
    if let Some(pair) = &tls.client_cert {
        let mut pem = read(&pair.cert_file)?;
        pem.push(b'\n');
        pem.extend_from_slice(&read(&pair.key_file)?);
        let identity = Identity::from_pem(&pem)
            .map_err(|error| format!("using {}: {}", pair.cert_file.display(), chain(&error)))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| match tls.ca_file {
        Some(_) => format!("the TLS settings: {}", chain(&error)),
        None => format!("{NO_ROOTS}: {}", chain(&error)),
    })
}

/// Reads a certificate or key.
pub(super) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |error: std::io::Error| format!("reading {}: {error}", file.display());
    if fs::metadata(file).map_err(failed)?.len() > LARGEST_FILE {
        return Err(format!("reading {}: larger than 1 MiB", file.display()));
    }
    // Room for what is joined to it, so that no copy of a key is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(128 * 1024));
    bytes.extend_from_slice(&Zeroizing::new(fs::read(file).map_err(failed)?));
    Ok(bytes)
}

/// A header from a text of ours.
pub(super) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Duration::try_from(then.duration_since(crate::clock::now())).ok()
}

fn lost(error: &reqwest::Error) -> Verdict {
    let code = match error {
        error if error.is_timeout() => "timeout",
        error if error.is_connect() => "connect",
        _ => "io",
    };
    Verdict::failed(code, chain(error))
}

/// The causes of a transport error, outermost first, without the URL: its query may be a secret.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { String::new() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { "it broke off".to_owned() } else { text }
}
