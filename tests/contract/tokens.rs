//! Tokens: creation, lookup, renewal, revocation, maxima, uses, types.

use serde_json::{Value, json};

use crate::bench::{Answer, Bench};
use crate::errors::{INVALID_TOKEN, NOT_ALLOWED};

contract!(
    a_new_token_says_what_it_is,
    a_lookup_says_what_is_left,
    a_renewal_sets_the_time_anew,
    a_renewal_past_the_maximum_is_cut_with_a_warning,
    a_creation_past_the_maximum_is_cut_with_a_warning,
    a_periodic_token_ignores_the_increment,
    a_token_that_is_not_renewable_is_refused,
    a_root_token_is_not_renewable,
    a_batch_token_is_neither_renewed_nor_revoked,
    a_batch_token_dies_with_its_parent,
    a_token_with_two_uses_dies_after_them,
    a_token_dies_when_its_time_is_over,
    revoking_a_parent_kills_its_children,
    revoking_itself_is_final,
    an_accessor_stands_for_its_token,
    tokens_that_are_not_there,
    a_child_has_no_more_than_its_parent,
    a_role_of_the_token_store_gives_its_policies,
);

async fn lookup(bench: &Bench, token: &str) -> Answer {
    bench.get("auth/token/lookup-self", token).await
}

async fn renew(bench: &Bench, token: &str, increment: &str) -> Answer {
    bench.post("auth/token/renew-self", token, json!({ "increment": increment })).await
}

async fn a_new_token_says_what_it_is(bench: &Bench) {
    let made = bench.token(json!({ "policies": ["default"], "ttl": "60s" })).await;
    assert!(made.token().starts_with("hvs."));
    assert_eq!(made.text("/auth/accessor").len(), 24);
    let mut auth = made.body["auth"].clone();
    for varying in ["client_token", "accessor"] {
        auth.as_object_mut().unwrap().remove(varying);
    }
    let expected = json!({
        "policies": ["default"], "token_policies": ["default"], "metadata": null, "lease_duration": 60,
        "renewable": true, "entity_id": "", "token_type": "service", "orphan": false, "mfa_requirement": null,
        "num_uses": 0,
    });
    assert_eq!(auth, expected);
    assert_eq!((&made.body["data"], &made.body["warnings"]), (&Value::Null, &Value::Null));
}

async fn a_lookup_says_what_is_left(bench: &Bench) {
    let fields =
        json!({ "policies": ["default"], "ttl": "60s", "meta": { "team": "x" }, "display_name": "ci" });
    let made = bench.token(fields).await;
    let found = lookup(bench, &made.token()).await.is(200);
    assert!((58..=60).contains(&found.number("/data/ttl")), "{found:?}");
    assert!(found.text("/data/expire_time").ends_with('Z'));
    let mut data = found.body["data"].clone();
    for varying in ["accessor", "creation_time", "expire_time", "id", "issue_time", "ttl"] {
        assert!(data.as_object_mut().unwrap().remove(varying).is_some(), "{varying}");
    }
    let expected = json!({
        "creation_ttl": 60, "display_name": "token-ci", "entity_id": "", "explicit_max_ttl": 0,
        "meta": { "team": "x" }, "num_uses": 0, "orphan": false, "path": "auth/token/create",
        "policies": ["default"], "renewable": true, "type": "service",
    });
    assert_eq!(data, expected);
}

async fn a_renewal_sets_the_time_anew(bench: &Bench) {
    let made = bench.token(json!({ "policies": ["default"], "ttl": "60s" })).await;
    let renewed = renew(bench, &made.token(), "300s").await.is(200);
    assert_eq!(renewed.number("/auth/lease_duration"), 300);
    assert_eq!(renewed.token(), made.token());
    assert_eq!(renewed.body["auth"]["renewable"], true);
    let found = lookup(bench, &made.token()).await.is(200);
    assert!((298..=300).contains(&found.number("/data/ttl")));
    assert_eq!(found.number("/data/creation_ttl"), 60);
    assert!(
        found.body["data"]["last_renewal"].is_string() && found.body["data"]["last_renewal_time"].is_u64()
    );
}

async fn a_renewal_past_the_maximum_is_cut_with_a_warning(bench: &Bench) {
    let made = bench.token(json!({ "policies": ["default"], "ttl": "60s", "explicit_max_ttl": "90s" })).await;
    let renewed = renew(bench, &made.token(), "300s").await.is(200);
    let given = renewed.number("/auth/lease_duration");
    assert!((88..=90).contains(&given), "{renewed:?}");
    let warning = format!(
        "TTL of \"5m\" exceeded the effective max_ttl of \"1m{}s\"; TTL value is capped accordingly",
        given - 60
    );
    assert_eq!(renewed.body["warnings"], json!([warning]));
}

