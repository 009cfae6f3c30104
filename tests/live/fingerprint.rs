//! Fingerprints of values by the real transit engine.

use crate::rig::{Agent, Plan, until, write_stripe};
use lab::Vault;
use serde_json::json;

/// What `reports` may do besides: read, and make HMACs by one key.
const POLICY: &str = r#"
path "secret/*" { capabilities = ["read"] }
path "crypt/hmac/audit/*" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"#;

fn prepare(vault: &Vault) -> Plan {
    let root = vault.root();
    root.post("sys/mounts/crypt", &json!({"type": "transit"})).expect_success();
    root.post("crypt/keys/audit", &json!({})).expect_success();
    Plan::new(vault)
}

/// An agent of its own whose one secret is `name`, at this path; `field` and the policy are as given.
fn agent(vault: &Vault, mut plan: Plan, policy: &str, secret: serde_json::Value) -> Agent {
    plan.approle(vault, json!({"token_ttl": "10m"}));
    vault.root().put("sys/policies/acl/reports", &json!({"policy": policy})).expect_success();
    plan.config["audit"]["fingerprint_key"] = json!("crypt/audit");
    plan.secret("key", secret);
    plan.start()
}

/// The fingerprint on record of the read of generation `generation`.
fn fingerprint(agent: &Agent, generation: u64) -> String {
    agent.generation("key", generation);
    let read = agent.event("secret.read.v1", |event| {
        event["resource"]["version"] == generation && event["outcome"] == "allow"
    });
    read["resource"]["fp"].as_str().unwrap_or("missing").to_owned()
}

#[test]
fn equal_values_of_two_workloads_have_one_fingerprint_and_another_value_has_another() {
    let Some(vault) = Vault::start() else { return };
    let root = vault.root();
    let plan = prepare(&vault);
    write_stripe(&vault, "sk_live_shared_credential");
    // The same credential at another place, under another name, alone in its secret.
    root.post("secret/data/copy", &json!({"data": {"token": "sk_live_shared_credential"}})).expect_success();
    let stripe = json!({"kind": "kv", "path": "secret/stripe", "field": "api_key", "refresh": "1s"});
    let first = agent(&vault, plan, POLICY, stripe);
    let one = fingerprint(&first, 1);
    assert!(one.starts_with("k1:hmac-sha256:") && one.len() == 15 + 64, "{one}");
    // Vault's own word for it.
    let input = "c2tfbGl2ZV9zaGFyZWRfY3JlZGVudGlhbA==";
    let verified = root.post("crypt/verify/audit/sha2-256", &json!({"input": input, "hmac": to_vault(&one)}));
    assert_eq!(verified.expect_success()["data"]["valid"], true);
    let mut second = Plan::new(&vault);
    second.config["workloads"]["job"]["rules"][0]["name"] = json!("other");
    second.approle_again(&vault);
    vault.root().put("sys/policies/acl/reports", &json!({"policy": POLICY})).expect_success();
    second.config["audit"]["fingerprint_key"] = json!("crypt/audit");
    second.secret("key", json!({"kind": "kv", "path": "secret/copy", "refresh": "1s"}));
    let second = second.start();
    assert_eq!(fingerprint(&second, 1), one);
    write_stripe(&vault, "sk_live_another_credential");
    let other = fingerprint(&first, 2);
    assert!(other.starts_with("k1:hmac-sha256:") && other != one);
    // A new version of the key shows in what comes after it.
    root.post("crypt/keys/audit/rotate", &json!({})).expect_success();
    write_stripe(&vault, "sk_live_shared_credential");
    let rotated = fingerprint(&first, 3);
    assert!(rotated.starts_with("k2:hmac-sha256:") && rotated[2..] != one[2..], "{rotated}");
}

#[test]
fn an_identity_that_may_not_use_the_key_serves_all_the_same_and_says_so() {
    let Some(vault) = Vault::start() else { return };
    let plan = prepare(&vault);
    write_stripe(&vault, "sk_live_shared_credential");
    let stripe = json!({"kind": "kv", "path": "secret/stripe", "field": "api_key", "refresh": "1s"});
    let policy = POLICY.replace("crypt/hmac", "elsewhere");
    let agent = agent(&vault, plan, &policy, stripe);
    assert_eq!(fingerprint(&agent, 1), "unavailable");
    agent.says("served without a fingerprint");
    // Once for each value.
    until("the next look", || agent.read("key").json()["generation"].as_u64().filter(|it| *it == 1));
    let complaints =
        agent.log().iter().filter(|line| line.to_string().contains("without a fingerprint")).count();
    assert_eq!(complaints, 1);
    write_stripe(&vault, "short");
    assert_eq!(fingerprint(&agent, 2), "none");
}

/// An event's fingerprint as Vault writes it.
fn to_vault(fingerprint: &str) -> String {
    use base64::Engine as _;
    let (version, digits) = fingerprint.split_once(":hmac-sha256:").unwrap();
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let tag = base64::prelude::BASE64_STANDARD.encode(bytes);
    format!("vault:v{}:{tag}", &version[1..])
}
