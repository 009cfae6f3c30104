//! Rotations that wait for a person's yes: asked for ahead of the slot, by all replicas as one, and spent once.

use crate::{
    rig::{Agent, PROGRAM, Plan, output, printed, until},
    scene::Scene,
};
use serde_json::{Value, json};
use std::process::Command;

const JOURNAL: &str = "secret/data/rotation/webhook";

/// A rotation of `secret/webhook` that names the approval `two`; `changes` are made to it.
pub(crate) fn plan(scene: &Scene, approval: Value, changes: Value) -> Plan {
    let mut plan = scene.plan(approval);
    let root = scene.vault.root();
    if root.get("secret/data/webhook").status != 200 {
        root.post("secret/data/webhook", &json!({"data": {"key": "first"}})).expect_success();
    }
    let mut rotation = json!({
        "kind": "generate", "identity": "reports", "path": "secret/webhook", "field": "key", "length": 24,
        "schedule": {"every": "1h"}, "min_interval": "4s", "holder_ttl": "3s", "grace": "1s",
        "journal": {"mount": "secret", "path": "rotation"}, "approval": "two",
    });
    for (key, value) in changes.as_object().unwrap() {
        rotation[key] = value.clone();
    }
    plan.config["rotations"] = json!({"webhook": rotation});
    plan
}

/// Due in some seconds, and asked for before that.
pub(crate) fn soon() -> Value {
    json!({"schedule": {"every": "8s"}, "lead_time": "6s"})
}

fn journal(scene: &Scene) -> Value {
    let found = scene.vault.root().get(JOURNAL);
    if found.status == 200 { found.expect_success()["data"]["data"]["journal"].clone() } else { Value::Null }
}

pub(crate) fn version(scene: &Scene) -> u64 {
    let found = scene.vault.root().get("secret/metadata/webhook").expect_success();
    found["data"]["current_version"].as_u64().unwrap()
}

/// The request for the rotation's next run, as soon as there is one.
pub(crate) fn asked(scene: &Scene) -> String {
    until("a request for a run", || {
        let asked = journal(scene)["approval"].clone();
        (asked["state"] == "pending").then(|| asked["id"].as_str().unwrap().to_owned())
    })
}

fn rotation(agent: &Agent, args: &[&str]) -> String {
    let config = agent.folder().join("claviger.yaml");
    printed(Command::new(PROGRAM).arg("rotation").args(args).arg("--config").arg(config))
}

#[test]
fn replicas_ask_for_a_run_together_ahead_of_its_slot_and_one_spends_the_yes() {
    let Some(scene) = Scene::start() else { return };
    let agents = [0, 1].map(|_| plan(&scene, json!({}), soon()).start());
    let id = asked(&scene);
    let list = scene.done(&scene.lead, &["approvals"]);
    for part in [
        "claviger wants to rotate webhook (generate, secret/webhook), in its slot of ",
        "once, and in that slot",
    ] {
        assert!(list.contains(part), "{list}");
    }
    assert_eq!(list.matches("wants to rotate").count(), 1, "{list}");
    // Nothing begins without it.
    let waiting = rotation(&agents[0], &["status"]);
    assert!(waiting.contains("waits for a yes to slot") && waiting.contains(&id), "{waiting}");
    assert_eq!(version(&scene), 1);
    scene.approve(&scene.lead, &id);
    until("a rotation", || (version(&scene) >= 2).then_some(()));
    let all = || agents.iter().flat_map(Agent::events).collect::<Vec<Value>>();
    let of = |events: &[Value], kind: &str| {
        events
            .iter()
            .filter(|event| event["type"] == kind && event["approval"]["id"] == json!(id))
            .cloned()
            .collect::<Vec<_>>()
    };
    let events = until("its start on record", || {
        Some(all()).filter(|events| {
            !of(events, "rotation.started.v1").is_empty() && !of(events, "approval.used.v1").is_empty()
        })
    });
    let used = of(&events, "approval.used.v1");
    assert_eq!((used.len(), of(&events, "approval.granted.v1").len()), (1, 1), "{used:#?}");
    let new = of(&events, "approval.requested.v1");
    assert_eq!(new.iter().filter(|event| event["approval"]["how"].is_null()).count(), 1, "{new:#?}");
    let [started] = of(&events, "rotation.started.v1").try_into().unwrap();
    assert_eq!(started["approval"]["by"], json!(["lead"]));
    assert_eq!(
        (&used[0]["rotation"]["cred"], &used[0]["rotation"]["slot"]),
        (&json!("webhook"), &started["rotation"]["slot"])
    );
    // The next slot needs a yes of its own.
    assert_ne!(asked(&scene), id);
    assert_eq!(version(&scene), 2);
}

