//! What pods leave in Vault for one another's report: by the real server's check-and-set, and tidied by those who report.

use crate::rig::{Agent, PROGRAM, Plan, printed, until};
use lab::Vault;
use serde_json::{Value, json};
use std::process::Command;

const POLICY: &str = r#"
path "secret/data/usage/*" { capabilities = ["create", "read", "update"] }
path "secret/metadata/usage" { capabilities = ["list"] }
path "secret/metadata/usage/*" { capabilities = ["create", "read", "update", "list", "delete"] }
"#;

fn plan(vault: &Vault, first: bool) -> Plan {
    let mut plan = Plan::new(vault);
    vault.root().put("sys/policies/acl/ci-read", &json!({"policy": POLICY})).expect_success();
    if first {
        plan.approle(vault, json!({"token_ttl": "10m"}));
    } else {
        plan.approle_again(vault);
    }
    plan.stripe(vault);
    let merge = json!({"identity": "reports", "mount": "secret", "path": "usage"});
    plan.config["report"] = json!({"every": "5s", "since": "30d", "merge": merge});
    plan
}

fn ledgers(vault: &Vault) -> Vec<String> {
    let list = vault.root().get("secret/metadata/usage?list=true");
    if list.status != 200 {
        return Vec::new();
    }
    let keys = list.expect_success()["data"]["keys"].clone();
    keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
}

fn report(agent: &Agent, args: &[&str]) -> Value {
    let config = agent.folder().join("claviger.yaml");
    let mut command = Command::new(PROGRAM);
    command.args(["report", "keys", "--format", "json", "--config"]).arg(config).args(args);
    serde_json::from_str(&printed(&mut command)).unwrap()
}

#[test]
fn a_report_counts_what_other_pods_used_by_the_ledgers_that_they_left_in_vault() {
    let Some(vault) = Vault::start() else { return };
    // Of a pod that has been gone for years.
    let old = json!({
        "v": 1, "source": "urn:claviger:gone", "chain": "01A", "at": "2020-01-01T00:00:00Z", "upto": 1, "rows": [],
    });
    vault.root().post("secret/data/usage/01A-00", &json!({"data": old})).expect_success();
    let (one, other) = (plan(&vault, true).start(), plan(&vault, false).start());
    one.value("stripe");
    other.ready();
    until("both ledgers, and the old one gone", || {
        let found = ledgers(&vault);
        (found.len() == 2 && found.iter().all(|name| name != "01A-00")).then_some(())
    });
    let used = |report: &Value| report["rules"][0]["used"].clone();
    // Its own record knows of no use; with what the first one left, it is used.
    assert_eq!(used(&report(&other, &[])), json!(0));
    let merged = until("what the first one used", || {
        Some(report(&other, &["--merged"])).filter(|merged| used(merged) == json!(1))
    });
    assert_eq!(merged["record"]["starts"], 2, "{merged:#}");
    for name in ledgers(&vault) {
        let part = vault.root().get(&format!("secret/data/usage/{name}")).expect_success();
        assert!(!part.to_string().contains("sk_live_1"), "{part}");
    }
    // What was used last is there when the pod is gone; a person elsewhere needs a token alone.
    one.value("stripe");
    let first = one.stop();
    assert_eq!(first.code, Some(0));
    drop(first);
    let token = other.folder().join("token");
    std::fs::write(&token, vault.root_token()).unwrap();
    std::fs::remove_dir_all(other.folder().join("out")).unwrap();
    let merged = report(&other, &["--merged", "--token-file", token.to_str().unwrap()]);
    assert_eq!(used(&merged), json!(1));
}
