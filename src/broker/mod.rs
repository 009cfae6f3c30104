//! A request to another HTTP API, sent on with a key that the workload never sees.
//!
//! Does not decide who may call what (`policy`), and does not keep the keys (`keeper`): it attaches one to the one upstream that
//! the config names, in the one place that the config names, and takes it out of what comes back.

pub mod answer;
pub mod buffers;
pub mod call;
pub mod decode;
pub mod fault;
mod held;
pub mod hop;
pub mod inject;
pub mod own;
pub mod request;
pub mod scrub;
pub mod upstream;

use crate::{
    crypto::{self, Hash},
    keeper::{Keeper, value::Value},
    name::{SecretName, UpstreamName, WorkloadName},
    policy::upstream::Oddity,
};
use arc_swap::ArcSwap;
use decode::Coding;
use fault::Fault;
use http::{HeaderName, HeaderValue};
use inject::{Slot, material::Material};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use upstream::{
    Bound, Pool,
    address::Cidr,
    line::{Resolve, System},
};

/// How long after one refused key the next one is asked for, at the earliest.
const REFETCH_PAUSE: Duration = Duration::from_secs(30);

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The key in `upstreams`.
    pub name: UpstreamName,
    /// Where it is.
    pub base: Base,
    /// Which secret is attached.
    pub secret: SecretName,
    /// Where it is put.
    pub slot: Slot,
    /// The certificate that it is shown: a secret of that kind.
    pub client_cert: Option<SecretName>,
    /// Its only trust roots; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the public keys that it may have, beside a chain that holds; empty: any.
    pub pins: Vec<Hash>,
    /// Addresses inside the network that may be called.
    pub allow_cidrs: Vec<Cidr>,
    /// The only headers of a request that are sent on, beside those that describe its body; `None`: all but those that never are.
    pub allow_headers: Option<Vec<HeaderName>>,
    /// Whether a client may ask for a part of an answer.
    pub ranges: Ranges,
    /// What its paths may hold beside what all may.
    pub oddities: Vec<Oddity>,
    /// The largest body of a request, in bytes.
    pub max_request: u64,
    /// The largest body of an answer, in bytes.
    pub max_response: Option<u64>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Codings that its answers may have, to be undone here; others are refused.
    pub decode: Vec<Coding>,
}

/// Whether a client may ask for a part of an answer (RFC 9110 section 14): who chooses where an answer begins can have a key that is
/// given back in pieces, of which none is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ranges {
    /// `Range` and `If-Range` are not sent on.
    #[default]
    Denied,
    /// They are, by the config's own word.
    Allowed,
}

/// How long an upstream may take. There is no limit for a whole answer: streams may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To be connected to, its name resolved.
    pub connect: Duration,
    /// From the request's last byte to the answer's head.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let idle = Duration::from_secs(300);
        Self { connect: Duration::from_secs(5), first_byte: idle, idle }
    }
}

/// Where an upstream is: scheme, host, port and the path in front of every request's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    is_tls: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    path: String,
}

/// Why an URL cannot be an upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotABase {
    /// It has credentials, a query or a fragment, or is no URL of http or https.
    #[error("not a URL of https with nothing but host, port and path")]
    Url,
    /// It is http.
    #[error("not encrypted")]
    Insecure,
}

/// Whether what is sent may be read on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insecure {
    /// No: https only.
    Denied,
    /// The config allows it.
    Allowed,
}

impl Base {
    /// Reads an upstream's `url`.
    ///
    /// # Errors
    /// [`NotABase`].
    pub fn parse(text: &str, insecure: Insecure) -> Result<Self, NotABase> {
        let url = url::Url::parse(text).map_err(|_| NotABase::Url)?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" if insecure == Insecure::Allowed => false,
            "http" => return Err(NotABase::Insecure),
            _ => return Err(NotABase::Url),
        };
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let (Some(host), Some(port), true) = (url.host_str(), url.port_or_known_default(), bare) else {
            return Err(NotABase::Url);
        };
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let path = url.path().trim_end_matches('/').to_owned();
        if path.contains("//") || path.contains('%') {
            return Err(NotABase::Url);
        }
        let authority = HeaderValue::try_from(authority).map_err(|_| NotABase::Url)?;
        Ok(Self { is_tls, host: host.to_owned(), port, authority, path })
    }

    /// The host without the brackets of an IPv6 address.
    fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is an address and not a name.
    #[must_use]
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.host().parse().ok()
    }

    /// The path in front of every request's, without a slash at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Scheme and authority, as in a `Location`.
    fn origin(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", String::from_utf8_lossy(self.authority.as_bytes()))
    }
}

