//! A system that no longer accepts what consumers read is given it once more, over processes that die at each step.
#![expect(clippy::indexing_slicing, reason = "an answer without the field is a failed test")]

use crate::{
    credential::{Directory, Mishap, consumer, single, two_slot},
    rotation::Scene,
    support::deaths::{dies, either},
};
use claviger::rotation::{Kind, fact::Act as Did, system::Ask};
use devvault::Fault;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, time::sleep};

const HOUR: Duration = Duration::from_secs(3600);
/// As many calls of Vault, and of the system, as a repair makes, and some more.
const CALLS: [usize; 2] = [16, 6];

/// Where a process dies.
#[derive(Clone, Copy, Debug)]
enum At {
    Vault(usize),
    System(usize, Mishap),
    Nowhere,
}

fn probed(kind: Kind) -> Kind {
    match kind {
        Kind::Credential(mut credential) => {
            credential.probe = Duration::from_millis(20);
            Kind::Credential(credential)
        }
        other => other,
    }
}

async fn phase(scene: &Scene) -> serde_json::Value {
    scene.read("secret/data/rotation/webhook").await["data"]["journal"]["phase"].clone()
}

/// What consumers read works, and nobody has anything left to do before `rest`.
async fn mended(scene: &Scene, system: &Directory, rest: &str) {
    loop {
        let (user, key) = consumer(scene).await;
        if system.accepts(&user, &key) && phase(scene).await == rest {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// A run is over, or in its grace, when somebody changes the system; gives whether there was a call to die at.
async fn survives(kind: &Kind, grace: Duration, at: At) -> bool {
    let system = Directory::new();
    let mut scene = Scene::new(probed(kind.clone()), Arc::clone(&system) as Arc<dyn Ask>).await;
    scene.settings.grace = grace;
    let rest = if grace.is_zero() { "idle" } else { "grace" };
    let mut replica = scene.start("before");
    while phase(&scene).await != rest || scene.version().await != 2 {
        sleep(Duration::from_millis(100)).await;
    }
    replica.shutdown().await;
    drop(scene.facts());
    let (user, key) = consumer(&scene).await;
    system.with(|inner| inner.passwords.insert(user.clone(), "somebody else's".to_owned()));
    let vault = match at {
        At::Vault(at) => scene.script(at, Fault::Hang),
        At::System(at, mishap) => {
            system.with(|inner| (inner.calls, inner.mishap) = (0, Some((at, mishap))));
            Arc::new(Notify::new())
        }
        At::Nowhere => Arc::new(Notify::new()),
    };
    let mut replica = scene.start("first");
    let rested = mended(&scene, &system, rest);
    let died = dies(&mut replica, either(&vault, &system.hit), rested).await;
    scene.dev.clear_scripts();
    system.with(|inner| inner.mishap = None);
    let mut last = scene.start("last");
    mended(&scene, &system, rest).await;
    last.shutdown().await;
    let acts = scene.facts();
    assert_eq!((scene.version().await, consumer(&scene).await), (2, (user, key)), "{at:?}: {acts:?}");
    assert!(acts.contains(&Did::Drifted) || died, "{at:?}: {acts:?}");
    assert!(!acts.contains(&Did::Promoted), "consumers read what they did: {acts:?}");
    if kind.word() == "two-slot" && grace.is_zero() {
        assert!(!system.accepts("a", "first"), "{at:?}: what was revoked stays so");
    }
    died
}

async fn survives_everywhere(kind: Kind, grace: Duration) {
    assert!(!survives(&kind, grace, At::Nowhere).await);
    for at in 0..CALLS[0] {
        survives(&kind, grace, At::Vault(at)).await;
    }
    for mishap in [Mishap::HangsBefore, Mishap::HangsAfter] {
        for at in 0..CALLS[1] {
            let died = survives(&kind, grace, At::System(at, mishap)).await;
            assert!(died || at > 2, "a repair asks whether it drifted, changes it and tries it out: {at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drift_between_runs_is_found_and_mended_wherever_a_process_dies() {
    survives_everywhere(two_slot(), Duration::ZERO).await;
    survives_everywhere(single(), Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_drift_during_a_grace_is_mended_and_the_grace_goes_on() {
    survives_everywhere(two_slot(), HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn a_system_that_will_not_have_it_again_gets_another_value_by_a_run() {
    let system = Directory::new();
    let mut scene = Scene::new(probed(two_slot()), Arc::clone(&system) as Arc<dyn Ask>).await;
    let mut replica = scene.start("only");
    scene.rested().await;
    let (user, key) = consumer(&scene).await;
    system.with(|inner| {
        inner.passwords.insert(user, "somebody else's".to_owned());
        inner.refusals = 1;
    });
    while scene.version().await == 2 {
        sleep(Duration::from_secs(1)).await;
    }
    scene.rested().await;
    replica.shutdown().await;
    let (user, newer) = consumer(&scene).await;
    assert!(newer != key && system.accepts(&user, &newer));
    let acts = scene.facts();
    assert!(acts.contains(&Did::Drifted) && !acts.contains(&Did::Repaired), "{acts:?}");
}
