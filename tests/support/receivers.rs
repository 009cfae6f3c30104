//! Receivers of audit events, as strict as the public text of their protocol: what breaks a rule is kept and fails the
//! test. They answer by a script.
#![allow(dead_code, clippy::allow_attributes, reason = "not every test binary needs every receiver")]

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    convert::Infallible,
    fs,
    future::pending,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{TcpListener, TcpStream, UnixDatagram},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// One request that came in whole.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Say(u16, &'static str, String),
    /// Nothing, ever; what came is kept all the same.
    Silence,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::Say(status, "", String::new())
    }
}

/// Decides what is answered.
pub(crate) type Rule = Box<dyn FnMut(&Heard) -> Answer + Send>;

/// A receiver that is spoken to over HTTP.
pub(crate) struct HttpReceiver {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

struct State {
    rule: Rule,
    heard: Vec<Heard>,
}

impl HttpReceiver {
    /// Answers by `rule`, over TLS if `tls` is given.
    pub(crate) async fn start(
        tls: Option<TlsAcceptor>,
        rule: impl FnMut(&Heard) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { rule: Box::new(rule), heard: Vec::new() }));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(TokioIo::new(stream), state).await,
                        // Whoever fails the handshake was refused: that is for the other end to report.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(TokioIo::new(stream), state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state, _tasks: tasks }
    }

    /// Answers by another rule from now on; requests that wait in silence go on waiting.
    pub(crate) fn obey(&self, rule: impl FnMut(&Heard) -> Answer + Send + 'static) {
        self.state.lock().unwrap().rule = Box::new(rule);
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.state.lock().unwrap().heard.clone()
    }

    /// The ids of all events that came as lines of JSON, in the order of their coming.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.heard().iter().flat_map(|heard| ids_of_lines(&heard.body)).collect()
    }
}

/// The ids of events that stand one in a line, each of which must be whole.
pub(crate) fn ids_of_lines(body: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(body).unwrap();
    assert!(text.ends_with('\n'), "a torn line");
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

async fn serve<S>(stream: TokioIo<S>, state: Arc<Mutex<State>>)
where
    S: AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (head, body) = request.into_parts();
            assert_eq!(head.method, "POST");
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            let heard = Heard { path: head.uri.to_string(), headers: head.headers, body };
            let answer = {
                let mut state = state.lock().unwrap();
                let answer = (state.rule)(&heard);
                state.heard.push(heard);
                answer
            };
            let Answer::Say(status, header, text) = answer else { return pending().await };
            let mut response = Response::builder().status(status);
            if let Some((name, value)) = header.split_once(": ") {
                response = response.header(name, value);
            }
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(text))).unwrap())
        }
    });
    // A sink that hangs up is no fault of this end.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
}

/// What a strict syslog receiver took apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) priority: u8,
    pub(crate) time: String,
    pub(crate) host: String,
    pub(crate) app: String,
    pub(crate) pid: String,
    pub(crate) id: String,
    pub(crate) text: String,
}

/// Takes one message of RFC 5424 apart, by the grammar of its section 6; panics where it is none.
pub(crate) fn rfc5424(bytes: &[u8]) -> Message {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, rest) = text.strip_prefix('<').unwrap().split_once('>').unwrap();
    let priority: u8 = head.parse().unwrap();
    assert!(priority <= 191 && head == priority.to_string(), "{text}");
    let mut fields = rest.splitn(8, ' ');
    let mut field = |most: usize| {
        let field = fields.next().unwrap().to_owned();
        assert!((1..=most).contains(&field.len()) && field.bytes().all(|b| b.is_ascii_graphic()), "{text}");
        field
    };
    assert_eq!(field(3), "1");
    let time = field(32);
    assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{text}");
    // At most six digits of a second.
    assert!(time.split('.').nth(1).is_none_or(|part| part.len() <= 7), "{text}");
    let (host, app, pid, id, data) = (field(255), field(48), field(128), field(32), field(1));
    assert_eq!(data, "-");
    Message { priority, time, host, app, pid, id, text: fields.next().unwrap_or_default().to_owned() }
}

