//! A real PostgreSQL that no longer accepts what consumers read: it is found out, told, and set right.

use crate::{
    credential::{exec, plan, two_slot},
    database::Login,
    rig::until,
};
use lab::{Postgres, Vault};
use serde_json::json;

#[test]
fn a_password_that_somebody_changed_in_the_database_is_found_out_told_and_set_right() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    postgres.query("create role orders_a login password 'first'; create role orders_b").unwrap();
    let mut rotation = two_slot(json!({}));
    (rotation["schedule"], rotation["probe"]) = (json!({"every": "24h"}), json!("1s"));
    let mut plan = plan(&vault, rotation);
    exec(&mut plan, &postgres);
    let agent = plan.start();
    let held = agent.generation("orders", 1);
    postgres.query("alter role orders_a password 'restored from a backup'").unwrap();
    let drift = agent.event("rotation.drift.v1", |_| true);
    assert_eq!((&drift["reason"], &drift["outcome"]), (&json!("refused"), &json!("error")));
    let repaired = agent.event("rotation.repaired.v1", |_| true);
    assert_eq!(repaired["rotation"]["id"], drift["rotation"]["id"]);
    until("a login that works again", || Login::of(&held).works(&postgres).then_some(()));
    let drifts = "rotation_drift_total{rotation=\"orders\"} 1";
    until(drifts, || agent.health("/metrics").text.lines().any(|line| line == drifts).then_some(()));
    assert_eq!(agent.value("orders")["generation"], 1, "consumers read what they did");
    let stopped = agent.stop();
    assert!(stopped.events("rotation.promoted.v1").is_empty());
}
