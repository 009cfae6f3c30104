//! Who gets a secret in a pod, at level `process`: the container that has the socket and the user of its workload, and with
//! it whoever is that user in that container. The sidecar is the chart's; the pods are the tests'.

use crate::{
    bench::{Bench, NAMESPACE, Pod, bench},
    chart::{self, UNGUARDED},
    pods::{self, AGENT, STRANGER, USER, container},
    rig::until,
};
use lab::Ran;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// Reads the secret of its workload once, without waiting, says how it went, and stays.
pub(crate) const READ: &str =
    "claviger get stripe >/dev/null; echo \"get stripe: $?\"; exec busybox sleep 3600";
/// What `claviger get` ends with when it was refused.
const REFUSED: Option<i32> = Some(3);

/// A pod of three containers: `app`, who may read; `twin`, the same user at a socket of its own; `stranger`, another user at
/// a socket that is for `app`'s.
pub(crate) fn trio() -> Option<&'static Pod<'static>> {
    static TRIO: OnceLock<Option<Pod<'static>>> = OnceLock::new();
    let start = || {
        let containers = [("app", USER), ("twin", USER), ("stranger", STRANGER)];
        let containers = containers.map(|(name, user)| container(name, user, READ));
        Some(bench()?.deploy("trio", "trio", &containers))
    };
    TRIO.get_or_init(start).as_ref()
}

/// The command was refused, and the event that says so has this reason.
fn check_refused(pod: &Pod<'_>, workload: &str, ran: &Ran, reason: &str) {
    assert_eq!((ran.code, ran.out.as_str()), (REFUSED, ""), "{ran:?}");
    assert!(ran.err.contains(reason), "{ran:?}");
    let denied = |event: &Value| event["workload"] == workload && event["reason"] == reason;
    let kinds = ["secret.denied.v1", "peer.rejected.v1"];
    let event = until("the event of the refusal", || {
        pod.events()
            .into_iter()
            .find(|event| kinds.iter().any(|kind| event["type"] == *kind) && denied(event))
    });
    assert_eq!(event["outcome"], "deny");
}

#[test]
fn the_permitted_container_reads_its_secret_at_level_process() {
    let Some(pod) = trio() else { return };
    assert_eq!(pod.exec("app", &["claviger", "get", "stripe"]).expect_success(), "sk_live_1");
    let read = pod.event("secret.read.v1", |event| event["workload"] == "app");
    let actor = &read["actor"];
    assert_eq!((&actor["level"], &actor["uid"]), (&json!("process"), &json!(USER)), "{read}");
    assert_eq!((&actor["pid"], &read["rule"]["name"]), (&json!("hidden"), &json!("keys")), "{read}");
}

#[test]
fn another_container_of_the_same_user_gets_only_what_its_own_socket_is_for() {
    let Some(pod) = trio() else { return };
    check_refused(pod, "twin", &pod.exec("twin", &["claviger", "get", "stripe"]), "no_rule");
    assert_eq!(pod.exec("twin", &["claviger", "get", "other"]).expect_success(), "sk_other_1");
    let listed = pod.exec("twin", &["busybox", "ls", "/run/claviger"]).expect_success();
    assert_eq!(listed, "claviger.sock\n");
}

#[test]
fn another_user_is_refused_at_the_socket_that_his_container_has() {
    let Some(pod) = trio() else { return };
    check_refused(pod, "stranger", &pod.exec("stranger", &["claviger", "get", "stripe"]), "uid");
}

#[test]
fn kubectl_exec_into_the_right_container_is_that_container_and_on_record() {
    let Some(pod) = trio() else { return };
    let reads = || pod.events().iter().filter(|event| event["type"] == "secret.read.v1").count();
    let before = reads();
    assert_eq!(pod.exec("app", &["claviger", "get", "stripe"]).expect_success(), "sk_live_1");
    until("the event", || (reads() > before).then_some(()));
}

#[test]
fn a_client_cannot_take_the_socket_away_or_put_another_in_its_place() {
    let Some(pod) = trio() else { return };
    let removed = pod.exec("app", &["busybox", "rm", "/run/claviger/claviger.sock"]);
    assert!(removed.expect_failure().contains("Read-only file system"));
}

/// A pod as the injection makes it, for another namespace.
fn injected(bench: &Bench, name: &str, profile: &str, user: u32) -> Value {
    let spec = pods::spec(&[container("app", user, READ)]);
    let mut asked = pods::pod(name, chart::template(profile, "probe", spec));
    asked["metadata"]["namespace"] = json!(NAMESPACE);
    let mut pod = bench.node.cluster().rehearse(&asked).json();
    // What the API server adds, and what of the first namespace would not do in another.
    pod["metadata"] = json!({"name": name, "labels": pod["metadata"]["labels"]});
    for added in ["nodeName", "tolerations", "priority", "preemptionPolicy"] {
        pod["spec"].as_object_mut().unwrap().remove(added);
    }
    pod.as_object_mut().unwrap().remove("status");
    pod
}