/// A syslog receiver on TCP: octet counting (RFC 6587 section 3.4.1), with or without TLS.
pub(crate) struct SyslogReceiver {
    pub(crate) address: SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
    cut: Arc<tokio::sync::Notify>,
    _tasks: JoinSet<()>,
}

impl SyslogReceiver {
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (messages, cut): (Arc<Mutex<Vec<Message>>>, _) =
            (Arc::default(), Arc::new(tokio::sync::Notify::new()));
        let mut tasks = JoinSet::new();
        let (shared, cutting) = (Arc::clone(&messages), Arc::clone(&cut));
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let take = take(stream, tls.clone(), Arc::clone(&shared));
                // One connection at a time, as the sink has one.
                tokio::select! {
                    () = take => {}
                    () = cutting.notified() => {}
                }
            }
        });
        Self { address, messages, cut, _tasks: tasks }
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    /// Ends the connection of now.
    pub(crate) fn cut(&self) {
        self.cut.notify_one();
    }
}

async fn take(stream: TcpStream, tls: Option<TlsAcceptor>, messages: Arc<Mutex<Vec<Message>>>) {
    match tls {
        None => frames(stream, messages).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                frames(stream, messages).await;
            }
        }
    }
}

/// `LENGTH SP MESSAGE`, again and again; a frame that breaks off is not kept.
async fn frames(mut stream: impl AsyncRead + Unpin, messages: Arc<Mutex<Vec<Message>>>) {
    let mut bytes: VecDeque<u8> = VecDeque::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
            let digits: String = bytes.iter().take(space).map(|byte| char::from(*byte)).collect();
            assert!(digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0'), "{digits}");
            let length: usize = digits.parse().unwrap();
            if bytes.len() < space + 1 + length {
                break;
            }
            bytes.drain(..=space);
            let message: Vec<u8> = bytes.drain(..length).collect();
            messages.lock().unwrap().push(rfc5424(&message));
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend(&chunk[..count]),
        }
    }
}

/// A syslog receiver on a datagram socket.
pub(crate) struct DatagramReceiver {
    messages: Arc<Mutex<Vec<Message>>>,
    _tasks: JoinSet<()>,
}

impl DatagramReceiver {
    pub(crate) fn start(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let messages: Arc<Mutex<Vec<Message>>> = Arc::default();
        let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&messages));
        tasks.spawn(async move {
            let mut bytes = vec![0; 128 * 1024];
            loop {
                let count = socket.recv(&mut bytes).await.unwrap();
                shared.lock().unwrap().push(rfc5424(&bytes[..count]));
            }
        });
        Self { messages, _tasks: tasks }
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }
}

/// A CA, a server for `localhost`, and a client; as files in a folder.
pub(crate) struct Pki {
    folder: PathBuf,
}

impl Pki {
    pub(crate) fn new(folder: &Path) -> Self {
        claviger::crypto::install();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (name, host) in [("server", "localhost"), ("client", "claviger")] {
            let key = KeyPair::generate().unwrap();
            let leaf =
                CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            fs::write(folder.join(format!("{name}.pem")), leaf.pem()).unwrap();
            fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A server that wants to see a certificate of this CA.
    pub(crate) fn mutual(&self) -> TlsAcceptor {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder(roots.into()).build().unwrap();
        self.acceptor(ServerConfig::builder().with_client_cert_verifier(verifier))
    }

    /// A server that does not ask who comes.
    pub(crate) fn plain(&self) -> TlsAcceptor {
        self.acceptor(ServerConfig::builder().with_no_client_auth())
    }

    fn acceptor(
        &self,
        builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    ) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(self.file("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.file("server.key")).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()))
    }
}
