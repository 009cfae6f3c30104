//! The end: SIGTERM leaves nothing of ours in Vault or PostgreSQL, and what is not ours stays.

use crate::{
    calls,
    database::Login,
    rig::{Plan, until},
};
use lab::{Postgres, Vault};
use serde_json::{Value, json};
use std::time::Duration;

/// The line of log about a phase of stopping.
fn phase<'a>(log: &'a [Value], name: &str) -> &'a Value {
    log.iter().find(|line| line["phase"] == name).unwrap_or_else(|| panic!("no phase {name}: {log:?}"))
}

#[test]
fn sigterm_leaves_no_token_no_lease_and_no_database_user_behind() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    let path = postgres.vault_database(&vault, "app", Duration::from_secs(600), Duration::from_secs(3600));
    plan.secret("orders-db", json!({"kind": "lease", "path": path}));
    plan.secret(
        "ci-token",
        json!({"kind": "token", "policies": ["ci-read"], "no_default_policy": false, "ttl": "15m"}),
    );
    let agent = plan.start();
    let user = agent.value("orders-db")["data"]["username"].as_str().unwrap().to_owned();
    let child = vault.client(agent.value("ci-token")["value"].as_str().unwrap());
    child.get("auth/token/lookup-self").expect_success();
    let accessor = json!({"accessor": calls::logged_in(&audit, "auth/approle/login")[0]});
    let root = vault.root();
    root.post("auth/token/lookup-accessor", &accessor).expect_success();
    assert_eq!(root.list("sys/leases/lookup/database/creds/app").status, 200);

    let stopped = agent.stop();

    assert_eq!(stopped.code, Some(0));
    assert_eq!(phase(&stopped.log, "revoke")["message"], "stopping: phase done", "within its limit");
    assert_eq!(phase(&stopped.log, "audit")["message"], "stopping: phase done");
    let revoked = stopped.events("auth.revoke.v1");
    assert_eq!((revoked.len(), &revoked[0]["outcome"]), (1, &json!("allow")));
    assert_eq!(stopped.events("agent.stopped.v1").len(), 1);
    // One call; everything else falls with the token.
    assert_eq!(calls::count(&audit, "auth/token/revoke-self"), 1);
    assert_eq!(calls::count(&audit, "sys/leases/revoke"), 0);
    let looked_up = root.post("auth/token/lookup-accessor", &accessor);
    assert!((400..500).contains(&looked_up.status), "{looked_up:?}");
    assert_eq!(child.get("auth/token/lookup-self").status, 403);
    until("the lease's end", || {
        (root.list("sys/leases/lookup/database/creds/app").status == 404).then_some(())
    });
    let roles = format!("select count(*) from pg_roles where rolname = '{user}'");
    until("the database user's end", || (postgres.query(&roles).unwrap() == "0").then_some(()));
}

#[test]
fn a_secret_that_leaves_the_config_is_revoked_after_its_grace_and_the_others_stay() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    let path = postgres.vault_database(&vault, "app", Duration::from_secs(600), Duration::from_secs(3600));
    plan.stripe(&vault);
    plan.secret("orders-db", json!({"kind": "lease", "path": path, "grace": "2s"}));
    let mut agent = plan.start();
    let login = Login::of(&agent.value("orders-db"));
    assert!(login.works(&postgres));
    agent.change(|config| {
        config["secrets"].as_object_mut().unwrap().remove("orders-db");
        config["workloads"]["job"]["rules"][0]["secrets"] = json!(["stripe"]);
    });
    until("the refusal", || (agent.read("orders-db").status == 403).then_some(()));
    until("the end of the login", || (!login.works(&postgres)).then_some(()));
    assert_eq!(calls::count(&audit, "sys/leases/revoke"), 1);
    agent.event("lease.revoked.v1", |event| event["outcome"] == "allow");
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    assert_eq!(calls::count(&audit, "auth/token/revoke-self"), 0);
}

#[test]
fn a_root_token_from_a_file_is_never_renewed_and_never_revoked() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    let token_file = plan.file("token", vault.root_token());
    plan.identity(json!({"method": "token_file", "token_file": token_file, "revoke_on_exit": true}));
    plan.stripe(&vault);
    let agent = plan.start();
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    agent.ready();
    assert_eq!(agent.stop().code, Some(0));
    vault.root().get("auth/token/lookup-self").expect_success();
    let made = |path: &str| audit.calls(path);
    assert_eq!((made("auth/token/renew-self"), made("auth/token/revoke-self")), (0, 0));
}

#[test]
fn a_token_is_left_to_its_own_end_where_the_config_says_so() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.config["identities"]["reports"]["revoke_on_exit"] = json!(false);
    plan.stripe(&vault);
    let agent = plan.start();
    agent.ready();
    assert_eq!(agent.stop().code, Some(0));
    let accessor = json!({"accessor": calls::logged_in(&audit, "auth/approle/login")[0]});
    vault.root().post("auth/token/lookup-accessor", &accessor).expect_success();
}
