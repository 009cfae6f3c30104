//! Snapshots of a real Vault with integrated storage, saved and restored by Vault's own command line through the socket.

use crate::{
    clients::cli_at,
    rig::{Agent, Plan, output, printed, until},
    scene::ask,
};
use lab::Vault;
use serde_json::json;

/// What a snapshot needs: `sudo` for both, as Vault's own paths say.
const POLICY: &str = r#"
path "sys/storage/raft/snapshot" { capabilities = ["read", "update", "sudo"] }
path "secret/data/*" { capabilities = ["read", "create", "update"] }
path "sys/internal/ui/mounts/*" { capabilities = ["read"] }
"#;

fn agent(vault: &Vault) -> Agent {
    let mut plan = Plan::new(vault);
    plan.approle(vault, json!({}));
    vault.root().put("sys/policies/acl/reports", &json!({"policy": POLICY})).expect_success();
    plan.config["workloads"]["job"]["rules"] = json!([
        {"name": "snapshots", "vault": {"paths": ["sys/storage/raft/snapshot"], "methods": ["GET", "POST"], "max_request": "1GiB"}},
        {"name": "tree", "vault": {"paths": ["secret/data/+", "sys/internal/ui/mounts/*"], "methods": ["GET", "POST"]}},
    ]);
    let agent = plan.start();
    agent.ready();
    agent
}

#[test]
fn a_snapshot_is_saved_and_restored_by_vaults_command_line_and_the_agent_logs_in_again() {
    let Some(vault) = Vault::start_raft() else { return };
    // Some MiB that no compression makes small, so that neither way is held.
    let word = |n: u64| (n.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let noise: String = (0..24_000).map(|n| format!("{:016x}", word(word(n)))).collect();
    for n in 0..8 {
        let data = json!({"data": {"k": format!("{n}{noise}")}});
        vault.root().post(&format!("secret/data/noise-{n}"), &data).expect_success();
    }
    vault.root().post("secret/data/a", &json!({"data": {"k": "before"}})).expect_success();
    let agent = agent(&vault);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vault.snap");
    let file = file.to_str().unwrap();
    printed(&mut cli_at(&vault, &agent, &["operator", "raft", "snapshot", "save", file]));
    let saved = std::fs::read(file).unwrap();
    assert!(saved.len() > 1024 * 1024, "{}", saved.len());
    // Vault's own tool finds it whole: its checksums, and what is in it.
    let inspected = printed(&mut cli_at(&vault, &agent, &["operator", "raft", "snapshot", "inspect", file]));
    assert!(inspected.contains("Total Size") && inspected.contains("logical"), "{inspected}");
    let event =
        agent.event("vault.called.v1", |event| event["resource"]["path"] == "sys/storage/raft/snapshot");
    assert_eq!((&event["outcome"], &event["rule"]["name"]), (&json!("allow"), &json!("snapshots")));

    // The token that it has from now on is one that the snapshot does not know.
    let agent = Agent::again(agent.stop());
    agent.ready();
    let logins = || agent.events().into_iter().filter(|event| event["type"] == "auth.login.v1").count();
    printed(&mut cli_at(&vault, &agent, &["kv", "put", "secret/a", "k=after"]));
    let restored = output(&mut cli_at(&vault, &agent, &["operator", "raft", "snapshot", "restore", file]));
    assert!(restored.status.success(), "{restored:?}");
    let result =
        agent.event("vault.result.v1", |event| event["resource"]["path"] == "sys/storage/raft/snapshot");
    assert_eq!(
        (&result["outcome"], &result["vault"]["sent"]),
        (&json!("allow"), &json!(saved.len())),
        "{result}"
    );
    // Vault itself is away for a moment.
    let found = until("what was there before", || {
        let said = ask(&agent.socket(), "GET", "secret/data/a", &[], "");
        (said.status == 200).then(|| said.json())
    });
    assert_eq!(found["data"]["data"]["k"], "before");
    until("the next login", || (logins() == 2).then_some(()));
}
