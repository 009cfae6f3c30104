//! Rotations on the real Vault: generated values under load, among replicas, over kills and a stopped Vault.

use crate::rig::{Agent, PROGRAM, Plan, output, printed, until};
use lab::Vault;
use serde_json::{Value, json};
use std::{collections::BTreeSet, process::Command};

/// What the identity of the tests may do beside reading.
const POLICY: &str = r#"
path "secret/data/webhook" { capabilities = ["read", "create", "update"] }
path "secret/metadata/webhook" { capabilities = ["read"] }
path "secret/delete/webhook" { capabilities = ["update"] }
path "secret/data/rotation/*" { capabilities = ["read", "create", "update"] }
path "secret/metadata/rotation/*" { capabilities = ["read", "update", "list", "delete"] }
path "sys/policies/password/hook/generate" { capabilities = ["read"] }
path "database/static-creds/app" { capabilities = ["read"] }
path "database/rotate-role/app" { capabilities = ["update"] }
path "transit/keys/orders" { capabilities = ["read"] }
path "transit/keys/orders/rotate" { capabilities = ["update"] }
"#;

/// A config with the secret `webhook`, which the rotation of the same name changes each `every`.
pub(crate) fn plan(vault: &Vault, rotation: Value) -> Plan {
    let root = vault.root();
    let mut plan = Plan::new(vault);
    root.put("sys/policies/acl/ci-read", &json!({"policy": POLICY})).expect_success();
    if root.get("auth/approle/role/app").status == 200 {
        plan.approle_again(vault);
    } else {
        plan.approle(vault, json!({"token_ttl": "10m"}));
        let first = json!({"data": {"key": "first", "url": "https://hook"}});
        root.post("secret/data/webhook", &first).expect_success();
    }
    plan.secret("webhook", json!({"kind": "kv", "path": "secret/webhook", "refresh": "1h"}));
    plan.config["vault"]["budget"] = json!({"calls_per_second": 100, "burst": 200});
    plan.config["rotations"] = json!({"webhook": rotation});
    plan
}

pub(crate) fn generate() -> Value {
    json!({
        "kind": "generate", "identity": "reports", "path": "secret/webhook", "field": "key", "length": 24,
        "schedule": {"every": "4s"}, "min_interval": "4s", "holder_ttl": "3s", "grace": "1s",
        "journal": {"mount": "secret", "path": "rotation"},
    })
}

fn journal(vault: &Vault) -> Value {
    vault.root().get("secret/data/rotation/webhook").expect_success()["data"]["data"]["journal"].clone()
}

fn version(vault: &Vault) -> u64 {
    let metadata = vault.root().get("secret/metadata/webhook").expect_success();
    metadata["data"]["current_version"].as_u64().unwrap()
}

/// The runs that were promoted, by their ids.
fn promoted(events: &[Value]) -> Vec<&str> {
    let promoted = events.iter().filter(|event| event["type"] == "rotation.promoted.v1");
    promoted.map(|event| event["rotation"]["id"].as_str().unwrap()).collect()
}

