//! A rotation whose replicas are coordinated by a Lease, and an API server that fails on purpose. What a real one does is in the
//! suite `kube`.
#![expect(clippy::indexing_slicing, reason = "an answer without the field is a failed test")]

use crate::rotation::{Scene, generate, nothing_outside};
use bytes::Bytes;
use claviger::{
    crypto,
    rotation::{
        coordination::Coordination,
        fact::{Act, Failure},
        kubernetes::{Settings, Trouble},
        lease::Terms,
        phase::Phase,
    },
};
use devvault::{Fault as VaultFault, Matcher, Times};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    fs,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tokio_rustls::TlsAcceptor;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// It is refused so, and nothing is done.
    Status(u16),
    /// It is done, and no answer comes.
    LoseAnswer,
    /// Somebody deletes the Lease just before.
    Delete,
    /// Somebody writes a label into it just before.
    Label,
    /// Somebody else, who has it, renews it just before.
    Others,
}

/// Decides it, by the request's number, its method and its token.
type Script = Box<dyn FnMut(usize, &Method, &str) -> Fault + Send>;

struct State {
    lease: Option<Value>,
    version: u64,
    calls: usize,
    script: Script,
}

/// One Lease, behind TLS.
struct ApiServer {
    state: Arc<Mutex<State>>,
    folder: tempfile::TempDir,
    url: String,
    _tasks: JoinSet<()>,
}

impl ApiServer {
    async fn start() -> Self {
        crypto::install();
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(folder.path().join("ca.crt"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let script: Script = Box::new(|_, _, _| Fault::None);
        let state = Arc::new(Mutex::new(State { lease: None, version: 0, calls: 0, script }));
        let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&state));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { state, folder, url, _tasks: tasks }
    }

    fn obey(&self, script: impl FnMut(usize, &Method, &str) -> Fault + Send + 'static) {
        let mut state = self.state.lock().unwrap();
        (state.calls, state.script) = (0, Box::new(script));
    }

    /// How often it was called since it obeys what it does.
    fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }

    fn lease(&self) -> Value {
        self.state.lock().unwrap().lease.clone().unwrap_or_default()
    }

    /// As a replica's config says it, which has this token.
    fn coordination(&self, token: &str) -> Coordination {
        let token_file = self.folder.path().join(token);
        fs::write(&token_file, token).unwrap();
        Coordination::Kubernetes(Box::new(Settings {
            namespace: "team-a".into(),
            lease: "rot-webhook".into(),
            server: self.url.parse().unwrap(),
            ca_file: self.folder.path().join("ca.crt"),
            token_file,
        }))
    }

    /// A rotation, and a run of it that was asked for.
    async fn scene(&self, lease: Terms) -> Scene {
        Scene::coordinated(generate(), nothing_outside(), lease, self.coordination("a")).await
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let token = head.headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    let (fault, (status, json)) = {
        let mut state = state.lock().unwrap();
        let number = state.calls;
        state.calls += 1;
        let fault = (state.script)(number, &head.method, &token);
        (fault, state.take(fault, &head.method, head.uri.path(), &body))
    };
    if fault == Fault::LoseAnswer {
        pending::<()>().await;
    }
    let mut answer = Response::new(Full::new(Bytes::from(json.to_string())));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(answer)
}

