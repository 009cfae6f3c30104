//! The way to one address of Vault: an HTTP client of our own making.
//!
//! No redirect is followed here, nothing is retried, no environment variable and no proxy is looked at, and an answer
//! has a cap. TLS trusts `ca_file` alone when it is given.

use super::{
    Settings,
    error::{Class, Error},
    rest::{HELD, Rest, Size},
};
use crate::upload::Upload;
use bytes::Bytes;
use http::HeaderMap;
use reqwest::{Certificate, Identity, dns, redirect, retry, tls};
use std::{fs, future::Future, io, net::SocketAddr, path::Path, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;
use zeroize::Zeroizing;

/// The largest answer that is read, in bytes: Vault's own limit of a request is 32 MiB, a secret of 4 MiB is absurd.
pub const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// The longest that the beginning of an answer which is passed on may take: all of it, where it is held whole.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The longest that such an answer may take as a whole.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// A credential file's cap, in bytes.
pub const LARGEST_FILE: u64 = 1024 * 1024;

/// What came back.
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, wiped when dropped.
    pub body: Zeroizing<Vec<u8>>,
    /// What it takes of the room for answers that are held, if it is bounded.
    pub room: Option<OwnedSemaphorePermit>,
    /// What comes behind `body`, where that is not all of it.
    pub rest: Option<Rest>,
}

/// Why nothing came back. The texts hold no header and no body.
#[derive(Debug)]
pub enum Lost {
    /// The connection could not be made: nothing was sent.
    Unsent(String),
    /// It was sent, and no whole answer came: it may have been done.
    Unanswered(String),
    /// The answer is over [`LARGEST_ANSWER`].
    TooLarge,
}

/// One way to one address. A trait, so that a property test can stand a random server in for the network.
pub trait Wire: Send + Sync + 'static {
    /// Sends `request` once and reads the whole answer.
    fn send(&self, request: http::Request<Bytes>) -> Sending<'_>;

    /// The same for a request of a workload, of which there may be many at a time, with `upload` as its body if there is one; what is
    /// held of its answer takes its bytes from `room`.
    fn pass(
        &self,
        request: http::Request<Bytes>,
        _upload: Option<Upload>,
        _room: Arc<Semaphore>,
        _size: Size,
    ) -> Sending<'_> {
        self.send(request)
    }
}

/// A request on its way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Reply, Lost>> + Send + 'a>>;

/// Makes the wire to one address; called again whenever a certificate changed.
pub type Connect = dyn Fn(&Settings, &Url, &Credentials) -> Result<Arc<dyn Wire>, Error> + Send + Sync;

/// The bytes of the TLS files, as they were read last: equal bytes need no new client.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    ca: Option<Vec<u8>>,
    client: Option<Zeroizing<Vec<u8>>>,
}

impl Credentials {
    /// Reads the files that `settings` names.
    ///
    /// # Errors
    /// [`Class::Credential`], naming the file.
    pub fn read(settings: &Settings) -> Result<Self, Error> {
        let ca = settings.ca_file.as_deref().map(|file| read_file(file, "vault.ca_file")).transpose()?;
        let client = match &settings.client_cert {
            None => None,
            Some(pair) => {
                let mut pem = Zeroizing::new(read_file(&pair.cert_file, "vault.client_cert.cert_file")?);
                pem.push(b'\n');
                pem.extend_from_slice(&Zeroizing::new(read_file(
                    &pair.key_file,
                    "vault.client_cert.key_file",
                )?));
                Some(pem)
            }
        };
        Ok(Self { ca, client })
    }
}

/// Reads a small file of ours; `what` names the config key in the error.
pub(super) fn read_file(file: &Path, what: &str) -> Result<Vec<u8>, Error> {
    let doing = || format!("reading {what} ({})", file.display());
    let failed = |error: io::Error| Error::new(Class::Credential, doing(), error.to_string());
    if fs::metadata(file).map_err(failed)?.len() > LARGEST_FILE {
        return Err(Error::new(Class::Credential, doing(), "larger than 1 MiB"));
    }
    fs::read(file).map_err(failed)
}

