//! Logins: approle on both, jwt with a static key on both; kubernetes with a scripted TokenReview on the double.

use serde_json::{Value, json};

use crate::bench::{Answer, Bench, Side};
use crate::errors::INVALID_TOKEN;

contract!(
    an_approle_login_gives_a_renewable_token,
    an_approle_login_with_wrong_ids_is_refused,
    a_secret_id_with_uses_runs_out,
    a_role_may_give_batch_tokens,
    a_role_may_give_tokens_with_uses_and_no_default_policy,
    a_login_beyond_the_maximum_warns,
    a_login_token_is_renewed_to_the_roles_time_and_cut_at_its_maximum,
    a_role_with_more_time_than_its_maximum_is_refused,
    an_unknown_approle,
    what_is_asked_of_a_secret_id,
    a_jwt_login_gives_a_token,
    a_jwt_login_with_a_wrong_jwt_is_refused,
    kubernetes_login_errors,
    disabling_a_method_ends_its_tokens,
    a_tuned_method_caps_its_tokens,
);

/// Signed once (ES256) with a key that was thrown away: issuer `claviger-tests`, subject `app`, audience `vault`, until 2100.
const JWT: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJjbGF2aWdlci10ZXN0cyIsInN1YiI6ImFwcCIsImF1ZCI6InZhdWx0IiwiaWF0IjoxNzYwMDAwMDAwLCJleHAiOjQxMDI0NDQ4MDB9.n2mtYX2WlyxCMEkdfDXRY6Ex98-i2xlytIClXhwAWHwC0K8r_b4uIdgIw3viCkUqx-pffUTHNLoZ5y1zGY4O5g";
/// The public half of that key.
const JWT_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHjKc4HAOLh6/WqbAdG7kcX1e7eBN\nIWhlIa3AabI/92CseTSwBsWu7uDIy73cQq9QLR/xzYauX7msa7Br4ePnVw==\n-----END PUBLIC KEY-----\n";

/// An AppRole role with these settings, and its ids.
async fn approle(bench: &Bench, settings: Value) -> (String, Value) {
    let mount = bench.name("approle");
    bench.prepare(&format!("sys/auth/{mount}"), json!({ "type": "approle" })).await;
    bench.prepare(&format!("auth/{mount}/role/app"), settings).await;
    let role_id =
        bench.get(&format!("auth/{mount}/role/app/role-id"), &bench.root).await.text("/data/role_id");
    let given = bench.prepare(&format!("auth/{mount}/role/app/secret-id"), json!({})).await;
    (mount, json!({ "role_id": role_id, "secret_id": given.text("/data/secret_id") }))
}

async fn login(bench: &Bench, mount: &str, ids: &Value) -> Answer {
    bench.post(&format!("auth/{mount}/login"), "", ids.clone()).await
}

async fn an_approle_login_gives_a_renewable_token(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({ "token_policies": ["reports"], "token_ttl": "60s" })).await;
    let made = login(bench, &mount, &ids).await.is(200);
    let mut auth = made.body["auth"].clone();
    for varying in ["client_token", "accessor", "entity_id"] {
        assert!(
            auth.as_object_mut().unwrap().remove(varying).unwrap().as_str().unwrap().len() >= 24,
            "{varying}"
        );
    }
    let expected = json!({
        "policies": ["default", "reports"], "token_policies": ["default", "reports"],
        "metadata": { "role_name": "app" }, "lease_duration": 60, "renewable": true, "token_type": "service",
        "orphan": true, "mfa_requirement": null, "num_uses": 0,
    });
    assert_eq!(auth, expected);
    assert_eq!(made.text("/mount_type"), "");
    let again = login(bench, &mount, &ids).await.is(200);
    assert_eq!(again.text("/auth/entity_id"), made.text("/auth/entity_id"));
    assert_ne!(again.token(), made.token());
    let found = bench.get("auth/token/lookup-self", &made.token()).await.is(200);
    assert_eq!(found.text("/data/path"), format!("auth/{mount}/login"));
    assert_eq!(found.text("/data/display_name"), mount);
    assert_eq!(found.body["data"]["meta"], json!({ "role_name": "app" }));
}

