//! `claviger bridge`: a loopback port for clients that cannot speak to a Unix socket.

use crate::{
    rig::{PROGRAM, Plan, output, printed},
    scene::make_token,
};
use lab::Vault;
use serde_json::json;
use std::process::Command;

const FORBIDDEN: &str = "curl -s -o /dev/null -w '%{http_code}\\n'";

/// A claviger whose workload may have a bridge, or not.
fn agent(vault: &Vault, bridge: &str) -> crate::rig::Agent {
    let mut plan = Plan::new(vault);
    let file = plan.file("token", &make_token(vault).0);
    plan.identity(json!({"method": "token_file", "token_file": file}));
    plan.config["workloads"]["job"]["bridge"] = json!(bridge);
    plan.config["workloads"]["job"]["rules"] = json!([{"name": "tree", "vault": {"paths": ["secret/*", "sys/internal/ui/mounts/*", "sys/health"], "methods": ["GET", "LIST", "PUT", "DELETE"]}}]);
    let agent = plan.start();
    agent.ready();
    agent
}

fn bridge(agent: &crate::rig::Agent, script: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    let token = agent.folder().join("bridge-token");
    command
        .args(["bridge", "--listen", "127.0.0.1:0", "--token-file"])
        .arg(&token)
        .arg("--socket")
        .arg(agent.socket());
    command.args(["--", "sh", "-c", script]).env("TOKEN_FILE", token).env("HOME", "/nonexistent");
    command
}

#[test]
fn a_bridge_serves_vaults_api_to_whoever_has_the_token_of_its_run_and_ends_with_its_command() {
    let Some(vault) = Vault::start() else { return };
    let agent = agent(&vault, "allow");
    let script = format!(
        "set -e
        export VAULT_TOKEN=$(cat $TOKEN_FILE)
        {vault} kv put secret/a k=v >/dev/null
        {vault} kv get -field=k secret/a; echo
        curl -sf -H \"Authorization: Bearer $VAULT_TOKEN\" $VAULT_ADDR/v1/secret/metadata?list=true | grep -o '\"a\"'
        {FORBIDDEN} $VAULT_ADDR/v1/secret/data/a
        {FORBIDDEN} -H 'X-Vault-Token: guess' $VAULT_ADDR/v1/secret/data/a
        {FORBIDDEN} -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/secrets
        {FORBIDDEN} -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/v1/auth/token/accessors?list=true
        {FORBIDDEN} -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/v1/secret/data/a -o /dev/null $VAULT_ADDR/v1/secret/data/none
        stat -c %a $TOKEN_FILE",
        vault = vault.program().display(),
    );
    let lines = printed(&mut bridge(&agent, &script));
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines, ["v", "\"a\"", "403", "403", "403", "403", "200", "404", "600"]);
    assert!(!agent.folder().join("bridge-token").exists());
    let ended = output(&mut bridge(&agent, "exit 7"));
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    let killed = output(&mut bridge(&agent, "kill -KILL $$"));
    assert_eq!(killed.status.code(), Some(137), "{killed:?}");
}

#[test]
fn a_bridge_is_not_opened_where_the_config_denies_it() {
    let Some(vault) = Vault::start() else { return };
    let agent = agent(&vault, "deny");
    let refused = output(&mut bridge(&agent, "echo ran"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(said.contains("bridge: allow") && refused.stdout.is_empty(), "{refused:?}");
}

#[test]
fn node_vault_works_over_a_bridge() {
    let Some(folder) = lab::require_or_skip("node-vault") else { return };
    let Some(vault) = Vault::start() else { return };
    let agent = agent(&vault, "allow");
    let client = std::path::absolute("tests/lab/node-vault/client.js").unwrap();
    let mut command = bridge(&agent, &format!("node {} $TOKEN_FILE", client.display()));
    let printed = printed(command.env("NODE_PATH", folder));
    assert_eq!(printed.lines().last(), Some("done"), "{printed}");
}
