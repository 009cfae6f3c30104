//! The undelivered tail goes through a real Vault's KV 2 to the next agent of the workload, and from there to a real receiver.

use crate::rig::{PROGRAM, Plan, output, until};
use lab::{Collector, Vault};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// What the README asks for a handoff, and no more.
const POLICY: &str = r#"
path "secret/data/stripe" { capabilities = ["read"] }
path "secret/metadata/stripe" { capabilities = ["read"] }
path "secret/data/handoff/*" { capabilities = ["create", "update", "read"] }
path "secret/metadata/handoff*" { capabilities = ["list", "read", "delete"] }
"#;

/// One agent of the workload, in a folder of its own, whose collector is at `url`.
fn plan(vault: &Vault, url: &str) -> Plan {
    let mut plan = Plan::new(vault);
    vault.root().put("sys/policies/acl/reports", &json!({"policy": POLICY})).expect_success();
    plan.config["audit"]["handoff"] = json!({"mount": "secret", "path": "handoff", "identity": "reports"});
    plan.config["audit"]["sinks"] = json!({
        "console": {"kind": "stdout"},
        "otel": {"kind": "otlp", "url": url, "required": true},
    });
    plan.config["shutdown"] = json!({"grace": "10s"});
    plan
}

/// Every part that waits in Vault.
fn parts(vault: &Vault, folder: &str) -> Vec<String> {
    let listed = vault.root().list(&format!("secret/metadata/{folder}"));
    let keys = listed.body["data"]["keys"].as_array().cloned().unwrap_or_default();
    let below = |key: Value| match key.as_str().unwrap().strip_suffix('/') {
        Some(name) => parts(vault, &format!("{folder}/{name}")),
        None => vec![format!("{folder}/{}", key.as_str().unwrap())],
    };
    keys.into_iter().flat_map(below).collect()
}

fn verify(record: &Path) -> (Option<i32>, Value) {
    let ran = output(Command::new(PROGRAM).args(["audit", "verify", "--json"]).arg(record));
    (ran.status.code(), serde_json::from_slice(&ran.stdout).unwrap())
}

/// A11, on what it is made for.
#[test]
fn what_a_collector_that_is_down_did_not_get_waits_in_vault_for_the_next_agent_which_delivers_it() {
    let Some(vault) = Vault::start() else { return };
    let Some(collector) = Collector::start() else { return };
    // Nobody listens there.
    let mut first = plan(&vault, "http://127.0.0.1:1/v1/logs");
    first.approle(&vault, json!({"token_ttl": "10m"}));
    first.stripe(&vault);
    let agent = first.start();
    for _ in 0..900 {
        assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    }
    let old = agent.stop();
    assert_eq!(old.code, Some(0));
    let waiting = parts(&vault, "handoff");
    assert!(waiting.len() > 1, "{waiting:?}");
    let stopped = old.events("agent.stopped.v1").pop().unwrap().clone();
    assert!(stopped["agent"]["undelivered"].as_u64().unwrap() > 900, "{stopped}");
    // Another pod of the same host: nothing is left of the old one's disk.
    let mut second = plan(&vault, &collector.url());
    second.approle_again(&vault);
    second.secret(
        "stripe",
        json!({"kind": "kv", "path": "secret/stripe", "field": "api_key", "refresh": "1s"}),
    );
    let agent = second.start();
    agent.value("stripe");
    let reads = |events: &[Value]| -> BTreeSet<String> {
        let reads = events.iter().filter(|event| event["type"] == "secret.read.v1");
        reads.map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    };
    let wanted: BTreeSet<String> = reads(&old.events).union(&reads(&agent.events())).cloned().collect();
    let received = || -> Vec<Value> {
        collector.records().iter().map(|record| serde_json::from_str(&record.body).unwrap()).collect()
    };
    until("the reads of both at the collector", || wanted.is_subset(&reads(&received())).then_some(()));
    // Beside the agent, before and after the delivered segments are let go.
    let journal = agent.folder().join("audit");
    let (code, report) = verify(&journal);
    assert_eq!(code, Some(0), "{report:#}");
    until("an empty Vault", || parts(&vault, "handoff").is_empty().then_some(()));
    let new = agent.stop();
    assert_eq!(new.code, Some(0));
    let (code, report) = verify(&journal_of(&new.folder));
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(parts(&vault, "handoff"), Vec::<String>::new(), "everything was delivered");
    // What the collector has is one record of both: the old chain first, each event once, nothing missing.
    let records = collector.records();
    let lines: Vec<&str> = records.iter().map(|record| record.body.as_str()).collect();
    let file = new.folder.path().join("received.jsonl");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let (code, report) = verify(&file);
    assert_eq!((code, &report["verdict"]), (Some(0), &json!("good")), "{report:#}");
    let chains = report["chains"].as_array().unwrap();
    assert_eq!((chains.len(), &chains[0]["ending"]), (2, &json!("sealed_by_successor")), "{report:#}");
    assert!(chains.iter().all(|chain| chain["repeats"] == 0 && chain["first"] == 1), "{report:#}");
}

fn journal_of(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("audit")
}
