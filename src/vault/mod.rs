//! Everything that is said to Vault: the client, logins, renewals, the call budget.
//!
//! The only code that speaks to Vault. Types of vaultrs and rustify stay inside; a token never leaves. One call is
//! tried once at each address at most: what is retried, and when, is decided by who makes the call.

pub mod answer;
pub mod approle;
pub mod backoff;
pub mod caller;
pub mod endpoint;
mod engine;
pub mod error;
pub mod group;
pub mod keepalive;
pub mod kv2;
pub mod limiter;
mod listing;
pub mod login;
pub mod passage;
pub mod renewal;
mod report;
pub mod rest;
pub mod session;
pub mod wire;

use crate::{name::WorkloadName, secret::SecretValue};
use answer::{Answer, Verdict};
use arc_swap::ArcSwap;
use bytes::Bytes;
use endpoint::Request;
use error::{Class, Error};
use http::{HeaderValue, header};
use limiter::{Account, Exhausted, Limiter};
use session::Session;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use url::Url;
use wire::{Connect, Credentials, Lost, Wire};

/// How Vault is reached; all of it may change while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// In order of preference; never empty. Plain `http` only where the config allowed it.
    pub addresses: Vec<Url>,
    /// The only trust roots when given (PEM), else the system's. Read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// Shown to Vault in the TLS handshake; read again when it changes.
    pub client_cert: Option<ClientCert>,
    /// The name that Vault's certificate must carry, when it is not the address's host.
    pub server_name: Option<String>,
    /// `X-Vault-Namespace` of every call.
    pub namespace: Option<String>,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// The cap on calls made on our own account.
    pub budget: Budget,
}

/// A certificate and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate, and the chain below it if any.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// A token bucket: never more than `burst + calls_per_second * t` calls in any `t` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Calls that come back each second; at least 1.
    pub calls_per_second: u32,
    /// Calls that may be made at once; at least 2, since half is kept for login, renewal and revocation.
    pub burst: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { calls_per_second: 10, burst: 20 }
    }
}

/// The way to Vault. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    routes: ArcSwap<Routes>,
    limiter: Limiter,
    connect: Box<Connect>,
    skew_ms: AtomicI64,
    /// For answers that are passed on.
    room: Arc<tokio::sync::Semaphore>,
}

/// The addresses, and which one is used: it stays until it fails.
struct Routes {
    settings: Settings,
    credentials: Credentials,
    list: Vec<Route>,
    current: AtomicUsize,
}

struct Route {
    address: Url,
    wire: Arc<dyn Wire>,
}

fn over_budget(doing: &str, Exhausted(wait): Exhausted) -> Error {
    Error::new(Class::Budget, doing, "too many calls to Vault caused by this workload").after(Some(wait))
}