#[test]
fn a_generated_value_is_served_as_soon_as_it_is_promoted_and_the_old_one_ends_with_its_grace() {
    let Some(vault) = Vault::start() else { return };
    let policy = "length = 30\nrule \"charset\" { charset = \"abcdef\" }";
    vault.root().put("sys/policies/password/hook", &json!({"policy": policy})).expect_success();
    let mut rotation = generate();
    rotation["policy"] = json!("hook");
    rotation.as_object_mut().unwrap().remove("length");
    let agent = plan(&vault, rotation).start();
    let first = agent.generation("webhook", 1);
    assert_eq!(first["data"], json!({"key": "first", "url": "https://hook"}));
    let tag = agent.read("webhook").header("etag").unwrap().trim_matches('"').to_owned();
    // The secret is looked at each hour only: it is the rotation that says that it has changed.
    let second = agent.ask(&format!("/secrets/webhook?wait=60s&since={tag}")).json();
    assert_eq!((&second["generation"], &second["data"]["url"]), (&json!(2), &json!("https://hook")));
    let key = second["data"]["key"].as_str().unwrap();
    assert!(key.len() == 30 && key.bytes().all(|byte| (b'a'..=b'f').contains(&byte)), "{key}");
    let both = agent.ask("/secrets/webhook?versions=current,previous").json();
    assert_eq!(both["previous"]["data"]["key"], "first");
    let revoked = agent.event("rotation.revoked.v1", |_| true);
    let old = vault.root().get("secret/data/webhook?version=1");
    assert_eq!(old.status, 404, "its grace is over");
    let run = &revoked["rotation"];
    assert_eq!((&run["cred"], &run["from_v"], &run["to_v"]), (&json!("webhook"), &json!(1), &json!(2)));
    let words = ["started", "promoted", "grace_ended", "revoked"].map(|word| format!("rotation.{word}.v1"));
    let events = agent.events();
    let of_run = events.iter().filter(|event| event["rotation"]["id"] == run["id"]);
    assert_eq!(of_run.map(|event| event["type"].as_str().unwrap()).collect::<Vec<_>>(), words);
    until("an idle journal", || (journal(&vault)["phase"] == "idle").then_some(()));
    let metrics = agent.health("/metrics").text;
    for name in
        ["rotation_promotions_total", "rotation_age_seconds", "rotation_next_timestamp", "rotation_phase"]
    {
        assert!(metrics.contains(&format!("{name}{{rotation=\"webhook\"")), "{metrics}");
    }
    let config = agent.folder().join("claviger.yaml");
    let rotation = |args: &[&str]| {
        printed(Command::new(PROGRAM).arg("rotation").args(args).arg("--config").arg(&config))
    };
    let status: Value = serde_json::from_str(&rotation(&["status", "--json"])).unwrap();
    assert_eq!(status["rotations"][0]["name"], "webhook");
    assert!(!status.to_string().contains(key), "{status}");
    rotation(&["now", "webhook", "--reason", "leaked in a log"]);
    let asked = agent.event("rotation.started.v1", |event| event["rotation"]["asked"] == "leaked in a log");
    agent.event("rotation.promoted.v1", |event| event["rotation"]["id"] == asked["rotation"]["id"]);
    let refused =
        output(Command::new(PROGRAM).args(["rotation", "unorphan", "webhook", "--config"]).arg(&config));
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    let stopped = agent.stop();
    for (place, bytes) in stopped.written() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(key), "the value is in {}", place.display());
    }
}

/// Each replica has an identity and a journal of audit of its own, and the same rotation.
fn replicas(vault: &Vault, count: usize) -> Vec<Agent> {
    (0..count).map(|_| plan(vault, generate()).start()).collect()
}

