//! After its grace the old login is out of use at once, and what consumers read before is deleted when the quarantine is over.
#![expect(clippy::indexing_slicing, reason = "an answer without the field is a failed test")]

use crate::{
    credential::{Directory, consumer, two_slot},
    rotation::Scene,
};
use claviger::rotation::{Kind, fact::Act as Did, system::Ask};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

async fn scene(quarantine: Duration) -> (Scene, Arc<Directory>) {
    let system = Directory::new();
    let Kind::Credential(mut credential) = two_slot() else { unreachable!() };
    credential.quarantine = quarantine;
    let kind = Kind::Credential(credential);
    (Scene::new(kind, Arc::clone(&system) as Arc<dyn Ask>).await, system)
}

async fn phase(scene: &Scene) -> serde_json::Value {
    scene.read("secret/data/rotation/webhook").await["data"]["journal"]["phase"].clone()
}

#[tokio::test(start_paused = true)]
async fn what_consumers_read_before_is_deleted_when_the_quarantine_is_over() {
    let (mut scene, system) = scene(Duration::from_millis(50)).await;
    let mut replica = scene.start("only");
    scene.rested().await;
    replica.shutdown().await;
    let (user, key) = consumer(&scene).await;
    assert!(user == "b" && system.accepts(&user, &key) && !system.accepts("a", "first"));
    let acts = scene.facts();
    let of = |wanted: Did| acts.iter().position(|act| *act == wanted).unwrap();
    let order = [Did::Promoted, Did::GraceEnded, Did::Quarantined, Did::Revoked].map(of);
    assert!(order.is_sorted(), "{acts:?}");
    assert!(scene.read("secret/data/webhook?version=1").await["data"].is_null());
}

#[tokio::test(start_paused = true)]
async fn in_quarantine_the_old_login_is_out_of_use_and_what_it_was_is_kept() {
    let (scene, system) = scene(Duration::from_secs(3600)).await;
    assert!(scene.desk().re_enable().await.is_err(), "there is nothing to have back");
    let mut replica = scene.start("only");
    while phase(&scene).await != "quarantine" {
        sleep(Duration::from_millis(100)).await;
    }
    replica.shutdown().await;
    assert!(!system.accepts("a", "first"));
    assert_eq!(scene.read("secret/data/webhook?version=1").await["data"]["key"], "first");
    scene.desk().re_enable().await.unwrap();
    // A process that dies while it lets him in again.
    system.with(|inner| (inner.calls, inner.mishap) = (0, Some((0, crate::credential::Mishap::HangsAfter))));
    let mut replica = scene.start("dies");
    system.hit.notified().await;
    replica.shutdown().await;
    system.with(|inner| inner.mishap = None);
    assert!(system.accepts("a", "first"));
    let mut scene = scene;
    drop(scene.facts());
    let mut replica = scene.start("next");
    // His second grace is none, so that he is shut out again.
    while phase(&scene).await != "quarantine" || system.accepts("a", "first") {
        sleep(Duration::from_millis(100)).await;
    }
    replica.shutdown().await;
    let acts = scene.facts();
    assert!(acts.contains(&Did::Reenabled) && acts.contains(&Did::Quarantined), "{acts:?}");
    let (user, key) = consumer(&scene).await;
    assert!(system.accepts(&user, &key));
}