/// The token as a header that no log shows.
fn token_header(token: &SecretValue, doing: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::from_str(token.expose());
    let mut value =
        value.map_err(|_| Error::new(Class::Credential, doing, "the token is no header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Vault {
    /// The way that `settings` describe, over the network.
    ///
    /// # Errors
    /// [`Class::Credential`] when a certificate file cannot be read or used.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Self::over(settings, Box::new(wire::connect))
    }

    /// The same over any wire.
    ///
    /// # Errors
    /// As for [`Vault::new`].
    pub fn over(settings: Settings, connect: Box<Connect>) -> Result<Self, Error> {
        let limiter = Limiter::new(settings.budget, Instant::now());
        let credentials = Credentials::read(&settings)?;
        let routes = ArcSwap::from_pointee(Routes::new(settings, credentials, &*connect)?);
        let (skew_ms, room) = (AtomicI64::new(0), passage::room());
        Ok(Self { inner: Arc::new(Inner { routes, limiter, connect, skew_ms, room }) })
    }

    /// Takes over changed settings from the next call on.
    ///
    /// # Errors
    /// As for [`Vault::new`]; nothing changes then.
    pub fn change(&self, settings: Settings) -> Result<(), Error> {
        let credentials = Credentials::read(&settings)?;
        self.inner.limiter.set(settings.budget);
        self.inner.routes.store(Arc::new(Routes::new(settings, credentials, &*self.inner.connect)?));
        Ok(())
    }

    /// Reads the certificate files again, and makes new connections if they changed.
    ///
    /// # Errors
    /// As for [`Vault::new`]; the old certificates stay in use then.
    pub fn reload_certificates(&self) -> Result<(), Error> {
        let routes = self.inner.routes.load_full();
        let credentials = Credentials::read(&routes.settings)?;
        if credentials != routes.credentials {
            let new = Routes::new(routes.settings.clone(), credentials, &*self.inner.connect)?;
            new.current.store(routes.current.load(Ordering::Relaxed), Ordering::Relaxed);
            self.inner.routes.store(Arc::new(new));
            tracing::info!("certificates read again");
        }
        Ok(())
    }

    /// By how much Vault's clock is ahead of ours, in milliseconds, by the `Date` of its last answer (whole seconds).
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        self.inner.skew_ms.load(Ordering::Relaxed)
    }

    /// The namespace of the config.
    #[must_use]
    pub fn namespace(&self) -> Option<String> {
        self.inner.routes.load().settings.namespace.clone()
    }

    /// Takes one call from what `workload` may cause, for `doing`, which is then called as [`Account::Refresh`].
    ///
    /// # Errors
    /// [`Class::Budget`], with when the next one is free.
    pub fn charge(&self, workload: &WorkloadName, doing: &str) -> Result<(), Error> {
        self.inner.limiter.charge(workload).map_err(|exhausted| over_budget(doing, exhausted))
    }

    /// Makes one call with the token of `session`; one call, tried once at each address at most.
    ///
    /// # Errors
    /// Whatever the last address said, by class.
    pub async fn call(
        &self,
        account: &Account,
        session: &Session,
        request: &Request,
    ) -> Result<Answer, Error> {
        self.send_as(account, Some(session.token()), request).await
    }

    /// Makes one call with a child token that the keeper holds.
    ///
    /// # Errors
    /// Whatever the last address said, by class.
    pub async fn call_as(
        &self,
        account: &Account,
        child: &SecretValue,
        request: &Request,
    ) -> Result<Answer, Error> {
        self.send_as(account, Some(child), request).await
    }

    /// Makes one call, at the address in use, or at the next ones while an address refuses, is sealed or is a standby
    /// that will not forward. What may have been done is not sent twice. Redirects go only to addresses of the config.
    async fn send_as(
        &self,
        account: &Account,
        token: Option<&SecretValue>,
        request: &Request,
    ) -> Result<Answer, Error> {
        let routes = self.inner.routes.load_full();
        let mut failure = Error::new(Class::Away, &*request.doing, "no address was tried");
        for _ in 0..=routes.list.len() {
            let Some((at, route)) = routes.in_use() else { break };
            match self.send(account, &routes, route, token, request).await? {
                Verdict::Done(answer) => return Ok(answer),
                Verdict::Failed(error) => return Err(error),
                Verdict::Elsewhere(location) => match routes.position(&location) {
                    Some(known) if known != at => routes.use_instead(at, known),
                    known => {
                        let said = match known {
                            Some(_) => "redirected to itself",
                            None => "redirected to an address that is not in vault.addresses; not followed",
                        };
                        return Err(Error::new(Class::Nonsense, &*request.doing, said));
                    }
                },
                Verdict::Next(error) => {
                    routes.leave(at);
                    failure = error;
                    if routes.list.len() == 1 {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    /// Goes back to an earlier address once it is active again. Meant to be called now and then.
    pub async fn fail_back(&self) {
        let routes = self.inner.routes.load_full();
        let current = routes.current.load(Ordering::Relaxed);
        for (at, route) in routes.list.iter().enumerate().take(current) {
            let verdict = self.send(&Account::Refresh, &routes, route, None, &Request::health()).await;
            if matches!(verdict, Ok(Verdict::Done(_))) {
                routes.use_instead(current, at);
                return;
            }
        }
    }

    async fn send(
        &self,
        account: &Account,
        routes: &Routes,
        route: &Route,
        token: Option<&SecretValue>,
        request: &Request,
    ) -> Result<Verdict, Error> {
        let wired = routes.wired(route, token, request)?;
        let exhausted = self.inner.limiter.acquire(account).await;
        exhausted.map_err(|exhausted| over_budget(&request.doing, exhausted))?;
        // The client has its own timeout; this one also holds for other wires and for a body that never ends.
        let sent = tokio::time::timeout(routes.settings.timeout, route.wire.send(wired)).await;
        Ok(match sent {
            Ok(Ok(reply)) => {
                if let Some(skew) = answer::skew_ms(&reply.headers) {
                    self.inner.skew_ms.store(skew, Ordering::Relaxed);
                }
                answer::judge(reply, request, &route.address)
            }
            Ok(Err(Lost::Unsent(said))) => Verdict::Next(Error::new(Class::Away, &*request.doing, said)),
            Ok(Err(Lost::Unanswered(said))) => answer::unanswered(request, said),
            Ok(Err(Lost::TooLarge)) => {
                Verdict::Failed(Error::new(Class::Nonsense, &*request.doing, "an answer of more than 4 MiB"))
            }
            Err(_) => answer::unanswered(request, "timed out".into()),
        })
    }
}

impl Routes {
    fn new(settings: Settings, credentials: Credentials, connect: &Connect) -> Result<Self, Error> {
        let route = |address: &Url| {
            Ok(Route { address: address.clone(), wire: connect(&settings, address, &credentials)? })
        };
        let list = settings.addresses.iter().map(route).collect::<Result<_, Error>>()?;
        Ok(Self { settings, credentials, list, current: AtomicUsize::new(0) })
    }

    fn in_use(&self) -> Option<(usize, &Route)> {
        let at = self.current.load(Ordering::Relaxed);
        self.list.get(at).map(|route| (at, route))
    }

    fn leave(&self, at: usize) {
        self.use_instead(at, (at + 1) % self.list.len().max(1));
    }

    /// Moves on unless another call has already done so.
    fn use_instead(&self, at: usize, next: usize) {
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn position(&self, location: &Url) -> Option<usize> {
        self.list.iter().position(|route| route.address.origin() == location.origin())
    }

    fn wired(
        &self,
        route: &Route,
        token: Option<&SecretValue>,
        request: &Request,
    ) -> Result<http::Request<Bytes>, Error> {
        let invalid = |said: &str| Error::new(Class::Invalid, &*request.doing, said);
        let mut url = route.address.clone();
        if let (Some(name), "https") = (&self.settings.server_name, url.scheme()) {
            url.set_host(Some(name)).map_err(|_| invalid("vault.server_name is no host name"))?;
        }
        url.path_segments_mut()
            .map_err(|()| invalid("the address takes no path"))?
            .pop_if_empty()
            .push("v1")
            .extend(request.path.split('/'));
        url.set_query(request.query.as_deref());
        let body = request.body.clone().map_or_else(Bytes::new, Bytes::from_owner);
        let mut wired = http::Request::new(body);
        *wired.method_mut() = request.method.clone();
        *wired.uri_mut() = url.as_str().parse().map_err(|_| invalid("its path cannot stand in a URL"))?;
        let headers = wired.headers_mut();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if request.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(namespace) = request.namespace.as_ref().or(self.settings.namespace.as_ref()) {
            let value =
                HeaderValue::from_str(namespace).map_err(|_| invalid("vault.namespace is no header"))?;
            headers.insert("x-vault-namespace", value);
        }
        if let Some(wrap) = request.wrap {
            headers.insert("x-vault-wrap-ttl", HeaderValue::from(wrap.as_secs()));
        }
        if let Some(token) = token {
            headers.insert("x-vault-token", token_header(token, &request.doing)?);
        }
        Ok(wired)
    }
}
