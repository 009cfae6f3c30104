//! An HTTPS server on loopback with a CA of its own. It keeps every byte that it is sent, and says what a test wants, byte by byte.
//!
//! Understands just enough of HTTP to find the end of a request.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) raw_head: String,
}

impl Seen {
    /// The only header of this name; a second one fails the test.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found =
            self.headers.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let first = found.next();
        assert_eq!(found.next(), None, "two headers {name}: {}", self.raw_head);
        first
    }
}

/// What the server does next.
pub(crate) enum Step {
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Waits until the test lets it go on.
    Wait(Arc<Semaphore>),
    /// Cuts the connection.
    Cut,
    /// As many times this piece.
    Repeat(Vec<u8>, usize),
}

/// A whole answer of this body.
pub(crate) fn say(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<Step> {
    let body = body.as_ref();
    let mut head = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    vec![Step::Say([head.as_bytes(), body].concat())]
}

/// Bytes as they are.
pub(crate) fn raw(text: impl AsRef<[u8]>) -> Vec<Step> {
    vec![Step::Say(text.as_ref().to_vec())]
}

type Rule = Box<dyn FnMut(&Seen) -> Vec<Step> + Send>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

struct State {
    rule: Rule,
    seen: Vec<Seen>,
    connections: usize,
    /// Everything that came on any connection after TLS.
    bytes: Vec<u8>,
}

impl Server {
    /// Answers by `rule`; without `tls` in clear.
    pub(crate) async fn start(
        tls: Option<TlsAcceptor>,
        rule: impl FnMut(&Seen) -> Vec<Step> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            rule: Box::new(rule),
            seen: Vec::new(),
            connections: 0,
            bytes: Vec::new(),
        }));
        let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&state));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = stream.set_nodelay(true);
                shared.lock().unwrap().connections += 1;
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state, _tasks: tasks }
    }

    pub(crate) fn obey(&self, rule: impl FnMut(&Seen) -> Vec<Step> + Send + 'static) {
        self.state.lock().unwrap().rule = Box::new(rule);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("no request came")
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// How many bytes came after TLS.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().unwrap().bytes.len()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: &Mutex<State>) {
    let mut read = Vec::new();
    while let Some(seen) = request(&mut stream, &mut read, state).await {
        let steps = {
            let mut state = state.lock().unwrap();
            let steps = (state.rule)(&seen);
            state.seen.push(seen);
            steps
        };
        for step in steps {
            let done = match step {
                Step::Say(bytes) => put(&mut stream, &bytes).await,
                Step::Wait(gate) => {
                    gate.acquire().await.unwrap().forget();
                    true
                }
                Step::Cut => return,
                Step::Repeat(piece, times) => {
                    let mut fine = true;
                    for _ in 0..times {
                        fine = fine && put(&mut stream, &piece).await;
                    }
                    fine
                }
            };
            if !done {
                return;
            }
        }
    }
}

async fn put<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, read: &mut Vec<u8>, state: &Mutex<State>) -> Option<()> {
    let before = read.len();
    let count = stream.read_buf(read).await.ok()?;
    state.lock().unwrap().bytes.extend(&read[before..]);
    (count > 0).then_some(())
}

async fn request<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
    state: &Mutex<State>,
) -> Option<Seen> {
    let end = loop {
        match read.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(at) => break at + 4,
            None => more(stream, read, state).await?,
        }
    };
    let raw_head = String::from_utf8(read.drain(..end).collect()).unwrap();
    let mut lines = raw_head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let header =
        |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    let headers: Vec<(String, String)> = lines.filter_map(header).collect();
    let of = |name: &str| headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if of("transfer-encoding").is_some() {
        loop {
            let line = loop {
                match read.windows(2).position(|two| two == b"\r\n") {
                    Some(at) => break at,
                    None => more(stream, read, state).await?,
                }
            };
            let size = usize::from_str_radix(std::str::from_utf8(&read[..line]).unwrap(), 16).unwrap();
            while read.len() < line + 2 + size + 2 {
                more(stream, read, state).await?;
            }
            body.extend(&read[line + 2..line + 2 + size]);
            read.drain(..line + 2 + size + 2);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = of("content-length") {
        let length: usize = length.parse().unwrap();
        while read.len() < length {
            more(stream, read, state).await?;
        }
        body = read.drain(..length).collect();
    }
    Some(Seen { method, target, headers, body, raw_head })
}

/// A CA, and a server's certificate for each of these names, as files in a folder.
pub(crate) fn certify(folder: &Path, names: &[(&str, &str)]) {
    claviger::crypto::install();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for (name, host) in names {
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(vec![(*host).to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(folder.join(format!("{name}.pem")), leaf.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Serves with a certificate of [`certify`].
pub(crate) fn acceptor(folder: &Path, name: &str) -> TlsAcceptor {
    acceptor_of(folder, name, &[])
}

/// The same, for clients that offer one of these protocols.
pub(crate) fn acceptor_of(folder: &Path, name: &str, protocols: &[&str]) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}
