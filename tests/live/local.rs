//! Rotations that each replica does for itself: Vault's own are followed, and a lease is replaced on a schedule.

use crate::{
    database::Login,
    rig::{Plan, until},
};
use lab::{Postgres, Vault};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_password_that_vault_changes_by_itself_is_served_and_told_without_a_journal() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let root = vault.root();
    postgres.vault_database(&vault, "unused", Duration::from_secs(60), Duration::from_secs(60));
    postgres.query("create role app login password 'first'").unwrap();
    let role = json!({"db_name": "postgres", "username": "app", "rotation_period": "8s"});
    root.post("database/static-roles/app", &role).expect_success();
    // It may read the password, and do nothing else for the rotation.
    let policy = r#"path "database/static-creds/app" { capabilities = ["read"] }"#;
    root.put("sys/policies/acl/ci-read", &json!({"policy": policy})).expect_success();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.secret("app-db", json!({"kind": "lease", "path": "database/static-creds/app"}));
    let follow = json!({"kind": "follow", "identity": "reports", "path": "database/static-creds/app"});
    plan.config["rotations"] = json!({"app-db": follow});
    let agent = plan.start();
    let first = agent.value("app-db");
    // The secret alone is looked at once a minute: both changes are seen because they were expected.
    let seen = |event: &serde_json::Value| event["rotation"]["kind"] == "follow";
    until("two rotations", || {
        let events = agent.events();
        let promoted = events.iter().filter(|event| event["type"] == "rotation.promoted.v1" && seen(event));
        (promoted.count() >= 2).then_some(())
    });
    let newer = agent.generation("app-db", first["generation"].as_u64().unwrap() + 2);
    assert_ne!(newer["data"]["password"], first["data"]["password"]);
    until("a login that works", || Login::of(&agent.value("app-db")).works(&postgres).then_some(()));
    let metrics = agent.health("/metrics").text;
    for name in ["rotation_promotions_total", "rotation_age_seconds", "rotation_next_timestamp"] {
        assert!(metrics.contains(&format!("{name}{{rotation=\"app-db\"")), "{metrics}");
    }
    assert!(agent.stop().events("rotation.failed.v1").is_empty());
}

#[test]
fn a_lease_is_replaced_on_schedule_and_both_logins_work_until_the_old_one_s_grace_is_over() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let hour = Duration::from_secs(3600);
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    let path = postgres.vault_database(&vault, "app", hour, hour);
    plan.secret("orders-db", json!({"kind": "lease", "path": path, "grace": "3s"}));
    plan.config["rotations"] = json!({"orders-db": {
        "kind": "lease", "secret": "orders-db", "schedule": {"every": "20s"}, "min_interval": "1s",
    }});
    let agent = plan.start();
    let first = Login::of(&agent.value("orders-db"));
    assert!(first.works(&postgres));
    let promoted = agent.event("rotation.promoted.v1", |_| true);
    let run = &promoted["rotation"];
    assert_eq!((&run["kind"], &run["from_v"], &run["to_v"]), (&json!("lease"), &json!(1), &json!(2)));
    let second = Login::of(&agent.generation("orders-db", 2));
    // The old one is handed out beside the new one for as long as it works.
    assert!(second.works(&postgres));
    let started = agent.event("rotation.started.v1", |_| true);
    assert_eq!(started["rotation"]["id"], run["id"]);
    agent.event("lease.revoked.v1", |event| event["resource"]["version"] == 1);
    until("a login that is refused", || (!first.works(&postgres)).then_some(()));
    assert!(second.works(&postgres), "the next slot is twenty seconds later");
}
