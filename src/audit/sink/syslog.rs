//! Syslog: one RFC 5424 message an event, over TLS (RFC 5425), TCP with octet counting (RFC 6587), or a Unix datagram.
//!
//! Syslog has no acknowledgement: a batch is delivered when the kernel has taken it. So that less is lost when a
//! connection breaks, the last batch that went over it is sent again on the next one, with the same ids.

use super::{
    batch::Item,
    format::Format,
    outlet::{Outlet, Pace, Verdict},
    settings::{self, Address},
};
use crate::{
    crypto::{hex, sha256},
    receiver::client,
};
use nix::errno::Errno;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::{future::Future, io, path::Path, pin::Pin, process, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixDatagram},
};
use tokio_rustls::TlsConnector;

/// How long a connection is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(2);

/// The outlet of kind `syslog`.
pub(super) struct Syslog {
    settings: settings::Syslog,
    format: Format,
    host: String,
    line: Option<Line>,
    /// What went over the line last, with its frames.
    last: Vec<u8>,
    /// How many datagrams of the batch in hand are sent.
    sent: usize,
}

enum Line {
    Stream(Box<dyn Stream>),
    Datagram(UnixDatagram),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Syslog {
    pub(super) fn new(settings: settings::Syslog, format: Format) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = header(host.trim(), 255);
        Self { settings, format, host, line: None, last: Vec::new(), sent: 0 }
    }

    async fn deliver(&mut self, items: &[Item]) -> Verdict {
        let limit = self.settings.timeout;
        let verdict = match tokio::time::timeout(limit, self.hand_over(items)).await {
            Ok(Ok(())) => return Verdict::Delivered,
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Verdict::failed("tls", error),
            Ok(Err(error)) => Verdict::failed("io", error),
            Err(_) => Verdict::failed("timeout", "the receiver takes nothing"),
        };
        self.line = None;
        verdict
    }

    async fn hand_over(&mut self, items: &[Item]) -> io::Result<()> {
        if let Some(Line::Stream(stream)) = &mut self.line
            && is_over(stream.as_mut()).await
        {
            self.line = None;
        }
        let line = match &mut self.line {
            Some(line) => line,
            None => {
                let mut line = connect(&self.settings).await?;
                if let Line::Stream(stream) = &mut line {
                    stream.write_all(&self.last).await?;
                }
                self.line.insert(line)
            }
        };
        match line {
            Line::Datagram(socket) => {
                for item in items.iter().skip(self.sent) {
                    let message = message(&self.settings, self.format, &self.host, item);
                    send_datagram(socket, &message, item).await?;
                    self.sent = self.sent.saturating_add(1);
                }
                self.sent = 0;
            }
            Line::Stream(stream) => {
                let mut frames = Vec::new();
                for item in items {
                    let message = message(&self.settings, self.format, &self.host, item);
                    frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
                    frames.extend_from_slice(&message);
                }
                stream.write_all(&frames).await?;
                stream.flush().await?;
                self.last = frames;
            }
        }
        Ok(())
    }
}

/// A datagram that the socket has no room for, whatever the config allows, must not hold up all behind it.
async fn send_datagram(socket: &UnixDatagram, message: &[u8], item: &Item) -> io::Result<()> {
    match socket.send(message).await {
        Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
            let head = message.splitn(8, |byte| *byte == b' ').take(7).map(<[u8]>::len).sum::<usize>();
            let mut short = message.get(..head.saturating_add(7)).unwrap_or_default().to_vec();
            short.extend_from_slice(stub(item, &item.head().kind, item.native.len()).as_bytes());
            socket.send(&short).await.map(drop)
        }
        sent => sent.map(drop),
    }
}

/// Whether the other end has closed: it never has anything to say. Waits a moment, since only a waiting runtime hears of
/// what came meanwhile.
async fn is_over(stream: &mut dyn Stream) -> bool {
    let mut said = [0; 64];
    match tokio::time::timeout(LOOK, stream.read(&mut said)).await {
        Ok(Ok(count)) => count == 0,
        Ok(Err(_)) => true,
        Err(_) => false,
    }
}

async fn connect(settings: &settings::Syslog) -> io::Result<Line> {
    match &settings.address {
        Address::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Ok(Line::Datagram(socket))
        }
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Line::Stream(Box::new(stream)))
        }
        Address::Tls { host, port } => {
            let config = tls(&settings.tls).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            Ok(Line::Stream(Box::new(stream)))
        }
    }
}

fn tls(settings: &settings::Tls) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder();
    let builder = match &settings.ca_file {
        None => builder.with_platform_verifier().map_err(|error| format!("{}: {error}", client::NO_ROOTS))?,
        Some(file) => {
            let unusable = |why: &dyn std::fmt::Display| format!("using {}: {why}", file.display());
            let mut roots = RootCertStore::empty();
            for root in certificates(file)? {
                roots.add(root).map_err(|error| unusable(&error))?;
            }
            if roots.is_empty() {
                return Err(unusable(&"there is no certificate in it"));
            }
            builder.with_root_certificates(roots)
        }
    };
    let Some(pair) = &settings.client_cert else { return Ok(builder.with_no_client_auth()) };
    let key = PrivateKeyDer::from_pem_slice(&client::read(&pair.key_file)?)
        .map_err(|error| format!("using {}: {error}", pair.key_file.display()))?;
    builder
        .with_client_auth_cert(certificates(&pair.cert_file)?, key)
        .map_err(|error| format!("using {}: {error}", pair.cert_file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(&client::read(file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("using {}: {error}", file.display()))
}

/// `<PRI>1 TIME HOST APP PID TYPE - EVENT` (RFC 5424 section 6).
fn message(settings: &settings::Syslog, format: Format, host: &str, item: &Item) -> Vec<u8> {
    let head = item.head();
    let severity: u8 = match head.severity {
        0..=12 => 6,
        13..=16 => 4,
        _ => 3,
    };
    let priority = settings.facility.saturating_mul(8).saturating_add(severity);
    let (time, app) = (head.time.as_deref().unwrap_or("-"), &settings.app_name);
    let (pid, kind) = (process::id(), header(&head.kind, 32));
    let mut message = format!("<{priority}>1 {time} {host} {app} {pid} {kind} - ").into_bytes();
    let event = format.render(item);
    if message.len().saturating_add(event.len()) <= settings.max_message {
        message.extend_from_slice(&event);
    } else {
        message.extend_from_slice(stub(item, &head.kind, event.len()).as_bytes());
    }
    message
}

/// What stands for an event that is too long for a message, which is never cut in the middle.
fn stub(item: &Item, kind: &str, size: usize) -> String {
    serde_json::json!({
        "id": item.id(), "orig_size": size, "sha256": hex(&sha256(&item.native)), "truncated": true, "type": kind,
    })
    .to_string()
}

/// A header's text: printable ASCII, no spaces, `-` for nothing.
fn header(text: &str, most: usize) -> String {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

impl Outlet for Syslog {
    fn send<'a>(&'a mut self, items: &'a [Item]) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        Box::pin(self.deliver(items))
    }

    fn pace(&self) -> Pace {
        Pace { gather: Duration::from_millis(200), ..Pace::REMOTE }
    }
}