/// All upstreams. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    upstreams: Arc<ArcSwap<BTreeMap<UpstreamName, Arc<Upstream>>>>,
    buffers: buffers::Buffers,
    key: Hash,
    keeper: Keeper,
    resolver: Arc<dyn Resolve>,
}

/// One upstream, with its connections.
pub struct Upstream {
    pub(in crate::broker) settings: Settings,
    pub(in crate::broker) pool: Pool,
    material: Mutex<Option<(String, Option<Arc<Material>>)>>,
    refetched: Mutex<Option<Instant>>,
}

impl Broker {
    /// Without upstreams yet; certificates that upstreams are shown are in `keeper`.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn new(keeper: Keeper) -> std::io::Result<Self> {
        Self::resolving(Arc::new(System), keeper)
    }

    /// One whose names lead where `resolver` says.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn resolving(resolver: Arc<dyn Resolve>, keeper: Keeper) -> std::io::Result<Self> {
        let (upstreams, buffers) = (Arc::default(), buffers::Buffers::default());
        Ok(Self { upstreams, buffers, key: crypto::random()?, keeper, resolver })
    }

    /// Takes over a changed config. An upstream that did not change keeps its connections.
    pub fn replace(&self, settings: &[Settings]) {
        let before = self.upstreams.load_full();
        let upstream = |settings: &Settings| {
            let same = before.get(&settings.name).filter(|known| known.settings == *settings).cloned();
            let new = || {
                Arc::new(Upstream {
                    settings: settings.clone(),
                    pool: Pool::new(Arc::clone(&self.resolver)),
                    material: Mutex::default(),
                    refetched: Mutex::default(),
                })
            };
            (settings.name.clone(), same.unwrap_or_else(new))
        };
        self.upstreams.store(Arc::new(settings.iter().map(upstream).collect()));
    }

    /// One of them.
    #[must_use]
    pub fn upstream(&self, name: &UpstreamName) -> Option<Arc<Upstream>> {
        self.upstreams.load().get(name).cloned()
    }

    /// Where bodies may be held.
    #[must_use]
    pub fn buffers(&self) -> &buffers::Buffers {
        &self.buffers
    }

    /// What a connection for a call with this version of the key is made with, for `workload` or for the agent itself.
    ///
    /// # Errors
    /// [`Fault::CredentialUnavailable`]: there is no valid certificate at the moment.
    fn bound(
        &self,
        upstream: &Upstream,
        version: &str,
        workload: Option<&WorkloadName>,
    ) -> Result<Bound, Fault> {
        let Settings { name, client_cert, .. } = &upstream.settings;
        let shown = client_cert.as_ref().map(|secret| self.keeper.shown(secret, workload)).transpose();
        let shown = shown.map_err(|error| {
            tracing::warn!(upstream = %name, %error, "an upstream cannot be shown its certificate");
            Fault::CredentialUnavailable
        })?;
        Ok(Bound::new(version, shown))
    }

    /// Keyed hash of what is not to be read from events, under a key of this start alone: joins equal texts, and tells nobody
    /// what they are.
    #[must_use]
    pub fn keyed(&self, bytes: &[u8]) -> Hash {
        crypto::hmac_sha256(&self.key, &[bytes])
    }

    /// Closes connections that have waited too long for a request.
    pub fn sweep(&self) {
        self.upstreams.load().values().for_each(|upstream| upstream.pool.sweep());
    }
}

impl Upstream {
    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is sent of `value`, and what must not come back; made once for each value.
    ///
    /// # Errors
    /// [`Fault::CredentialUnavailable`]: there is nothing in it that fits the slot. The log says why.
    pub fn material(&self, value: &Value) -> Result<Arc<Material>, Fault> {
        let mut kept = self.material.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((tag, material)) = &*kept
            && tag == value.tag()
        {
            return material.clone().ok_or(Fault::CredentialUnavailable);
        }
        let made = Material::of(&self.settings.slot, value.content());
        if let Err(error) = &made {
            let Settings { name, secret, .. } = &self.settings;
            tracing::warn!(upstream = %name, %secret, %error, "the secret does not fit what it is put into");
        }
        let material = made.ok().map(Arc::new);
        *kept = Some((value.tag().to_owned(), material.clone()));
        material.ok_or(Fault::CredentialUnavailable)
    }

    /// Whether a newer key may be asked for now, since this one was refused; then not again for 30 s.
    #[must_use]
    pub fn may_refetch(&self) -> bool {
        let mut last = self.refetched.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = last.is_none_or(|at| at + REFETCH_PAUSE <= now);
        if may {
            *last = Some(now);
        }
        may
    }
}
