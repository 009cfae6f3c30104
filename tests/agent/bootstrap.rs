//! Our own secret id, rotated by a process that dies at each of its calls to Vault, between two of its files, or whose new secret id
//! is refused: at no moment is there none to log in with.
#![expect(clippy::indexing_slicing, reason = "an answer without the field is a failed test")]

use crate::support::{
    Bench,
    deaths::{at_each_call, dies, fault_at},
};
use bytes::Bytes;
use claviger::{
    approval::Approvals,
    broker::Broker,
    keeper::Keeper,
    name::{IdentityName, RotationName},
    rotation::{
        Kind, Settings,
        bootstrap::{
            Bootstrap,
            file::{Form, SecretIdFile},
        },
        coordination::Coordination,
        desk::Desk,
        fact::{Act, Fact, Failure},
        generate::{Generate, Source},
        lease::Terms,
        phase::Phase,
        schedule::{Policy, Schedule, When},
        standing::Board,
        system::outside::Outside,
        task::{Shared, Task},
    },
    vault::{
        Budget,
        approle::{Role, Wrapping},
        keepalive,
        kv2::Place,
        login::{self, Method, SecretId},
        session::{self, Start},
    },
};
use devvault::{DevVault, Fault, Matcher, RoleSettings};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 3600);
const ROLE: &str = "auth/approle/role/reports";

/// How secret ids come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ways {
    /// Vault makes them, and they come as they are.
    Usual,
    /// We make them; the first one came wrapped, and so do the others.
    Other,
}

struct Scene {
    dev: DevVault,
    bench: Bench,
    /// The hash of what was in the file first.
    first: String,
    login: login::Settings,
    settings: Settings,
    facts: mpsc::UnboundedReceiver<Fact>,
    facts_in: mpsc::UnboundedSender<Fact>,
}

impl Scene {
    /// A run was asked for, and nobody is at work.
    async fn new(ways: Ways) -> Scene {
        let dev = DevVault::new();
        dev.policy("reports", &[("auth/approle/*", &["create", "read", "update", "list"])]);
        let ids = dev.approle("approle", "reports", RoleSettings::policies(&["reports"]).ttl(DAY));
        let budget = Budget { calls_per_second: 1_000_000, burst: 1_000_000 };
        let bench = Bench::with(&[("http://127.0.0.1:8200", &dev)], budget);
        let mut login = bench.approle(&ids);
        let path = bench.folder.path().join("secret_id");
        if let (Ways::Other, Method::AppRole { secret_id, .. }) = (ways, &mut login.method) {
            ask(&dev, "POST", "secret-id/destroy", &json!({"secret_id": ids.secret_id})).await;
            fs::write(&path, dev.wrapped_secret_id("approle", "reports", DAY).unwrap()).unwrap();
            *secret_id = SecretId::Wrapped { file: path.clone(), creation_path: format!("{ROLE}/secret-id") };
        }
        let (facts_in, facts) = mpsc::unbounded_channel();
        let first = hash(&fs::read_to_string(&path).unwrap());
        let scene =
            Scene { settings: settings(ways, path, &bench), dev, bench, first, login, facts, facts_in };
        if ways == Ways::Usual {
            let mut first = scene.start();
            scene.until("a journal", |_| true).await;
            first.shutdown().await;
            scene.desk().ask("a test").await.unwrap();
        }
        scene
    }

    fn desk(&self) -> Desk {
        let (facts, _) = mpsc::unbounded_channel();
        let terms = session::Terms::new(Duration::ZERO, false);
        let (identity, _) =
            keepalive::identity(self.login.clone(), self.bench.vault.clone(), terms, Start::Fresh, facts);
        Desk::new(&self.settings, self.bench.vault.clone(), identity)
    }

