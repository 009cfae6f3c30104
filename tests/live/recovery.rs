//! How long a run stands still when its holder is killed, on the real Vault: a measurement, with the lease that a config has by itself.

use crate::{
    credential::{SLOW, plan, two_slot},
    rig::{PROGRAM, output, until},
};
use lab::Vault;
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Instant};

#[test]
#[ignore = "a minute: a measurement of the lease that is the default"]
#[expect(clippy::print_stdout, reason = "it is a measurement")]
fn a_run_whose_holder_is_killed_in_the_middle_is_promoted_by_another_after_its_lease() {
    let Some(vault) = Vault::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("set-password");
    fs::write(&program, SLOW.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("orders_a"), "first").unwrap();
    let mut rotation = two_slot(json!({"exec": {"command": [program]}}));
    // 30 s, and calls of 10 s: another one may go on after 40 s.
    (rotation["schedule"], rotation["holder_ttl"]) = (json!({"every": "6h"}), json!("30s"));
    rotation["min_interval"] = json!("40s");
    let first = plan(&vault, rotation.clone()).start();
    let config = first.folder().join("claviger.yaml");
    until("a journal", || (vault.root().get("secret/data/rotation/orders").status == 200).then_some(()));
    // An age above `min_interval`, so that it begins at once.
    let mut read = vault.root().get("secret/data/rotation/orders").expect_success()["data"].clone();
    read["data"]["journal"]["succeeded"] = json!("2026-11-01T00:00:00Z");
    read["data"]["journal"]["settled"] = json!("2026-11-01T00:00:00Z");
    let body = json!({"options": {"cas": read["metadata"]["version"]}, "data": read["data"]});
    vault.root().post("secret/data/rotation/orders", &body).expect_success();
    let mut now = Command::new(PROGRAM);
    now.args(["rotation", "now", "orders", "--reason", "a test", "--config"]).arg(config);
    assert!(output(&mut now).status.success());
    until("the change", || folder.path().join("sets").exists().then_some(()));
    let second = plan(&vault, rotation).start();
    second.ready();
    let killed = Instant::now();
    // By SIGKILL.
    drop(first);
    let promoted = second.event("rotation.promoted.v1", |_| true);
    println!("recovery: promoted {:.1} s after the holder was killed", killed.elapsed().as_secs_f64());
    assert_eq!(promoted["rotation"]["epoch"], 2);
    let held = second.generation("orders", 2);
    let password = fs::read_to_string(folder.path().join("orders_b")).unwrap();
    assert_eq!(held["data"]["password"].as_str(), Some(password.as_str()));
}
