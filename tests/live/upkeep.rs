//! Keeping the token alive: renewed in time, replaced before its maximum, replaced when it was revoked behind our back,
//! and never more calls than the budget, by Vault's own count.

use crate::{
    calls::{self, Call},
    rig::{Plan, again_in_ms, until, write_stripe},
};
use lab::Vault;
use serde_json::json;

const LOGIN: &str = "auth/approle/login";
const RENEW: &str = "auth/token/renew-self";

#[test]
fn a_token_is_renewed_at_sixty_to_seventy_percent_of_its_time_and_never_lost() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "5s"}));
    plan.stripe(&vault);
    let _agent = plan.start();
    until("three renewals", || (calls::count(&audit, RENEW) >= 3).then_some(()));
    let renewals = calls::at(&audit, RENEW);
    let logins = calls::at(&audit, LOGIN);
    // One login: the token never ended. And of its 5 s never less than 3 passed before the next renewal.
    assert_eq!(logins.len(), 1);
    let span = renewals.last().unwrap().at - logins[0].at;
    assert!(renewals.len() as f64 <= span / 3.0 + 0.2, "{} renewals in {span} s", renewals.len());
}

#[test]
fn a_child_token_that_was_just_handed_out_works_whenever_the_identity_moves_to_a_new_login() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10s", "token_max_ttl": "14s"}));
    plan.secret(
        "ci-token",
        json!({"kind": "token", "policies": ["ci-read"], "no_default_policy": false, "ttl": "30s", "grace": "4s"}),
    );
    let agent = plan.start();
    let mut used = 0;
    let revoked = until("the first login's token to be revoked", || {
        let token = agent.value("ci-token")["value"].as_str().unwrap().to_owned();
        let looked_up = vault.client(&token).get("auth/token/lookup-self");
        assert_eq!(looked_up.status, 200, "after {used} good uses: {}", looked_up.body);
        used += 1;
        calls::at(&audit, "auth/token/revoke-self").first().cloned()
    });
    let logins = calls::at(&audit, LOGIN);
    let accessors = calls::logged_in(&audit, LOGIN);
    assert_eq!(revoked.accessor, accessors[0]);
    assert!(logins[1].at < revoked.at, "the new login comes first: {logins:?} {revoked:?}");
    let children = calls::at(&audit, "auth/token/create");
    assert!(
        children.iter().any(|child| child.accessor == accessors[1] && child.at < revoked.at),
        "{children:?}"
    );
    // The new one has not fallen with the old login.
    let token = agent.value("ci-token")["value"].as_str().unwrap().to_owned();
    vault.client(&token).get("auth/token/lookup-self").expect_success();
}

#[test]
fn a_token_revoked_behind_our_back_is_found_out_and_replaced_by_one_lookup_and_one_login() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    plan.secret(
        "ci-token",
        json!({"kind": "token", "policies": ["ci-read"], "no_default_policy": false, "ttl": "10m"}),
    );
    let agent = plan.start();
    let child = agent.value("ci-token")["value"].as_str().unwrap().to_owned();
    agent.ready();
    let accessors = calls::logged_in(&audit, LOGIN);
    let behind = json!({"accessor": accessors[0]});
    vault.root().post("auth/token/revoke-accessor", &behind).expect_success();
    write_stripe(&vault, "sk_live_2");
    assert_eq!(agent.generation("stripe", 2)["value"], "sk_live_2");
    assert_eq!((calls::count(&audit, LOGIN), calls::count(&audit, "auth/token/lookup-self")), (2, 1));
    // The child fell with its parent: it is not handed out any more, a new one is.
    let new = until("a new child", || {
        let value = agent.value("ci-token")["value"].as_str().unwrap().to_owned();
        (value != child).then_some(value)
    });
    assert_eq!(vault.client(&child).get("auth/token/lookup-self").status, 403);
    vault.client(&new).get("auth/token/lookup-self").expect_success();
    agent.ready();
    let failed = agent.event("auth.failed.v1", |_| true);
    assert_eq!(failed["reason"], "vault_denied");
}

