//! Child tokens that are asked for in Vault's own API: what they may be, whose they are, and when they end.

use crate::{
    clients::vault_cli,
    failover::{Mode, Relay},
    rig::{Plan, printed, until},
    scene::{Scene, make_token},
};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
};

const CREATE: &str = "auth/token/create";

/// Rules for children that may read, and do so with the policies of `tokens`.
fn scene(vault: &Vault, tokens: &Value) -> Scene {
    let read = r#"path "secret/*" { capabilities = ["read"] }"#;
    vault.root().put("sys/policies/acl/ci-read", &json!({"policy": read})).expect_success();
    vault.root().post("secret/data/a", &json!({"data": {"k": "v"}})).expect_success();
    Scene::of(vault, json!([{"name": "children", "vault": {"tokens": tokens}}]))
}

fn text<'a>(made: &'a Value, name: &str) -> &'a str {
    made["auth"][name].as_str().unwrap_or_else(|| panic!("no {name}: {made}"))
}

/// Whether Vault knows it.
fn lives(vault: &Vault, made: &Value) -> bool {
    vault.client(text(made, "client_token")).get("secret/data/a").status == 200
}

fn count(vault: &Vault) -> usize {
    let accessors = vault.root().list("auth/token/accessors").expect_success();
    accessors["data"]["keys"].as_array().unwrap().len()
}

