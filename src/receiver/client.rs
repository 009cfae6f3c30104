//! The way to one receiver over HTTP: a client of our own making, which is made anew after every failure, so that
//! changed certificates count.
//!
//! No redirect is followed, nothing is retried here, no environment variable and no proxy is looked at. The one file
//! beside `vault` that names the HTTP library: what it sends has nothing to do with Vault.

use super::{Lost, Receiver};
use http::{HeaderMap, HeaderValue, header};
use reqwest::{Certificate, Identity, redirect, retry, tls};
use std::{fs, path::Path, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// How much of an answer is read, in bytes.
pub const LARGEST_ANSWER: usize = 64 * 1024;
/// A certificate file's cap, in bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What to do where the system has no trust roots, as in an image FROM scratch.
pub const NO_ROOTS: &str = "the system's trust roots, since ca_file is not given (name the receiver's CA there, or \
                                   mount a bundle and name it in SSL_CERT_FILE)";

/// One receiver. Cheap to clone: clones share their connections until one of them fails.
#[derive(Clone)]
pub struct Client {
    to: Receiver,
    inner: Option<reqwest::Client>,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// When it wants to be asked again.
    pub after: Option<Duration>,
    /// The first [`LARGEST_ANSWER`] bytes.
    pub body: Vec<u8>,
}

impl Client {
    /// The way to `to`. Nothing is read and nobody is asked yet.
    #[must_use]
    pub fn new(to: Receiver) -> Self {
        Self { to, inner: None }
    }

    /// Where it posts to.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.to.url
    }

    /// Posts `body` to `url` once.
    ///
    /// # Errors
    /// There was no whole answer in time; the texts hold no header and no body.
    pub async fn post(&mut self, url: Url, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, Lost> {
        self.send(|client| client.post(url).headers(headers).body(body)).await
    }

    /// Asks `url` once.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn get(&mut self, url: Url, headers: HeaderMap) -> Result<Answer, Lost> {
        self.send(|client| client.get(url).headers(headers)).await
    }

    async fn send(
        &mut self,
        request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder + Send,
    ) -> Result<Answer, Lost> {
        let client = match self.inner.take() {
            Some(client) => client,
            None => build(&self.to).map_err(|why| Lost::new("credential", why))?,
        };
        let answer = ask(request(&client)).await?;
        if answer.status < 400 {
            self.inner = Some(client);
        }
        Ok(answer)
    }
}

async fn ask(request: reqwest::RequestBuilder) -> Result<Answer, Lost> {
    let sent = request.send().await;
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

/// Reads a certificate or key of at most 1 MiB.
///
/// # Errors
/// What is wrong with the file, and its name.
pub fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
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
#[must_use]
pub fn text(value: &str) -> HeaderValue {
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

fn lost(error: &reqwest::Error) -> Lost {
    let code = match error {
        error if error.is_timeout() => "timeout",
        error if error.is_connect() => "connect",
        _ => "io",
    };
    Lost::new(code, chain(error))
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