fn one_rotation_per_slot(count: usize) {
    let Some(vault) = Vault::start() else { return };
    let agents = replicas(&vault, count);
    until("three rotations", || (version(&vault) >= 4).then_some(()));
    let newest = version(&vault);
    // Every replica serves it, whoever rotated.
    for agent in &agents {
        agent.generation("webhook", newest);
    }
    // While all of them run: whoever is stopped in the middle of a run leaves the rest of it to another.
    let all = || agents.iter().flat_map(Agent::events).collect::<Vec<Value>>();
    let all = until("three promotions on record", || Some(all()).filter(|all| promoted(all).len() >= 3));
    let runs = promoted(&all);
    let slots: BTreeSet<&str> = all
        .iter()
        .filter(|event| event["type"] == "rotation.promoted.v1")
        .map(|event| event["rotation"]["slot"].as_str().unwrap())
        .collect();
    assert_eq!(slots.len(), runs.len(), "a slot was run twice: {runs:?}");
    let versions: Vec<u64> = all
        .iter()
        .filter(|event| event["type"] == "rotation.promoted.v1")
        .map(|event| event["rotation"]["to_v"].as_u64().unwrap())
        .collect();
    assert_eq!(versions.iter().collect::<BTreeSet<_>>().len(), versions.len(), "{versions:?}");
    let bad = ["rotation.taken_over.v1", "rotation.failed.v1", "rotation.skipped.v1"];
    let bad: Vec<&Value> = all.iter().filter(|event| bad.iter().any(|kind| event["type"] == *kind)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn two_replicas_rotate_once_for_each_slot() {
    one_rotation_per_slot(2);
}

#[test]
fn five_replicas_rotate_once_for_each_slot() {
    one_rotation_per_slot(5);
}

#[test]
fn a_killed_replica_loses_no_value_and_the_next_one_goes_on() {
    let Some(vault) = Vault::start() else { return };
    let first = plan(&vault, generate()).start();
    first.event("rotation.started.v1", |_| true);
    // Killed by SIGKILL wherever it is.
    drop(first);
    let second = plan(&vault, generate()).start();
    let before = version(&vault);
    until("a rotation by the next one", || (version(&vault) > before).then_some(()));
    let held = second.generation("webhook", before + 1);
    let now = vault.root().get("secret/data/webhook").expect_success();
    until("the newest", || {
        let newest = vault.root().get("secret/data/webhook").expect_success();
        (second.value("webhook")["data"]["key"] == newest["data"]["data"]["key"]).then_some(())
    });
    assert_ne!(held["data"]["key"], "first", "{now}");
    assert!(second.stop().events("rotation.orphaned.v1").is_empty());
}

#[test]
fn what_a_person_wrote_meanwhile_stays_and_the_run_is_given_up() {
    let Some(vault) = Vault::start() else { return };
    // A journal as it is after a crash before the promotion, and a version that a person wrote since.
    let mut rotation = generate();
    rotation["schedule"] = json!({"every": "1h"});
    let agent = plan(&vault, rotation.clone()).start();
    until("a journal", || (vault.root().get("secret/data/rotation/webhook").status == 200).then_some(()));
    drop(agent);
    let mut open = journal(&vault);
    for (key, value) in [
        ("phase", json!("pending")),
        ("rotation_id", json!("0123456789abcdef")),
        ("slot", open["settled"].clone()),
        ("slot_time", json!("2026-11-26T03:00:00+00:00")),
        ("holder", json!("gone")),
        ("before", json!(1)),
        ("candidates", json!([{"n": 1, "value": "machine", "refused": false}])),
    ] {
        open[key] = value;
    }
    let newest = vault.root().get("secret/data/rotation/webhook").expect_success();
    let cas = newest["data"]["metadata"]["version"].clone();
    let body = json!({"options": {"cas": cas}, "data": {"journal": open}});
    vault.root().post("secret/data/rotation/webhook", &body).expect_success();
    vault.root().post("secret/data/webhook", &json!({"data": {"key": "human"}})).expect_success();
    let agent = plan(&vault, rotation).start();
    let failed = agent.event("rotation.failed.v1", |_| true);
    assert_eq!(
        (&failed["reason"], &failed["rotation"]["id"]),
        (&json!("conflict"), &json!("0123456789abcdef"))
    );
    until("an idle journal", || (journal(&vault)["phase"] == "idle").then_some(()));
    assert_eq!((version(&vault), &agent.value("webhook")["data"]["key"]), (2, &json!("human")));
    let text = journal(&vault).to_string();
    assert!(!text.contains("machine"), "no value is left in the journal: {text}");
}

#[test]
fn a_transit_key_is_rotated_on_our_schedule_once_for_each_slot() {
    let Some(vault) = Vault::start() else { return };
    let root = vault.root();
    root.post("sys/mounts/transit", &json!({"type": "transit"})).expect_success();
    root.post("transit/keys/orders", &json!({})).expect_success();
    let mut rotation = generate();
    for key in ["field", "length", "grace"] {
        rotation.as_object_mut().unwrap().remove(key);
    }
    rotation["kind"] = json!("trigger");
    rotation["path"] = json!("transit/keys/orders/rotate");
    let agent = plan(&vault, rotation).start();
    let newest = || {
        let key = vault.root().get("transit/keys/orders").expect_success();
        key["data"]["latest_version"].as_u64().unwrap()
    };
    until("two rotations", || (newest() >= 3).then_some(()));
    agent.event("rotation.promoted.v1", |event| event["rotation"]["to_v"] == 3);
    let events = agent.stop().events;
    let runs = promoted(&events);
    assert_eq!(runs.iter().collect::<BTreeSet<_>>().len(), runs.len());
    let last = events.iter().rfind(|event| event["type"] == "rotation.promoted.v1").unwrap();
    let last = last["rotation"]["to_v"].as_u64().unwrap();
    // The stop may have cut a run off between Vault's act and the word of it.
    assert!([last, last + 1].contains(&newest()), "Vault's own record says so: {last}, {}", newest());
}
