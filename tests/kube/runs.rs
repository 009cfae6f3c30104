//! What becomes of pods with the sidecar: Deployment, Job and CronJob, from their start to their end.

use crate::{
    bench::{Bench, Pod, bench},
    chart,
    peers::READ,
    pods::{self, USER, container},
    rig::until,
};
use serde_json::{Value, json};

/// A container that reads its secret once, without waiting, and ends with what came of it.
fn reader() -> Value {
    container("app", USER, "claviger get stripe")
}

/// When a container started, as text that sorts.
fn started(status: &Value) -> String {
    let state = &status["state"];
    let at = state.pointer("/running/startedAt").or_else(|| state.pointer("/terminated/startedAt"));
    at.unwrap_or_else(|| panic!("not started: {status}")).as_str().unwrap().to_owned()
}

/// The sidecar was ready before the workload asked, and neither of them had to start twice.
fn check_order(pod: &Pod<'_>) {
    let (sidecar, app) = (pod.container("claviger"), pod.container("app"));
    assert!(started(&sidecar) <= started(&app), "{sidecar} {app}");
    assert_eq!((&sidecar["restartCount"], &app["restartCount"]), (&json!(0), &json!(0)));
    pod.event("secret.read.v1", |_| true);
    let events = pod.events();
    let at = |kind: &str| events.iter().position(|event| event["type"] == kind);
    let (login, read) = (at("auth.login.v1").unwrap(), at("secret.read.v1").unwrap());
    assert!(login < read, "{events:#?}");
    assert_eq!(at("secret.denied.v1"), None, "{events:#?}");
}

#[test]
fn a_deployments_sidecar_is_ready_before_the_workload_starts() {
    let Some(bench) = bench() else { return };
    let pod = bench.deploy("reader", "true", &[container("app", USER, READ)]);
    until("the workload's word", || pod.log("app").contains("get stripe: 0").then_some(()));
    check_order(&pod);
}

/// The pod has ended well, and so has its sidecar; Vault no longer knows the token of either.
fn check_finished(pod: &Pod<'_>, account: &str) {
    check_order(pod);
    assert_eq!(pod.log("app"), "sk_live_1");
    for name in ["claviger", "app"] {
        let status = pod.container(name);
        assert_eq!(status.pointer("/state/terminated/exitCode"), Some(&json!(0)), "{status}");
    }
    let bench = bench().unwrap();
    let logins = bench.logins(account);
    assert!(!logins.is_empty() && logins.iter().all(|token| !bench.is_alive(token)), "{logins:?}");
    let stopped = pod.event("agent.stopped.v1", |_| true);
    assert_eq!(stopped["outcome"], "allow", "{stopped}");
    let revoked = pod.event("auth.revoke.v1", |_| true);
    assert_eq!(revoked["outcome"], "allow", "{revoked}");
}

#[test]
fn a_job_completes_and_its_token_is_revoked() {
    let Some(bench) = bench() else { return };
    let template = chart::template("true", "job", pods::spec(&[reader()]));
    check_finished(&bench.finish("job", pods::job("job", template)), "job");
}

/// Creates the CronJob `nightly`, which is due each minute.
pub(crate) fn begin_nightly(bench: &Bench) {
    bench.account("nightly");
    let template = chart::template("true", "nightly", pods::spec(&[reader()]));
    bench.create(pods::cron_job("nightly", template));
}

#[test]
fn a_cron_jobs_run_completes_and_its_token_is_revoked() {
    let Some(bench) = bench() else { return };
    let run = until("the first run", || {
        let jobs = bench.kubectl(&["get", "jobs", "-o", "json"]).json();
        let name = |job: &Value| job["metadata"]["name"].as_str().unwrap().to_owned();
        let names = jobs["items"].as_array().unwrap().iter().map(name);
        names.into_iter().find(|name| name.starts_with("nightly-"))
    });
    let suspend = ["patch", "cronjob/nightly", "--type=merge", "-p", "{\"spec\": {\"suspend\": true}}"];
    bench.kubectl(&suspend).expect_success();
    bench.completed(&format!("job/{run}"));
    check_finished(&bench.pod(&format!("batch.kubernetes.io/job-name={run}")), "nightly");
}

#[test]
fn a_job_that_is_only_values_completes_and_its_token_is_revoked() {
    let Some(bench) = bench() else { return };
    let jobs = "app.kubernetes.io/component=once";
    let found = bench.kubectl(&["get", "jobs", "-l", jobs, "-o", "name"]).expect_success();
    bench.completed(found.trim());
    check_finished(&bench.pod(jobs), "claviger-once");
}

#[test]
fn the_charts_own_test_passes() {
    let Some(bench) = bench() else { return };
    let said = chart::test(bench.node.cluster(), &bench.helm).expect_success();
    assert!(said.contains("Phase:          Succeeded"), "{said}");
}

#[test]
fn a_pod_that_ends_leaves_no_token_behind() {
    let Some(bench) = bench() else { return };
    let pod = bench.deploy("leaving", "true", &[container("app", USER, READ)]);
    let logins = bench.logins("leaving");
    assert!(logins.len() == 1 && bench.is_alive(&logins[0]));
    bench.kubectl(&["delete", "pod", &pod.name, "--wait=true"]).expect_success();
    assert!(!bench.is_alive(&logins[0]));
}