#[test]
fn a_child_token_is_what_its_rule_allows_and_ends_with_the_process_that_asked() {
    let Some(vault) = Vault::start() else { return };
    let scene = scene(&vault, &json!({"policies": ["ci-read"], "ttl": "15m", "uses": 50}));
    let ours = scene.ask("POST", CREATE, &[], r#"{"ttl": "768h", "meta": {"job": "7"}}"#).json();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--unix-socket"]).arg(scene.agent.socket());
    curl.args(["-d", r#"{"policies": ["ci-read"], "ttl": "5m"}"#]).arg(format!("http://x/v1/{CREATE}"));
    let theirs: Value = serde_json::from_str(&printed(&mut curl)).unwrap();
    assert_eq!((&theirs["auth"]["lease_duration"], &theirs["auth"]["num_uses"]), (&json!(300), &json!(50)));
    assert_eq!(theirs["auth"]["policies"], json!(["ci-read"]));
    let revoked = scene.agent.event("lease.revoked.v1", |_| true);
    assert_eq!((&revoked["outcome"], &revoked["resource"]["kind"]), (&json!("allow"), &json!("token")));
    until("the end of the child of a process that ended", || (!lives(&vault, &theirs)).then_some(()));
    assert!(lives(&vault, &ours));
    let accessor = json!({"accessor": text(&ours, "accessor")});
    let known = vault.root().post("auth/token/lookup-accessor", &accessor).expect_success();
    assert_eq!((&known["data"]["explicit_max_ttl"], &known["data"]["orphan"]), (&json!(900), &json!(false)));
    assert!(scene.agent.health("/metrics").text.contains("claviger_forwarded_tokens{workload=\"job\"} 1"));
    // What it may do with it: look, and end it; and with nobody else's.
    let own = json!({"token": text(&ours, "client_token")}).to_string();
    assert_eq!(scene.ask("POST", "auth/token/lookup", &[], &own).json()["data"]["meta"]["job"], "7");
    assert_eq!(
        scene.ask("POST", "auth/token/renew", &[], &own).json()["auth"]["policies"],
        json!(["ci-read"])
    );
    let of_agent = json!({"accessor": scene.accessor}).to_string();
    assert_eq!(scene.ask("POST", "auth/token/revoke-accessor", &[], &of_agent).status, 403);
    assert_eq!(scene.ask("POST", "auth/token/revoke-accessor", &[], &accessor.to_string()).status, 204);
    assert!(!lives(&vault, &ours));
    until("no child", || {
        let text = scene.agent.health("/metrics").text;
        text.contains("claviger_forwarded_tokens{workload=\"job\"} 0").then_some(())
    });
    assert_eq!(scene.ask("POST", "auth/token/revoke-accessor", &[], &accessor.to_string()).status, 403);
    let made = scene.agent.event("vault.result.v1", |event| event["resource"]["path"] == CREATE);
    assert_eq!((&made["resource"]["kind"], &made["outcome"]), (&json!("token"), &json!("allow")));
}

#[test]
fn a_child_token_that_is_more_than_its_rule_allows_is_not_made() {
    let Some(vault) = Vault::start() else { return };
    let scene = scene(&vault, &json!({"policies": ["ci-read"], "ttl": "15m"}));
    let before = count(&vault);
    for (path, body, status) in [
        (CREATE, r#"{"policies": ["anything"]}"#, 403),
        (CREATE, r#"{"policies": ["ci-read", "root"]}"#, 403),
        (CREATE, r#"{"no_parent": true}"#, 403),
        (CREATE, r#"{"period": "1h"}"#, 403),
        (CREATE, r#"{"id": "known"}"#, 403),
        (CREATE, r#"{"type": "batch"}"#, 403),
        (CREATE, r#"{"Policies": ["root"]}"#, 400),
        (CREATE, r#"{"policies": ["ci-read"], "policies": ["root"]}"#, 400),
        (CREATE, "policies=root", 400),
        ("auth/token/create-orphan", "{}", 403),
        ("auth/token/create/role", "{}", 403),
        ("ns1/auth/token/create", "{}", 403),
    ] {
        let said = scene.ask("POST", path, &[], body);
        assert_eq!(said.status, status, "{path} {body}: {said:?}");
        assert!(!said.raw.contains("hvs."), "{path} {body}: {said:?}");
    }
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    let made = scene.ask("POST", CREATE, &form, r#"{"meta": {"x": "&policies=root&"}}"#).json();
    assert_eq!(made["auth"]["policies"], json!(["ci-read"]));
    let wrapped = scene.ask("POST", CREATE, &["X-Vault-Wrap-TTL: 60s"], "{}");
    assert_eq!(wrapped.status, 403, "{wrapped:?}");
    assert_eq!(count(&vault), before + 1);
    assert_eq!(scene.agent.event("vault.denied.v1", |_| true)["reason"], "token_terms");
}

/// A token role makes of a token what it likes, whatever is asked for.
#[test]
fn a_child_token_that_its_role_made_more_than_its_rule_allows_is_revoked_and_not_given() {
    let Some(vault) = Vault::start() else { return };
    let role = json!({"orphan": true, "allowed_policies": ["ci-read"]});
    vault.root().post("auth/token/roles/loose", &role).expect_success();
    let scene = scene(&vault, &json!({"policies": ["ci-read"], "role": "loose"}));
    let before = count(&vault);
    let said = scene.ask("POST", "auth/token/create/loose", &[], "{}");
    assert!(said.status == 403 && said.raw.contains("without a parent"), "{said:?}");
    assert!(!said.raw.contains("hvs."), "{said:?}");
    assert_eq!(count(&vault), before);
    assert_eq!(scene.ask("POST", CREATE, &[], "{}").status, 403);
    let event = scene.agent.event("vault.result.v1", |_| true);
    assert_eq!((&event["outcome"], &event["reason"]), (&json!("deny"), &json!("token_terms")));
}

#[test]
fn vaults_command_line_makes_a_child_token() {
    let Some(vault) = Vault::start() else { return };
    let scene = scene(&vault, &json!({"policies": ["ci-read"]}));
    let run = |words: &[&str]| printed(&mut vault_cli(&vault, &scene, words));
    let words = ["token", "create", "-policy=ci-read", "-ttl=5m", "-field=token_duration"];
    assert_eq!(run(&words), "300");
}

#[test]
fn a_child_token_that_comes_back_for_a_client_that_hung_up_is_revoked_though_its_process_lives() {
    let Some(vault) = Vault::start() else { return };
    let scene = scene(&vault, &json!({"policies": ["ci-read"]}));
    let before = count(&vault);
    let count_of = |kind: &str| scene.agent.events().iter().filter(|event| event["type"] == kind).count();
    let text = format!("POST /v1/{CREATE} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}");
    let revoked = || {
        let events = scene.agent.events();
        events.iter().any(|event| event["type"] == "lease.revoked.v1" && event["outcome"] == "allow")
    };
    // Who hangs up between the intent and the request has sent nothing: then it is done once more.
    until("a revocation", || {
        vault.pause();
        let intents = count_of("vault.intent.v1");
        let mut stream = UnixStream::connect(scene.agent.socket()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        until("the intent", || (count_of("vault.intent.v1") > intents).then_some(()));
        let results = count_of("vault.result.v1");
        drop(stream);
        until("a result that nobody got", || (count_of("vault.result.v1") > results).then_some(()));
        vault.resume();
        revoked().then_some(())
    });
    until("no child", || (count(&vault) == before).then_some(()));
}

/// Asks for a child, shows the answer, and lives until its input ends.
const HOLDER: &str = r#"
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"POST /v1/auth/token/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
print(b"".join(iter(lambda: s.recv(65536), b"")).decode().split("\r\n\r\n")[1].strip(), flush=True)
sys.stdin.read()
"#;

#[test]
fn a_child_token_that_cannot_be_revoked_for_a_while_is_revoked_once_vault_can_be_asked() {
    let Some(vault) = Vault::start() else { return };
    let read = r#"path "secret/*" { capabilities = ["read"] }"#;
    vault.root().put("sys/policies/acl/ci-read", &json!({"policy": read})).expect_success();
    vault.root().post("secret/data/a", &json!({"data": {"k": "v"}})).expect_success();
    let relay = Relay::start(&vault);
    let mut plan = Plan::new(&vault);
    let file = plan.file("token", &make_token(&vault).0);
    plan.identity(json!({"method": "token_file", "token_file": file}));
    plan.config["vault"]["addresses"] = json!([format!("http://{}", relay.address)]);
    plan.config["workloads"]["job"]["rules"] =
        json!([{"name": "children", "vault": {"tokens": {"policies": ["ci-read"]}}}]);
    let agent = plan.start();
    agent.ready();
    let mut holder = Command::new("python3")
        .args(["-c", HOLDER])
        .arg(agent.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(holder.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let child: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(lives(&vault, &child));
    relay.set(Mode::Swallows);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let failed = agent.event("lease.revoked.v1", |_| true);
    assert_eq!((&failed["outcome"], &failed["reason"]), (&json!("error"), &json!("vault_away")));
    assert!(lives(&vault, &child));
    relay.set(Mode::Relays);
    agent.event("lease.revoked.v1", |event| event["outcome"] == "allow");
    assert!(!lives(&vault, &child));
}
