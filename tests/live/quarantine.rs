//! The login that a rotation shut out is let in again by one command, while its quarantine lasts.

use crate::{
    credential::{exec, plan, two_slot},
    database::Login,
    rig::{PROGRAM, output, printed, until},
};
use lab::{Postgres, Vault};
use serde_json::{Value, json};
use std::process::Command;

#[test]
fn a_login_that_is_in_quarantine_is_let_in_again_by_one_command() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    postgres.query("create role orders_a login password 'first'; create role orders_b").unwrap();
    let mut rotation = two_slot(json!({}));
    (rotation["schedule"], rotation["quarantine"]) = (json!({"every": "24h"}), json!("1h"));
    let mut plan = plan(&vault, rotation);
    exec(&mut plan, &postgres);
    let agent = plan.start();
    let first = agent.generation("orders", 1);
    let config = agent.folder().join("claviger.yaml");
    let rotation = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("rotation").args(args).arg("--config").arg(&config);
        command
    };
    until("a run that is asked for", || {
        output(&mut rotation(&["now", "orders", "--reason", "a test"])).status.success().then_some(())
    });
    agent.event("rotation.quarantined.v1", |_| true);
    assert!(!Login::of(&first).works(&postgres));
    let status = until("its phase", || {
        let status: Value = serde_json::from_str(&printed(&mut rotation(&["status", "--json"]))).unwrap();
        Some(status["rotations"][0]["status"].clone()).filter(|status| status["phase"] == "quarantine")
    });
    assert!(status["grace_until"].is_string(), "{status}");
    printed(&mut rotation(&["reenable", "orders"]));
    let back = agent.event("rotation.reenabled.v1", |_| true);
    // His second grace is over soon, too.
    let again = until("a second quarantine", || {
        let events = agent.events();
        let mut all = events.iter().filter(|event| event["type"] == "rotation.quarantined.v1");
        all.nth(1).cloned()
    });
    assert_eq!(back["rotation"]["id"], again["rotation"]["id"]);
    let second = agent.generation("orders", 2);
    assert!(Login::of(&second).works(&postgres) && !Login::of(&first).works(&postgres));
    assert_eq!(vault.root().get("secret/data/orders?version=1").status, 200, "what it was is kept");
    assert!(agent.stop().events("rotation.failed.v1").is_empty());
}