async fn a_creation_past_the_maximum_is_cut_with_a_warning(bench: &Bench) {
    let made =
        bench.token(json!({ "policies": ["default"], "ttl": "300s", "explicit_max_ttl": "100s" })).await;
    assert_eq!(made.number("/auth/lease_duration"), 100);
    let warning =
        "TTL of \"5m\" exceeded the effective max_ttl of \"1m40s\"; TTL value is capped accordingly";
    assert_eq!(made.body["warnings"], json!([warning]));
}

async fn a_periodic_token_ignores_the_increment(bench: &Bench) {
    let made = bench.token(json!({ "policies": ["default"], "period": "60s" })).await;
    assert_eq!(renew(bench, &made.token(), "10s").await.is(200).number("/auth/lease_duration"), 60);
    assert_eq!(lookup(bench, &made.token()).await.number("/data/period"), 60);
}

async fn a_token_that_is_not_renewable_is_refused(bench: &Bench) {
    let made = bench.token(json!({ "policies": ["default"], "ttl": "60s", "renewable": false })).await;
    assert_eq!(made.body["auth"]["renewable"], false);
    renew(bench, &made.token(), "60s").await.fails(400, &["lease is not renewable"]);
}

async fn a_root_token_is_not_renewable(bench: &Bench) {
    renew(bench, &bench.root, "60s").await.fails(400, &["lease is not renewable"]);
    let found = lookup(bench, &bench.root).await.is(200);
    assert_eq!(found.body["data"]["expire_time"], Value::Null);
    assert_eq!((found.number("/data/ttl"), &found.body["data"]["renewable"]), (0, &Value::Bool(false)));
    assert_eq!(found.body["data"]["policies"], json!(["root"]));
}

async fn a_batch_token_is_neither_renewed_nor_revoked(bench: &Bench) {
    let made = bench.token(json!({ "policies": ["default"], "ttl": "60s", "type": "batch" })).await;
    let token = made.token();
    assert!(token.starts_with("hvb."));
    assert_eq!(
        (made.text("/auth/accessor"), &made.body["auth"]["renewable"]),
        (String::new(), &Value::Bool(false))
    );
    renew(bench, &token, "60s").await.fails(400, &["batch tokens cannot be renewed"]);
    bench
        .post("auth/token/revoke-self", &token, json!({}))
        .await
        .fails(400, &["batch tokens cannot be revoked"]);
    let found = lookup(bench, &token).await.is(200);
    assert_eq!((found.text("/data/type"), found.text("/data/accessor")), ("batch".into(), String::new()));
}