impl State {
    fn take(&mut self, fault: Fault, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        assert!(path.starts_with("/apis/coordination.k8s.io/v1/namespaces/team-a/leases"), "{path}");
        match (fault, &mut self.lease) {
            (Fault::Status(status), _) => return (status, json!({"kind": "Status", "message": "as told"})),
            (Fault::Delete, lease) => *lease = None,
            (Fault::Label, Some(lease)) => {
                self.version += 1;
                lease["metadata"]["labels"] = json!({"written": self.version.to_string()});
                lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
            }
            (Fault::Others, lease) => {
                self.version += 1;
                *lease = Some(json!({
                    "kind": "Lease",
                    "metadata": {"name": "rot-webhook", "resourceVersion": self.version.to_string()},
                    "spec": {"holderIdentity": "somebody", "renewTime": self.version.to_string()},
                }));
            }
            _ => {}
        }
        let sent = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let current = self.lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
        match (method.as_str(), current) {
            ("GET", Some(_)) => (200, self.lease.clone().unwrap()),
            ("GET" | "PUT", None) => (404, json!({"kind": "Status", "message": "not found"})),
            ("PUT", Some(current)) if sent["metadata"]["resourceVersion"] == current => self.keep(sent, 200),
            ("POST", None) => {
                assert_eq!(
                    sent["metadata"].get("resourceVersion"),
                    None,
                    "it must not be set on objects to be created"
                );
                self.keep(sent, 201)
            }
            _ => (409, json!({"kind": "Status", "message": "conflict"})),
        }
    }

    fn keep(&mut self, mut lease: Value, status: u16) -> (u16, Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        (status, lease)
    }
}

fn terms() -> Terms {
    Terms::of(Duration::from_secs(3))
}

fn failed(trouble: Trouble) -> impl Fn(&Act) -> bool {
    move |act| *act == Act::Failed(Failure::Lease(trouble))
}

#[tokio::test]
async fn without_the_api_server_no_run_begins_and_with_it_again_one_does() {
    let api = ApiServer::start().await;
    let mut scene = api.scene(terms()).await;
    api.obey(|_, _, _| Fault::Status(503));
    let mut replica = scene.start("only");
    scene.told(failed(Trouble::Away)).await;
    assert_eq!(scene.desk().status().await.unwrap().unwrap().phase, Phase::Idle);
    assert_eq!(scene.version().await, 1);
    api.obey(|_, _, _| Fault::None);
    scene.rested().await;
    assert_eq!(scene.version().await, 2);
    while api.lease()["spec"]["holderIdentity"] != "" {
        sleep(Duration::from_millis(20)).await;
    }
    // As many holders as the journal counts.
    let epoch = scene.read("secret/data/rotation/webhook").await["data"]["journal"]["epoch"].clone();
    assert_eq!(api.lease()["spec"]["leaseTransitions"], epoch);
    replica.shutdown().await;
}

#[tokio::test]
async fn a_token_and_roots_that_change_are_used_from_the_next_request_on() {
    let api = ApiServer::start().await;
    let scene = api.scene(terms()).await;
    let (token, roots) = (api.folder.path().join("a"), api.folder.path().join("ca.crt"));
    let another = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
    let both = fs::read_to_string(&roots).unwrap() + &another.cert.pem();
    api.obey(move |number, _, shown| {
        // As the kubelet does: in place of the file, and not into it.
        if number == 0 {
            for (file, text) in [(&token, "b\n"), (&roots, both.as_str())] {
                fs::write(file.with_extension("new"), text).unwrap();
                fs::rename(file.with_extension("new"), file).unwrap();
            }
        }
        if (number == 0) == (shown == "a") { Fault::None } else { Fault::Status(401) }
    });
    let mut replica = scene.start("only");
    scene.rested().await;
    assert_eq!(scene.version().await, 2);
    replica.shutdown().await;
}

#[tokio::test]
async fn who_may_not_have_the_lease_begins_nothing() {
    let api = ApiServer::start().await;
    for status in [401, 403] {
        let mut scene = api.scene(terms()).await;
        api.obey(move |_, _, _| Fault::Status(status));
        let mut replica = scene.start("only");
        scene.told(failed(Trouble::Denied)).await;
        assert_eq!(scene.version().await, 1);
        replica.shutdown().await;
    }
}