async fn an_approle_login_with_wrong_ids_is_refused(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({})).await;
    let refused = ["invalid role or secret ID"];
    let with = |key: &str| {
        let mut ids = ids.clone();
        ids[key] = json!("nonsense");
        ids
    };
    login(bench, &mount, &with("role_id")).await.fails(400, &refused);
    login(bench, &mount, &with("secret_id")).await.fails(400, &refused);
    login(bench, &mount, &json!({ "role_id": ids["role_id"] })).await.fails(400, &["missing secret_id"]);
    let error = "failed to determine alias name from login request";
    login(bench, &mount, &json!({})).await.fails(500, &[error]);
}

async fn a_secret_id_with_uses_runs_out(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({ "secret_id_num_uses": 2 })).await;
    login(bench, &mount, &ids).await.is(200);
    login(bench, &mount, &ids).await.is(200);
    login(bench, &mount, &ids).await.fails(400, &["invalid role or secret ID"]);
}

async fn a_role_may_give_batch_tokens(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({ "token_type": "batch", "token_ttl": "60s" })).await;
    let made = login(bench, &mount, &ids).await.is(200);
    assert!(made.token().starts_with("hvb."));
    assert_eq!(
        (made.text("/auth/token_type"), &made.body["auth"]["renewable"]),
        ("batch".into(), &Value::Bool(false))
    );
    assert_eq!((made.text("/auth/accessor"), made.number("/auth/lease_duration")), (String::new(), 60));
    let renewed = bench.post("auth/token/renew-self", &made.token(), json!({})).await;
    renewed.fails(400, &["batch tokens cannot be renewed"]);
}

async fn a_role_may_give_tokens_with_uses_and_no_default_policy(bench: &Bench) {
    let settings = json!({ "token_num_uses": 3, "token_no_default_policy": true, "token_ttl": "60s" });
    let (mount, ids) = approle(bench, settings).await;
    let made = login(bench, &mount, &ids).await.is(200);
    assert_eq!((made.number("/auth/num_uses"), &made.body["auth"]["policies"]), (3, &json!([])));
    assert!(made.body["auth"].get("token_policies").is_none());
}

async fn a_login_beyond_the_maximum_warns(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({ "token_max_ttl": "30s" })).await;
    let made = login(bench, &mount, &ids).await.is(200);
    assert_eq!(made.number("/auth/lease_duration"), 30);
    let warning =
        "TTL of \"768h\" exceeded the effective max_ttl of \"30s\"; TTL value is capped accordingly";
    assert_eq!(made.body["warnings"], json!([warning]));
    let (mount, ids) = {
        let role = json!({ "token_period": "40s", "token_explicit_max_ttl": "30s" });
        bench.prepare(&format!("auth/{mount}/role/app"), role).await;
        (mount, ids)
    };
    let made = login(bench, &mount, &ids).await.is(200);
    let warning =
        "period of \"40s\" exceeded the effective max_ttl of \"30s\"; period value is capped accordingly";
    assert!(made.body["warnings"].as_array().unwrap().contains(&json!(warning)), "{made:?}");
}

async fn a_login_token_is_renewed_to_the_roles_time_and_cut_at_its_maximum(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({ "token_ttl": "40s", "token_max_ttl": "100s" })).await;
    let token = login(bench, &mount, &ids).await.is(200).token();
    let renewed = bench.post("auth/token/renew-self", &token, json!({})).await.is(200);
    assert_eq!((renewed.number("/auth/lease_duration"), &renewed.body["warnings"]), (40, &Value::Null));
    let renewed = bench.post("auth/token/renew-self", &token, json!({ "increment": 3600 })).await.is(200);
    let given = renewed.number("/auth/lease_duration");
    assert!((98..=100).contains(&given), "{renewed:?}");
    let left = format!("1m{}s", given - 60);
    let warning = format!(
        "TTL of \"1h\" exceeded the effective max_ttl of \"{left}\"; TTL value is capped accordingly"
    );
    assert_eq!(renewed.body["warnings"], json!([warning]));
}

