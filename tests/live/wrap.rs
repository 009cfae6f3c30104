//! `wrap: {transit: …}` on the real Vault: the journal has no value, in any of its versions, and a run is gone on with by its ciphertext.

use crate::{
    rig::until,
    rotation::{generate, plan},
};
use lab::Vault;
use serde_json::{Value, json};

const JOURNAL: &str = "secret/data/rotation/webhook";

/// The base64 of `claviger/rotation/webhook`, and of the same of another rotation.
const OURS: &str = "Y2xhdmlnZXIvcm90YXRpb24vd2ViaG9vaw==";
const ANOTHER: &str = "Y2xhdmlnZXIvcm90YXRpb24vb3RoZXI=";

/// `machine`, as ciphertext that is bound so.
fn encrypted(vault: &Vault, bound: &str) -> Value {
    let body = json!({"plaintext": "bWFjaGluZQ==", "associated_data": bound});
    vault.root().post("transit/encrypt/rotation", &body).expect_success()["data"]["ciphertext"].clone()
}

#[test]
fn the_journal_of_a_wrapped_rotation_has_no_value_and_only_its_own_ciphertext_is_gone_on_with() {
    let Some(vault) = Vault::start() else { return };
    let root = vault.root();
    root.post("sys/mounts/transit", &json!({"type": "transit"})).expect_success();
    root.post("transit/keys/rotation", &json!({})).expect_success();
    let mut rotation = generate();
    rotation["wrap"] = json!({"transit": "transit/rotation"});
    rotation["schedule"] = json!({"every": "1h"});
    let mut plan = plan(&vault, rotation);
    let policy = root.get("sys/policies/acl/ci-read").expect_success()["data"]["policy"].clone();
    let policy = policy.as_str().unwrap().to_owned()
        + r#"path "transit/encrypt/rotation" { capabilities = ["update"] }
             path "transit/decrypt/rotation" { capabilities = ["update"] }"#;
    root.put("sys/policies/acl/ci-read", &json!({"policy": policy})).expect_success();
    plan.config["secrets"]["webhook"]["grace"] = json!("1s");
    let agent = plan.start();
    let journal = |version: u64| {
        let read = root.get(&format!("{JOURNAL}?version={version}"));
        (read.status == 200).then(|| read.expect_success()["data"].clone())
    };
    until("a journal", || journal(0));
    // A run that another replica left, with this as its value.
    let leave = |sealed: &Value, before: u64| {
        until("a journal that nobody wrote meanwhile", || {
            let mut read = journal(0).unwrap();
            let open = &mut read["data"]["journal"];
            for (key, value) in [
                ("phase", json!("pending")),
                ("rotation_id", json!("0123456789abcdef")),
                ("slot", open["settled"].clone()),
                ("slot_time", json!("2026-11-26T03:00:00+00:00")),
                ("holder", json!(null)),
                ("before", json!(before)),
                ("candidates", json!([{"n": 1, "sealed": sealed, "refused": false}])),
            ] {
                open[key] = value;
            }
            let body = json!({"options": {"cas": read["metadata"]["version"]}, "data": read["data"]});
            (root.post(JOURNAL, &body).status == 200).then_some(())
        });
    };
    leave(&encrypted(&vault, OURS), 1);
    assert_eq!(agent.generation("webhook", 2)["data"]["key"], "machine");
    until("an idle journal", || journal(0).filter(|it| it["data"]["journal"]["phase"] == "idle"));
    // Its own run: what it wrote is no value.
    let config = agent.folder().join("claviger.yaml");
    let now = ["rotation", "now", "webhook", "--reason", "a test", "--config"];
    let mut command = std::process::Command::new(crate::rig::PROGRAM);
    crate::rig::printed(command.args(now).arg(&config));
    let made = agent.generation("webhook", 3)["data"]["key"].as_str().unwrap().to_owned();
    until("an idle journal", || journal(0).filter(|it| it["data"]["journal"]["phase"] == "idle"));
    let newest = journal(0).unwrap()["metadata"]["version"].as_u64().unwrap();
    let versions: Vec<Value> = (newest.saturating_sub(4)..=newest).filter_map(journal).collect();
    let text = json!(versions).to_string();
    assert!(text.contains("\"sealed\":\"vault:v1:") && !text.contains(&made), "{text}");
    // The ciphertext of another rotation is not taken, and nothing is promoted.
    leave(&encrypted(&vault, ANOTHER), 3);
    let failed = agent.event("rotation.failed.v1", |_| true);
    assert_eq!(failed["reason"], "vault_invalid", "{failed:#}");
    let metadata = root.get("secret/metadata/webhook").expect_success();
    assert_eq!(metadata["data"]["current_version"], 3);
}
