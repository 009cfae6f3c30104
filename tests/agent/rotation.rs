//! A rotation whose process dies, or whose answers are lost, at each of its calls to Vault.
#![expect(clippy::indexing_slicing, reason = "an answer without the field is a failed test")]

use crate::support::{
    Bench,
    bench::until,
    deaths::{at_each_call, dies, fault_at},
};
use claviger::{
    approval::Approvals,
    keeper::Keeper,
    name::{IdentityName, RotationName},
    rotation::{
        Kind, Settings,
        coordination::Coordination,
        desk::Desk,
        fact::{Act, Fact},
        generate::{Generate, Source},
        lease::Terms,
        schedule::{Policy, Schedule, When},
        standing::Board,
        system::{
            Answered, Ask, Order, Provided, System, Unknown,
            provider::{Call, Provider},
        },
        task::{Shared, Task},
    },
    vault::{
        Budget,
        kv2::Place,
        session::{Identity, State},
    },
};
use devvault::{DevVault, Fault, Matcher, RoleSettings};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A Vault with the secret `webhook`, and an identity that may rotate it.
pub(crate) struct Scene {
    pub(crate) dev: DevVault,
    outside: Arc<dyn Ask>,
    bench: Bench,
    identity: Identity,
    pub(crate) settings: Settings,
    facts: mpsc::UnboundedReceiver<Fact>,
    facts_in: mpsc::UnboundedSender<Fact>,
}

pub(crate) fn generate() -> Kind {
    let source = Source::Characters { length: 20, alphabet: "abc".into() };
    Kind::Generate(Generate { path: "secret/webhook".into(), field: "key".into(), source })
}

/// What no kind of these tests asks.
struct Nothing;

impl Ask for Nothing {
    fn ask<'a>(&'a self, _: &'a System, order: Order<'a>) -> Answered<'a> {
        Box::pin(async move { Err(Unknown::of(&order, "there is nothing outside")) })
    }

    fn provide<'a>(&'a self, _: &'a Provider, run: Order<'a>, _: Call<'a>) -> Provided<'a> {
        Box::pin(async move { Err(Unknown::of(&run, "there is nothing outside")) })
    }
}

pub(crate) fn nothing_outside() -> Arc<dyn Ask> {
    Arc::new(Nothing)
}

impl Scene {
    /// A journal is there, and a run is asked for.
    pub(crate) async fn new(kind: Kind, outside: Arc<dyn Ask>) -> Scene {
        // Leases run by the machine's own clock, which no test can stop: a short one ends soon.
        let lease = Terms { ttl: Duration::from_millis(40), call: Duration::from_millis(10) };
        Scene::coordinated(kind, outside, lease, Coordination::Vault).await
    }

    /// The same, with these leases.
    pub(crate) async fn coordinated(
        kind: Kind,
        outside: Arc<dyn Ask>,
        lease: Terms,
        coordination: Coordination,
    ) -> Scene {
        let dev = DevVault::new();
        dev.mount("secret", devvault::Kind::KvV2);
        dev.put_kv("secret/webhook", &[("key", "first"), ("url", "https://hook"), ("user", "a")]);
        dev.policy("reports", &[("secret/*", &["create", "read", "update"])]);
        let ids = dev.approle("approle", "reports", RoleSettings::policies(&["reports"]).ttl(DAY));
        let budget = Budget { calls_per_second: 1_000_000, burst: 1_000_000 };
        let mut bench = Bench::with(&[("http://127.0.0.1:8200", &dev)], budget);
        let login = bench.approle(&ids);
        let mut identity = bench.identity(login);
        drop(until(&mut identity, |state| matches!(state, State::Live(_))).await);
        let settings = Settings {
            name: RotationName::new("webhook").unwrap(),
            identity: IdentityName::new("reports").unwrap(),
            kind,
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
            journal: Place { mount: "secret".into(), path: "rotation".into() },
            group: None,
            lease,
            coordination,
            serves: Vec::new(),
            acks: None,
            consent: None,
            notice: Duration::ZERO,
            wrap: None,
        };
        let (facts_in, facts) = mpsc::unbounded_channel();
        let scene = Scene { dev, outside, bench, identity, settings, facts, facts_in };
        let mut first = scene.start("first");
        let desk = scene.desk();
        while desk.status().await.unwrap().is_none() {
            sleep(Duration::from_millis(10)).await;
        }
        first.shutdown().await;
        desk.ask("a test").await.unwrap();
        scene
    }

    pub(crate) fn desk(&self) -> Desk {
        self.desk_with(self.settings.coordination.clone())
    }

    /// Of a person whose config says another coordination.
    pub(crate) fn desk_with(&self, coordination: Coordination) -> Desk {
        let settings = Settings { coordination, ..self.settings.clone() };
        Desk::new(&settings, self.bench.vault.clone(), self.identity.clone())
    }

    /// What names the login of all replicas so far, in the calls that Vault has seen.
    pub(crate) fn accessor(&self) -> String {
        let calls = self.dev.calls();
        let ours = calls.iter().rev().filter(|call| call.role.as_deref() == Some("reports"));
        ours.filter_map(|call| call.accessor.clone()).next().unwrap()
    }

