//! What is no yes, each with its own answer and its own word on record.

use crate::{
    rig::{Agent, until},
    scene::{Scene, decided, make_key, pending, stands},
};
use serde_json::{Value, json};

/// The answer, and what is on record, of a request that is refused.
fn refused(agent: &Agent, id: &str, reason: &str) -> Value {
    let reply = decided(agent);
    assert_eq!((reply.status, &reply.json()["reason"]), (403, &json!(reason)), "{reply:?}");
    let kind = if reason == "approval_expired" { "approval.expired.v1" } else { "approval.refused.v1" };
    let event = agent.event(kind, |event| event["approval"]["id"] == id);
    assert_eq!((&event["reason"], &event["outcome"]), (&json!(reason), &json!("deny")));
    agent.event("secret.denied.v1", |event| event["reason"] == reason)
}

#[test]
fn a_yes_for_one_pod_is_none_for_another() {
    let Some(scene) = Scene::start() else { return };
    let in_pod = |uid| {
        let mut plan = scene.plan(json!({}));
        plan.env = vec![("CLAVIGER_POD_UID", uid), ("CLAVIGER_POD_NAME", uid)];
        plan.start()
    };
    let (one, other) = (in_pod("pod-1"), in_pod("pod-2"));
    let (asked, others) = (pending(&one), pending(&other));
    assert_ne!(asked, others, "the same call of another pod does not join");
    scene.approve(&scene.lead, &asked);
    let slot = &scene.lead.entity;
    let vote = scene.stored(&format!("{asked}/{slot}"));
    scene.store(&format!("{others}/{slot}"), &vote);
    refused(&other, &others, "approval_replayed");
    // The same vote with the digest of the other request written over its own.
    assert_eq!(decided(&one).status, 200);
}

#[test]
fn what_is_not_signed_by_the_approver_counts_for_nothing() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({})).start();
    let id = pending(&agent);
    let slot = &scene.on_call.entity;
    let digest = agent.event("approval.requested.v1", |_| true)["approval"]["digest"].clone();
    scene.approve(&scene.lead, &pending_of_other_agent(&scene));
    let word = json!({"decision": "approve", "digest": digest, "reason": "x", "signature": "vault:v1:AAAA"});
    scene.store(&format!("{id}/{slot}"), &word);
    refused(&agent, &id, "approval_forged");
}

/// A request of another agent, with other terms.
fn pending_of_other_agent(scene: &Scene) -> String {
    let agent = scene.plan(json!({"uses": 9})).start();
    pending(&agent)
}

#[test]
fn what_was_changed_in_the_store_before_a_person_saw_it_is_refused() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({})).start();
    let id = pending(&agent);
    let mut request = scene.stored(&format!("{id}/request"));
    let harmless = request["ticket"].as_str().unwrap().replace("stripe", "harmless");
    request["ticket"] = json!(harmless);
    scene.store(&format!("{id}/request"), &request);
    scene.approve(&scene.lead, &id);
    refused(&agent, &id, "approval_changed");
}

#[test]
fn nobody_says_yes_to_an_act_of_their_own() {
    let Some(scene) = Scene::start() else { return };
    let mut plan = scene.plan(json!({}));
    let root = scene.vault.root();
    let role = root.get("auth/approle/role/app/role-id").expect_success()["data"]["role_id"].clone();
    let made = root.post("auth/approle/role/app/secret-id", &json!({})).expect_success();
    let login = json!({"role_id": role, "secret_id": made["data"]["secret_id"]});
    let auth = scene.vault.client("").post("auth/approle/login", &login).expect_success()["auth"].clone();
    let entity = auth["entity_id"].as_str().unwrap();
    make_key(&scene.vault, entity);
    plan.config["approvals"]["two"]["approvers"]["robot"] = json!({"entity_id": entity});
    let agent = plan.start();
    let id = pending(&agent);
    // Its token may do all of this in Vault.
    let token = auth["client_token"].as_str().unwrap();
    let ran = scene.run(token, &["approve", &id, "--reason", "I want it"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    refused(&agent, &id, "approval_self");
}

#[test]
fn who_is_excluded_says_no_yes() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({"exclude": [scene.on_call.entity]})).start();
    let id = pending(&agent);
    scene.approve(&scene.on_call, &id);
    refused(&agent, &id, "approval_self");
}

#[test]
fn a_request_that_nobody_answers_ends_with_its_time() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({"ttl": "2s"})).start();
    let id = pending(&agent);
    let waited = agent.ask("/secrets/stripe?wait=60s");
    assert_eq!((waited.status, &waited.json()["reason"]), (403, &json!("approval_expired")), "{waited:?}");
    let event = agent.event("approval.expired.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(event["reason"], "approval_expired");
    assert_eq!(stands(&agent, &id, "expired")["reason"], "approval_expired");
    // The next who asks begins anew; a late yes is none.
    assert_ne!(pending(&agent), id);
    let late = scene.run(&scene.lead.token, &["approve", &id, "--reason", "late"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("is over"));
}

#[test]
fn of_two_replicas_in_one_place_one_uses_the_yes() {
    let Some(scene) = Scene::start() else { return };
    let start = || scene.plan(json!({})).start();
    let (one, other) = (start(), start());
    let id = pending(&one);
    assert_eq!(pending(&other), id, "they ask together");
    let joined = other.event("approval.requested.v1", |_| true);
    assert_eq!(joined["approval"]["how"], "joined");
    scene.approve(&scene.lead, &id);
    for agent in [&one, &other] {
        stands(agent, &id, "granted");
    }
    let read = |agent: &Agent| agent.read("stripe");
    let (first, second) = std::thread::scope(|threads| {
        let first = threads.spawn(|| read(&one));
        (read(&other), first.join().unwrap())
    });
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403], "{first:?} {second:?}");
    let (loser, reply) = if first.status == 403 { (&other, first) } else { (&one, second) };
    assert_eq!(reply.json()["reason"], "approval_used");
    let event = loser.event("approval.refused.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(event["reason"], "approval_used");
}

#[test]
fn as_many_may_wait_as_the_config_says() {
    let Some(scene) = Scene::start() else { return };
    let mut plan = scene.plan(json!({"pending_max": 1}));
    let second = json!({"kind": "kv", "path": "secret/stripe", "field": "account", "refresh": "1h"});
    plan.secret("account", second);
    let agent = plan.start();
    pending(&agent);
    let crowded = until("a login", || Some(agent.read("account")).filter(|reply| reply.status != 503));
    assert_eq!((crowded.status, &crowded.json()["reason"]), (429, &json!("approval_crowded")));
    assert!(crowded.header("retry-after").is_some());
}
