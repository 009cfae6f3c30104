//! Upstreams that speak HTTP/2: the same calls, many over one connection.

use crate::{
    rig::{Plan, Reply, Rig, config},
    server::{Server, acceptor_of, certify, say},
    support::{Scene, VALUE},
};
use http_body_util::BodyExt as _;
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    net::TcpListener,
    sync::{Barrier, Semaphore},
    task::JoinSet,
};

/// A server that speaks HTTP/2 alone.
struct Modern {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

/// A body of one piece, and how it ends.
struct Pieces(Option<Bytes>, End);

/// How a body ends.
enum End {
    Well,
    /// When it is let go on, by an error: the stream is reset.
    Error(Waiting),
    /// Its task dies: the stream is reset as no longer wanted, which a client may take for its end.
    Death(Waiting),
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(piece) = self.0.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.1 {
            End::Well => Poll::Ready(None),
            End::Error(waiting) => {
                waiting.as_mut().poll(context).map(|()| Some(Err(io::Error::other("cut"))))
            }
            End::Death(waiting) => {
                waiting.as_mut().poll(context).map(|()| panic!("this body dies on purpose"))
            }
        }
    }
}

/// Says what it got; `/meet` waits until four are there, `/cut` and `/dead` break off in the middle, when the gate lets them.
async fn answer(
    request: Request<Incoming>,
    meeting: Arc<Barrier>,
    gate: Arc<Semaphore>,
) -> Result<Response<Pieces>, Infallible> {
    let uri = request.uri().clone();
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}", value.to_str().unwrap())
    };
    let headers: Vec<String> = request.headers().iter().map(line).collect();
    let sent = request.into_body().collect().await.unwrap().to_bytes().len();
    let waiting: Waiting = Box::pin(async move { gate.acquire().await.unwrap().forget() });
    let end = match uri.path() {
        "/cut" => End::Error(waiting),
        "/dead" => End::Death(waiting),
        _ => End::Well,
    };
    if uri.path() == "/meet" {
        meeting.wait().await;
    }
    let text = format!("{} {} {sent} {}", uri.authority().unwrap(), uri.path(), headers.join("; "));
    Ok(Response::new(Pieces(Some(text.into()), end)))
}

impl Modern {
    async fn start(folder: &Path) -> Self {
        let tls = acceptor_of(folder, "server", &["h2"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let (mut tasks, count, open) = (JoinSet::new(), Arc::clone(&connections), Arc::clone(&gate));
        tasks.spawn(async move {
            let meeting = Arc::new(Barrier::new(4));
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (tls, meeting, gate) = (tls.clone(), Arc::clone(&meeting), Arc::clone(&open));
                serving.spawn(async move {
                    let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                    let service =
                        service_fn(move |request| answer(request, Arc::clone(&meeting), Arc::clone(&gate)));
                    let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = http2.serve_connection(stream, service).await;
                });
            }
        });
        Self { address, connections, gate, _tasks: tasks }
    }
}

async fn rig() -> (Rig, Modern) {
    let scene = Scene::new().await;
    certify(&scene.path(""), &[("server", "127.0.0.1")]);
    let modern = Modern::start(&scene.path("")).await;
    let server = Server::start(None, |_| say(200, &[], "")).await;
    let mut config = config(&scene, &server, &Plan::default());
    config.rest = config.rest.replace(&server.address.to_string(), &modern.address.to_string());
    let agent = scene.start(&config).await;
    (Rig { scene, server, agent }, modern)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_offers_http2_gets_the_same_call_and_its_answer_is_masked() {
    let (rig, modern) = rig().await;
    let request = "POST /a%3Ab?x=1 HTTP/1.1\r\nhost: evil\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nauthorization: mine\r\n\
                   x-kept: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let mut line = rig.own().await;
    for _ in 0..2 {
        let reply = line.ask(request).await;
        assert_eq!(reply.status, 200);
        let text = reply.text();
        assert!(text.starts_with(&format!("{} /a%3Ab 2 ", modern.address)), "{text}");
        assert!(text.contains("x-kept: 1") && text.contains("Bearer ****"), "{text}");
        for absent in ["host:", "connection:", "x-hop", "transfer-encoding", "mine", VALUE] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
    }
    assert_eq!(modern.connections.load(Ordering::Relaxed), 1);
    let result = rig.events("result", 2).await.remove(0);
    assert_eq!((&result["upstream"]["sent"], &result["upstream"]["status"]), (&2.into(), &200.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_share_one_connection() {
    let (rig, modern) = rig().await;
    rig.get("/first").await;
    let mut lines = Vec::new();
    for _ in 0..4 {
        let mut line = rig.own().await;
        // None of these is answered before all of them are there.
        line.send("GET /meet HTTP/1.1\r\nhost: x\r\n\r\n").await;
        lines.push(line);
    }
    for line in &mut lines {
        assert_eq!(line.head().await.unwrap().0, 200);
    }
    assert_eq!(modern.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_off_is_never_a_clean_end_and_the_connection_goes_on() {
    let (rig, modern) = rig().await;
    for target in ["/cut", "/dead"] {
        let mut line = rig.own().await;
        line.send(format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let (status, head) = line.head().await.unwrap();
        assert_eq!(status, 200);
        modern.gate.add_permits(1);
        assert_eq!(line.body(&mut Reply { status, head, body: Vec::new() }).await, None, "{target}");
    }
    for result in rig.events("result", 2).await {
        assert_eq!(result["upstream"]["end"], "upstream_aborted");
    }
    assert_eq!(rig.get("/after").await.status, 200);
    assert_eq!(modern.connections.load(Ordering::Relaxed), 1);
}
