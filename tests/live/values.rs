//! What the kinds give on the real engines: KV 1 and 2, certificates of the PKI engine, child tokens.

use crate::{
    calls, pem,
    rig::{PROGRAM, Plan, output, printed, until, vault_cli, write_stripe},
};
use lab::Vault;
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

#[test]
fn a_new_version_in_kv_2_is_seen_and_the_value_is_read_only_when_it_changed() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    let agent = plan.start();
    let first = agent.generation("stripe", 1);
    assert_eq!((&first["value"], &first["generation"]), (&json!("sk_live_1"), &json!(1)));
    let tag = agent.read("stripe").header("etag").unwrap().trim_matches('"').to_owned();
    until("three looks", || (calls::count(&audit, "secret/metadata/stripe") >= 3).then_some(()));
    assert_eq!(calls::count(&audit, "secret/data/stripe"), 1);
    write_stripe(&vault, "sk_live_2");
    let newer = agent.ask(&format!("/secrets/stripe?wait=60s&since={tag}")).json();
    assert_eq!((&newer["value"], &newer["generation"]), (&json!("sk_live_2"), &json!(2)));
    assert_eq!(calls::count(&audit, "secret/data/stripe"), 2);
    assert_eq!(calls::count(&audit, "sys/internal/ui/mounts/secret/stripe"), 1);
}

#[test]
fn a_value_in_kv_1_that_changes_is_seen() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let root = vault.root();
    root.post("sys/mounts/old", &json!({"type": "kv", "options": {"version": "1"}})).expect_success();
    root.post("old/team/smtp", &json!({"password": "one", "port": 25})).expect_success();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.secret("smtp", json!({"kind": "kv", "path": "old/team/smtp", "refresh": "1s"}));
    let agent = plan.start();
    assert_eq!(agent.value("smtp")["data"], json!({"password": "one", "port": 25}));
    until("three reads", || (calls::count(&audit, "old/team/smtp") >= 3).then_some(()));
    assert_eq!(agent.value("smtp")["generation"], 1, "the same value is no new generation");
    root.post("old/team/smtp", &json!({"password": "two", "port": 25})).expect_success();
    assert_eq!(agent.generation("smtp", 2)["data"]["password"], "two");
}

/// What `claviger get` writes to a pipe.
fn get(socket: &Path, args: &[&str]) -> String {
    let mut command = Command::new(PROGRAM);
    printed(command.arg("get").args(args).env_clear().env("CLAVIGER_SOCKET", socket))
}

#[test]
fn claviger_get_gives_what_vault_kv_get_gives() {
    let Some(vault) = Vault::start() else { return };
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    let odd = json!({"data": {
        "text": "line one\nline two\t\"quoted\" \\ / \u{e9} \u{1F511}", "number": 12_345_678_901_234_567_890_u64,
        "list": [1, {"a": null}], "yes": true,
    }});
    vault.root().post("secret/data/odd", &odd).expect_success();
    plan.secret("odd", json!({"kind": "kv", "path": "secret/odd"}));
    plan.secret("text", json!({"kind": "kv", "path": "secret/odd", "field": "text"}));
    let agent = plan.start();
    let socket = agent.socket();
    let theirs: Value =
        serde_json::from_str(&vault_cli(&vault, &["kv", "get", "-format=json", "secret/odd"])).unwrap();
    let ours: Value = serde_json::from_str(&get(&socket, &["odd", "--json", "--wait", "60s"])).unwrap();
    assert_eq!(ours["data"], theirs["data"]["data"]);
    assert_eq!(ours["generation"], theirs["data"]["metadata"]["version"]);
    let text = vault_cli(&vault, &["kv", "get", "-field=text", "secret/odd"]);
    assert_eq!(get(&socket, &["odd", "--field", "text"]), text);
    assert_eq!(get(&socket, &["text", "--wait", "60s"]), text);
    let refused = output(Command::new(PROGRAM).args(["get", "nothing"]).env("CLAVIGER_SOCKET", &socket));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
}

/// The public key of a PEM file, by openssl.
fn public_key(folder: &Path, words: &str) -> String {
    pem::openssl(folder, words)
}

#[test]
fn a_certificate_of_the_pki_engine_verifies_and_is_replaced_before_its_end() {
    let Some(vault) = Vault::start() else { return };
    let root = vault.root();
    root.post("sys/mounts/pki", &json!({"type": "pki"})).expect_success();
    let made = root.post("pki/root/generate/internal", &json!({"common_name": "Live CA", "ttl": "1h"}));
    let ca = made.expect_success()["data"]["certificate"].as_str().unwrap().to_owned();
    let role =
        json!({"allowed_domains": "internal", "allow_subdomains": true, "key_type": "ec", "key_bits": 256});
    root.post("pki/roles/web", &role).expect_success();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    let params = json!({"common_name": "web.internal", "ttl": "20s"});
    plan.secret(
        "web-cert",
        json!({"kind": "certificate", "path": "pki/issue/web", "params": params, "renew_at": 0.2}),
    );
    let ca_file = plan.file("ca.pem", &ca);
    let agent = plan.start();
    let first = agent.value("web-cert");
    assert_eq!(first["kind"], "certificate");
    let folder = agent.folder();
    let field = |value: &Value, name: &str| value["data"][name].as_str().unwrap().to_owned();
    fs::write(folder.join("web.crt"), field(&first, "certificate")).unwrap();
    fs::write(folder.join("web.key"), field(&first, "private_key")).unwrap();
    let verified = pem::openssl(
        folder,
        &format!("verify -CAfile {} -verify_hostname web.internal web.crt", ca_file.display()),
    );
    assert_eq!(verified, "web.crt: OK");
    let (of_certificate, of_key) = (
        public_key(folder, "x509 -in web.crt -noout -pubkey"),
        public_key(folder, "pkey -in web.key -pubout"),
    );
    assert_eq!(of_certificate, of_key);
    let second = agent.generation("web-cert", 2);
    assert_ne!(field(&first, "serial_number"), field(&second, "serial_number"));
    let both = agent.ask("/secrets/web-cert?versions=current,previous").json();
    assert!(both["previous"].is_object(), "the old one is still valid: {}", both["generation"]);
}

#[test]
fn a_child_token_can_do_what_its_policies_say_and_no_more_and_ends_with_us() {
    let Some(vault) = Vault::start() else { return };
    let root = vault.root();
    let policy = r#"path "secret/data/ci" { capabilities = ["read"] }"#;
    root.put("sys/policies/acl/ci-read", &json!({"policy": policy})).expect_success();
    root.post("secret/data/ci", &json!({"data": {"k": "v"}})).expect_success();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    plan.secret("ci-token", json!({"kind": "token", "policies": ["ci-read"], "ttl": "15m"}));
    let agent = plan.start();
    let child = agent.value("ci-token");
    let child = vault.client(child["value"].as_str().unwrap());
    assert_eq!(child.get("secret/data/ci").expect_success()["data"]["data"]["k"], "v");
    assert_eq!(child.get("secret/data/stripe").status, 403);
    assert_eq!(child.get("auth/token/lookup-self").status, 403, "without the default policy");
    assert_eq!(agent.stop().code, Some(0));
    until("the child's end", || (child.get("secret/data/ci").status == 403).then_some(()));
}
