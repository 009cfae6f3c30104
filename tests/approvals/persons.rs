//! What persons say, and what comes of it.

use crate::{
    rig::{Agent, until},
    scene::{Scene, decided, pending, public_key, send, stands},
};
use serde_json::{Value, json};
use std::{fs, process::Command};

#[test]
fn two_persons_say_yes_with_their_own_logins_and_the_secret_is_given_once() {
    let Some(scene) = Scene::start() else { return };
    let mut plan = scene.plan(json!({"quorum": 2}));
    let pinned =
        json!({"entity_id": scene.lead.entity, "public_key": public_key(&scene.vault, &scene.lead.entity)});
    plan.config["approvals"]["two"]["approvers"]["lead"] = pinned;
    let agent = plan.start();
    let id = pending(&agent);
    // The same call joins.
    let again = agent.read("stripe");
    assert_eq!((again.status, again.header("retry-after")), (202, Some("5")));
    assert_eq!(again.json()["approval_id"], json!(id));
    let list = scene.done(&scene.lead, &["approvals"]);
    assert!(list.contains("job wants to read the secret stripe") && list.contains(&id), "{list}");
    scene.approve(&scene.lead, &id);
    until("the first yes", || {
        (stands(&agent, &id, "pending")["approved_by"] == json!(["lead"])).then_some(())
    });
    let list: Value = serde_json::from_str(&scene.done(&scene.on_call, &["approvals", "--json"])).unwrap();
    assert_eq!(list["approvals"][0]["votes"][0]["approver"], "lead");
    // Nobody says yes twice.
    let twice = scene.run(&scene.lead.token, &["approve", &id, "--reason", "again"]);
    assert_eq!(twice.status.code(), Some(1), "{}", String::from_utf8_lossy(&twice.stderr));
    let value = std::thread::scope(|threads| {
        // The caller that waits is answered when the second yes is there.
        let waiting = threads.spawn(|| agent.ask("/secrets/stripe?wait=60s"));
        scene.approve(&scene.on_call, &id);
        waiting.join().unwrap()
    });
    assert_eq!((value.status, &value.json()["value"]), (200, &json!("sk_live_1")), "{value:?}");
    let second = pending(&agent);
    assert_ne!(second, id, "a yes is used once");
    assert_eq!(stands(&agent, &id, "used")["reason"], "approval_used");
    on_record(&agent, &id);
    let metrics = agent.health("/metrics").text;
    for line in [
        "claviger_approvals_total{approval=\"two\",state=\"granted\",reason=\"\"} 1",
        "claviger_approvals_total{approval=\"two\",state=\"used\",reason=\"\"} 1",
        "claviger_approvals_pending{approval=\"two\"} 1.0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!scene.stored(&format!("{id}/request")).to_string().contains("sk_live_1"));
}

/// Each step of a request is on record, and so is by whose yes the secret was given.
fn on_record(agent: &Agent, id: &str) {
    for kind in ["requested", "granted", "used"] {
        let event = agent.event(&format!("approval.{kind}.v1"), |event| event["approval"]["id"] == id);
        assert_eq!(event["resource"]["secret"], "stripe", "{event}");
    }
    let granted = agent.event("approval.granted.v1", |_| true);
    assert_eq!(granted["approval"]["by"], json!(["lead", "on-call"]));
    assert_eq!(granted["approval"]["said"], json!(["release 7", "release 7"]));
    let read = agent.event("secret.read.v1", |event| event["outcome"] == "allow");
    assert_eq!((&read["approval"]["id"], &read["approval"]["by"]), (&json!(id), &json!(["lead", "on-call"])));
    let denied = agent.event("secret.denied.v1", |event| event["reason"] == "approval_pending");
    assert_eq!(denied["approval"]["id"], json!(id));
}

#[test]
fn a_person_says_yes_with_an_ssh_key_by_openssh_itself() {
    let Some(scene) = Scene::start() else { return };
    let plan = scene.plan(json!({}));
    let key = plan.path("owner");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(plan.path("owner.pub")).unwrap();
    let mut plan = plan;
    plan.config["approvals"]["two"]["approvers"] = json!({"owner": {"ssh_key": public.trim()}});
    let agent = plan.start();
    let id = pending(&agent);
    // Without the key the person is nobody here.
    let nobody = scene.run(&scene.lead.token, &["approve", &id, "--reason", "x"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", String::from_utf8_lossy(&nobody.stderr));
    scene.done(&scene.lead, &["approve", &id, "--reason", "x", "--ssh-key", key.to_str().unwrap()]);
    assert_eq!(decided(&agent).status, 200);
}

#[test]
fn one_no_ends_it_also_after_a_yes() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({"uses": 5})).start();
    let id = pending(&agent);
    scene.approve(&scene.lead, &id);
    assert_eq!(decided(&agent).status, 200);
    scene.done(&scene.on_call, &["refuse", &id, "--reason", "not on a Friday"]);
    let refused = until("a no", || Some(agent.read("stripe")).filter(|reply| reply.status != 200));
    assert_eq!((refused.status, &refused.json()["reason"]), (403, &json!("approval_refused")));
    let event = agent.event("approval.refused.v1", |_| true);
    assert_eq!(event["approval"]["said"], json!(["not on a Friday"]));
    // It stands until the request's time is over.
    assert_eq!(agent.read("stripe").status, 403);
    // Whoever said yes may take it back in the same way.
    let agent = scene.plan(json!({"uses": 7})).start();
    let id = pending(&agent);
    scene.approve(&scene.lead, &id);
    stands(&agent, &id, "granted");
    scene.done(&scene.lead, &["refuse", &id, "--reason", "I was wrong"]);
    assert_eq!(decided(&agent).json()["reason"], "approval_refused");
}

#[test]
fn where_it_only_observes_nobody_is_asked_and_the_record_says_who_would_have_been() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({"observe": true})).start();
    agent.value("stripe");
    let read = agent.event("secret.read.v1", |event| event["outcome"] == "allow");
    assert_eq!(read["approval"], json!({"how": "observed", "name": "two"}));
    // To acknowledge gives nothing, and needs nobody's yes.
    let mut agent = agent;
    agent.change(|config| config["approvals"]["two"]["observe"] = json!(false));
    agent.event("config.loaded.v1", |_| true);
    pending(&agent);
    assert_eq!(send(&agent, "POST", "/secrets/stripe/ack", "").0, 200);
}
