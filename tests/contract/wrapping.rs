//! Response wrapping: made, looked up, opened once, and the ways that fail.

use serde_json::{Value, json};

use crate::bench::{Answer, Bench};
use crate::errors::NOT_ALLOWED;

contract!(
    a_wrapped_answer_shows_only_its_wrapping,
    a_wrapping_is_looked_up_without_a_token,
    a_wrapping_opens_once,
    a_wrapping_opens_for_another_token,
    a_wrapping_token_is_good_for_nothing_else,
    a_wrapping_ends_with_its_time,
    a_wrapping_is_made_anew,
    errors_are_not_wrapped,
    wrappings_that_are_not_there,
    a_wrapped_lookup_shows_the_token_to_who_opens_it,
);

const ABSENT: &str = "wrapping token is not valid or does not exist";

/// Any data, wrapped for a minute.
async fn wrapped(bench: &Bench, ttl: &str) -> Answer {
    let body = Some(json!({ "a": "b" }));
    bench.send("POST", "sys/wrapping/wrap", &bench.root, body, &[("x-vault-wrap-ttl", ttl)]).await.is(200)
}

async fn a_wrapped_answer_shows_only_its_wrapping(bench: &Bench) {
    let made = wrapped(bench, "60s").await;
    assert_eq!((made.text("/request_id"), made.text("/mount_type")), (String::new(), String::new()));
    assert_eq!((&made.body["data"], &made.body["auth"]), (&Value::Null, &Value::Null));
    assert!(made.text("/wrap_info/token").starts_with("hvs."));
    assert_eq!(
        (made.number("/wrap_info/ttl"), made.text("/wrap_info/creation_path")),
        (60, "sys/wrapping/wrap".into())
    );
    assert!(
        made.text("/wrap_info/creation_time").ends_with('Z') && made.text("/wrap_info/accessor").len() == 24
    );
}

async fn a_wrapping_is_looked_up_without_a_token(bench: &Bench) {
    let token = wrapped(bench, "60s").await.text("/wrap_info/token");
    let named = json!({ "token": token });
    for answer in [
        bench.post("sys/wrapping/lookup", "", named.clone()).await,
        bench.post("sys/wrapping/lookup", &token, json!({})).await,
        bench.get("sys/wrapping/lookup", &token).await,
    ] {
        let answer = answer.is(200);
        assert_eq!(
            (answer.number("/data/creation_ttl"), answer.text("/data/creation_path")),
            (60, "sys/wrapping/wrap".into())
        );
    }
    bench.post("sys/wrapping/unwrap", &token, json!({})).await.is(200);
}

async fn a_wrapping_opens_once(bench: &Bench) {
    let token = wrapped(bench, "60s").await.text("/wrap_info/token");
    let opened = bench.post("sys/wrapping/unwrap", &token, json!({})).await.is(200);
    assert_eq!((&opened.body["data"], &opened.body["wrap_info"]), (&json!({ "a": "b" }), &Value::Null));
    bench.post("sys/wrapping/unwrap", &token, json!({})).await.fails(400, &[ABSENT]);
    bench.post("sys/wrapping/lookup", "", json!({ "token": token })).await.fails(400, &[ABSENT]);
}

async fn a_wrapping_opens_for_another_token(bench: &Bench) {
    let other = bench.token(json!({ "policies": ["default"], "ttl": "60s" })).await.token();
    let token = wrapped(bench, "60s").await.text("/wrap_info/token");
    let named = json!({ "token": token });
    bench.post("sys/wrapping/unwrap", "", named.clone()).await.fails(403, &["permission denied"]);
    let opened = bench.post("sys/wrapping/unwrap", &other, named).await.is(200);
    assert_eq!(opened.body["data"], json!({ "a": "b" }));
}

async fn a_wrapping_token_is_good_for_nothing_else(bench: &Bench) {
    let token = wrapped(bench, "60s").await.text("/wrap_info/token");
    bench.get("auth/token/lookup-self", &token).await.fails(403, &[NOT_ALLOWED]);
    bench.post("sys/wrapping/unwrap", &token, json!({})).await.fails(400, &[ABSENT]);
}

async fn a_wrapping_ends_with_its_time(bench: &Bench) {
    let token = wrapped(bench, "1").await.text("/wrap_info/token");
    let gone = bench.until(|answer| answer.status != 200, "sys/wrapping/lookup", &token).await;
    gone.fails(400, &[ABSENT]);
    bench.post("sys/wrapping/unwrap", &token, json!({})).await.fails(400, &[ABSENT]);
}

async fn a_wrapping_is_made_anew(bench: &Bench) {
    let token = wrapped(bench, "60s").await.text("/wrap_info/token");
    let anew = bench.post("sys/wrapping/rewrap", &bench.root, json!({ "token": token })).await.is(200);
    assert_eq!(anew.text("/wrap_info/creation_path"), "sys/wrapping/wrap");
    bench.post("sys/wrapping/unwrap", &token, json!({})).await.fails(400, &[ABSENT]);
    let opened = bench.post("sys/wrapping/unwrap", &anew.text("/wrap_info/token"), json!({})).await.is(200);
    assert_eq!(opened.body["data"], json!({ "a": "b" }));
}

async fn errors_are_not_wrapped(bench: &Bench) {
    let wrap = [("x-vault-wrap-ttl", "60s")];
    bench.send("GET", "auth/approle/role/none", "nonsense", None, &wrap).await.is(403);
    let error = "endpoint requires response wrapping to be used";
    bench.post("sys/wrapping/wrap", &bench.root, json!({ "a": "b" })).await.fails(400, &[error]);
}

async fn wrappings_that_are_not_there(bench: &Bench) {
    for token in ["", &bench.root] {
        bench.post("sys/wrapping/unwrap", token, json!({ "token": "nonsense" })).await.fails(400, &[ABSENT]);
        bench.post("sys/wrapping/lookup", token, json!({ "token": "nonsense" })).await.fails(400, &[ABSENT]);
    }
    let error = "error validating wrapping token: token is empty";
    bench.post("sys/wrapping/lookup", "", json!({})).await.fails(403, &[error]);
}

/// Why claviger may never let a workload wrap answers about its own token.
async fn a_wrapped_lookup_shows_the_token_to_who_opens_it(bench: &Bench) {
    let own = bench.token(json!({ "policies": ["default"], "ttl": "60s" })).await.token();
    let wrap = [("x-vault-wrap-ttl", "60s")];
    let made = bench.send("GET", "auth/token/lookup-self", &own, None, &wrap).await.is(200);
    assert_eq!(made.text("/wrap_info/creation_path"), "auth/token/lookup-self");
    let opened = bench.post("sys/wrapping/unwrap", &made.text("/wrap_info/token"), json!({})).await.is(200);
    assert_eq!(opened.text("/data/id"), own);
}
