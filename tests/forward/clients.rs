//! Clients that know nothing of claviger: only the address that they are given is another one.

use crate::{
    rig::{Agent, output, printed},
    scene::Scene,
};
use lab::Vault;
use serde_json::{Value, json};
use std::process::Command;

fn scene(vault: &Vault) -> Scene {
    let probes = ["sys/internal/ui/mounts/*", "sys/health", "sys/seal-status", "sys/leader"];
    Scene::of(
        vault,
        json!([
            {"name": "tree", "vault": {"paths": ["secret/*", "old/*"], "methods": ["GET", "LIST", "PUT", "PATCH", "DELETE"]}},
            {"name": "probes", "vault": {"paths": probes}},
            {"name": "mounts", "vault": {"paths": ["sys/mounts"]}},
        ]),
    )
}

/// Vault's own command line, with nothing set but the address.
pub(crate) fn vault_cli(vault: &Vault, scene: &Scene, words: &[&str]) -> Command {
    cli_at(vault, &scene.agent, words)
}

/// The same at any agent.
pub(crate) fn cli_at(vault: &Vault, agent: &Agent, words: &[&str]) -> Command {
    let mut command = Command::new(vault.program());
    let address = format!("unix://{}", agent.socket().display());
    command.args(words).env_clear().env("HOME", "/nonexistent").env("VAULT_ADDR", address);
    command
}

#[test]
fn the_vault_command_line_works_with_nothing_changed_but_its_address() {
    let Some(vault) = Vault::start() else { return };
    vault.root().post("sys/mounts/old", &json!({"type": "kv", "options": {"version": "1"}})).expect_success();
    let scene = scene(&vault);
    let run = |words: &[&str]| printed(&mut vault_cli(&vault, &scene, words));
    let json = |words: &[&str]| -> Value { serde_json::from_str(&run(words)).unwrap() };
    run(&["kv", "put", "secret/app", "user=me", "pass=one"]);
    run(&["kv", "patch", "secret/app", "pass=two"]);
    assert_eq!(run(&["kv", "get", "-field=pass", "secret/app"]), "two");
    assert_eq!(run(&["kv", "get", "-version=1", "-field=pass", "secret/app"]), "one");
    assert_eq!(json(&["kv", "list", "-format=json", "secret"]), json!(["app"]));
    assert_eq!(json(&["kv", "metadata", "get", "-format=json", "secret/app"])["data"]["current_version"], 2);
    run(&["write", "old/plain", "k=v"]);
    assert_eq!(run(&["read", "-field=k", "old/plain"]), "v");
    assert_eq!(json(&["list", "-format=json", "old"]), json!(["plain"]));
    run(&["delete", "old/plain"]);
    // By the variable that is for agents, with a token left over from somebody's login.
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".vault-token"), "hvs.left-over").unwrap();
    let mut command = vault_cli(&vault, &scene, &["kv", "get", "-field=pass", "secret/app"]);
    let address = format!("unix://{}", scene.agent.socket().display());
    command.env("HOME", home.path()).env("VAULT_AGENT_ADDR", address).env("VAULT_ADDR", "http://127.0.0.1:9");
    assert_eq!(printed(&mut command), "two");
    run(&["kv", "metadata", "delete", "secret/app"]);
    let lookup = json(&["token", "lookup", "-format=json"]);
    assert!(lookup["data"]["ttl"].as_u64().is_some() && lookup["data"].get("id").is_none(), "{lookup}");
    run(&["token", "renew"]);
    run(&["token", "revoke", "-self"]);
    assert!(run(&["status"]).contains("Sealed"));
    assert!(run(&["secrets", "list"]).contains("secret/"));
    let refused = output(&mut vault_cli(&vault, &scene, &["auth", "list"]));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("workloads.job.rules"), "{said}");
    let wrapped =
        output(&mut vault_cli(&vault, &scene, &["read", "-wrap-ttl=60s", "auth/token/lookup-self"]));
    assert!(!wrapped.status.success(), "{wrapped:?}");
}

#[test]
fn curl_reads_lists_and_writes() {
    let Some(vault) = Vault::start() else { return };
    let scene = scene(&vault);
    let socket = scene.agent.socket();
    let curl = |words: &[&str]| -> Value {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--unix-socket"]).arg(&socket).args(words);
        serde_json::from_str(&printed(&mut command)).unwrap()
    };
    assert_eq!(
        curl(&["-d", "{\"data\": {\"k\": \"v\"}}", "http://x/v1/secret/data/a"])["data"]["version"],
        1
    );
    assert_eq!(curl(&["http://x/v1/secret/data/a"])["data"]["data"], json!({"k": "v"}));
    assert_eq!(curl(&["-X", "LIST", "http://x/v1/secret/metadata"])["data"]["keys"], json!(["a"]));
    assert_eq!(curl(&["http://x/v1/secret/metadata?list=true"])["data"]["keys"], json!(["a"]));
    assert_eq!(curl(&["http://x/v1/sys/health"])["sealed"], false);
}

/// The lines of a client's program that ran to its end; its environment names no token and no address.
fn ran(command: &mut Command) -> Vec<String> {
    let printed = printed(command);
    printed.lines().map(str::to_owned).collect()
}

fn with_old(vault: &Vault) -> Scene {
    vault.root().post("sys/mounts/old", &json!({"type": "kv", "options": {"version": "1"}})).expect_success();
    scene(vault)
}

#[test]
fn vaults_go_client_works_with_nothing_changed_but_its_address() {
    let Some(program) = lab::require_or_skip("apiclient") else { return };
    let Some(vault) = Vault::start() else { return };
    let scene = with_old(&vault);
    let mut command = Command::new(program);
    command.arg(format!("unix://{}", scene.agent.socket().display())).env_clear().env("HOME", "/nonexistent");
    assert_eq!(ran(&mut command).last().map(String::as_str), Some("done"));
}

#[test]
fn hvac_works_with_a_session_that_speaks_to_the_socket() {
    let Some(folder) = lab::require_or_skip("hvac") else { return };
    let Some(vault) = Vault::start() else { return };
    let scene = with_old(&vault);
    let mut command = Command::new("python3");
    command.arg("tests/lab/hvac/client.py").arg(scene.agent.socket());
    command
        .env("PYTHONPATH", folder)
        .env("HOME", "/nonexistent")
        .env_remove("VAULT_ADDR")
        .env_remove("VAULT_TOKEN");
    assert_eq!(ran(&mut command).last().map(String::as_str), Some("done"));
}