/// The real way: TCP and TLS.
///
/// # Errors
/// [`Class::Credential`] when a certificate or key cannot be used.
pub fn connect(
    settings: &Settings,
    address: &Url,
    credentials: &Credentials,
) -> Result<Arc<dyn Wire>, Error> {
    let unusable = |what: &str, error: reqwest::Error| {
        Error::new(Class::Credential, format!("using {what}"), chain(&error))
    };
    let mut builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .timeout(settings.timeout)
        .connect_timeout(settings.timeout.min(Duration::from_secs(5)))
        // Upkeep needs one; more are there for a while after workloads used them.
        .pool_max_idle_per_host(64)
        .pool_idle_timeout(Duration::from_secs(30))
        .tls_version_min(tls::Version::TLS_1_2);
    if let Some(ca) = &credentials.ca {
        let roots = Certificate::from_pem_bundle(ca).map_err(|error| unusable("vault.ca_file", error))?;
        if roots.is_empty() {
            return Err(Error::new(
                Class::Credential,
                "using vault.ca_file",
                "there is no certificate in it",
            ));
        }
        builder = builder.tls_certs_only(roots);
    }
    // Without TLS nothing is to be trusted: the system's roots are not even looked for, as an image FROM scratch has none.
    if address.scheme() == "http" {
        builder = builder.tls_certs_only([]);
    }
    if let Some(client) = &credentials.client {
        builder = builder
            .identity(Identity::from_pem(client).map_err(|error| unusable("vault.client_cert", error))?);
    }
    if let (Some(_), Some(host)) = (&settings.server_name, address.host_str()) {
        let port = address.port_or_known_default().unwrap_or(8200);
        builder = builder.dns_resolver(Arc::new(Elsewhere { host: host.into(), port }));
    }
    let what = if credentials.ca.is_none() && address.scheme() == "https" {
        "the system's trust roots, since vault.ca_file is not given (name the CA of Vault there, or mount a bundle and name \
         it in SSL_CERT_FILE)"
    } else {
        "the TLS settings of vault"
    };
    let client = builder.build().map_err(|error| unusable(what, error))?;
    Ok(Arc::new(Http { client }))
}

/// Resolves the certificate's name to where Vault really is, so that TLS checks `server_name`.
struct Elsewhere {
    host: String,
    port: u16,
}

impl dns::Resolve for Elsewhere {
    fn resolve(&self, _: dns::Name) -> dns::Resolving {
        let (host, port) = (self.host.trim_matches(['[', ']']).to_owned(), self.port);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
            Ok(Box::new(found.into_iter()) as dns::Addrs)
        })
    }
}

struct Http {
    client: reqwest::Client,
}

impl Wire for Http {
    fn send(&self, request: http::Request<Bytes>) -> Sending<'_> {
        Box::pin(async move {
            let request = reqwest::Request::try_from(request).map_err(|error| Lost::Unsent(chain(&error)))?;
            exchange(&self.client, request, None, Size::Whole).await
        })
    }

    fn pass(
        &self,
        request: http::Request<Bytes>,
        upload: Option<Upload>,
        room: Arc<Semaphore>,
        size: Size,
    ) -> Sending<'_> {
        Box::pin(async move {
            let request = reqwest::Request::try_from(request);
            let mut request = request.map_err(|error| Lost::Unsent(chain(&error)))?;
            if let Some(upload) = upload {
                *request.body_mut() = Some(reqwest::Body::wrap(upload));
            }
            // Who asks has deadlines, for its beginning and for each piece; a whole answer may take as long as it is.
            *request.timeout_mut() = Some(LONGEST);
            exchange(&self.client, request, Some(room), size).await
        })
    }
}

async fn exchange(
    client: &reqwest::Client,
    request: reqwest::Request,
    room: Option<Arc<Semaphore>>,
    size: Size,
) -> Result<Reply, Lost> {
    let mut response = client.execute(request).await.map_err(lost)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let (mut body, mut taken) = (Zeroizing::new(Vec::new()), None);
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        let is_large = size == Size::Any && body.len() + chunk.len() > HELD;
        if !is_large && body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Lost::TooLarge);
        }
        if let Some(room) = &room {
            let bytes = u32::try_from(chunk.len()).map_err(|_| Lost::TooLarge)?;
            let more = Arc::clone(room).try_acquire_many_owned(bytes).map_err(|_| Lost::TooLarge)?;
            match &mut taken {
                None => taken = Some(more),
                Some(taken) => OwnedSemaphorePermit::merge(taken, more),
            }
        }
        append(&mut body, &chunk);
        if is_large {
            let rest = Some(Rest::of(response));
            return Ok(Reply { status, headers, body, room: taken, rest });
        }
    }
    Ok(Reply { status, headers, body, room: taken, rest: None })
}

/// As `extend_from_slice`, but a buffer that is outgrown is wiped before it is given back.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if body.capacity() - body.len() < chunk.len() {
        let mut larger =
            Zeroizing::new(Vec::with_capacity((body.len() + chunk.len()).max(2 * body.capacity())));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

fn lost(error: reqwest::Error) -> Lost {
    let text = chain(&error);
    if error.is_connect() { Lost::Unsent(text) } else { Lost::Unanswered(text) }
}

/// The causes of a transport error, outermost first, without the URL (its path may be a secret's).
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { String::new() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        cause = error.source();
    }
    if text.is_empty() { "no answer".into() } else { text }
}