async fn a_role_with_more_time_than_its_maximum_is_refused(bench: &Bench) {
    let (mount, _) = approle(bench, json!({})).await;
    let role = json!({ "token_ttl": "60s", "token_max_ttl": "30s" });
    let error = "'token_ttl' cannot be greater than 'token_max_ttl'";
    bench.post(&format!("auth/{mount}/role/other"), &bench.root, role).await.fails(400, &[error]);
}

async fn an_unknown_approle(bench: &Bench) {
    let (mount, _) = approle(bench, json!({})).await;
    let role = format!("auth/{mount}/role/nobody");
    bench.get(&role, &bench.root).await.fails(404, &[]);
    bench.get(&format!("{role}/role-id"), &bench.root).await.fails(404, &[]);
    let error = "role \"nobody\" does not exist";
    bench.post(&format!("{role}/secret-id"), &bench.root, json!({})).await.fails(404, &[error]);
}

async fn what_is_asked_of_a_secret_id(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({ "secret_id_ttl": "1h" })).await;
    let role = format!("auth/{mount}/role/app");
    let ask = async |path: &str, body: Value| bench.post(&format!("{role}/{path}"), &bench.root, body).await;
    let found = ask("secret-id/lookup", json!({ "secret_id": ids["secret_id"] })).await.is(200);
    let accessor = json!({ "secret_id_accessor": found.text("/data/secret_id_accessor") });
    assert_eq!((found.number("/data/secret_id_ttl"), found.number("/data/secret_id_num_uses")), (3600, 0));
    assert!(found.text("/data/creation_time") < found.text("/data/expiration_time"));
    assert_eq!(
        ask("secret-id-accessor/lookup", accessor.clone()).await.is(200).body["data"],
        found.body["data"]
    );
    ask("secret-id/lookup", json!({ "secret_id": "nobody's" })).await.is(204);
    let custom = json!({ "secret_id": "ours", "metadata": "{\"run\":\"r\"}" });
    ask("custom-secret-id", custom.clone()).await.is(200);
    ask("custom-secret-id", custom).await.is(500);
    let found = ask("secret-id/lookup", json!({ "secret_id": "ours" })).await.is(200);
    assert_eq!(found.body["data"]["metadata"], json!({ "run": "r" }));
    let all = bench.get(&format!("{role}/secret-id?list=true"), &bench.root).await.is(200);
    assert_eq!(all.body["data"]["keys"].as_array().unwrap().len(), 2);
    ask("secret-id-accessor/destroy", accessor.clone()).await.is(204);
    ask("secret-id-accessor/destroy", accessor.clone()).await.is(500);
    ask("secret-id-accessor/lookup", accessor).await.is(404);
    login(bench, &mount, &ids).await.fails(400, &["invalid role or secret ID"]);
}

async fn jwt_mount(bench: &Bench) -> String {
    let mount = bench.name("jwt");
    bench.prepare(&format!("sys/auth/{mount}"), json!({ "type": "jwt" })).await;
    bench.prepare(&format!("auth/{mount}/config"), json!({ "jwt_validation_pubkeys": [JWT_KEY] })).await;
    let role = json!({
        "role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub", "token_policies": ["reports"],
        "token_ttl": "60s",
    });
    bench.prepare(&format!("auth/{mount}/role/app"), role).await;
    if let Side::Double { vault, .. } = &bench.side {
        vault.accept_jwt(JWT);
    }
    mount
}

async fn a_jwt_login_gives_a_token(bench: &Bench) {
    let mount = jwt_mount(bench).await;
    let made = login(bench, &mount, &json!({ "role": "app", "jwt": JWT })).await.is(200);
    assert_eq!(made.body["auth"]["policies"], json!(["default", "reports"]));
    assert_eq!(made.body["auth"]["metadata"], json!({ "role": "app" }));
    assert_eq!(
        (made.number("/auth/lease_duration"), &made.body["auth"]["renewable"]),
        (60, &Value::Bool(true))
    );
    bench.get("auth/token/lookup-self", &made.token()).await.is(200);
}

