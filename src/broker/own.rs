//! Calls of an upstream that no workload asked for: a rotation's, of what it rotates there.
//!
//! The same connections, the same trust and the same key as a workload's calls. Does not decide who may call, and what comes
//! back goes to nobody: no answer is scrubbed here.

use super::{
    Broker,
    fault::Fault,
    inject::{self, Slot, sigv4},
    upstream::outgoing::{Outgoing, Sent},
};
use crate::{clock, keeper::value::Value, name::UpstreamName};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};

/// The largest answer that is read, in bytes.
const LARGEST: usize = 1024 * 1024;

/// A request.
pub struct Own {
    /// The method.
    pub method: Method,
    /// Below the upstream's base, from its first slash on.
    pub path: String,
    /// Beside the key's and those that frame the message.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Option<Bytes>,
}

/// Which key is attached.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// The upstream's, of this value of its secret.
    Of(&'a Value),
    /// None.
    None,
}

impl Broker {
    /// Sends `own` to `upstream` once, and gives status and body of the answer.
    ///
    /// # Errors
    /// [`Fault`]: whether the upstream has done it is then not known, unless the fault says that nothing was sent.
    pub async fn call_own(
        &self,
        upstream: &UpstreamName,
        own: Own,
        key: Key<'_>,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let upstream = self.upstream(upstream).ok_or(Fault::ConnectFailed)?;
        let settings = &upstream.settings;
        let (path, query) = match own.path.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (own.path, None),
        };
        let path = format!("{}{path}", settings.base.path);
        let plain = || {
            let query = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
            PathAndQuery::try_from(format!("{path}{query}")).map_err(|_| Fault::BadTarget)
        };
        let (mut headers, mut body, mut version) = (own.headers, own.body, "");
        headers.insert(header::HOST, settings.base.authority.clone());
        let mut target = plain()?;
        if let Key::Of(value) = key {
            let material = upstream.material(value)?;
            version = value.tag();
            match &settings.slot {
                Slot::Query(name) => {
                    target = inject::query::attached(&path, query.as_deref(), name, material.text())?;
                }
                Slot::Json(names) => {
                    let bare = body.unwrap_or_else(|| Bytes::from_static(b"{}"));
                    body = Some(inject::body::json(&bare, names, material.text())?);
                }
                Slot::Form(_) => return Err(Fault::BadBody),
                Slot::SigV4(signing) => {
                    let (method, body) = (&own.method, body.as_deref().unwrap_or_default());
                    let request = sigv4::Request { method, target: &target, headers: &headers, body };
                    let keys = material.keys().ok_or(Fault::CredentialUnavailable)?;
                    headers.extend(sigv4::sign(signing, keys, clock::now(), &request)?.headers);
                }
                slot => {
                    if let (Some(name), Some(key)) = (slot.header(), material.header()) {
                        headers.insert(name.clone(), key);
                    }
                }
            }
        }
        let body = body.map_or_else(Outgoing::nothing, Outgoing::whole);
        let mut request = Request::new(body);
        *request.method_mut() = own.method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        let bound = self.bound(&upstream, version, None)?;
        let answered = upstream.pool.send(settings, &bound, request, &Sent::default()).await;
        let answered = answered.map_err(|failed| failed.fault)?;
        let (head, body) = answered.response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|_| Fault::UpstreamAborted)?;
        upstream.pool.give_back(&bound.version, answered.line);
        Ok((head.status, body.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{
            Base, Insecure, Ranges, Settings, Timeouts,
            upstream::{address::Cidr, line::Resolve},
        },
        keeper::Keeper,
        name::SecretName,
    };
    use std::{
        collections::VecDeque,
        future::Future,
        io,
        net::{IpAddr, SocketAddr, UdpSocket},
        pin::Pin,
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinSet,
    };

    /// A name server whose answer changes from question to question, as that of an attacker does.
    #[derive(Default)]
    struct Changes {
        answers: Mutex<VecDeque<Vec<IpAddr>>>,
        asked: AtomicUsize,
    }

    impl Resolve for Changes {
        fn resolve<'a>(
            &'a self,
            _: &'a str,
            port: u16,
        ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let next = self.answers.lock().unwrap().pop_front().unwrap_or_default();
            Box::pin(async move { Ok(next.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()) })
        }
    }

    /// What came on each connection; each gets one answer, and ends with it.
    struct Server {
        address: SocketAddr,
        seen: Arc<Mutex<Vec<String>>>,
        _tasks: JoinSet<()>,
    }

    impl Server {
        async fn start(ip: IpAddr) -> Self {
            let listener = TcpListener::bind((ip, 0)).await.unwrap();
            let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
            let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&seen));
            tasks.spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut read = Vec::new();
                    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
                        if stream.read_buf(&mut read).await.unwrap() == 0 {
                            break;
                        }
                    }
                    shared.lock().unwrap().push(String::from_utf8(read).unwrap());
                    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
                    stream.write_all(answer).await.unwrap();
                }
            });
            Self { address, seen, _tasks: tasks }
        }

        fn seen(&self) -> Vec<String> {
            self.seen.lock().unwrap().clone()
        }
    }

    fn settings(url: &str, slot: Slot, allowed: IpAddr) -> Settings {
        Settings {
            name: UpstreamName::new("api").unwrap(),
            base: Base::parse(url, Insecure::Allowed).unwrap(),
            secret: SecretName::new("key").unwrap(),
            slot,
            client_cert: None,
            ca_file: None,
            pins: Vec::new(),
            allow_cidrs: vec![Cidr::parse(&allowed.to_string()).unwrap()],
            allow_headers: None,
            ranges: Ranges::Denied,
            oddities: Vec::new(),
            max_request: 0,
            max_response: None,
            timeouts: Timeouts { connect: Duration::from_secs(1), ..Timeouts::default() },
            decode: Vec::new(),
        }
    }

    async fn call(broker: &Broker, key: Key<'_>) -> Result<Bytes, Fault> {
        let (method, path, headers) = (Method::GET, "/a?x=1&b".to_owned(), HeaderMap::new());
        let own = Own { method, path, headers, body: None };
        let called = broker.call_own(&UpstreamName::new("api").unwrap(), own, key).await;
        called.map(|(status, body)| {
            assert_eq!(status, 200);
            body
        })
    }

    /// One of this machine's own addresses that a name may lead to: not its loopback.
    fn reachable() -> Option<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        // Nothing is sent: the kernel only says from where it would be.
        socket.connect("198.51.100.1:9").ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
    }

    #[tokio::test]
    async fn a_name_that_is_rebound_between_two_calls_is_not_followed_inside() {
        let inside = |text: &str| text.parse::<IpAddr>().unwrap();
        // On a machine without a network, an address at which nobody is: it is dialled all the same.
        let own = reachable();
        let outside = own.unwrap_or_else(|| inside("192.0.2.1"));
        let server = Server::start(own.unwrap_or_else(|| inside("127.0.0.1"))).await;
        let resolver = Arc::new(Changes::default());
        resolver.answers.lock().unwrap().extend([
            vec![outside],
            vec![inside("169.254.169.254")],
            vec![outside, inside("169.254.169.254")],
            vec![inside("64:ff9b::a9fe:a9fe")],
            vec![inside("127.0.0.1")],
            vec![outside],
        ]);
        let url = format!("http://rebound.example:{}", server.address.port());
        let broker = Broker::resolving(Arc::clone(&resolver) as Arc<dyn Resolve>, Keeper::default()).unwrap();
        broker.replace(&[settings(&url, Slot::Query("key".to_owned()), outside)]);
        let good = own.map_or(Err(Fault::ConnectFailed), |_| Ok(Bytes::from_static(b"hi")));
        let mut ends = Vec::new();
        for _ in 0..6 {
            ends.push(call(&broker, Key::None).await);
        }
        let denied = Err(Fault::DnsDenied);
        assert_eq!(ends, [good.clone(), denied.clone(), denied.clone(), denied.clone(), denied, good]);
        // What was tested is what was dialled: the name was asked for once for each connection.
        assert_eq!(resolver.asked.load(Ordering::Relaxed), 6);
        assert_eq!(server.seen().len(), if own.is_some() { 2 } else { 0 });
    }

    #[cfg(feature = "sigv4")]
    mod sigv4 {
        use super::*;
        use crate::{
            crypto::{hex, hmac_sha256, sha256},
            keeper::value::{Content, Value},
            secret::SecretValue,
        };

        const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

        /// The signature of a request without a body, by AWS' own description ("Create a signed AWS API request").
        fn signature(head: &str, names: &str) -> String {
            let header = |name: &str| {
                let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
                lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).unwrap().1.to_owned()
            };
            let headers: String = names.split(';').map(|name| format!("{name}:{}\n", header(name))).collect();
            let canonical = format!("GET\n/a\nb=&x=1\n{headers}\n{names}\n{}", hex(&sha256(b"")));
            let (time, day) = (header("x-amz-date"), &header("x-amz-date")[..8]);
            let scope = format!("{day}/eu-west-1/iam/aws4_request");
            let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&sha256(canonical.as_bytes())));
            let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| {
                hmac_sha256(&key, &[part.as_bytes()]).to_vec()
            });
            hex(&hmac_sha256(&key, &[text.as_bytes()]))
        }

        #[tokio::test]
        async fn a_call_of_our_own_is_signed_for_aws_too() {
            let loopback = "127.0.0.1".parse().unwrap();
            let server = Server::start(loopback).await;
            let (region, service) = ("eu-west-1".to_owned(), "iam".to_owned());
            let payload = inject::sigv4::Payload::Signed;
            let slot = Slot::SigV4(inject::sigv4::Signing { region, service, payload });
            let broker = Broker::new(Keeper::default()).unwrap();
            broker.replace(&[settings(&format!("http://{}", server.address), slot, loopback)]);
            let field = |name: &str, text: &str| (name.to_owned(), SecretValue::new(format!("\"{text}\"")));
            let fields =
                vec![field("access_key_id", "AKIAIOSFODNN7EXAMPLE"), field("secret_access_key", SECRET)];
            let value = Value::for_test("key", 1, Content::Fields(fields));
            call(&broker, Key::Of(&value)).await.unwrap();
            let head = server.seen().pop().unwrap();
            let part = |name: &str| {
                let start = head.find(name).unwrap_or_else(|| panic!("no {name} in {head}")) + name.len();
                head[start..].split([',', '\r']).next().unwrap()
            };
            assert!(part("Credential=").starts_with("AKIAIOSFODNN7EXAMPLE/"), "{head}");
            let names = part("SignedHeaders=");
            assert!(["host", "x-amz-date"].iter().all(|name| names.split(';').any(|found| found == *name)));
            assert_eq!(part("Signature="), signature(&head, names), "{head}");
            assert!(head.starts_with("GET /a?x=1&b HTTP/1.1\r\n") && !head.contains(SECRET), "{head}");
        }
    }
}
