//! Leases that are asked for in Vault's own API: whose they are, and when they end.

use crate::{
    clients::vault_cli,
    rig::{output, printed, until},
    scene::Scene,
};
use lab::{Postgres, Vault};
use serde_json::{Value, json};
use std::{process::Command, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

/// Whether PostgreSQL opens a session for it.
fn works(postgres: &Postgres, made: &Value) -> bool {
    let field = |name: &str| made["data"][name].as_str().unwrap();
    postgres.query_as(field("username"), field("password"), "select 1").is_ok()
}

fn scene(vault: &Vault) -> Scene {
    Scene::of(vault, json!([{"name": "database", "vault": {"paths": ["database/creds/app"]}}]))
}

#[test]
fn a_lease_is_revoked_when_the_process_that_asked_for_it_ends_and_one_whose_process_lives_is_not() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let path = postgres.vault_database(&vault, "app", HOUR, HOUR);
    let scene = scene(&vault);
    let ours = scene.read(&path).json();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--unix-socket"]).arg(scene.agent.socket()).arg(format!("http://x/v1/{path}"));
    let theirs: Value = serde_json::from_str(&printed(&mut curl)).unwrap();
    assert!(theirs["lease_id"].as_str().is_some_and(|id| id.starts_with(&path)), "{theirs}");
    let made = scene.events(2);
    let revoked = scene.agent.event("lease.revoked.v1", |_| true);
    assert_eq!((&revoked["outcome"], &revoked["workload"]), (&json!("allow"), &json!("job")));
    assert_eq!(revoked["resource"]["lease_id_hash"], made[1]["resource"]["lease_id_hash"]);
    until("the end of their user", || (!works(&postgres, &theirs)).then_some(()));
    assert!(works(&postgres, &ours));
    assert!(scene.agent.health("/metrics").text.contains("claviger_forwarded_leases{workload=\"job\"} 1"));
}

#[test]
fn a_workload_renews_and_ends_its_own_leases_and_nobody_elses() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let path = postgres.vault_database(&vault, "app", HOUR, HOUR);
    let scene = scene(&vault);
    let (ours, another) = (scene.read(&path).json(), vault.root().get(&path).expect_success());
    let id = |made: &Value| made["lease_id"].as_str().unwrap().to_owned();
    let run = |words: &[&str]| output(&mut vault_cli(&vault, &scene, words));
    let renewed = run(&["lease", "renew", &id(&ours)]);
    assert!(renewed.status.success(), "{renewed:?}");
    assert!(run(&["lease", "lookup", &id(&ours)]).status.success());
    for words in [["lease", "renew"], ["lease", "lookup"], ["lease", "revoke"]] {
        let refused = run(&[words[0], words[1], &id(&another)]);
        assert!(!refused.status.success(), "{refused:?}");
    }
    let both = format!("{{\"lease_id\": \"{}\", \"lease_id\": \"{}\"}}", id(&ours), id(&another));
    assert_eq!(scene.ask("POST", "sys/leases/revoke", &[], &both).status, 403);
    let other_case = format!("{{\"lease_id\": \"{}\", \"Lease_ID\": \"{}\"}}", id(&ours), id(&another));
    scene.ask("POST", "sys/leases/renew", &[], &other_case);
    let form = format!("{{\"lease_id\": \"{}\", \"x\": \"&lease_id={}&\"}}", id(&ours), id(&another));
    scene.ask("POST", "sys/leases/renew", &["Content-Type: application/x-www-form-urlencoded"], &form);
    assert_eq!(scene.ask("POST", &format!("sys/leases/revoke/{}", id(&ours)), &[], "{}").status, 403);
    assert_eq!(scene.ask("POST", "sys/leases/revoke-prefix/database", &[], "{}").status, 403);
    assert!(works(&postgres, &another) && works(&postgres, &ours));
    let revoked =
        scene.ask("PUT", "sys/leases/revoke", &[], &json!({"lease_id": id(&ours), "sync": true}).to_string());
    assert_eq!(revoked.status, 204, "{revoked:?}");
    assert!(!works(&postgres, &ours));
    until("no lease", || {
        scene
            .agent
            .health("/metrics")
            .text
            .contains("claviger_forwarded_leases{workload=\"job\"} 0")
            .then_some(())
    });
    // It is not its own any more.
    assert_eq!(
        scene.ask("PUT", "sys/leases/renew", &[], &json!({"lease_id": id(&ours)}).to_string()).status,
        403
    );
}
