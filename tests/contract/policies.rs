//! Policies: which rule decides, what `capabilities-self` says, what their text may be.

use serde_json::json;

use crate::bench::Bench;
use crate::errors::NOT_ALLOWED;

contract!(
    the_rule_that_decides,
    capabilities_say_what_the_rules_give,
    creating_is_not_changing,
    a_changed_policy_holds_at_once,
    a_policy_reads_back_as_written,
    policies_that_are_not_accepted,
    capabilities_of_what_is_not_there,
);

const RULES: &str = r#"
# a comment, and every kind of pattern
path "P/data/*"         { capabilities = ["read", "list"] }
path "P/data/deep/*"    { capabilities = ["create"] }
path "P/data/+/key"     { capabilities = ["deny"] }
path "P/data/a/key"     { capabilities = ["update"] }
path "P/data/pre*"      { capabilities = ["delete"] }
path "P/+/exact"        { capabilities = ["patch"] }
path "P/list"           { capabilities = ["list"] }
"#;

async fn the_rule_that_decides(bench: &Bench) {
    let prefix = bench.name("p");
    let policy = bench.policy("rules", &RULES.replace('P', &prefix)).await;
    let token = bench.token(json!({ "policies": [policy], "ttl": "60s" })).await.token();
    let check = async |path: &str, expected: &[&str]| {
        let path = format!("{prefix}/{path}");
        let told = bench.post("sys/capabilities-self", &token, json!({ "path": path })).await.is(200);
        assert_eq!(told.body["data"]["capabilities"], json!(expected), "{path}");
    };
    check("data/x", &["list", "read"]).await;
    check("data/x/y", &["list", "read"]).await;
    check("data/deep/x", &["create"]).await;
    check("data/b/key", &["deny"]).await;
    check("data/a/key", &["update"]).await;
    check("data/prefix/x", &["delete"]).await;
    check("data/exact", &["list", "read"]).await;
    check("other/exact", &["patch"]).await;
    check("list", &["list"]).await;
    check("list/", &["list"]).await;
    check("nonsense", &["deny"]).await;
}

async fn capabilities_say_what_the_rules_give(bench: &Bench) {
    let rule = r#"path "x/a" { capabilities = ["update", "create", "read"] }"#;
    let policy = bench.policy("caps", rule).await;
    let token = bench.token(json!({ "policies": [policy], "ttl": "60s" })).await.token();
    let path = "sys/capabilities-self";
    let told = bench.post(path, &token, json!({ "paths": ["x/a", "sys/seal"] })).await.is(200);
    assert_eq!(told.body["data"], json!({ "x/a": ["create", "read", "update"], "sys/seal": ["deny"] }));
    assert_eq!(told.body["x/a"], json!(["create", "read", "update"]));
    let told = bench.post(path, &bench.root, json!({ "path": "x/a" })).await.is(200);
    assert_eq!(told.body["data"], json!({ "capabilities": ["root"], "x/a": ["root"] }));
    bench.post(path, &token, json!({})).await.fails(400, &["paths must be supplied"]);
}

async fn creating_is_not_changing(bench: &Bench) {
    let mount = bench.mount("kv", json!({ "type": "kv", "options": { "version": "1" } })).await;
    let text = format!(
        r#"path "{mount}/new*" {{ capabilities = ["create"] }} path "{mount}/old*" {{ capabilities = ["update"] }}"#
    );
    let policy = bench.policy("writer", &text).await;
    let token = bench.token(json!({ "policies": [policy], "ttl": "60s" })).await.token();
    let value = json!({ "k": "v" });
    bench.post(&format!("{mount}/new"), &token, value.clone()).await.is(204);
    bench.post(&format!("{mount}/new"), &token, value.clone()).await.fails(403, &[NOT_ALLOWED]);
    bench.post(&format!("{mount}/old"), &token, value.clone()).await.fails(403, &[NOT_ALLOWED]);
    bench.prepare(&format!("{mount}/old"), value.clone()).await;
    bench.post(&format!("{mount}/old"), &token, value).await.is(204);
    bench.get(&format!("{mount}/old"), &token).await.fails(403, &[NOT_ALLOWED]);
    bench.delete(&format!("{mount}/old"), &token).await.fails(403, &[NOT_ALLOWED]);
    bench.list(&format!("{mount}/"), &token).await.fails(403, &[NOT_ALLOWED]);
}

async fn a_changed_policy_holds_at_once(bench: &Bench) {
    let mount = bench.mount("kv", json!({ "type": "kv", "options": { "version": "1" } })).await;
    bench.prepare(&format!("{mount}/a"), json!({ "k": "v" })).await;
    let allow = format!(r#"path "{mount}/a" {{ capabilities = ["read"] }}"#);
    let policy = bench.policy("changing", &allow).await;
    let token = bench.token(json!({ "policies": [policy], "ttl": "60s" })).await.token();
    bench.get(&format!("{mount}/a"), &token).await.is(200);
    let deny = format!(r#"path "{mount}/a" {{ capabilities = ["deny"] }}"#);
    bench.policy("changing", &deny).await;
    bench.get(&format!("{mount}/a"), &token).await.fails(403, &[NOT_ALLOWED]);
}

async fn a_policy_reads_back_as_written(bench: &Bench) {
    let text = r#"path "x" { capabilities = ["read"] }"#;
    let name = bench.policy("text", text).await;
    let read = bench.get(&format!("sys/policies/acl/{name}"), &bench.root).await.is(200);
    assert_eq!(read.body["data"], json!({ "name": name, "policy": text }));
    let listed = bench.list("sys/policies/acl", &bench.root).await.is(200);
    for known in ["default", "root", &name] {
        assert!(listed.body["data"]["keys"].as_array().unwrap().contains(&json!(known)), "{known}");
    }
    bench.delete(&format!("sys/policies/acl/{name}"), &bench.root).await.is(204);
    bench.get(&format!("sys/policies/acl/{name}"), &bench.root).await.fails(404, &[]);
}

async fn policies_that_are_not_accepted(bench: &Bench) {
    let path = "sys/policies/acl/wrong";
    let post = |text: &str| bench.post(path, &bench.root, json!({ "policy": text }));
    let error = "failed to parse policy: path \"x\": invalid capability \"fly\"";
    post(r#"path "x" { capabilities = ["fly"] }"#).await.fails(400, &[error]);
    let broken = post("nonsense").await.is(400);
    assert!(broken.errors()[0].starts_with("failed to parse policy: "), "{broken:?}");
    bench.post(path, &bench.root, json!({})).await.fails(400, &["'policy' parameter not supplied or empty"]);
}

async fn capabilities_of_what_is_not_there(bench: &Bench) {
    let asked = json!({ "token": "nonsense", "path": "x" });
    let error = "1 error occurred:\n\t* invalid token\n\n";
    bench.post("sys/capabilities", &bench.root, asked).await.fails(400, &[error]);
}