    /// A process: its login, and its rotation.
    fn start(&self) -> JoinSet<()> {
        let (told, _) = mpsc::unbounded_channel();
        let terms = session::Terms::new(Duration::ZERO, true);
        let vault = self.bench.vault.clone();
        let (identity, keepalive) =
            keepalive::identity(self.login.clone(), vault.clone(), terms, Start::Fresh, told);
        let keeper = Keeper::default();
        let outside = Outside::new([].into(), Broker::new(keeper.clone()).unwrap(), keeper.clone()).unwrap();
        let shared = Shared {
            vault,
            keeper,
            holder: "process".into(),
            facts: self.facts_in.clone(),
            board: Board::default(),
            outside: Arc::new(outside),
            replica: "process".into(),
            approvals: Approvals::none(),
        };
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(keepalive.run(stop.clone()));
        tasks.spawn(Task::new(self.settings.clone(), identity, shared).run(stop));
        tasks
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bench.folder.path().join(name)
    }

    fn journal(&self) -> Value {
        serde_json::from_slice(&fs::read(self.file("secret_id.rotation")).unwrap()).unwrap()
    }

    /// Whether a login works with what is on the disk: the file, or what the journal has to put there.
    async fn has_login(&self) -> bool {
        let text = fs::read_to_string(self.file("secret_id")).unwrap();
        let mut all = vec![text.trim().trim_start_matches("plain:").to_owned()];
        if self.file("secret_id.rotation").exists() {
            let candidates = self.journal()["journal"]["candidates"].clone();
            all.extend(
                candidates.as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap().to_owned()),
            );
        }
        for secret_id in all.iter().filter(|secret_id| !secret_id.is_empty()) {
            let found = ask(&self.dev, "POST", "secret-id/lookup", &json!({"secret_id": secret_id})).await;
            if !found.is_null() {
                return true;
            }
        }
        false
    }

    /// Waits for the journal, as root and without a call.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let waiting = async {
            while !self.file("secret_id.rotation").exists() || !wanted(&self.journal()["journal"]) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(DAY, waiting).await.is_ok(), "never came: {what}");
    }

    /// The run is over.
    async fn rested(&self) {
        let is_over = |journal: &Value| {
            let is_idle = journal["phase"] == "idle" && journal["asked"].is_null();
            is_idle && journal["own"]["of"] != *self.first
        };
        self.until("an idle journal", is_over).await;
    }

    async fn accessors(&self) -> usize {
        let all = ask(&self.dev, "LIST", "secret-id", &Value::Null).await;
        all["keys"].as_array().map_or(0, Vec::len)
    }

    /// A new secret id is in the file, and it is the only one.
    async fn assert_done(&mut self, before: &str, when: &str) {
        let text = fs::read_to_string(self.file("secret_id")).unwrap();
        assert_ne!(text, before, "{when}");
        assert!(self.has_login().await, "{when}");
        let acts = self.acts();
        assert_eq!(self.accessors().await, 1, "no other one is left, {when}: {acts:?}");
        assert!(!self.journal().to_string().contains(text.trim().trim_start_matches("plain:")), "{when}");
    }

    fn acts(&mut self) -> Vec<Act> {
        std::iter::from_fn(|| self.facts.try_recv().ok()).map(|fact| fact.act).collect()
    }
}

