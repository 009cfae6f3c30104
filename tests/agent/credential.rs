//! The credential of another system's users, over processes that die at each step and answers that are lost.
#![expect(clippy::indexing_slicing, reason = "an answer without the field is a failed test")]

use crate::{
    rotation::Scene,
    support::deaths::{at_each_call, dies, either},
};
use claviger::{
    clock,
    rotation::{
        Kind,
        credential::{Credential, Users},
        fact::{Act as Did, Failure},
        generate::{Generate, Source},
        phase::Orphaned,
        system::{
            Act, Answered, Ask, Order, Provided, Said, System, Unknown,
            exec::Exec,
            provider::{Call, Provider},
        },
    },
};
use devvault::{Fault, Matcher, Times};
use std::{
    collections::BTreeMap,
    future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};

/// What happens to one call of the system.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Mishap {
    /// It never arrives, and its caller waits.
    HangsBefore,
    /// It is done, and its caller waits for the answer.
    HangsAfter,
    /// It is done, and its caller hears that nobody knows.
    AnswerLost,
}

/// A system with users, of which it tells who logs in with what.
#[derive(Default)]
pub(crate) struct Directory {
    inner: Mutex<Inner>,
    pub(crate) hit: Notify,
    go: Notify,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) passwords: BTreeMap<String, String>,
    revoked: Vec<String>,
    pub(crate) mishap: Option<(usize, Mishap)>,
    pub(crate) calls: usize,
    /// Sets that are still refused.
    pub(crate) refusals: usize,
    /// Values that it was told to take.
    told: Vec<String>,
    /// It takes values and lets nobody in.
    is_deaf: bool,
    /// This call waits for a word of the test, and until so much of the machine's time is over.
    gate: Option<(usize, Duration)>,
}

impl Directory {
    pub(crate) fn new() -> Arc<Self> {
        let system = Self::default();
        system.inner.lock().unwrap().passwords = BTreeMap::from([("a".into(), "first".into())]);
        Arc::new(system)
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap())
    }

    pub(crate) fn accepts(&self, user: &str, password: &str) -> bool {
        self.with(|inner| inner.passwords.get(user).is_some_and(|known| known == password))
    }

    fn act(inner: &mut Inner, act: Act, user: &str, value: &str) -> Said {
        let done = |yes: bool| if yes { Said::Done } else { Said::Refused };
        match act {
            Act::Test => done(inner.passwords.get(user).is_some_and(|known| known == value)),
            Act::Set if inner.refusals > 0 => {
                inner.refusals -= 1;
                Said::Refused
            }
            Act::Set => {
                inner.told.push(value.to_owned());
                if !inner.is_deaf {
                    inner.passwords.insert(user.to_owned(), value.to_owned());
                }
                Said::Done
            }
            Act::Revoke => {
                inner.passwords.remove(user);
                inner.revoked.push(user.to_owned());
                Said::Done
            }
        }
    }
}

impl Ask for Directory {
    fn ask<'a>(&'a self, _: &'a System, order: Order<'a>) -> Answered<'a> {
        Box::pin(async move {
            let gate = self.with(|inner| inner.gate.take_if(|(at, _)| *at == inner.calls));
            if let Some((_, wait)) = gate {
                let until = clock::since_boot() + wait;
                self.hit.notify_one();
                self.go.notified().await;
                while clock::since_boot() < until {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            let (said, mishap) = self.with(|inner| {
                let mishap = inner.mishap.filter(|(at, _)| *at == inner.calls).map(|(_, mishap)| mishap);
                inner.calls += 1;
                if mishap == Some(Mishap::HangsBefore) {
                    return (Said::Refused, mishap);
                }
                (Self::act(inner, order.act, order.user, order.value.expose()), mishap)
            });
            match mishap {
                None => Ok(said),
                Some(Mishap::AnswerLost) => Err(Unknown::of(&order, "lost")),
                Some(_) => {
                    self.hit.notify_one();
                    future::pending().await
                }
            }
        })
    }

    fn provide<'a>(&'a self, _: &'a Provider, run: Order<'a>, _: Call<'a>) -> Provided<'a> {
        Box::pin(async move { Err(Unknown::of(&run, "it mints nothing")) })
    }
}