    /// Replicas that start from now on have another login.
    pub(crate) async fn log_in_apart(&mut self) {
        let ids = self.dev.approle("approle", "reports", RoleSettings::policies(&["reports"]).ttl(DAY));
        let login = self.bench.approle(&ids);
        self.identity = self.bench.identity(login);
        drop(until(&mut self.identity, |state| matches!(state, State::Live(_))).await);
    }

    /// A replica at work.
    pub(crate) fn start(&self, holder: &str) -> JoinSet<()> {
        self.start_with(holder, self.settings.coordination.clone())
    }

    /// One whose config says another coordination.
    pub(crate) fn start_with(&self, holder: &str, coordination: Coordination) -> JoinSet<()> {
        let shared = Shared {
            vault: self.bench.vault.clone(),
            keeper: Keeper::default(),
            holder: holder.into(),
            facts: self.facts_in.clone(),
            board: Board::default(),
            outside: Arc::clone(&self.outside),
            replica: holder.into(),
            approvals: Approvals::none(),
        };
        let settings = Settings { coordination, ..self.settings.clone() };
        let task = Task::new(settings, self.identity.clone(), shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run(CancellationToken::new()));
        tasks
    }

    /// Does `fault` to call number `at` from now, and tells when it is made.
    pub(crate) fn script(&self, at: usize, fault: Fault) -> Arc<Notify> {
        fault_at(&self.dev, at, Matcher::any().role("reports"), fault)
    }

    /// The run that was asked for is over.
    pub(crate) async fn rested(&self) {
        loop {
            let journal = self.read("secret/data/rotation/webhook").await["data"]["journal"].clone();
            assert_ne!(journal["phase"], "orphaned");
            if journal["phase"] == "idle" && journal["asked"].is_null() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn version(&self) -> u64 {
        self.read("secret/metadata/webhook").await["current_version"].as_u64().unwrap()
    }

    /// As root, whose calls no script is about.
    pub(crate) async fn read(&self, path: &str) -> serde_json::Value {
        let request =
            http::Request::get(format!("/v1/{path}")).header("x-vault-token", self.dev.root_token());
        let answer = self.dev.answer(request.body(bytes::Bytes::new()).unwrap()).await;
        let json: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        json["data"].clone()
    }

    /// Writes the journal anew, as root.
    pub(crate) async fn rewrite(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let path = "secret/data/rotation/webhook";
        let mut read = self.read(path).await;
        change(&mut read["data"]["journal"]);
        let body = serde_json::json!({"options": {"cas": read["metadata"]["version"]}, "data": read["data"]});
        let request =
            http::Request::post(format!("/v1/{path}")).header("x-vault-token", self.dev.root_token());
        let answer = self.dev.answer(request.body(body.to_string().into()).unwrap()).await;
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// The next thing that a replica tells for which `wanted` holds.
    pub(crate) async fn told(&mut self, wanted: impl Fn(&Act) -> bool) -> Act {
        loop {
            let act = self.facts.recv().await.unwrap().act;
            if wanted(&act) {
                return act;
            }
        }
    }

    /// The slot of the next thing of this kind that a replica tells.
    pub(crate) async fn told_of(&mut self, act: Act) -> Option<String> {
        loop {
            let fact = self.facts.recv().await.unwrap();
            if fact.act == act {
                return fact.slot;
            }
        }
    }

    /// The slots of all that was told of this kind.
    pub(crate) fn all_told_of(&mut self, act: Act) -> Vec<Option<String>> {
        let facts = std::iter::from_fn(|| self.facts.try_recv().ok());
        facts.filter(|fact| fact.act == act).map(|fact| fact.slot).collect()
    }

    pub(crate) fn facts(&mut self) -> Vec<Act> {
        std::iter::from_fn(|| self.facts.try_recv().ok()).map(|fact| fact.act).collect()
    }
}

/// Runs it with the process gone at call `at`, as often as `deaths` says; gives whether there was such a call.
async fn survives(kind: Kind, at: usize, deaths: usize) -> bool {
    let mut scene = Scene::new(kind, nothing_outside()).await;
    for death in 0..deaths {
        let hit = scene.script(at, Fault::Hang);
        let mut replica = scene.start(&format!("replica-{death}"));
        let died = dies(&mut replica, hit.notified(), scene.rested()).await;
        scene.dev.clear_scripts();
        if !died {
            assert_eq!(scene.version().await, 2);
            return false;
        }
    }
    let mut last = scene.start("last");
    scene.rested().await;
    last.shutdown().await;
    let acts = scene.facts();
    assert_eq!(scene.version().await, 2, "gone at call {at}: {acts:?}");
    true
}

async fn survives_everywhere(kind: Kind, deaths: usize) {
    let calls = at_each_call(async |at| survives(kind.clone(), at, deaths).await).await;
    assert!(calls > 6, "a run has more than {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_at_any_call_of_a_run_leaves_one_new_value() {
    survives_everywhere(generate(), 1).await;
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_die_at_the_same_call_leave_one_new_value() {
    survives_everywhere(generate(), 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_makes_no_second_value() {
    for at in 0..20 {
        let mut scene = Scene::new(generate(), nothing_outside()).await;
        scene.script(at, Fault::LoseAnswer);
        let mut replica = scene.start("only");
        scene.rested().await;
        replica.shutdown().await;
        let acts = scene.facts();
        assert_eq!(scene.version().await, 2, "lost at call {at}: {acts:?}");
    }
}
