//! Checkpoints with Vault's transit engine and an anchor in its KV 2: signed, certified, anchored, verified offline, and a
//! journal that was rolled back is found out.

use crate::rig::{Agent, Plan, Stopped, output, printed, until};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What the identity needs in Vault for checkpoints.
const POLICY: &str = r#"
path "secret/*" { capabilities = ["read"] }
path "transit/sign/audit" { capabilities = ["update"] }
path "transit/keys/audit" { capabilities = ["read"] }
path "secret/data/anchor/*" { capabilities = ["create", "update", "read"] }
path "secret/metadata/anchor/*" { capabilities = ["read"] }
"#;

fn prepare(vault: &Vault) {
    let root = vault.root();
    root.post("sys/mounts/transit", &json!({"type": "transit"})).expect_success();
    root.post("transit/keys/audit", &json!({"type": "ed25519"})).expect_success();
    root.put("sys/policies/acl/reports", &json!({"policy": POLICY})).expect_success();
}

fn plan(vault: &Vault, checkpoints: Value) -> Plan {
    let mut plan = Plan::new(vault);
    prepare(vault);
    plan.approle(vault, json!({"token_ttl": "10m"}));
    plan.stripe(vault);
    plan.config["audit"]["checkpoints"] = checkpoints;
    plan
}

/// Vault's public key, as a person would write it down.
fn key_file(vault: &Vault, folder: &Path) -> PathBuf {
    let keys = vault.root().get("transit/keys/audit").expect_success();
    let keys = keys["data"]["keys"].as_object().unwrap();
    let text: String =
        keys.values().map(|key| format!("{}\n", key["public_key"].as_str().unwrap())).collect();
    let path = folder.join("transit.pub");
    fs::write(&path, text).unwrap();
    path
}

fn anchor_path() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    format!("secret/data/anchor/{}/claviger", host.trim())
}

fn anchor_file(vault: &Vault, folder: &Path) -> PathBuf {
    let anchor = vault.root().get(&anchor_path()).expect_success();
    let path = folder.join("anchor.json");
    fs::write(&path, anchor.to_string()).unwrap();
    path
}

fn verify(record: &Path, options: &[&Path]) -> (Option<i32>, Value) {
    let mut command = Command::new(crate::rig::PROGRAM);
    command.args(["audit", "verify", "--json", "--max-unsigned", "8"]).arg(record);
    for (option, path) in ["--pubkey", "--anchor"].iter().zip(options) {
        command.arg(option).arg(path);
    }
    let ran = output(&mut command);
    let report = serde_json::from_slice(&ran.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr)));
    (ran.status.code(), report)
}

/// Reads, waits until Vault has the anchor, stops.
fn run(vault: &Vault, agent: Agent) -> Stopped {
    agent.value("stripe");
    agent.ready();
    let before = vault.root().get(&anchor_path()).status;
    let metric = "audit_checkpoint_age_seconds ";
    assert!(agent.health("/metrics").text.lines().any(|line| line.starts_with(metric)));
    agent.event("audit.checkpoint.v1", |_| true);
    until("an anchor", || (before == 200 || vault.root().get(&anchor_path()).status == 200).then_some(()));
    let stopped = agent.stop();
    assert_eq!(stopped.code, Some(0));
    stopped
}

#[test]
fn a_boot_key_that_vault_certified_signs_and_anchors_what_a_verifier_then_trusts() {
    let Some(vault) = Vault::start() else { return };
    let checkpoints = json!({
        "signer": "boot", "key": "transit/audit", "identity": "reports",
        "anchor": {"mount": "secret", "path": "anchor"},
    });
    let mut plan = plan(&vault, checkpoints);
    plan.config["report"] = json!({"every": "5s"});
    let agent = plan.start();
    // A report is signed as everything else on record.
    let reported = agent.event("report.generated.v1", |_| true)["seq"].as_str().unwrap().to_owned();
    let stopped = run(&vault, agent);
    let (folder, journal) = (stopped.folder.path(), stopped.folder.path().join("audit"));
    let (key, anchor) = (key_file(&vault, folder), anchor_file(&vault, folder));
    let (code, report) = verify(&journal, &[&key, &anchor]);
    assert_eq!(code, Some(0), "{report:#}");
    let chain = &report["chains"][0];
    assert_eq!(chain["signed_by"], "certified_key", "{report:#}");
    assert!(chain["signed_up_to"].as_u64() > reported.parse().ok(), "{report:#}");
    // The last event is the last checkpoint, which covers the stop.
    assert_eq!(chain["signed_up_to"].as_u64().unwrap() + 1, chain["last"].as_u64().unwrap());
    // The stdout sink printed the same.
    assert_eq!(verify(&folder.join("out/stdout"), &[&key, &anchor]).0, Some(0));
    // Another key of Vault's did not certify it.
    vault.root().post("transit/keys/other", &json!({"type": "ed25519"})).expect_success();
    let other = vault.root().get("transit/keys/other").expect_success();
    fs::write(&key, other["data"]["keys"]["1"]["public_key"].as_str().unwrap()).unwrap();
    assert_eq!(verify(&journal, &[&key]).0, Some(10));
}

