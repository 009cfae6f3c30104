//! What is on record: our events join Vault's own audit log, and no token, secret or credential is in anything we write.

use crate::{
    calls,
    rig::{Plan, until},
};
use lab::{AuditFile, Vault};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

/// The ids of the calls of one path, by Vault.
fn ids(audit: &AuditFile, path: &str) -> Vec<Value> {
    let wanted = |entry: &&Value| entry["type"] == "request" && entry["request"]["path"] == path;
    audit.entries().iter().filter(wanted).map(|entry| entry["request"]["id"].clone()).collect()
}

#[test]
fn the_request_id_of_our_event_is_in_vaults_own_audit_log() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "3s"}));
    plan.stripe(&vault);
    let agent = plan.start();
    agent.value("stripe");
    let joined = |kind: &str, path: &str| {
        let event = agent.event(kind, |event| event["outcome"] == "allow");
        let id = &event["vault"]["request_id"];
        assert!(id.is_string() && ids(&audit, path).contains(id), "{event}");
    };
    joined("auth.login.v1", "auth/approle/login");
    joined("auth.renew.v1", "auth/token/renew-self");
    joined("secret.read.v1", "secret/data/stripe");
}

#[test]
fn a_namespace_in_the_config_does_no_harm_on_the_community_edition() {
    let Some(vault) = Vault::start() else { return };
    let mut plan = Plan::new(&vault);
    plan.config["vault"]["namespace"] = json!("platform/team");
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    let agent = plan.start();
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    agent.ready();
}

/// Everything that Vault gave to us or got from us and that nobody may read: tokens, lease ids, values.
fn confidential(raw: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in fs::read_to_string(raw).unwrap().lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        if calls::is_root(&entry) {
            continue;
        }
        let pointers = [
            "/auth/client_token",
            "/request/client_token",
            "/request/data/secret_id",
            "/response/auth/client_token",
            "/response/secret/lease_id",
            "/response/data/data/api_key",
            "/response/data/private_key",
        ];
        let texts = pointers.iter().filter_map(|pointer| entry.pointer(pointer)?.as_str());
        found.extend(texts.filter(|text| !text.is_empty()).map(str::to_owned));
    }
    found
}

#[test]
fn no_token_no_secret_and_no_lease_id_is_in_our_output_our_log_or_our_journal() {
    let Some(vault) = Vault::start() else { return };
    let mut plan = Plan::new(&vault);
    let raw = plan.path("raw-vault-audit");
    let options = json!({"file_path": raw, "log_raw": "true"});
    vault.root().put("sys/audit/raw", &json!({"type": "file", "options": options})).expect_success();
    let audit = vault.audit_file();
    plan.approle(&vault, json!({"token_ttl": "3s", "token_max_ttl": "6s"}));
    plan.stripe(&vault);
    plan.secret(
        "ci-token",
        json!({"kind": "token", "policies": ["ci-read"], "no_default_policy": false, "ttl": "30s", "grace": "0s"}),
    );
    let agent = plan.start();
    agent.value("stripe");
    agent.value("ci-token");
    until("a second login, and the first one revoked", || {
        (calls::count(&audit, "auth/token/revoke-self") >= 1).then_some(())
    });
    // And what refusals say: Vault repeats paths and words of ours.
    vault.root().delete("sys/policies/acl/reports").expect_success();
    agent.says("not kept");
    let metrics = agent.health("/metrics").text;
    let ready = agent.health("/readyz").text;
    let secrets = confidential(&raw);
    let stopped = agent.stop();
    assert!(
        secrets.iter().filter(|text| text.starts_with("hvs.")).count() >= 3,
        "two logins and a child: {secrets:?}"
    );
    assert!(secrets.contains("sk_live_1"));
    let mut written = stopped.written();
    assert!(written.len() >= 3, "stdout, stderr and a segment");
    assert!(written.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("secret.read.v1")));
    written.push(("metrics".into(), metrics.into_bytes()));
    written.push(("readyz".into(), ready.into_bytes()));
    for (place, bytes) in written {
        let text = String::from_utf8_lossy(&bytes);
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is in {}", place.display());
        }
        assert!(!text.contains("hvs."), "something like a token is in {}", place.display());
    }
}
