//! Error bodies and codes, the envelope, and the headers of every answer.

use serde_json::json;

use crate::bench::Bench;

contract!(
    a_request_without_a_token_is_denied,
    an_unknown_token_is_told_so,
    a_live_token_without_the_right_is_denied,
    an_unknown_route_is_404_for_who_may_ask,
    unknown_sys_paths_are_unsupported,
    a_login_at_a_method_that_is_not_enabled_is_denied,
    broken_json_is_refused,
    an_odd_method_is_405,
    a_path_with_an_empty_segment_is_redirected,
    an_unreadable_list_parameter_is_400,
    an_envelope_has_these_fields,
    every_answer_has_a_date_and_is_not_stored,
    a_bearer_token_is_a_token,
    mounting_twice_or_nonsense_is_400,
);

pub(crate) const INVALID_TOKEN: &str = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";
pub(crate) const NOT_ALLOWED: &str = "1 error occurred:\n\t* permission denied\n\n";

async fn a_request_without_a_token_is_denied(bench: &Bench) {
    bench.get("secret/data/x", "").await.fails(403, &["permission denied"]);
}

async fn an_unknown_token_is_told_so(bench: &Bench) {
    for token in ["nonsense", "hvs.nonsense"] {
        bench.get("secret/data/x", token).await.fails(403, &[INVALID_TOKEN]);
        bench.get("auth/token/lookup-self", token).await.fails(403, &[INVALID_TOKEN]);
    }
}

async fn a_live_token_without_the_right_is_denied(bench: &Bench) {
    let token = bench.token(json!({ "policies": ["default"], "ttl": "60s" })).await.token();
    for path in ["sys/mounts", "sys/nonsense", "nonsense/x"] {
        bench.get(path, &token).await.fails(403, &[NOT_ALLOWED]);
    }
}

async fn an_unknown_route_is_404_for_who_may_ask(bench: &Bench) {
    let error = "no handler for route \"nonsense/x\". route entry not found.";
    bench.get("nonsense/x", &bench.root).await.fails(404, &[error]);
}

async fn unknown_sys_paths_are_unsupported(bench: &Bench) {
    let error = "1 error occurred:\n\t* unsupported path\n\n";
    bench.get("sys/nonsense", &bench.root).await.fails(404, &[error]);
}

async fn a_login_at_a_method_that_is_not_enabled_is_denied(bench: &Bench) {
    bench.post("auth/nonsense/login", "", json!({})).await.fails(403, &["permission denied"]);
}

async fn broken_json_is_refused(bench: &Bench) {
    let path = "sys/policies/acl/broken";
    let array = bench.post(path, &bench.root, json!([1])).await.is(400);
    assert!(array.errors()[0].starts_with("error parsing JSON: failed to parse JSON input"), "{array:?}");
}

async fn an_odd_method_is_405(bench: &Bench) {
    bench.send("BREW", "sys/mounts", &bench.root, None, &[]).await.fails(405, &[]);
    let error = "1 error occurred:\n\t* unsupported operation\n\n";
    bench.send("OPTIONS", "secret/data/a", &bench.root, None, &[]).await.fails(405, &[error]);
    bench.send("HEAD", "secret/data/a", &bench.root, None, &[]).await.is(405);
    bench.send("HEAD", "sys/health", "", None, &[]).await.is(200);
}

async fn a_path_with_an_empty_segment_is_redirected(bench: &Bench) {
    let answer = bench.get("secret//data/x", &bench.root).await.is(307);
    assert_eq!(answer.header("location"), Some("/v1/secret/data/x"));
}

async fn an_unreadable_list_parameter_is_400(bench: &Bench) {
    bench.get("sys/policies/acl?list=x", &bench.root).await.fails(400, &[]);
}

async fn an_envelope_has_these_fields(bench: &Bench) {
    let answer = bench.get("auth/token/lookup-self", &bench.root).await.is(200);
    let mut fields: Vec<&str> = answer.body.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = [
        "auth",
        "data",
        "lease_duration",
        "lease_id",
        "mount_type",
        "renewable",
        "request_id",
        "warnings",
        "wrap_info",
    ];
    assert_eq!(fields, expected);
    assert_eq!(answer.text("/mount_type"), "token");
    assert_eq!(answer.text("/request_id").len(), 36);
}

async fn every_answer_has_a_date_and_is_not_stored(bench: &Bench) {
    let answers = [
        bench.get("sys/health", "").await,
        bench.get("secret/data/x", "").await,
        bench.get("auth/token/lookup-self", &bench.root).await,
    ];
    for answer in answers {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let date = answer.header("date").expect("a Date header");
        assert!(date.ends_with(" GMT") && date.len() == "Wed, 25 Nov 2026 21:12:13 GMT".len(), "{date}");
    }
}

async fn a_bearer_token_is_a_token(bench: &Bench) {
    let bearer = format!("Bearer {}", bench.root);
    bench.send("GET", "auth/token/lookup-self", "", None, &[("authorization", &bearer)]).await.is(200);
}

async fn mounting_twice_or_nonsense_is_400(bench: &Bench) {
    let name = bench.mount("twice", json!({ "type": "kv" })).await;
    let error = format!("path is already in use at {name}/");
    bench
        .post(&format!("sys/mounts/{name}"), &bench.root, json!({ "type": "kv" }))
        .await
        .fails(400, &[&error]);
    let error = "plugin not found in the catalog: nonsense";
    bench.post("sys/mounts/other", &bench.root, json!({ "type": "nonsense" })).await.fails(400, &[error]);
    let error = "backend type must be specified as a string";
    bench.post("sys/mounts/other", &bench.root, json!({})).await.fails(400, &[error]);
}