/// The same with a container more that mounts `app`'s socket.
fn with_thief(bench: &Bench, user: u32) -> Value {
    let mut pod = injected(bench, &format!("thief-{user}"), "true", USER);
    let mut thief = container("thief", user, READ);
    thief["volumeMounts"] = pod["spec"]["containers"][0]["volumeMounts"].clone();
    pod["spec"]["containers"].as_array_mut().unwrap().push(thief);
    pod
}

/// Runs it where neither injector nor guard looks, until it is ready.
fn run_unguarded(bench: &Bench, pod: &Value) {
    let mut pod = pod.clone();
    pod["metadata"]["namespace"] = json!(UNGUARDED);
    bench.node.cluster().create(&pod).expect_success();
    let name = format!("pod/{}", pod["metadata"]["name"].as_str().unwrap());
    let wait = ["-n", UNGUARDED, "wait", "--for=condition=Ready", &name, "--timeout=120s"];
    bench.node.cluster().kubectl(&wait).expect_success();
}

#[test]
fn a_container_that_mounts_anothers_socket_is_refused_by_the_guard() {
    let Some(bench) = bench() else { return };
    let mut pod = with_thief(bench, USER);
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    let refused = bench.node.cluster().create(&pod).expect_failure();
    assert!(refused.contains("may mount its own socket"), "{refused}");
}

#[test]
fn where_nobody_guards_it_the_wrong_volume_serves_the_right_user_and_no_other() {
    let Some(bench) = bench() else { return };
    let read = |user: u32| {
        run_unguarded(bench, &with_thief(bench, user));
        let name = format!("thief-{user}");
        let exec = ["-n", UNGUARDED, "exec", &name, "-c", "thief", "--", "claviger", "get", "stripe"];
        bench.node.cluster().kubectl(&exec)
    };
    // Level `process` knows a user, not a container: the mount was the boundary, and it is gone.
    assert_eq!(read(USER).expect_success(), "sk_live_1");
    assert_eq!(read(STRANGER).code, REFUSED);
}

#[test]
fn where_nobody_guards_it_a_guest_of_the_agents_user_among_its_processes_reads_nothing_of_it() {
    let Some(bench) = bench() else { return };
    let cluster = bench.node.cluster();
    run_unguarded(bench, &injected(bench, "visited", "true", USER));
    // Process 1 is the agent: what `kubectl debug --target=claviger` makes.
    let script = "busybox cat /proc/1/root/var/run/secrets/claviger/token; busybox ls /proc/1/fd; \
                  busybox cat /proc/1/environ; busybox head -c 1 /proc/1/mem; busybox cat /proc/1/comm; exec busybox sleep 3600";
    let mut guest = pods::ephemeral("guest", AGENT, script);
    guest["targetContainerName"] = json!("claviger");
    let mut pod = cluster.read(UNGUARDED, "pod/visited").json();
    pod["spec"]["ephemeralContainers"] = json!([guest]);
    let path = format!("/api/v1/namespaces/{UNGUARDED}/pods/visited/ephemeralcontainers");
    cluster.kubectl_with(&["replace", "--raw", &path, "-f", "-"], &pod.to_string()).expect_success();
    // Its last line says that it got so far, and where it was.
    let said = until("the guest's word", || {
        let said = cluster.kubectl(&["-n", UNGUARDED, "logs", "visited", "-c", "guest"]).out;
        said.contains("claviger\n").then_some(said)
    });
    assert_eq!(said.matches("Permission denied").count(), 4, "{said}");
    assert_eq!(said.lines().count(), 5, "{said}");
}

#[test]
fn at_level_container_the_wrong_volume_does_not_serve_even_the_same_user() {
    let Some(bench) = bench() else { return };
    let cluster = bench.node.cluster();
    let mut pod = injected(bench, "contained", "contained", AGENT);
    // The process that has connected stays, and so stays the container that the socket belongs to.
    let script = "exec claviger exec --env KEY=stripe -- /bin/busybox sleep 3600";
    pod["spec"]["containers"][0] = with_script(&pod["spec"]["containers"][0], script);
    let mut thief = container("thief", AGENT, "exec busybox sleep 3600");
    thief["volumeMounts"] = pod["spec"]["containers"][0]["volumeMounts"].clone();
    pod["spec"]["containers"].as_array_mut().unwrap().push(thief);
    run_unguarded(bench, &pod);
    let log = || cluster.kubectl(&["-n", UNGUARDED, "logs", "contained", "-c", "claviger"]).out;
    until("the read of `app`", || log().contains("secret.read.v1").then_some(()));
    let get = |container: &str| {
        let line = ["-n", UNGUARDED, "exec", "contained", "-c", container, "--", "claviger", "get", "stripe"];
        cluster.kubectl(&line)
    };
    let refused = get("thief");
    assert_eq!((refused.code, refused.out.as_str()), (REFUSED, ""), "{refused:?}");
    // And `kubectl exec` into the right one is that one.
    assert_eq!(get("app").expect_success(), "sk_live_1");
    assert!(!log().contains("peer.repinned"), "{}", log());
}

/// The same container with another script.
fn with_script(container: &Value, script: &str) -> Value {
    let mut container = container.clone();
    container["command"][3] = json!(script);
    container
}
