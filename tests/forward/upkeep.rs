//! What is on record of requests that are sent on, and what happens while tokens and servers come and go.

use crate::{
    rig::{Plan, until},
    scene::{Scene, ask},
};
use lab::Vault;
use serde_json::json;

const ALL: [&str; 5] = ["GET", "LIST", "POST", "PATCH", "DELETE"];

#[test]
fn a_write_is_on_record_before_it_is_sent_and_what_came_of_it_after() {
    let Some(vault) = Vault::start() else { return };
    let scene =
        Scene::of(&vault, json!([{"name": "tree", "vault": {"paths": ["secret/*"], "methods": ALL}}]));
    let wrote = scene.ask("PUT", "secret/data/a", &[], "{\"data\": {\"k\": \"v1\"}}");
    assert_eq!((wrote.status, &wrote.json()["data"]["version"]), (200, &json!(1)));
    let patch = ["Content-Type: application/merge-patch+json"];
    assert_eq!(scene.ask("PATCH", "secret/data/a", &patch, "{\"data\": {\"k2\": \"v2\"}}").status, 200);
    assert_eq!(scene.read("secret/data/a").json()["data"]["data"], json!({"k": "v1", "k2": "v2"}));
    assert_eq!(scene.read("secret/data/a?version=1").json()["data"]["data"], json!({"k": "v1"}));
    assert_eq!(scene.ask("DELETE", "secret/metadata/a", &[], "").status, 204);
    assert_eq!(scene.read("secret/data/a").status, 404);
    assert_eq!(scene.ask("POST", "secret/data/a", &[], "no json").status, 400);
    let word = |event: &serde_json::Value| {
        let text = |at: &str| event.pointer(at).and_then(|word| word.as_str()).unwrap_or("-").to_owned();
        ["/type", "/outcome", "/reason", "/resource/operation", "/resource/path", "/rule/name"]
            .map(text)
            .join(" ")
    };
    let events: Vec<String> = scene.events(11).iter().map(word).collect();
    assert_eq!(
        events,
        [
            "vault.intent.v1 allow - write secret/data/a tree",
            "vault.result.v1 allow - write secret/data/a tree",
            "vault.intent.v1 allow - patch secret/data/a tree",
            "vault.result.v1 allow - patch secret/data/a tree",
            "vault.called.v1 allow - read secret/data/a tree",
            "vault.called.v1 allow - read secret/data/a tree",
            "vault.intent.v1 allow - delete secret/metadata/a tree",
            "vault.result.v1 allow - delete secret/metadata/a tree",
            "vault.called.v1 error vault_missing read secret/data/a tree",
            "vault.intent.v1 allow - write secret/data/a tree",
            "vault.result.v1 error vault_invalid write secret/data/a tree",
        ]
    );
    let calls = scene.events(11);
    let read = calls
        .iter()
        .find(|event| event["type"] == "vault.called.v1" && event["resource"]["path"] == "secret/data/a");
    assert!(read.unwrap()["vault"]["request_id"].as_str().is_some_and(|id| id.len() == 36), "{read:?}");
}

#[test]
fn a_body_over_the_limit_is_refused_and_vault_does_not_hear_of_it() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let rule = json!({"paths": ["secret/*"], "methods": ALL, "max_request": "200KiB"});
    let scene = Scene::of(&vault, json!([{"name": "tree", "vault": rule}]));
    let body = format!("{{\"data\": {{\"k\": \"{}\"}}}}", "x".repeat(200 * 1024));
    assert_eq!(scene.ask("POST", "secret/data/large", &[], &body).status, 413);
    assert_eq!(audit.calls("secret/data/large"), 0);
}

/// Revokes every token that was got by AppRole.
pub(crate) fn revoke_logins(vault: &Vault) {
    let accessors = vault.root().list("auth/token/accessors").expect_success();
    for accessor in accessors["data"]["keys"].as_array().unwrap() {
        let found = vault.root().post("auth/token/lookup-accessor", &json!({"accessor": accessor}));
        if found.expect_success()["data"]["path"] == "auth/approle/login" {
            vault.root().post("auth/token/revoke-accessor", &json!({"accessor": accessor})).expect_success();
        }
    }
}

#[test]
fn a_read_is_sent_again_once_the_token_that_was_revoked_is_replaced() {
    let Some(vault) = Vault::start() else { return };
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    vault.root().post("secret/data/a", &json!({"data": {"k": "v"}})).expect_success();
    plan.config["workloads"]["job"]["rules"] =
        json!([{"name": "tree", "vault": {"paths": ["secret/data/+"]}}]);
    let agent = plan.start();
    let read = || ask(&agent.socket(), "GET", "secret/data/a", &[], "");
    until("a token", || (read().status == 200).then_some(()));
    revoke_logins(&vault);
    let said = read();
    assert_eq!((said.status, &said.json()["data"]["data"]["k"]), (200, &json!("v")), "{said:?}");
    until("two logins", || {
        let logins = agent.events().iter().filter(|event| event["type"] == "auth.login.v1").count();
        (logins == 2).then_some(())
    });
}