/// Runs it with `fault` at each of its requests in turn; gives how many there are.
async fn survives(fault: Fault) -> usize {
    let mut at = 0;
    loop {
        let api = ApiServer::start().await;
        let mut scene = api.scene(Terms { call: Duration::from_millis(300), ..terms() }).await;
        api.obey(move |number, _, _| if number == at { fault } else { Fault::None });
        let mut replica = scene.start("only");
        scene.rested().await;
        // One that is deleted is nobody's either.
        while !matches!(api.lease()["spec"]["holderIdentity"].as_str(), None | Some("")) {
            sleep(Duration::from_millis(20)).await;
        }
        replica.shutdown().await;
        let acts = scene.facts();
        assert_eq!(scene.version().await, 2, "{fault:?} {at}: {acts:?}");
        let promotions = acts.iter().filter(|act| **act == Act::Promoted);
        assert_eq!(promotions.count(), 1, "{fault:?} {at}: {acts:?}");
        if api.calls() <= at {
            return at;
        }
        at += 1;
    }
}

#[tokio::test]
async fn whatever_happens_to_one_request_there_is_one_new_value_and_the_lease_is_given_back() {
    let (lost, failed, conflict, deleted, written) = tokio::join!(
        survives(Fault::LoseAnswer),
        survives(Fault::Status(500)),
        survives(Fault::Status(409)),
        survives(Fault::Delete),
        survives(Fault::Label),
    );
    // A run reads, takes and gives back.
    assert!([lost, failed, conflict, deleted, written].iter().all(|calls| *calls >= 3));
}

#[tokio::test]
async fn a_holder_that_cannot_renew_stops_and_another_goes_on_after_its_lease() {
    let api = ApiServer::start().await;
    let mut scene = api.scene(terms()).await;
    // The promotion does not come through, until the first holder is past its lease.
    scene.dev.script(
        Matcher::path("secret/data/webhook").method("POST"),
        VaultFault::error(503, "away"),
        Times::Always,
    );
    let mut first = scene.start("first");
    scene.told(|act| *act == Act::Started).await;
    api.obey(|_, _, token| if token == "a" { Fault::Status(503) } else { Fault::None });
    let mut second = scene.start_with("second", api.coordination("b"));
    // Whichever comes first: the one tries again when it likes, the other goes on when the lease is over.
    let (mut stopped, mut taken_over) = (false, false);
    while !(stopped && taken_over) {
        let act = scene.told(|_| true).await;
        stopped |= failed(Trouble::Away)(&act);
        taken_over |= act == Act::TakenOver;
    }
    assert_eq!(scene.version().await, 1, "neither came through");
    scene.dev.clear_scripts();
    // It finds out that it is no longer its turn.
    api.obey(|_, _, _| Fault::None);
    scene.told(|act| *act == Act::Promoted).await;
    scene.rested().await;
    assert_eq!(scene.version().await, 2);
    first.shutdown().await;
    second.shutdown().await;
    assert!(!scene.facts().contains(&Act::Promoted), "one promotion");
}

#[tokio::test]
async fn a_lease_that_somebody_else_uses_is_told_of() {
    let api = ApiServer::start().await;
    let lease = Terms { ttl: Duration::from_millis(300), call: Duration::from_millis(200) };
    let mut scene = api.scene(lease).await;
    api.obey(|_, _, _| Fault::Others);
    let mut replica = scene.start("only");
    scene.told(failed(Trouble::Held)).await;
    assert_eq!(scene.version().await, 1);
    replica.shutdown().await;
}

#[tokio::test]
async fn a_replica_that_is_coordinated_otherwise_refuses_until_a_person_says_so() {
    let api = ApiServer::start().await;
    let mut scene = api.scene(terms()).await;
    let mut other = scene.start_with("other", Coordination::Vault);
    scene.told(|act| *act == Act::Failed(Failure::Journal)).await;
    assert_eq!(scene.version().await, 1);
    other.shutdown().await;
    scene.desk_with(Coordination::Vault).coordinate().await.unwrap();
    let error = scene.desk().status().await.unwrap_err().to_string();
    for words in ["coordination: vault", "kubernetes (team-a/rot-webhook)", "claviger rotation coordinate"] {
        assert!(error.contains(words), "{error}");
    }
    let mut other = scene.start_with("other", Coordination::Vault);
    scene.told(|act| *act == Act::Promoted).await;
    assert_eq!(api.calls(), 0, "nobody asks for a Lease");
    other.shutdown().await;
}