async fn a_jwt_login_with_a_wrong_jwt_is_refused(bench: &Bench) {
    let mount = jwt_mount(bench).await;
    let forged = format!("{}AAAAA", &JWT[..JWT.len() - 5]);
    let error = "error validating token: error verifying token signature: no known key successfully validated the token signature";
    login(bench, &mount, &json!({ "role": "app", "jwt": forged })).await.fails(400, &[error]);
    let error = "role \"nobody\" could not be found";
    login(bench, &mount, &json!({ "role": "nobody", "jwt": JWT })).await.fails(400, &[error]);
    login(bench, &mount, &json!({ "role": "app" })).await.fails(400, &["missing token"]);
    login(bench, &mount, &json!({ "jwt": JWT })).await.fails(400, &["missing role"]);
}

async fn kubernetes_login_errors(bench: &Bench) {
    let mount = bench.name("kubernetes");
    bench.prepare(&format!("sys/auth/{mount}"), json!({ "type": "kubernetes" })).await;
    let config = json!({ "kubernetes_host": "http://127.0.0.1:1", "disable_local_ca_jwt": true });
    bench.prepare(&format!("auth/{mount}/config"), config).await;
    let role = json!({
        "bound_service_account_names": "app", "bound_service_account_namespaces": "default",
        "token_policies": ["reports"], "token_ttl": "60s", "audience": "vault",
    });
    bench.prepare(&format!("auth/{mount}/role/app"), role).await;
    login(bench, &mount, &json!({ "role": "app", "jwt": "nonsense" }))
        .await
        .fails(403, &["permission denied"]);
    login(bench, &mount, &json!({ "role": "app" })).await.fails(400, &["missing jwt"]);
    login(bench, &mount, &json!({ "jwt": JWT })).await.fails(400, &["missing role"]);
    let error = "invalid role name \"nobody\"";
    login(bench, &mount, &json!({ "role": "nobody", "jwt": JWT })).await.fails(400, &[error]);
}

async fn disabling_a_method_ends_its_tokens(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({ "token_ttl": "60s" })).await;
    let token = login(bench, &mount, &ids).await.is(200).token();
    bench.delete(&format!("sys/auth/{mount}"), &bench.root).await.is(204);
    bench.get("auth/token/lookup-self", &token).await.fails(403, &[INVALID_TOKEN]);
    login(bench, &mount, &ids).await.fails(403, &["permission denied"]);
}

async fn a_tuned_method_caps_its_tokens(bench: &Bench) {
    let (mount, ids) = approle(bench, json!({ "token_ttl": "60s" })).await;
    let tuned = json!({ "default_lease_ttl": "20s", "max_lease_ttl": "40s" });
    bench.prepare(&format!("sys/auth/{mount}/tune"), tuned).await;
    let read = bench.get(&format!("sys/auth/{mount}/tune"), &bench.root).await.is(200);
    assert_eq!((read.number("/data/default_lease_ttl"), read.number("/data/max_lease_ttl")), (20, 40));
    let made = login(bench, &mount, &ids).await.is(200);
    assert_eq!(made.number("/auth/lease_duration"), 40);
    bench.prepare(&format!("auth/{mount}/role/app"), json!({ "token_ttl": 0 })).await;
    assert_eq!(login(bench, &mount, &ids).await.is(200).number("/auth/lease_duration"), 20);
}

/// The TokenReview is scripted, so only the double can run this; a real one comes with a real Kubernetes.
#[tokio::test]
async fn a_reviewed_service_account_logs_in_on_the_double() {
    let bench = Bench::double().await;
    let Side::Double { vault, .. } = &bench.side else { panic!("the double") };
    vault.kubernetes("kubernetes", "app", devvault::RoleSettings::policies(&["reports"]));
    vault.accept_service_account("genuine", "default", "app");
    let ids = json!({ "role": "app", "jwt": "genuine" });
    let made = login(&bench, "kubernetes", &ids).await.is(200);
    assert_eq!(made.body["auth"]["metadata"]["service_account_name"], "app");
    vault.refuse_jwt("genuine");
    login(&bench, "kubernetes", &ids).await.fails(403, &["permission denied"]);
}
