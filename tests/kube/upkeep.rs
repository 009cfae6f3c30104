//! What happens to a sidecar while its pod runs: it is killed, flooded, configured anew, its token rotated, its record read.

use crate::{
    bench::bench,
    peers::{READ, trio},
    pods::{USER, container},
    rig::until,
};
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};

/// What the chart gives the sidecar.
const MEMORY_LIMIT: u64 = 64 << 20;

#[test]
fn a_killed_sidecar_comes_back_over_its_stale_socket_and_the_workload_never_restarts() {
    let Some(bench) = bench() else { return };
    let pod = bench.deploy("killed", "true", &[container("app", USER, READ)]);
    let first = pod.id("claviger");
    bench.node.kill(&first);
    until("another sidecar", || {
        let status = pod.container("claviger");
        (status["restartCount"] == 1 && status["started"] == true).then_some(())
    });
    let wait = ["claviger", "get", "stripe", "--wait", "30s"];
    assert_eq!(pod.exec("app", &wait).expect_success(), "sk_live_1");
    assert_eq!(pod.container("app")["restartCount"], 0);
    let recovered = pod.event("audit.recovered.v1", |_| true);
    assert_eq!(recovered["reason"], "crash", "{recovered}");
}

#[test]
fn under_load_the_sidecar_stays_far_below_its_memory_limit() {
    let Some(bench) = bench() else { return };
    let pod = bench.deploy("loaded", "true", &[container("app", USER, READ)]);
    let id = pod.id("claviger");
    // 16 at a time, each a process and a connection of its own.
    let load = "for i in $(busybox seq 16); do (for j in $(busybox seq 40); do claviger get stripe; done) & done | \
                busybox tr -d '\\n' | busybox wc -c; wait";
    let read = pod.exec("app", &["busybox", "sh", "-c", load]).expect_success();
    assert_eq!(read.trim(), (16 * 40 * "sk_live_1".len()).to_string());
    let anonymous = memory(&bench.node.memory(&id, "memory.stat").expect("the sidecar's memory.stat"));
    assert!(anonymous < MEMORY_LIMIT / 4, "{anonymous} bytes");
    for (file, line) in [("memory.oom_control", "oom_kill 0"), ("memory.events", "oom_kill 0")] {
        if let Some(text) = bench.node.memory(&id, file) {
            assert!(text.lines().any(|found| found == line), "{file}: {text}");
        }
    }
    let status = pod.container("claviger");
    assert_eq!((&status["restartCount"], &status["lastState"]), (&json!(0), &json!({})), "{status}");
    assert_eq!(pod.read()["spec"]["initContainers"][0]["resources"]["limits"]["memory"], "64Mi");
}

/// The bytes that no file backs, of a `memory.stat` of either version.
fn memory(stat: &str) -> u64 {
    let value =
        |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    value("total_rss ").or_else(|| value("anon ")).unwrap_or_else(|| panic!("neither rss nor anon: {stat}"))
}

#[test]
fn an_edited_configmap_is_taken_over_without_a_restart() {
    let Some(bench) = bench() else { return };
    let pod = bench.deploy("edited", "edited", &[container("app", USER, READ)]);
    let get = ["claviger", "get", "other"];
    assert_eq!(pod.exec("app", &get).code, Some(3));
    let name = "configmap/claviger-config-edited";
    let text = bench.kubectl(&["get", name, "-o", "json"]).json()["data"]["config.yaml"].clone();
    let edited = text.as_str().unwrap().replace("- stripe", "- stripe\n      - other");
    let patch = json!({"data": {"config.yaml": edited}}).to_string();
    bench.kubectl(&["patch", name, "--type=merge", "-p", &patch]).expect_success();
    pod.event("config.loaded.v1", |_| true);
    assert_eq!(pod.exec("app", &[&get[..], &["--wait", "30s"]].concat()).expect_success(), "sk_other_1");
    assert_eq!(pod.container("claviger")["restartCount"], 0);
}

#[test]
fn kubectl_logs_shows_the_whole_record_in_order() {
    let Some(pod) = trio() else { return };
    pod.event("secret.read.v1", |_| true);
    // What the agent logs is JSON, too: nothing that collects a pod's output meets a line of another form.
    for line in pod.log("claviger").lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let events = pod.events();
    let numbers: Vec<u64> =
        events.iter().map(|event| event["seq"].as_str().unwrap().parse::<u64>().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let here = |event: &Value| event["source"].as_str().unwrap().contains(&pod.name);
    assert!(events.iter().all(here), "{events:#?}");
    assert!(!pod.log("claviger").contains("sk_live_1"));
}

#[test]
#[ignore = "the kubelet renews a token after eight minutes; `tests/run long` runs it"]
fn a_token_that_the_kubelet_rotated_is_used_by_the_next_login() {
    let Some(bench) = bench() else { return };
    let pod = bench.deploy("rotated", "true", &[container("app", USER, READ)]);
    let pid = bench.node.processes(&pod.id("claviger"))[0];
    let token = || fs::read_to_string(format!("/proc/{pid}/root/var/run/secrets/claviger/token")).unwrap();
    let first = token();
    within_a_quarter("the kubelet's new token", || token() != first);
    let is_valid = || {
        let spec = json!({"token": first, "audiences": ["vault"]});
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
        bench.node.cluster().create(&review).json()["status"]["authenticated"] == true
    };
    within_a_quarter("the end of the first token", || !is_valid());
    let before = bench.logins("rotated");
    let accessor = json!({"accessor": before.last()});
    bench.vault.root().post("auth/token/revoke-accessor", &accessor).expect_success();
    until("another login", || (bench.logins("rotated").len() > before.len()).then_some(()));
    let wait = ["claviger", "get", "stripe", "--wait", "30s"];
    assert_eq!(pod.exec("app", &wait).expect_success(), "sk_live_1");
}

/// Asks each second, for a quarter of an hour.
#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two questions; nothing is asserted about it"
)]
fn within_a_quarter(what: &str, mut ask: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(900);
    while !ask() {
        assert!(Instant::now() < end, "waited a quarter of an hour for {what}");
        std::thread::sleep(Duration::from_secs(1));
    }
}
