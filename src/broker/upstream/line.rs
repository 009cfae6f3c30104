//! One connection to an upstream: its name resolved, every address tested, the tested one dialled, TLS, HTTP.
//!
//! Sends nothing of a request, and uses no proxy and no environment variable.

use super::{
    super::{Base, Settings, fault::Fault},
    address::{self, Origin},
    sender::Sender,
    tls::{self, Trust},
};
use crate::crypto::Hash;
use rustls::{ProtocolVersion, pki_types::ServerName};
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

/// How long TLS may take to be agreed on.
const TLS: Duration = Duration::from_secs(10);
/// How many addresses of one name are tried.
const ADDRESSES: usize = 4;

/// Finds the addresses of a name. A trait, so that tests can make names lead where they like.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, each with `port`.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;
}

/// By the system: `/etc/hosts`, DNS.
pub struct System;

impl Resolve for System {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// What is known of a connection, for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Who was dialled.
    pub address: SocketAddr,
    /// `1.2` or `1.3`; `None` without TLS.
    pub tls: Option<&'static str>,
    /// SHA-256 of the server's public key; `None` without TLS.
    pub spki: Option<Hash>,
}

/// A connection, ready for a request or in the middle of one.
pub(in crate::broker) struct Line {
    pub(super) sender: Sender,
    pub(in crate::broker) facts: Facts,
    pub(super) idle_since: Instant,
}

impl Line {
    /// Whether its answers say where they end in frames of their own: one that does not has been reset.
    pub(super) fn frames_its_ends(&self) -> bool {
        self.sender.another().is_some()
    }

    /// Another one over the same connection, where it takes more than one request at a time.
    pub(super) fn another(&self) -> Option<Self> {
        Some(Self { sender: self.sender.another()?, facts: self.facts, idle_since: self.idle_since })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Makes a new one; its bytes are moved by a task in `tasks`, which ends with it.
///
/// # Errors
/// What failed, in one word: nothing was sent. The log says more.
pub(super) async fn open(
    settings: &Settings,
    trust: Option<&Trust>,
    resolver: &dyn Resolve,
    tasks: &TaskTracker,
) -> Result<Line, Fault> {
    let name = &settings.name;
    let stream = match timeout(settings.timeouts.connect, dial(settings, resolver)).await {
        Ok(stream) => stream?,
        Err(_) => {
            tracing::warn!(upstream = %name, "connecting took too long");
            return Err(Fault::ConnectFailed);
        }
    };
    let address = stream.peer_addr().map_err(|_| Fault::ConnectFailed)?;
    // What is written waits for nothing: a request is written in one piece.
    let _ = stream.set_nodelay(true);
    let (mut facts, mut agreed) = (Facts { address, tls: None, spki: None }, None);
    let stream: Box<dyn Stream> = match trust {
        None => Box::new(stream),
        Some(trust) => {
            let stream = secure(&settings.base, trust, stream).await.map_err(|error| {
                tracing::warn!(upstream = %name, %address, %error, "no TLS with an upstream");
                Fault::TlsFailed
            })?;
            let session = stream.get_ref().1;
            facts.tls = session.protocol_version().map(word);
            agreed = session.alpn_protocol().map(<[u8]>::to_vec);
            facts.spki = session.peer_certificates().and_then(|chain| tls::spki(chain.first()?));
            Box::new(stream)
        }
    };
    let sender = Sender::over(stream, agreed.as_deref(), tasks).await.map_err(|_| Fault::ConnectFailed)?;
    Ok(Line { sender, facts, idle_since: Instant::now() })
}

async fn dial(settings: &Settings, resolver: &dyn Resolve) -> Result<TcpStream, Fault> {
    let (name, base) = (&settings.name, &settings.base);
    let (addresses, origin) = match base.host().parse::<IpAddr>() {
        Ok(address) => (vec![SocketAddr::new(address, base.port)], Origin::Literal),
        Err(_) => {
            let found = resolver.resolve(base.host(), base.port).await.map_err(|error| {
                tracing::warn!(upstream = %name, %error, "the name of an upstream is not resolved");
                Fault::DnsFailed
            })?;
            (found, Origin::Name)
        }
    };
    let is_bad = |found: &&SocketAddr| !address::may_be_called(found.ip(), origin, &settings.allow_cidrs);
    // One bad address is one too many: who answers for the name would choose the next time.
    if let Some(bad) = addresses.iter().find(is_bad) {
        tracing::warn!(upstream = %name, address = %bad.ip(), "an upstream leads to an address that may not be called");
        return Err(Fault::DnsDenied);
    }
    if addresses.is_empty() {
        return Err(Fault::DnsFailed);
    }
    for address in addresses.into_iter().take(ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => tracing::warn!(upstream = %name, %address, %error, "an upstream is not reached"),
        }
    }
    Err(Fault::ConnectFailed)
}

async fn secure(
    base: &Base,
    trust: &Trust,
    stream: TcpStream,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(base.host().to_owned()).map_err(io::Error::other)?;
    timeout(TLS, TlsConnector::from(Arc::clone(&trust.config)).connect(name, stream)).await?
}

fn word(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "1.3",
        _ => "1.2",
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Insecure, Ranges, Timeouts, inject::Slot};
    use super::*;
    use crate::name::{SecretName, UpstreamName};

    /// A name server that says what a test wants.
    struct Says(Vec<&'static str>);

    impl Resolve for Says {
        fn resolve<'a>(
            &'a self,
            _: &'a str,
            port: u16,
        ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
            let found = self.0.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect();
            Box::pin(async move { Ok(found) })
        }
    }

    async fn check(addresses: &[&'static str], allowed: &[&str], expected: Fault) {
        let settings = Settings {
            name: UpstreamName::new("api").unwrap(),
            // Nothing listens there.
            base: Base::parse("https://api.example:1", Insecure::Denied).unwrap(),
            secret: SecretName::new("key").unwrap(),
            slot: Slot::Query("key".to_owned()),
            client_cert: None,
            ca_file: None,
            pins: Vec::new(),
            allow_cidrs: allowed.iter().map(|text| address::Cidr::parse(text).unwrap()).collect(),
            allow_headers: None,
            ranges: Ranges::Denied,
            oddities: Vec::new(),
            max_request: 0,
            max_response: None,
            timeouts: Timeouts { connect: Duration::from_secs(30), ..Timeouts::default() },
            decode: Vec::new(),
        };
        let dialled = dial(&settings, &Says(addresses.to_vec())).await;
        assert_eq!(dialled.err(), Some(expected), "{addresses:?}");
    }

    #[tokio::test]
    async fn one_address_that_may_not_be_called_refuses_all_of_a_name() {
        for bad in
            ["169.254.169.254", "64:ff9b::a9fe:a9fe", "127.0.0.1", "::1", "10.0.0.1", "::ffff:10.0.0.1"]
        {
            check(&["93.184.216.34", bad], &[], Fault::DnsDenied).await;
            check(&[bad], &["127.0.0.0/8", "169.254.0.0/16"], Fault::DnsDenied).await;
        }
        check(&[], &[], Fault::DnsFailed).await;
    }
}
