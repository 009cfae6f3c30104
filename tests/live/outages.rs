//! A Vault that is sealed, hangs or is away: what is valid is still served, and everything recovers by itself.

use crate::{
    calls,
    rig::{Plan, until, write_stripe},
};
use lab::Vault;
use serde_json::json;

/// Certificates with a lease of a few seconds: the shortest lease that needs no database.
fn short_lease(plan: &mut Plan, vault: &Vault) {
    let root = vault.root();
    root.post("sys/mounts/pki", &json!({"type": "pki"})).expect_success();
    root.post("pki/root/generate/internal", &json!({"common_name": "Live CA", "ttl": "1h"})).expect_success();
    let role = json!({
        "allow_any_name": true, "key_type": "ec", "key_bits": 256, "generate_lease": true, "ttl": "6s",
    });
    root.post("pki/roles/short", &role).expect_success();
    let settings = json!({"kind": "lease", "path": "pki/issue/short", "params": {"common_name": "a.internal"}, "grace": "1s"});
    plan.secret("short", settings);
}

#[test]
fn while_vault_is_sealed_kv_is_served_stale_and_a_lease_until_its_end_and_then_all_is_well_again() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    short_lease(&mut plan, &vault);
    let agent = plan.start();
    agent.ready();
    let held = agent.value("short")["data"]["serial_number"].clone();
    vault.seal();
    let after = agent.read("short");
    assert!(after.status == 200, "still valid: {after:?}; held {held}");
    until("kv served stale", || {
        let reply = agent.read("stripe");
        assert_eq!((reply.status, &reply.json()["value"]), (200, &json!("sk_live_1")));
        reply.is_stale().then_some(())
    });
    agent.event("secret.stale_served.v1", |_| true);
    let refused = until("the lease's end", || Some(agent.read("short")).filter(|reply| reply.status != 200));
    assert_eq!((refused.status, &refused.json()["reason"]), (503, &json!("vault_sealed")));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let unready = until("unreadiness", || Some(agent.health("/readyz")).filter(|reply| reply.status == 503));
    assert!(unready.text.contains("secret_not_ready") && unready.text.contains("short"), "{unready:?}");
    let reply = agent.read("stripe");
    assert_eq!((reply.status, reply.is_stale()), (200, true), "kv lives on");
    vault.unseal();
    write_stripe(&vault, "sk_live_2");
    assert_eq!(agent.generation("stripe", 2)["value"], "sk_live_2");
    assert_ne!(agent.value("short")["data"]["serial_number"], held);
    agent.ready();
    assert!(!agent.read("stripe").is_stale());
    assert_eq!(calls::count(&audit, "auth/approle/login"), 1, "the token outlived it");
}

#[test]
fn a_vault_that_hangs_holds_up_no_workload() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.config["vault"]["timeout"] = json!("1s");
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    let agent = plan.start();
    agent.ready();
    vault.pause();
    until("kv served stale", || {
        let reply = agent.read("stripe");
        assert_eq!((reply.status, &reply.json()["value"]), (200, &json!("sk_live_1")));
        reply.is_stale().then_some(())
    });
    let said = agent.says("timed out");
    assert!(said.to_string().contains("stripe"), "{said}");
    vault.resume();
    write_stripe(&vault, "sk_live_2");
    assert_eq!(agent.generation("stripe", 2)["value"], "sk_live_2");
    assert_eq!(calls::count(&audit, "auth/approle/login"), 1);
}

#[test]
fn a_vault_that_is_started_again_finds_the_same_token_in_use() {
    let Some(mut vault) = Vault::start_durable() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    let agent = plan.start();
    agent.ready();
    vault.stop();
    until("kv served stale", || {
        let reply = agent.read("stripe");
        assert_eq!((reply.status, &reply.json()["value"]), (200, &json!("sk_live_1")));
        reply.is_stale().then_some(())
    });
    vault.restart();
    write_stripe(&vault, "sk_live_2");
    assert_eq!(agent.generation("stripe", 2)["value"], "sk_live_2");
    agent.ready();
    assert_eq!(calls::count(&audit, "auth/approle/login"), 1);
}

#[test]
fn a_vault_that_is_away_at_the_start_is_waited_for() {
    let Some(mut vault) = Vault::start_durable() else { return };
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    vault.stop();
    let agent = plan.start();
    let refused = until("a refusal", || {
        Some(agent.read("stripe"))
            .filter(|reply| reply.status == 503 && reply.json()["reason"] == "vault_away")
    });
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(agent.health("/livez").status, 200);
    assert_eq!(agent.health("/startupz").status, 503);
    vault.restart();
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    agent.ready();
}