#[test]
fn a_no_or_silence_skips_the_slot_and_status_says_so() {
    let Some(scene) = Scene::start() else { return };
    let agent = plan(&scene, json!({}), soon()).start();
    let id = asked(&scene);
    scene.done(&scene.on_call, &["refuse", &id, "--reason", "not on a Friday"]);
    let skipped = agent.event("rotation.skipped.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!((&skipped["reason"], &skipped["approval"]["by"]), (&json!("approval"), &json!(["on-call"])));
    let refused = agent.event("approval.refused.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(
        (&refused["reason"], &refused["rotation"]["cred"]),
        (&json!("approval_refused"), &json!("webhook"))
    );
    let status = rotation(&agent, &["status"]);
    assert!(status.contains("skipped: approval_refused (on-call)") && status.contains(&id), "{status}");
    let metrics = agent.health("/metrics").text;
    let line = "rotation_skipped_total{rotation=\"webhook\",reason=\"approval\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    drop(agent);
    // Whoever comes next asks for the next slot; nobody answers while its window is open.
    let short = json!({"schedule": {"every": "5s", "window": "1s"}, "lead_time": "1s", "min_interval": "4s"});
    let agent = plan(&scene, json!({"ttl": "1s"}), short).start();
    let expired = agent.event("approval.expired.v1", |event| event["rotation"]["cred"] == "webhook");
    let id = &expired["approval"]["id"];
    agent.event("rotation.skipped.v1", |event| {
        event["approval"]["id"] == *id && event["reason"] == "approval"
    });
    assert_eq!(version(&scene), 1, "no run without a yes");
}

#[test]
fn who_wants_a_run_now_is_told_which_yes_it_waits_for() {
    let Some(scene) = Scene::start() else { return };
    let agent = plan(&scene, json!({"quorum": 2}), json!({})).start();
    until("a journal", || (journal(&scene)["phase"] == "idle").then_some(()));
    let said = rotation(&agent, &["now", "webhook", "--reason", "leaked in a log", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["state"], "pending");
    let id = said["approval_id"].as_str().unwrap();
    let list = scene.done(&scene.lead, &["approvals"]);
    assert!(list.contains("asked for: leaked in a log"), "{list}");
    scene.approve(&scene.lead, id);
    scene.approve(&scene.on_call, id);
    let started = agent.event("rotation.started.v1", |_| true);
    assert_eq!(started["rotation"]["asked"], "leaked in a log");
    assert_eq!(started["approval"]["by"], json!(["lead", "on-call"]));
    agent.event("rotation.promoted.v1", |event| event["rotation"]["id"] == started["rotation"]["id"]);
}

#[test]
fn where_the_config_asks_for_more_persons_meanwhile_they_are_asked_anew() {
    let Some(scene) = Scene::start() else { return };
    let slow = json!({"schedule": {"every": "20s"}, "lead_time": "19s"});
    let mut agent = plan(&scene, json!({}), slow).start();
    let first = asked(&scene);
    scene.approve(&scene.lead, &first);
    agent.change(|config| config["approvals"]["two"]["quorum"] = json!(2));
    let second = until("a request of the new config", || Some(asked(&scene)).filter(|id| *id != first));
    scene.approve(&scene.on_call, &second);
    scene.approve(&scene.lead, &second);
    let started = agent.event("rotation.started.v1", |_| true);
    assert_eq!(
        (&started["approval"]["id"], &started["approval"]["by"]),
        (&json!(second), &json!(["lead", "on-call"]))
    );
}

/// The journal as it is when a replica died after it took the lease to spend a yes on the run `ours`; the yes was used by `by`.
fn died_spending(scene: &Scene, by: &str) -> String {
    drop(
        plan(scene, json!({}), soon())
            .start()
            .event("approval.requested.v1", |event| event["rotation"]["cred"] == "webhook"),
    );
    let id = asked(scene);
    scene.approve(&scene.lead, &id);
    let mut left = journal(scene);
    let until = left["approval"]["until"].clone();
    left["epoch"] = json!(left["epoch"].as_u64().unwrap() + 1);
    left["holder"] = json!("dead");
    left["approval"]["state"] = json!("spending");
    left["approval"]["run"] = json!("0123456789abcdef");
    scene
        .vault
        .root()
        .post(JOURNAL, &json!({"data": {"journal": left}, "options": {"cas": newest(scene)}}))
        .expect_success();
    scene.store(&format!("{id}/uses"), &json!({"granted": until, "used": 1, "run": by}));
    id
}

fn newest(scene: &Scene) -> Value {
    scene.vault.root().get(JOURNAL).expect_success()["data"]["metadata"]["version"].clone()
}

#[test]
fn a_yes_that_a_dead_replica_spent_is_good_for_that_run_and_for_no_other() {
    let Some(scene) = Scene::start() else { return };
    let id = died_spending(&scene, "0123456789abcdef");
    let agent = plan(&scene, json!({}), soon()).start();
    let started = agent.event("rotation.started.v1", |_| true);
    assert_eq!(
        (&started["rotation"]["id"], &started["approval"]["id"]),
        (&json!("0123456789abcdef"), &json!(id))
    );
    drop(agent);
    let Some(scene) = Scene::start() else { return };
    let id = died_spending(&scene, "another");
    let agent = plan(&scene, json!({}), soon()).start();
    let refused = agent.event("approval.refused.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(refused["reason"], "approval_used");
    agent.event("rotation.skipped.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(version(&scene), 1);
}

#[test]
fn where_a_rotation_is_only_observed_it_runs_and_the_record_says_who_would_have_been_asked() {
    let Some(scene) = Scene::start() else { return };
    let agent = plan(&scene, json!({"observe": true}), json!({"schedule": {"every": "4s"}})).start();
    let started = agent.event("rotation.started.v1", |_| true);
    assert_eq!(started["approval"], json!({"how": "observed", "name": "two"}));
    let plan = rotation(&agent, &["plan", "--json"]);
    assert!(!plan.contains("\"asks\":\""), "{plan}");
    let config = agent.folder().join("claviger.yaml");
    let asked = output(Command::new(PROGRAM).args(["check"]).arg(config));
    assert!(asked.status.success());
}