async fn a_batch_token_dies_with_its_parent(bench: &Bench) {
    let maker = bench.policy("maker", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    let parent = bench.token(json!({ "policies": [maker], "ttl": "60s" })).await.token();
    let child = bench.post("auth/token/create", &parent, json!({ "type": "batch" })).await.is(200).token();
    bench
        .post("auth/token/create", &child, json!({}))
        .await
        .fails(400, &["batch tokens cannot create more tokens"]);
    lookup(bench, &child).await.is(200);
    bench.post("auth/token/revoke", &bench.root, json!({ "token": parent })).await.is(204);
    lookup(bench, &child).await.fails(403, &[INVALID_TOKEN]);
}

async fn a_token_with_two_uses_dies_after_them(bench: &Bench) {
    let made = bench.token(json!({ "policies": ["default"], "ttl": "60s", "num_uses": 2 })).await;
    assert_eq!(made.number("/auth/num_uses"), 2);
    assert_eq!(lookup(bench, &made.token()).await.is(200).body["data"]["num_uses"], 1);
    assert_eq!(lookup(bench, &made.token()).await.is(200).body["data"]["num_uses"], -1);
    let dead = bench.until(|answer| answer.status == 403, "auth/token/lookup-self", &made.token()).await;
    dead.fails(403, &[INVALID_TOKEN]);
}

async fn a_token_dies_when_its_time_is_over(bench: &Bench) {
    let token = bench.token(json!({ "policies": ["default"], "ttl": "1s" })).await.token();
    let dead = bench.until(|answer| answer.status != 200, "auth/token/lookup-self", &token).await;
    dead.fails(403, &[INVALID_TOKEN]);
}

async fn revoking_a_parent_kills_its_children(bench: &Bench) {
    let maker = bench.policy("maker", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    let parent = bench.token(json!({ "policies": [maker], "ttl": "600s" })).await.token();
    let child = bench.post("auth/token/create", &parent, json!({ "ttl": "300s" })).await.is(200).token();
    let grandchild = bench.post("auth/token/create", &child, json!({ "ttl": "300s" })).await.is(200).token();
    bench.post("auth/token/revoke-self", &parent, json!({})).await.is(204);
    for token in [&parent, &child, &grandchild] {
        lookup(bench, token).await.fails(403, &[INVALID_TOKEN]);
    }
}

async fn revoking_itself_is_final(bench: &Bench) {
    let token = bench.token(json!({ "policies": ["default"], "ttl": "60s" })).await.token();
    bench.post("auth/token/revoke-self", &token, json!({})).await.is(204);
    bench.post("auth/token/revoke-self", &token, json!({})).await.fails(403, &[INVALID_TOKEN]);
    renew(bench, &token, "60s").await.fails(403, &[INVALID_TOKEN]);
}

async fn an_accessor_stands_for_its_token(bench: &Bench) {
    let made = bench.token(json!({ "policies": ["default"], "ttl": "60s" })).await;
    let accessor = json!({ "accessor": made.text("/auth/accessor") });
    let found = bench.post("auth/token/lookup-accessor", &bench.root, accessor.clone()).await.is(200);
    assert_eq!(found.text("/data/id"), "");
    bench.post("auth/token/renew-accessor", &bench.root, accessor.clone()).await.is(200);
    bench.post("auth/token/revoke-accessor", &bench.root, accessor).await.is(204);
    lookup(bench, &made.token()).await.fails(403, &[INVALID_TOKEN]);
}

async fn tokens_that_are_not_there(bench: &Bench) {
    let root = bench.root.as_str();
    let token = json!({ "token": "nonsense" });
    bench.post("auth/token/lookup", root, token.clone()).await.fails(403, &["bad token"]);
    bench.post("auth/token/renew", root, token.clone()).await.fails(400, &["token not found"]);
    bench.post("auth/token/revoke", root, token.clone()).await.is(204);
    bench.post("auth/token/revoke", root, json!({})).await.fails(400, &["missing token ID"]);
    bench.post("auth/token/revoke-orphan", root, token).await.fails(400, &["token to revoke not found"]);
    let accessor = json!({ "accessor": "nonsense" });
    let error = "1 error occurred:\n\t* invalid accessor\n\n";
    bench.post("auth/token/lookup-accessor", root, accessor.clone()).await.fails(400, &[error]);
    bench.post("auth/token/renew-accessor", root, accessor.clone()).await.fails(400, &[error]);
    let revoked = bench.post("auth/token/revoke-accessor", root, accessor).await.is(200);
    assert_eq!(revoked.body["warnings"], json!(["No token found with this accessor"]));
}

async fn a_child_has_no_more_than_its_parent(bench: &Bench) {
    let maker = bench.policy("maker", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    let parent = bench.token(json!({ "policies": [maker.clone()], "ttl": "60s" })).await.token();
    let create = "auth/token/create";
    let error = "child policies must be subset of parent";
    bench.post(create, &parent, json!({ "policies": ["other"] })).await.fails(400, &[error]);
    bench.post(create, &parent, json!({ "policies": ["root"] })).await.fails(400, &[error]);
    let error = "root or sudo privileges required to create orphan token";
    bench.post(create, &parent, json!({ "no_parent": true })).await.fails(400, &[error]);
    bench.post("auth/token/create-orphan", &parent, json!({})).await.fails(403, &[NOT_ALLOWED]);
    let child = bench.post(create, &parent, json!({})).await.is(200);
    assert_eq!(child.body["auth"]["policies"], json!(["default", maker]));
    let narrow = json!({ "policies": [maker], "no_default_policy": true });
    let child = bench.post(create, &parent, narrow).await.is(200);
    assert_eq!(child.body["auth"]["policies"], json!([maker]));
    let limited = bench.token(json!({ "policies": [maker], "ttl": "60s", "num_uses": 5 })).await.token();
    let error = "restricted use token cannot generate child tokens";
    bench.post(create, &limited, json!({})).await.fails(400, &[error]);
}

async fn a_role_of_the_token_store_gives_its_policies(bench: &Bench) {
    let role = bench.name("role");
    let settings = json!({ "allowed_policies": ["default", "ci"], "orphan": true, "token_period": "50s" });
    bench.prepare(&format!("auth/token/roles/{role}"), settings).await;
    let made = bench.prepare(&format!("auth/token/create/{role}"), json!({})).await;
    assert_eq!((made.number("/auth/lease_duration"), &made.body["auth"]["orphan"]), (50, &Value::Bool(true)));
    assert_eq!(made.body["auth"]["policies"], json!(["ci", "default"]));
    let found = lookup(bench, &made.token()).await.is(200);
    assert_eq!(
        (found.text("/data/role"), found.text("/data/path")),
        (role.clone(), format!("auth/token/create/{role}"))
    );
    let wrong = json!({ "policies": ["other"] });
    bench.post(&format!("auth/token/create/{role}"), &bench.root, wrong).await.is(400);
    bench
        .post("auth/token/create/nonsense", &bench.root, json!({}))
        .await
        .fails(400, &["unknown role nonsense"]);
}
