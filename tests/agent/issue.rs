//! Keys that a provider mints, over processes that die at each step and answers that are lost: never more than two of them.
#![expect(clippy::indexing_slicing, reason = "an answer without the field is a failed test")]

use crate::{
    rotation::Scene,
    support::deaths::{at_each_call, dies, either},
};
use claviger::{
    name::UpstreamName,
    rotation::{
        Kind,
        fact::{Act as Did, Failure},
        generate::{Generate, Source},
        issue::Issue,
        system::{
            Answered, Ask, Order, Provided, Said, System, Unknown,
            http::Template,
            provider::{Call, Provider, Reply},
        },
    },
    secret::SecretValue,
};
use devvault::Fault;
use http::Method;
use std::{
    collections::BTreeMap,
    future,
    sync::{Arc, Mutex},
};
use tokio::{sync::Notify, time::sleep};

/// What happens to one call of the provider.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mishap {
    /// It never arrives, and its caller waits.
    HangsBefore,
    /// It is done, and its caller waits for the answer.
    HangsAfter,
    /// It is done, and its caller hears that nobody knows.
    AnswerLost,
}

/// A provider that has two keys at most.
#[derive(Default)]
struct Mint {
    inner: Mutex<Inner>,
    hit: Notify,
}

#[derive(Default)]
struct Inner {
    /// By its name: the value and the label.
    keys: BTreeMap<String, (String, String)>,
    made: usize,
    mishap: Option<(usize, Mishap)>,
    calls: usize,
    /// It refused, since there were two.
    full: usize,
}

impl Mint {
    fn new() -> Arc<Self> {
        let mint = Self::default();
        mint.inner.lock().unwrap().keys.insert("k0".into(), ("first".into(), "by hand".into()));
        Arc::new(mint)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap())
    }

    fn values(&self) -> Vec<String> {
        self.with(|inner| inner.keys.values().map(|(value, _)| value.clone()).collect())
    }

    /// Does `act` as the next call, unless something happens to it.
    async fn call<T>(&self, order: &Order<'_>, act: impl FnOnce(&mut Inner) -> T) -> Result<T, Unknown> {
        let (done, mishap) = self.with(|inner| {
            let mishap = inner.mishap.filter(|(at, _)| *at == inner.calls).map(|(_, mishap)| mishap);
            inner.calls += 1;
            ((mishap != Some(Mishap::HangsBefore)).then(|| act(inner)), mishap)
        });
        match (done, mishap) {
            (Some(done), None) => Ok(done),
            (_, Some(Mishap::AnswerLost)) => Err(Unknown::of(order, "lost")),
            _ => {
                self.hit.notify_one();
                future::pending().await
            }
        }
    }
}

impl Ask for Mint {
    fn ask<'a>(&'a self, _: &'a System, order: Order<'a>) -> Answered<'a> {
        Box::pin(async move {
            let works =
                |inner: &mut Inner| inner.keys.values().any(|(value, _)| value == order.value.expose());
            Ok(if self.call(&order, works).await? { Said::Done } else { Said::Refused })
        })
    }

    fn provide<'a>(&'a self, _: &'a Provider, run: Order<'a>, call: Call<'a>) -> Provided<'a> {
        Box::pin(async move {
            self.call(&run, |inner| match call {
                Call::Mint if inner.keys.len() >= 2 => {
                    inner.full += 1;
                    Reply::Refused
                }
                Call::Mint => {
                    inner.made += 1;
                    let (id, value) = (format!("k{}", inner.made), format!("value-{}", inner.made));
                    inner.keys.insert(id.clone(), (value.clone(), run.id.to_owned()));
                    Reply::Minted { id, value: SecretValue::new(value) }
                }
                Call::List => {
                    let ours = inner.keys.iter().filter(|(_, (_, label))| label == run.id);
                    Reply::Listed(ours.map(|(id, _)| id.clone()).collect())
                }
                Call::Delete(id) => {
                    inner.keys.remove(id);
                    Reply::Done
                }
            })
            .await
        })
    }
}

fn issue() -> Kind {
    let template = || Template {
        method: Method::GET,
        path: "/".into(),
        headers: Vec::new(),
        body: None,
        expect: vec![200],
        refused: vec![401],
    };
    let source = Source::Characters { length: 40, alphabet: String::new() };
    Kind::Issue(Box::new(Issue {
        consumer: Generate { path: "secret/webhook".into(), field: "key".into(), source },
        id_field: "key_id".into(),
        cycles: 3,
        probe: std::time::Duration::ZERO,
        provider: Provider {
            upstream: UpstreamName::new("vendor").unwrap(),
            label: "{id}".into(),
            mint: template(),
            minted_id: "/id".into(),
            minted_value: "/value".into(),
            list: template(),
            items: String::new(),
            item_id: "/id".into(),
            item_label: "/label".into(),
            delete: template(),
            test: template(),
        },
    }))
}

