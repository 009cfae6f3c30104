//! An old value ends when the workloads of all replicas have said that they use the new one.

use crate::{
    rig::{Agent, PROGRAM, printed, until},
    rotation::{generate, plan},
};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Command,
};

fn rotation(max_grace: &str) -> Value {
    let mut rotation = generate();
    rotation["schedule"] = json!({"every": "24h"});
    rotation["revoke_when"] = json!("both");
    (rotation["consumers"], rotation["max_grace"]) = (json!(2), json!(max_grace));
    rotation
}

fn rotate(agent: &Agent) -> Value {
    agent.generation("webhook", 1);
    let mut now = Command::new(PROGRAM);
    now.args(["rotation", "now", "webhook", "--reason", "a test", "--config"]);
    now.arg(agent.folder().join("claviger.yaml"));
    until("a journal", || {
        let status = printed(
            Command::new(PROGRAM)
                .args(["rotation", "status", "--config"])
                .arg(agent.folder().join("claviger.yaml")),
        );
        (!status.contains("no agent")).then_some(())
    });
    printed(&mut now);
    agent.generation("webhook", 2)
}

/// The workload says that it uses the newest value.
fn ack(agent: &Agent) {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    write!(stream, "POST /secrets/webhook/ack HTTP/1.1\r\nHost: claviger\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""generation":2"#), "{answer}");
}

fn unacked(agent: &Agent, count: u32) {
    let line = format!("rotation_unacked_consumers{{rotation=\"webhook\"}} {count}.0");
    until(&line, || agent.health("/metrics").text.contains(&line).then_some(()));
}

#[test]
fn the_old_value_stays_until_a_workload_of_each_replica_uses_the_new_one() {
    let Some(vault) = Vault::start() else { return };
    let first = plan(&vault, rotation("1h")).start();
    let second = plan(&vault, rotation("1h")).start();
    rotate(&first);
    second.generation("webhook", 2);
    let old = || vault.root().get("secret/data/webhook?version=1").status;
    // Told after four fifths of its second, and all the same kept.
    first.event("rotation.failed.v1", |event| event["reason"] == "unacked");
    unacked(&first, 2);
    ack(&first);
    unacked(&first, 1);
    unacked(&second, 1);
    // What was said outlives the agent that heard it.
    let first = Agent::again(first.stop());
    first.generation("webhook", 2);
    unacked(&first, 1);
    assert_eq!(old(), 200);
    ack(&second);
    until("the end of the old value", || (old() == 404).then_some(()));
    let revoked = |agent: &Agent| agent.events().iter().any(|event| event["type"] == "rotation.revoked.v1");
    until("its event", || (revoked(&first) || revoked(&second)).then_some(()));
    let kept = vault.root().get("secret/metadata/rotation/webhook/acks?list=true").expect_success();
    assert_eq!(kept["data"]["keys"].as_array().unwrap().len(), 2, "{kept}");
}

#[test]
fn a_workload_that_never_acks_keeps_the_old_value_alive_up_to_max_grace() {
    let Some(vault) = Vault::start() else { return };
    let agent = plan(&vault, rotation("4s")).start();
    rotate(&agent);
    let revoked = agent.event("rotation.revoked.v1", |_| true);
    let events = agent.events();
    let unacked = events.iter().find(|event| event["reason"] == "unacked").unwrap();
    assert_eq!(unacked["rotation"]["id"], revoked["rotation"]["id"]);
    assert_eq!(vault.root().get("secret/data/webhook?version=1").status, 404);
}
