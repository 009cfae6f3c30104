//! A token for each process, by Vault's own word.

use crate::rig::{PROGRAM, Plan, until};
use claviger::peer::process::{self, Support};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
};

/// A program that was given a token in its environment, and lives until it is killed; and the token.
fn program(socket: &std::path::Path) -> (Child, String) {
    let mut command = Command::new(PROGRAM);
    command.args(["exec", "--wait", "30s", "--env", "CI_TOKEN=ci-token", "--", "cat"]);
    let child = command.env("CLAVIGER_SOCKET", socket).stdin(Stdio::piped()).spawn().unwrap();
    let of_it = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap_or_default();
    let token = until("the program", || {
        let environment = (of_it("comm") == "cat\n").then(|| of_it("environ"))?;
        environment.split('\0').find_map(|line| line.strip_prefix("CI_TOKEN=").map(str::to_owned))
    });
    (child, token)
}

/// By the token itself, as the default policy lets it; and without that policy by its identity, which may.
#[test]
fn the_token_of_a_process_is_dead_in_vault_moments_after_the_process_is() {
    if *process::support() != Support::Given {
        // Past the harness's capture: it looks like a passed one otherwise.
        let _ = std::io::stderr().write_all(b"skipped: needs a kernel that can prove level process\n");
        return;
    }
    for settings in [json!({"no_default_policy": false}), json!({})] {
        let Some(vault) = Vault::start() else { return };
        kill_processes(&vault, settings);
    }
}

fn kill_processes(vault: &Vault, mut settings: Value) {
    let mut plan = Plan::new(vault);
    plan.approle(vault, json!({"token_ttl": "10m"}));
    let may = |path: &str| format!("path \"auth/token/{path}\" {{ capabilities = [\"update\"] }}\n");
    let policy = may("create") + &may("revoke-accessor");
    vault.root().put("sys/policies/acl/reports", &json!({"policy": policy})).expect_success();
    for (key, value) in [
        ("kind", json!("token")),
        ("policies", json!(["ci-read"])),
        ("ttl", json!("10m")),
        ("per_process", json!(true)),
    ] {
        settings[key] = value;
    }
    plan.secret("ci-token", settings);
    let agent = plan.start();
    agent.ready();
    let (mut one, first) = program(&agent.socket());
    let (mut two, second) = program(&agent.socket());
    // Asked as root: one of the two may not even look itself up.
    let status = |token: &str| vault.root().post("auth/token/lookup", &json!({"token": token})).status;
    assert_ne!(first, second);
    // The connections by which they were asked for are closed.
    assert_eq!((status(&first), status(&second)), (200, 200));
    // SIGKILL: it can do nothing about it.
    one.kill().unwrap();
    one.wait().unwrap();
    until("the end of its token", || (status(&first) == 403).then_some(()));
    assert_eq!(status(&second), 200, "the other one's lives on");
    two.kill().unwrap();
    two.wait().unwrap();
    until("the end of the other token", || (status(&second) == 403).then_some(()));
    let stopped = agent.stop();
    assert_eq!(stopped.code, Some(0));
    assert_eq!(stopped.events("lease.revoked.v1").len(), 2);
}