fn settings(ways: Ways, path: PathBuf, bench: &Bench) -> Settings {
    let source = Source::Characters { length: 30, alphabet: "abcdefgh".into() };
    let custom = Generate { path: String::new(), field: String::new(), source };
    let (form, custom, wrapping) = match ways {
        Ways::Usual => (Form::Plain, None, Wrapping::None),
        Ways::Other => (Form::Wrapped, Some(custom), Wrapping::Wrapped),
    };
    let role = Role { mount: "approle".into(), name: "reports".into() };
    Settings {
        name: RotationName::new("own").unwrap(),
        identity: IdentityName::new("reports").unwrap(),
        kind: Kind::Bootstrap(Box::new(Bootstrap {
            path: role.to_string(),
            role,
            role_id_file: bench.folder.path().join("role_id"),
            file: SecretIdFile { path, form },
            custom,
            wrapping,
            cycles: 3,
        })),
        schedule: Schedule {
            when: When::Every(DAY),
            window: DAY,
            jitter: Duration::ZERO,
            missed: Policy::OnceInWindow,
            max_lateness: None,
            max_age: None,
            min_interval: Duration::ZERO,
            blackouts: Vec::new(),
        },
        grace: Duration::ZERO,
        journal: Place { mount: String::new(), path: String::new() },
        coordination: Coordination::Vault,
        consent: None,
        notice: Duration::ZERO,
        wrap: None,
        group: None,
        lease: Terms::of(Duration::from_secs(30)),
        serves: Vec::new(),
        acks: None,
    }
}

fn hash(text: &str) -> String {
    claviger::crypto::hex(&claviger::crypto::sha256(text.trim().as_bytes()))
}

/// The data of an answer below the role, as root.
async fn ask(dev: &DevVault, method: &str, path: &str, body: &Value) -> Value {
    let request = http::Request::builder().method(method).uri(format!("/v1/{ROLE}/{path}"));
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let answer = dev.answer(request.header("x-vault-token", dev.root_token()).body(body).unwrap()).await;
    let json: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    json["data"].clone()
}

/// Rotates with the process gone at call `at`; gives whether there was such a call.
async fn survives(ways: Ways, at: usize, fault: Fault) -> bool {
    let when = format!("{ways:?}, {fault:?} at call {at}");
    let mut scene = Scene::new(ways).await;
    let before = fs::read_to_string(scene.file("secret_id")).unwrap();
    let hit = fault_at(&scene.dev, at, Matcher::any(), fault);
    let mut process = scene.start();
    let died = dies(&mut process, hit.notified(), scene.rested()).await;
    scene.dev.clear_scripts();
    // What came wrapped, and was unwrapped by a process that is gone before it had another one, is nobody's.
    if died && ways == Ways::Other && !scene.has_login().await {
        return true;
    }
    if died {
        assert!(scene.has_login().await, "{when}");
        let mut last = scene.start();
        scene.rested().await;
        last.shutdown().await;
    }
    scene.assert_done(&before, &when).await;
    died
}