fn credential(users: Users) -> Kind {
    let source = Source::Characters { length: 20, alphabet: "abc".into() };
    Kind::Credential(Box::new(Credential {
        consumer: Generate { path: "secret/webhook".into(), field: "key".into(), source },
        user_field: "user".into(),
        users,
        system: System::Exec(Exec { command: vec!["/bin/true".into()], timeout: None }),
        propagation: Duration::ZERO,
        cycles: 3,
        probe: Duration::ZERO,
        quarantine: Duration::ZERO,
        hold: Duration::ZERO,
    }))
}

pub(crate) fn two_slot() -> Kind {
    credential(Users::Two(["a".into(), "b".into()]))
}

pub(crate) fn single() -> Kind {
    credential(Users::One("a".into()))
}

/// What consumers read works, or, where there is one user, what is recorded does.
async fn assert_safe(scene: &Scene, system: &Directory, why: &str) {
    let (user, key) = consumer(scene).await;
    let journal = scene.read("secret/data/rotation/webhook").await["data"]["journal"].clone();
    let candidates = journal["candidates"].as_array().cloned().unwrap_or_default();
    let recorded = candidates.iter().any(|it| system.accepts("a", it["value"].as_str().unwrap()));
    let is_single = journal["kind"] == "single" || journal["aim"]["user"] == "a";
    assert!(system.accepts(&user, &key) || (is_single && recorded), "{why}: {user} {journal}");
}

pub(crate) async fn consumer(scene: &Scene) -> (String, String) {
    let read = scene.read("secret/data/webhook").await["data"].clone();
    (read["user"].as_str().unwrap().to_owned(), read["key"].as_str().unwrap().to_owned())
}

async fn assert_rotated(scene: &Scene, system: &Directory, kind: &Kind, why: &str) {
    assert_eq!(scene.version().await, 2, "{why}");
    let (user, key) = consumer(scene).await;
    assert!(key != "first" && system.accepts(&user, &key), "{why}");
    if kind.word() == "two-slot" {
        assert_eq!(user, "b", "{why}");
        assert!(!system.accepts("a", "first"), "{why}: the old login still works");
    }
    let text = scene.read("secret/data/rotation/webhook").await.to_string();
    assert!(!text.contains(&key), "{why}: the value is left in the journal");
}

/// Where a process dies.
#[derive(Clone, Copy, Debug)]
enum At {
    Vault(usize),
    System(usize, Mishap),
}

/// Runs it with the process gone there, as often as `deaths` says; gives whether there was such a call.
async fn survives(kind: &Kind, at: At, deaths: usize) -> bool {
    let system = Directory::new();
    let mut scene = Scene::new(kind.clone(), Arc::clone(&system) as Arc<dyn Ask>).await;
    for death in 0..deaths {
        let vault = match at {
            At::Vault(at) => scene.script(at, Fault::Hang),
            At::System(at, mishap) => {
                system.with(|inner| (inner.calls, inner.mishap) = (0, Some((at, mishap))));
                Arc::new(Notify::new())
            }
        };
        let mut replica = scene.start(&format!("replica-{death}"));
        let died = dies(&mut replica, either(&vault, &system.hit), scene.rested()).await;
        scene.dev.clear_scripts();
        system.with(|inner| inner.mishap = None);
        assert_safe(&scene, &system, &format!("{at:?}")).await;
        if !died {
            // What is left after a death may have fewer calls.
            assert_rotated(&scene, &system, kind, &format!("{at:?} never came")).await;
            return death > 0;
        }
    }
    let mut last = scene.start("last");
    scene.rested().await;
    last.shutdown().await;
    let why = format!("gone at {at:?}, {deaths} times: {:?}", scene.facts());
    assert_rotated(&scene, &system, kind, &why).await;
    true
}

