//! What fails while a request waits is never a yes.

use crate::{
    rig::{Agent, until},
    scene::{Scene, decided, pending, stands},
};
use serde_json::json;

#[test]
fn while_vault_is_sealed_a_request_waits_and_a_yes_is_not_used() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({})).start();
    let id = pending(&agent);
    scene.vault.seal();
    // Asked for again and again, past the moment in which nobody looks.
    agent.ask("/secrets/stripe?wait=3s");
    assert_eq!(pending(&agent), id);
    scene.vault.unseal();
    scene.approve(&scene.lead, &id);
    stands(&agent, &id, "granted");
    scene.vault.seal();
    let sealed = agent.read("stripe");
    assert_eq!((sealed.status, &sealed.json()["reason"]), (503, &json!("vault_sealed")), "{sealed:?}");
    scene.vault.unseal();
    let given = until("the secret", || Some(agent.read("stripe")).filter(|reply| reply.status == 200));
    assert_eq!(given.json()["value"], "sk_live_1");
    agent.event("secret.denied.v1", |event| event["reason"] == "vault_sealed");
}

#[test]
fn after_a_restart_the_same_call_joins_what_waits() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({})).start();
    let id = pending(&agent);
    let stopped = agent.stop();
    assert_eq!(stopped.code, Some(0));
    let agent = Agent::again(stopped);
    assert_eq!(pending(&agent), id);
    let joined = agent.event("approval.requested.v1", |event| event["approval"]["how"] == "joined");
    assert_eq!(joined["approval"]["id"], json!(id));
    scene.approve(&scene.lead, &id);
    assert_eq!(decided(&agent).status, 200);
}

#[test]
fn who_has_no_valid_login_says_nothing() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({})).start();
    let id = pending(&agent);
    let revoke = json!({"token": scene.lead.token});
    scene.vault.root().post("auth/token/revoke", &revoke).expect_success();
    let ran = scene.run(&scene.lead.token, &["approve", &id, "--reason", "x"]);
    assert_eq!(ran.status.code(), Some(3));
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("vault login"), "{said}");
    assert_eq!(pending(&agent), id);
    assert!(stands(&agent, &id, "pending")["approved_by"].as_array().unwrap().is_empty());
    // The word of somebody else is as good as before.
    scene.approve(&scene.on_call, &id);
    assert_eq!(decided(&agent).status, 200);
}

#[test]
fn what_somebody_signed_stands_though_their_login_is_revoked_since_and_falls_with_their_key() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.plan(json!({"quorum": 2, "uses": 2})).start();
    let id = pending(&agent);
    scene.approve(&scene.lead, &id);
    let root = scene.vault.root();
    root.post("auth/token/revoke", &json!({"token": scene.lead.token})).expect_success();
    // Who logs out after having said yes has said it all the same.
    scene.approve(&scene.on_call, &id);
    assert_eq!(decided(&agent).status, 200);
    let used = agent.event("approval.used.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(used["approval"]["by"], json!(["lead", "on-call"]));
    // Whose word is to count no more loses the key that it was signed with.
    let key = format!("transit/keys/approver-{}", scene.lead.entity);
    root.post(&format!("{key}/rotate"), &json!({})).expect_success();
    root.post(&format!("{key}/config"), &json!({"min_decryption_version": 2})).expect_success();
    let refused = agent.read("stripe");
    assert_eq!((refused.status, &refused.json()["reason"]), (403, &json!("approval_forged")), "{refused:?}");
    let event = agent.event("approval.refused.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!((&event["reason"], &event["approval"]["by"]), (&json!("approval_forged"), &json!(["lead"])));
}
