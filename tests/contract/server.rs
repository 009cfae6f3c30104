//! The server's own states: health, sealing, and the rate limit with its headers.

use serde_json::{Value, json};

use crate::bench::{Bench, run};

contract!(an_active_server_is_healthy, the_seal_status_and_leader_need_no_token, over_the_rate_limit_is_429,);

async fn an_active_server_is_healthy(bench: &Bench) {
    let health = bench.get("sys/health", "").await.is(200);
    let state = |field: &str| health.body[field].clone();
    assert_eq!(
        [state("initialized"), state("sealed"), state("standby")],
        [true, false, false].map(Value::Bool)
    );
    assert_eq!(state("version"), "1.21.1");
    assert_eq!(state("enterprise"), false);
    assert_eq!(state("replication_dr_mode"), "disabled");
    let mut fields: Vec<&str> = health.body.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = [
        "clock_skew_ms",
        "cluster_id",
        "cluster_name",
        "echo_duration_ms",
        "enterprise",
        "initialized",
        "performance_standby",
        "replication_dr_mode",
        "replication_performance_mode",
        "replication_primary_canary_age_ms",
        "sealed",
        "server_time_utc",
        "standby",
        "version",
    ];
    assert_eq!(fields, expected);
    bench.get("sys/health?activecode=299", "").await.is(299);
}

async fn the_seal_status_and_leader_need_no_token(bench: &Bench) {
    let status = bench.get("sys/seal-status", "").await.is(200);
    assert_eq!(
        (&status.body["sealed"], &status.body["initialized"]),
        (&Value::Bool(false), &Value::Bool(true))
    );
    assert_eq!((status.number("/t"), status.number("/n")), (1, 1));
    let leader = bench.get("sys/leader", "").await.is(200);
    assert_eq!(leader.body["ha_enabled"], false);
    assert_eq!(bench.get("sys/init", "").await.is(200).body, json!({ "initialized": true }));
}

async fn over_the_rate_limit_is_429(bench: &Bench) {
    let mount = bench.mount("limited", json!({ "type": "kv", "options": { "version": "1" } })).await;
    let quota = format!("sys/quotas/rate-limit/{}", bench.name("quota"));
    bench.prepare("sys/quotas/config", json!({ "enable_rate_limit_response_headers": true })).await;
    bench.prepare(&quota, json!({ "path": format!("{mount}/"), "rate": 2, "interval": "60s" })).await;
    let path = format!("{mount}/a");
    let first = bench.get(&path, &bench.root).await.is(404);
    assert_eq!(
        (first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")),
        (Some("2"), Some("1"))
    );
    bench.get(&path, &bench.root).await.is(404);
    let over = bench.get(&path, &bench.root).await;
    over.fails(429, &[&format!("request path \"{path}\": rate limit quota exceeded")]);
    let wait: u64 = over.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    assert_eq!(over.header("x-ratelimit-remaining"), Some("0"));
    bench.delete(&quota, &bench.root).await.is(204);
    assert_eq!(bench.get(&path, &bench.root).await.is(404).header("x-ratelimit-limit"), None);
}

/// Sealing is for everyone on a server, so this one has a server of its own.
async fn a_sealed_server_says_so_and_comes_back(bench: &Bench) {
    let token = bench.token(json!({ "policies": ["default"], "ttl": "600s" })).await.token();
    bench.send("PUT", "sys/seal", &bench.root, None, &[]).await.is(204);
    for (method, path) in
        [("GET", "auth/token/lookup-self"), ("POST", "auth/approle/login"), ("GET", "nonsense")]
    {
        let answer = bench.send(method, path, &token, None, &[]).await;
        answer.fails(503, &["Vault is sealed"]);
        assert_eq!(answer.header("retry-after"), None);
    }
    let health = bench.get("sys/health", "").await.is(503);
    assert_eq!((&health.body["sealed"], &health.body["standby"]), (&Value::Bool(true), &Value::Bool(true)));
    bench.get("sys/health?sealedcode=299", "").await.is(299);
    assert_eq!(bench.get("sys/seal-status", "").await.is(200).body["sealed"], true);
    bench.unseal().await;
    bench.until(|answer| answer.status == 200, "sys/health", "").await;
    bench.get("auth/token/lookup-self", &token).await.is(200);
}

#[tokio::test]
async fn a_sealed_double_says_so_and_comes_back() {
    a_sealed_server_says_so_and_comes_back(&Bench::double().await).await;
}

#[test]
fn a_sealed_real_server_says_so_and_comes_back() {
    if let Some(bench) = Bench::real_alone() {
        run(a_sealed_server_says_so_and_comes_back(&bench));
    }
}