#[test]
fn whatever_vault_refuses_our_calls_stay_within_the_budget() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    // Without the default policy a token whose own policy is gone may do nothing at all, not even renew itself.
    plan.approle(&vault, json!({"token_ttl": "3s", "token_no_default_policy": true}));
    let policy = r#"path "*" { capabilities = ["read", "update", "create"] }"#;
    vault.root().put("sys/policies/acl/reports", &json!({"policy": policy})).expect_success();
    for n in 0..12 {
        vault.root().post(&format!("secret/data/key-{n}"), &json!({"data": {"k": "v"}})).expect_success();
        plan.secret(
            &format!("key-{n}"),
            json!({"kind": "kv", "path": format!("secret/key-{n}"), "refresh": "1s"}),
        );
    }
    let (rate, burst) = (4.0, 6.0);
    plan.config["vault"]["budget"] = json!({"calls_per_second": rate as u32, "burst": burst as u32});
    let agent = plan.start();
    for n in 0..12 {
        agent.value(&format!("key-{n}"));
    }
    vault.root().delete("sys/policies/acl/reports").expect_success();
    let refused = |call: &Call| call.error.contains("permission denied") || call.error.contains("403");
    let from =
        until("the first refusal", || calls::ours(&audit).iter().find(|call| refused(call)).map(|c| c.at));
    let all = until("twelve seconds of refusals", || {
        // Workloads that ask without end do not change it.
        for n in 0..12 {
            agent.read(&format!("key-{n}"));
        }
        let all = calls::ours(&audit);
        (all.last().unwrap().at - from > 12.0).then_some(all)
    });
    assert!(all.len() as f64 > 4.0 * burst, "the budget was what held it back: {all:?}");
    // Every stretch of the run, with a second for calls that were held up on their way to Vault.
    for (first, start) in all.iter().enumerate() {
        for (last, end) in all.iter().enumerate().skip(first) {
            let (made, allowed) = ((last - first + 1) as f64, burst + rate * (end.at - start.at + 1.0));
            assert!(made <= allowed, "{made} calls in {} s: {:?}", end.at - start.at, &all[first..=last]);
        }
    }
    // It says what is wrong, and when the policy is back it recovers by itself.
    agent.event("auth.failed.v1", |event| event["reason"] == "vault_denied");
    vault.root().put("sys/policies/acl/reports", &json!({"policy": policy})).expect_success();
    let again = calls::ours(&audit).len();
    until("a read that Vault allows", || {
        calls::ours(&audit)[again..]
            .iter()
            .any(|c| c.path.starts_with("secret/data/") && c.error.is_empty())
            .then_some(())
    });
}

#[test]
fn a_rate_limit_of_vault_is_obeyed_until_its_retry_after_and_then_it_goes_on() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    let agent = plan.start();
    agent.value("stripe");
    let root = vault.root();
    let told = json!({"enable_rate_limit_response_headers": true, "enable_rate_limit_audit_logging": true});
    root.post("sys/quotas/config", &told).expect_success();
    let quota = json!({"path": "secret/metadata/stripe", "rate": 1, "interval": "12s"});
    root.post("sys/quotas/rate-limit/stripe", &quota).expect_success();
    let slow = agent.says("429");
    let wait = again_in_ms(&slow);
    // Of our own accord the first failure waits a second at most.
    assert!((2_000..=13_000).contains(&wait), "{slow}");
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    let at_limit = calls::count(&audit, "secret/metadata/stripe");
    until("a look after the wait", || {
        (calls::count(&audit, "secret/metadata/stripe") > at_limit).then_some(())
    });
    root.delete("sys/quotas/rate-limit/stripe").expect_success();
    write_stripe(&vault, "sk_live_2");
    assert_eq!(agent.generation("stripe", 2)["value"], "sk_live_2");
    // The look that met the limit was not repeated before its time.
    let looks = calls::at(&audit, "secret/metadata/stripe");
    let (limited, next) = (&looks[at_limit - 1], &looks[at_limit]);
    assert!(next.at - limited.at >= wait as f64 / 1000.0 - 0.5, "{limited:?} {next:?} {wait}");
}