async fn survives_everywhere(kind: Kind, deaths: usize) {
    let count = at_each_call(async |at| survives(&kind, At::Vault(at), deaths).await).await;
    assert!(count >= 7, "a run has {count} calls of Vault only");
    for mishap in [Mishap::HangsBefore, Mishap::HangsAfter] {
        let count = at_each_call(async |at| survives(&kind, At::System(at, mishap), deaths).await).await;
        assert!(count >= 3, "a run asks the system {count} times only");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_users_a_process_that_dies_anywhere_leaves_a_login_that_works() {
    survives_everywhere(two_slot(), 1).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_users_processes_that_die_twice_anywhere_leave_a_login_that_works() {
    survives_everywhere(two_slot(), 2).await;
}

#[tokio::test(start_paused = true)]
async fn of_one_user_a_process_that_dies_anywhere_leaves_a_value_that_is_recorded() {
    survives_everywhere(single(), 1).await;
}

#[tokio::test(start_paused = true)]
async fn of_one_user_processes_that_die_twice_anywhere_leave_a_value_that_is_recorded() {
    survives_everywhere(single(), 2).await;
}

/// The holder is cut off from Vault at its call `at` of the system, which takes `wait` of the lease's 40 ms; `set` says whether the
/// system was changed by then.
async fn is_cut_off(at: usize, wait: Duration, set: usize) {
    let system = Directory::new();
    system.with(|inner| inner.gate = Some((at, wait)));
    let mut scene = Scene::new(two_slot(), Arc::<Directory>::clone(&system)).await;
    let mut holder = scene.start("holder");
    system.hit.notified().await;
    let accessor = scene.accessor();
    let is_its = move |call: &devvault::Call| call.accessor.as_deref() == Some(accessor.as_str());
    scene.dev.script(Matcher::any().when(is_its), Fault::Drop, Times::Always);
    system.go.notify_one();
    let mut acts = Vec::new();
    while !acts.iter().any(|act| matches!(act, Did::Failed(_))) {
        sleep(Duration::from_millis(1)).await;
        acts.extend(scene.facts());
    }
    assert_eq!(system.with(|inner| inner.told.len()), set, "{acts:?}");
    scene.log_in_apart().await;
    let mut successor = scene.start("successor");
    scene.rested().await;
    assert_eq!((scene.version().await, system.with(|inner| inner.told.len())), (2, 1));
    // Back again, it finds that the run is over.
    scene.dev.clear_scripts();
    sleep(Duration::from_secs(300)).await;
    holder.shutdown().await;
    successor.shutdown().await;
    acts.extend(scene.facts());
    assert_eq!((scene.version().await, system.with(|inner| inner.told.len())), (2, 1), "{acts:?}");
    assert_eq!(acts.iter().filter(|act| **act == Did::Promoted).count(), 1, "{acts:?}");
    assert!(acts.contains(&Did::TakenOver), "{acts:?}");
    let (user, value) = consumer(&scene).await;
    assert!(system.accepts(&user, &value));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_cut_off_from_vault_stops_in_time_and_its_successor_promotes_once() {
    // While it asks: its lease is over when it would change the system.
    is_cut_off(0, Duration::from_millis(60), 0).await;
    // While it changes the system: nobody but its journal knows.
    is_cut_off(1, Duration::ZERO, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_the_system_makes_no_second_value() {
    for at in 0..5 {
        let system = Directory::new();
        system.with(|inner| inner.mishap = Some((at, Mishap::AnswerLost)));
        let scene = Scene::new(single(), Arc::clone(&system) as Arc<dyn Ask>).await;
        let mut replica = scene.start("only");
        scene.rested().await;
        replica.shutdown().await;
        assert_rotated(&scene, &system, &single(), &format!("lost at {at}")).await;
        let told = system.with(|inner| inner.told.clone());
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "one value, whatever was lost: {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_value_is_replaced_by_another_and_both_are_kept() {
    let system = Directory::new();
    system.with(|inner| inner.refusals = 1);
    let mut scene = Scene::new(two_slot(), Arc::clone(&system) as Arc<dyn Ask>).await;
    let mut replica = scene.start("only");
    scene.rested().await;
    replica.shutdown().await;
    assert_rotated(&scene, &system, &two_slot(), "refused once").await;
    let facts = scene.facts();
    let refused = facts.iter().filter(|act| **act == Did::Failed(Failure::Refused)).count();
    assert_eq!(refused, 1, "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_system_that_refuses_every_value_leaves_an_orphan_and_no_loop() {
    for (refuses, is_deaf) in [(usize::MAX, false), (0, true)] {
        let system = Directory::new();
        system.with(|inner| (inner.refusals, inner.is_deaf) = (refuses, is_deaf));
        let mut scene = Scene::new(two_slot(), Arc::clone(&system) as Arc<dyn Ask>).await;
        let mut replica = scene.start("only");
        let orphan = async || {
            let journal = scene.read("secret/data/rotation/webhook").await["data"]["journal"].clone();
            (journal["phase"] == "orphaned").then_some(journal)
        };
        let journal = loop {
            match orphan().await {
                Some(journal) => break journal,
                None => sleep(Duration::from_millis(100)).await,
            }
        };
        replica.shutdown().await;
        let candidates = journal["candidates"].as_array().unwrap().len();
        assert_eq!(candidates, if is_deaf { 1 } else { 3 }, "a new value only after a refusal");
        assert_eq!(consumer(&scene).await, ("a".to_owned(), "first".to_owned()));
        assert!(system.accepts("a", "first"), "whoever reads it is in");
        let facts = scene.facts();
        assert!(facts.contains(&Did::Orphaned(Orphaned::Refused)), "{facts:?}");
        let calls = system.with(|inner| inner.calls);
        assert!(calls < 20, "{calls} calls");
        scene.desk().unorphan("alice", None).await.unwrap();
        system.with(|inner| (inner.refusals, inner.is_deaf) = (0, false));
        scene.desk().ask("a person has looked").await.unwrap();
        let mut replica = scene.start("next");
        scene.rested().await;
        replica.shutdown().await;
        assert_rotated(&scene, &system, &two_slot(), "after a person").await;
    }
}

/// A run that waits for a person: its system was changed, and then a person wrote what consumers read.
pub(crate) async fn in_conflict(system: &Arc<Directory>) -> Scene {
    // The test after the set: what comes next is the promotion.
    system.with(|inner| inner.mishap = Some((2, Mishap::HangsAfter)));
    let scene = Scene::new(two_slot(), Arc::clone(system) as Arc<dyn Ask>).await;
    let mut replica = scene.start("only");
    system.hit.notified().await;
    replica.shutdown().await;
    system.with(|inner| inner.mishap = None);
    scene.dev.put_kv("secret/webhook", &[("key", "human"), ("user", "a")]);
    let mut replica = scene.start("next");
    while phase(&scene).await != "orphaned" {
        sleep(Duration::from_millis(100)).await;
    }
    replica.shutdown().await;
    scene
}

pub(crate) async fn phase(scene: &Scene) -> serde_json::Value {
    scene.read("secret/data/rotation/webhook").await["data"]["journal"]["phase"].clone()
}

#[tokio::test(start_paused = true)]
async fn what_a_person_wrote_after_the_system_was_changed_stays_and_a_person_must_look() {
    let system = Directory::new();
    let mut scene = in_conflict(&system).await;
    assert_eq!((consumer(&scene).await.1, scene.version().await), ("human".to_owned(), 2));
    let facts = scene.facts();
    for told in [Did::Orphaned(Orphaned::Conflict), Did::Failed(Failure::Conflict)] {
        assert!(facts.contains(&told), "{facts:?}");
    }
    assert!(!system.accepts("a", "human"), "nobody has said that it is to be adopted");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_wrote_is_adopted_when_a_person_says_so_and_only_if_the_system_will_have_it() {
    for refusals in [0, 1] {
        let system = Directory::new();
        let mut scene = in_conflict(&system).await;
        system.with(|inner| inner.refusals = refusals);
        scene.desk().adopt("alice", Some("mine")).await.unwrap();
        let mut replica = scene.start("adopts");
        let ends = |act: &Did| matches!(act, Did::Repaired | Did::Orphaned(Orphaned::Refused));
        let end = scene.told(ends).await;
        assert_eq!(end == Did::Repaired, refusals == 0, "{end:?}");
        let rest = if refusals == 0 { "idle" } else { "orphaned" };
        assert_eq!((phase(&scene).await, system.accepts("a", "human")), (rest.into(), refusals == 0));
        assert_eq!((consumer(&scene).await.1, scene.version().await), ("human".to_owned(), 2));
        if refusals > 0 {
            // The second time it will.
            scene.desk().adopt("alice", None).await.unwrap();
            scene.told(|act| *act == Did::Repaired).await;
            assert!(system.accepts("a", "human"));
        }
        scene.desk().ask("the next run").await.unwrap();
        scene.rested().await;
        replica.shutdown().await;
        let (user, key) = consumer(&scene).await;
        assert!(system.accepts(&user, &key) && user == "b", "and the next run is as any other: {user}");
    }
}
