//! An API that wants a key, and a program that calls it through the agent without having one.
//!
//! The API is a stand-in on loopback with a certificate of its own; it says which key came, so that the reader sees what becomes
//! of that on the way back.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::Arc,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

/// The listening stand-in; it ends when dropped.
pub(crate) struct Upstream {
    /// Where it listens: loopback.
    pub(crate) address: SocketAddr,
    /// The CA that its certificate is of.
    pub(crate) ca: String,
    _tasks: JoinSet<()>,
}

/// Listens on a free port of the loopback interface.
pub(crate) async fn start() -> Result<Upstream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listening for the stand-in API")?;
    let address = listener.local_addr()?;
    let (ca, config) = certify().context("making a certificate for the stand-in API")?;
    let tls = TlsAcceptor::from(Arc::new(config));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            connections.spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(Upstream { address, ca, _tasks: tasks })
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let key = request.headers().get(header::AUTHORIZATION).and_then(|key| key.to_str().ok());
    let key = key.unwrap_or("none at all");
    let body = format!("{{\"did\":\"{} {}\",\"authorization\":\"{key}\"}}", request.method(), request.uri());
    Response::new(Full::new(Bytes::from(body)))
}

fn certify() -> Result<(String, ServerConfig)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key)?;
    Ok((ca, config))
}

/// What the calling program does: posts to `path` over `socket`, and prints the answer's body.
pub(crate) fn call(socket: &str, path: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("connecting to the socket")?;
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{text}");
    std::io::stdout().write_all(body.as_bytes())?;
    Ok(())
}