async fn survives_everywhere(ways: Ways, fault: fn() -> Fault) {
    let calls = at_each_call(async |at| survives(ways, at, fault()).await).await;
    assert!(calls > 8, "a run has more than {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_at_any_call_of_a_run_has_a_secret_id_and_leaves_no_other() {
    survives_everywhere(Ways::Usual, || Fault::Hang).await;
    survives_everywhere(Ways::Usual, || Fault::LoseAnswer).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_id_that_we_make_and_that_comes_wrapped_survives_each_call_too() {
    survives_everywhere(Ways::Other, || Fault::Hang).await;
    survives_everywhere(Ways::Other, || Fault::LoseAnswer).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_its_two_files_goes_on_from_either() {
    for (phase, has_new) in [
        ("set", false),
        ("set", true),
        ("tested", false),
        ("tested", true),
        ("promoted", true),
        ("grace", true),
    ] {
        let mut scene = Scene::new(Ways::Usual).await;
        let before = fs::read_to_string(scene.file("secret_id")).unwrap();
        // The first login is the start's, the second is the test; with the third the identity moves over.
        let hit = fault_at(&scene.dev, 2, Matcher::login(), Fault::Hang);
        let mut process = scene.start();
        hit.notified().await;
        process.shutdown().await;
        scene.dev.clear_scripts();
        let mut journal = scene.journal();
        assert_eq!(
            journal["journal"]["phase"], "grace",
            "both files are written before anything else is asked"
        );
        journal["journal"]["phase"] = json!(phase);
        if matches!(phase, "set" | "tested") {
            journal["journal"]["after"] = Value::Null;
            journal["journal"]["grace_until"] = Value::Null;
        }
        fs::write(scene.file("secret_id.rotation"), journal.to_string()).unwrap();
        if !has_new {
            fs::write(scene.file("secret_id"), &before).unwrap();
        }
        let when = format!("{phase} {has_new}");
        assert!(scene.has_login().await, "{when}");
        let mut last = scene.start();
        scene.rested().await;
        last.shutdown().await;
        scene.assert_done(&before, &when).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_old_secret_id_has_ended_goes_on_with_the_new_one_of_its_journal() {
    let mut scene = Scene::new(Ways::Usual).await;
    let before = fs::read_to_string(scene.file("secret_id")).unwrap();
    let hit = fault_at(&scene.dev, 1, Matcher::login(), Fault::Hang);
    let mut process = scene.start();
    hit.notified().await;
    process.shutdown().await;
    scene.dev.clear_scripts();
    assert_eq!(scene.journal()["journal"]["phase"], "set");
    ask(&scene.dev, "POST", "secret-id/destroy", &json!({"secret_id": before.trim()})).await;
    let mut last = scene.start();
    scene.rested().await;
    last.shutdown().await;
    scene.assert_done(&before, "the old one had ended").await;
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_id_that_is_refused_is_destroyed_and_the_old_one_stays() {
    for refusals in [1, 2, 3] {
        let mut scene = Scene::new(Ways::Usual).await;
        let before = fs::read_to_string(scene.file("secret_id")).unwrap();
        for _ in 0..refusals {
            let refused = Fault::error(400, "invalid role or secret ID");
            // After the start's own login.
            fault_at(&scene.dev, 1, Matcher::login(), refused.clone());
        }
        let mut process = scene.start();
        let is_orphaned = refusals == 3;
        scene
            .until("an end", |journal| {
                journal["phase"] == if is_orphaned { "orphaned" } else { "idle" }
                    && journal["asked"].is_null()
            })
            .await;
        process.shutdown().await;
        scene.dev.clear_scripts();
        if is_orphaned {
            assert_eq!(fs::read_to_string(scene.file("secret_id")).unwrap(), before);
            assert!(scene.has_login().await);
            assert_eq!(scene.accessors().await, 1);
            let status = scene.desk().status().await.unwrap().unwrap();
            assert_eq!(status.phase, Phase::Orphaned);
            scene.desk().unorphan("alice", None).await.unwrap();
        } else {
            scene.assert_done(&before, &format!("{refusals} refusals")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_id_that_a_person_brings_is_lived_by_and_never_replaced_by_ours() {
    let mut scene = Scene::new(Ways::Usual).await;
    // Brought while a run is at its test.
    let hit = fault_at(&scene.dev, 1, Matcher::login(), Fault::Delay(Duration::from_secs(1)));
    let mut process = scene.start();
    hit.notified().await;
    let brought = scene.dev.secret_id("approle", "reports").unwrap();
    fs::write(scene.file("secret_id"), &brought).unwrap();
    scene.rested().await;
    scene.dev.clear_scripts();
    assert_eq!(fs::read_to_string(scene.file("secret_id")).unwrap(), brought);
    // The journal knows it now, and the next run replaces it.
    let of = |journal: &Value| journal["own"]["of"].clone();
    let hash = hash(&brought);
    scene.until("that it was seen", |journal| of(journal) == *hash).await;
    assert!(scene.acts().contains(&Act::Failed(Failure::Conflict)));
    scene.desk().ask("again").await.unwrap();
    scene.until("a new one", |journal| of(journal) != *hash).await;
    scene.rested().await;
    process.shutdown().await;
    assert_ne!(fs::read_to_string(scene.file("secret_id")).unwrap(), brought);
    // The one that was first is the person's to destroy: they took it out of the file.
    assert_eq!(scene.accessors().await, 2);
}