async fn scene(mint: &Arc<Mint>) -> Scene {
    let scene = Scene::new(issue(), Arc::clone(mint) as Arc<dyn Ask>).await;
    scene.dev.put_kv("secret/webhook", &[("key", "first"), ("key_id", "k0"), ("url", "https://hook")]);
    scene
}

async fn consumer(scene: &Scene) -> String {
    scene.read("secret/data/webhook").await["data"]["key"].as_str().unwrap().to_owned()
}

async fn assert_rotated(scene: &Scene, mint: &Mint, why: &str) {
    assert_eq!(scene.version().await, 3, "{why}");
    let key = consumer(scene).await;
    assert_ne!(key, "first", "{why}");
    assert_eq!(mint.values(), [key], "{why}: the one that consumers read is the only one");
    assert_eq!(mint.with(|inner| inner.full), 0, "{why}: a third key was asked for");
}

#[derive(Clone, Copy, Debug)]
enum At {
    Vault(usize),
    Provider(usize, Mishap),
}

/// Runs it with the process gone there, as often as `deaths` says; gives whether there was such a call.
async fn survives(at: At, deaths: usize) -> bool {
    let mint = Mint::new();
    let mut scene = scene(&mint).await;
    for death in 0..deaths {
        let vault = match at {
            At::Vault(at) => scene.script(at, Fault::Hang),
            At::Provider(at, mishap) => {
                mint.with(|inner| (inner.calls, inner.mishap) = (0, Some((at, mishap))));
                Arc::new(Notify::new())
            }
        };
        let mut replica = scene.start(&format!("replica-{death}"));
        let died = dies(&mut replica, either(&vault, &mint.hit), scene.rested()).await;
        scene.dev.clear_scripts();
        mint.with(|inner| inner.mishap = None);
        let key = consumer(&scene).await;
        assert!(mint.values().contains(&key), "{at:?}: what consumers read is gone");
        if !died {
            // What is left after a death may have fewer calls.
            assert_rotated(&scene, &mint, &format!("{at:?} never came")).await;
            return death > 0;
        }
    }
    let mut last = scene.start("last");
    scene.rested().await;
    last.shutdown().await;
    let why = format!("gone at {at:?}, {deaths} times: {:?}", scene.facts());
    assert_rotated(&scene, &mint, &why).await;
    true
}

async fn survives_everywhere(deaths: usize) {
    assert!(at_each_call(async |at| survives(At::Vault(at), deaths).await).await > 6);
    for mishap in [Mishap::HangsBefore, Mishap::HangsAfter] {
        assert!(at_each_call(async |at| survives(At::Provider(at, mishap), deaths).await).await >= 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_anywhere_leaves_one_key_and_never_made_a_third() {
    survives_everywhere(1).await;
}

#[tokio::test(start_paused = true)]
async fn processes_that_die_twice_anywhere_leave_one_key_and_never_made_a_third() {
    survives_everywhere(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_value_was_lost_with_its_answer_is_deleted_and_another_minted() {
    let mint = Mint::new();
    // The list comes first.
    mint.with(|inner| inner.mishap = Some((1, Mishap::AnswerLost)));
    let mut scene = scene(&mint).await;
    let mut replica = scene.start("only");
    scene.rested().await;
    replica.shutdown().await;
    assert_rotated(&scene, &mint, "lost").await;
    assert_eq!((mint.with(|inner| inner.made), consumer(&scene).await.as_str()), (2, "value-2"));
    let facts = scene.facts();
    assert!(facts.contains(&Did::Failed(Failure::Target)), "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn where_the_provider_has_its_limit_a_person_must_look_and_what_is_read_works() {
    let mint = Mint::new();
    mint.with(|inner| inner.keys.insert("k9".into(), ("other".into(), "by hand".into())));
    let scene = scene(&mint).await;
    let mut replica = scene.start("only");
    loop {
        let journal = scene.read("secret/data/rotation/webhook").await["data"]["journal"].clone();
        if journal["phase"] == "orphaned" {
            break;
        }
        sleep(std::time::Duration::from_millis(100)).await;
    }
    replica.shutdown().await;
    assert_eq!((mint.with(|inner| inner.full), consumer(&scene).await.as_str()), (3, "first"));
    assert_eq!(mint.values(), ["first", "other"]);
}
