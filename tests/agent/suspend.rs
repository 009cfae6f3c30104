//! A rotation that a person has suspended: no run begins on any replica, and what has begun is brought to its end.

use crate::rotation::{Scene, generate, nothing_outside};
use claviger::rotation::{
    desk::Error,
    fact::{Act, Failure},
    schedule::{Schedule, When, Why, Zone, cron::Cron},
};
use devvault::Fault;
use std::time::Duration;
use tokio::time::sleep;

const WHO: &str = "alice@bastion";

fn count(acts: &[Act], wanted: Act) -> usize {
    acts.iter().filter(|act| **act == wanted).count()
}

/// A slot each minute, over before anybody comes.
fn minutely(schedule: &Schedule) -> Schedule {
    let when = When::Cron { cron: Cron::parse("* * * * *").unwrap(), zone: Zone::utc() };
    let moment = Duration::from_millis(1);
    Schedule { when, window: moment, max_age: Some(moment), ..schedule.clone() }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_suspended_at_any_call_goes_on_to_its_end_and_no_other_one_begins() {
    for at in 0..12 {
        let mut scene = Scene::new(generate(), nothing_outside()).await;
        let hit = scene.script(at, Fault::Hang);
        let mut replica = scene.start("only");
        tokio::select! {
            () = hit.notified() => {}
            () = scene.rested() => {}
        }
        scene.dev.clear_scripts();
        let phase = scene.desk().suspend(WHO, "a test").await.unwrap();
        // Nothing begins any more: what was asked for has begun by now, or waits.
        let begun = scene.desk().status().await.unwrap().unwrap().asked.is_none();
        if begun {
            scene.rested().await;
        }
        assert!(scene.told(|act| *act == Act::Suspended).await == Act::Suspended);
        let expected = if begun { 2 } else { 1 };
        assert_eq!(scene.version().await, expected, "suspended at call {at}, {phase:?}");
        let again = scene.desk().suspend(WHO, "twice").await;
        assert!(matches!(&again, Err(Error::Suspended { by, .. }) if by == WHO), "{again:?}");
        let asked = scene.desk().ask("leaked").await;
        assert!(matches!(asked, Err(Error::Suspended { .. })), "{asked:?}");
        let status = scene.desk().status().await.unwrap().unwrap();
        assert_eq!(status.suspended.unwrap().reason, "a test");
        scene.desk().resume(WHO, None).await.unwrap();
        assert!(matches!(scene.desk().resume(WHO, None).await, Err(Error::NotSuspended)));
        if begun {
            scene.desk().ask("leaked").await.unwrap();
        }
        scene.rested().await;
        assert_eq!(scene.version().await, expected + 1, "resumed after call {at}");
        replica.shutdown().await;
        assert_eq!(count(&scene.facts(), Act::Resumed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn neither_its_age_nor_a_slot_begins_a_suspended_rotation_and_both_are_told_of_once() {
    let mut scene = Scene::new(generate(), nothing_outside()).await;
    let mut first = scene.start("first");
    scene.rested().await;
    scene.desk().suspend(WHO, "a test").await.unwrap();
    first.shutdown().await;
    drop(scene.facts());
    scene.settings.schedule = minutely(&scene.settings.schedule);
    // Slots of the last three minutes that nobody has settled.
    let ago = (claviger::clock::now() - Duration::from_secs(200)).to_string();
    scene
        .rewrite(|journal| {
            journal["settled"] = ago.clone().into();
            journal["succeeded"] = ago.clone().into();
            journal["suspended"]["at"] = ago.into();
        })
        .await;
    let (mut one, mut other) = (scene.start("one"), scene.start("other"));
    let mut acts = Vec::new();
    while count(&acts, Act::Skipped(Why::Suspended)) < 3 || count(&acts, Act::Failed(Failure::OverAge)) < 1 {
        acts.push(scene.told(|_| true).await);
    }
    // Both look again, more than once.
    sleep(Duration::from_secs(1)).await;
    one.shutdown().await;
    other.shutdown().await;
    acts.extend(scene.facts());
    assert_eq!(count(&acts, Act::Failed(Failure::OverAge)), 1, "{acts:?}");
    assert_eq!(count(&acts, Act::Started), 0, "{acts:?}");
    assert_eq!(scene.version().await, 2);
}

#[tokio::test(start_paused = true)]
async fn slots_that_passed_while_no_agent_ran_are_skipped_once_each_whoever_looks() {
    let mut scene = Scene::new(generate(), nothing_outside()).await;
    let mut first = scene.start("first");
    scene.rested().await;
    first.shutdown().await;
    drop(scene.facts());
    scene.settings.schedule = minutely(&scene.settings.schedule);
    scene.settings.schedule.max_age = None;
    let ago = claviger::clock::now() - Duration::from_secs(200);
    let ago = ago.to_string();
    scene
        .rewrite(|journal| {
            journal["settled"] = ago.clone().into();
            journal["succeeded"] = ago.into();
        })
        .await;
    let (mut one, mut other) = (scene.start("one"), scene.start("other"));
    let mut slots = Vec::new();
    while slots.len() < 3 {
        slots.push(scene.told_of(Act::Skipped(Why::Missed)).await);
    }
    sleep(Duration::from_secs(1)).await;
    one.shutdown().await;
    other.shutdown().await;
    slots.extend(scene.all_told_of(Act::Skipped(Why::Missed)));
    let each: std::collections::BTreeSet<_> = slots.iter().collect();
    assert_eq!(each.len(), slots.len(), "each slot once: {slots:?}");
}