#[test]
fn vault_itself_signs_each_checkpoint_also_after_its_key_was_rotated() {
    let Some(vault) = Vault::start() else { return };
    let checkpoints = json!({"signer": "transit", "key": "transit/audit", "identity": "reports"});
    let agent = plan(&vault, checkpoints).start();
    agent.value("stripe");
    agent.event("audit.checkpoint.v1", |_| true);
    vault.root().post("transit/keys/audit/rotate", &json!({})).expect_success();
    agent.value("stripe");
    let stopped = agent.stop();
    let signed = stopped.events("audit.checkpoint.v1");
    let keys: Vec<&Value> = signed.iter().map(|event| &event["agent"]["signed"]["key"]).collect();
    assert!(keys.len() >= 2 && keys.first() != keys.last(), "{keys:?}");
    let key = key_file(&vault, stopped.folder.path());
    let (code, report) = verify(&stopped.folder.path().join("audit"), &[&key]);
    assert_eq!((code, &report["chains"][0]["signed_by"]), (Some(0), &json!("vault")), "{report:#}");
}

/// A12: the anchor shows it, the agent says it and signs nothing until a person has looked.
#[test]
fn a_journal_that_was_cut_before_a_restart_is_declared_and_nothing_is_signed_over_it() {
    let Some(vault) = Vault::start() else { return };
    let checkpoints = json!({
        "signer": "boot", "key": "transit/audit", "identity": "reports",
        "anchor": {"mount": "secret", "path": "anchor"},
    });
    let plan = plan(&vault, checkpoints);
    let stopped = run(&vault, plan.start());
    let journal = stopped.folder.path().join("audit");
    cut_events(&journal, 6);
    let again = Agent::again(stopped);
    let gap = again.event("audit.gap.v1", |event| event["reason"] == "rolled_back");
    again.value("stripe");
    let anchored = vault.root().get(&anchor_path()).expect_success();
    let stopped = again.stop();
    assert!(
        stopped
            .events("audit.checkpoint.v1")
            .iter()
            .all(|event| event["chain"]["uid"] != gap["chain"]["uid"])
    );
    assert_eq!(
        vault.root().get(&anchor_path()).expect_success()["data"],
        anchored["data"],
        "it is left as it was"
    );
    let folder = stopped.folder.path();
    let (key, anchor) = (key_file(&vault, folder), anchor_file(&vault, folder));
    for options in [&[&*key, &*anchor][..], &[]] {
        let (code, report) = verify(&folder.join("audit"), options);
        assert_eq!(code, Some(11), "{report:#}");
    }
}

/// What an attacker does who may write to the journal: the last events go, and what is left looks sealed.
fn cut_events(journal: &Path, count: usize) {
    let mut segments: Vec<PathBuf> =
        fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    segments.sort();
    let segment = segments.last().unwrap();
    let bytes = fs::read(segment).unwrap();
    let (mut at, mut starts) = (84, Vec::new());
    while let Some(length) = bytes.get(at..at + 4) {
        starts.push(at);
        at += 8 + usize::try_from(u32::from_le_bytes(length.try_into().unwrap())).unwrap();
    }
    fs::write(segment, &bytes[..starts[starts.len() - count]]).unwrap();
    let tail = printed(Command::new(crate::rig::PROGRAM).args(["audit", "tail", "-n", "1"]).arg(journal));
    assert!(!tail.contains("audit.checkpoint"), "{tail}");
}

#[test]
fn a_vault_that_hangs_at_the_end_keeps_neither_the_last_checkpoint_nor_the_stop_from_the_record() {
    let Some(vault) = Vault::start() else { return };
    let checkpoints = json!({
        "signer": "boot", "key": "transit/audit", "identity": "reports",
        "anchor": {"mount": "secret", "path": "anchor"},
    });
    let agent = plan(&vault, checkpoints).start();
    agent.value("stripe");
    agent.event("audit.checkpoint.v1", |_| true);
    agent.value("stripe");
    vault.pause();
    let stopped = agent.stop();
    vault.resume();
    let kinds: Vec<&Value> = stopped.events.iter().rev().take(2).map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["audit.checkpoint.v1", "agent.stopped.v1"], "{:#?}", stopped.log);
    let key = key_file(&vault, stopped.folder.path());
    let (code, report) = verify(&stopped.folder.path().join("audit"), &[&key]);
    assert_eq!((code, &report["chains"][0]["ending"]), (Some(0), &json!("stopped")), "{report:#}");
}
