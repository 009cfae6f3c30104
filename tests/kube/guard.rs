//! What the guard refuses: each way to the sidecar's token, to another's socket or to another sidecar that a pod's author has.
//! Beside each stands the same pod without the fault, which is taken.

use crate::{
    admission::{Court, asking, check_injected, court, here},
    bench::NAMESPACE,
    pods::{self, STRANGER, USER, container},
};
use serde_json::{Value, json};

/// The pod is refused with these words once `change` has been made to one that is taken.
#[track_caller]
fn check_refused(court: &Court, pod: &Value, words: &str, change: impl FnOnce(&mut Value)) {
    court.admitted(pod);
    let mut pod = pod.clone();
    change(&mut pod);
    let said = court.refused(&pod);
    assert!(said.contains(words), "{said}");
}

/// A pod of one container that does not ask for the sidecar.
fn plain() -> Value {
    let mut pod = asking();
    pod["metadata"]["labels"] = json!({});
    pod
}

/// A pod as it is after the injection, to be changed before it is sent again.
fn injected(court: &Court) -> Value {
    let mut pod = court.admitted(&asking());
    pod["metadata"] = json!({"name": "app", "labels": pod["metadata"]["labels"]});
    pod
}

#[test]
fn nobody_else_mounts_the_sidecars_token() {
    let Some(court) = court() else { return };
    let stolen = json!([{"name": "claviger-token", "mountPath": "/token", "readOnly": true}]);
    check_refused(court, &asking(), "is the sidecar's", |pod| {
        pod["spec"]["containers"][0]["volumeMounts"] = stolen.clone();
    });
    check_refused(court, &asking(), "is the sidecar's", |pod| {
        let mut init = container("init", STRANGER, "true");
        init["volumeMounts"] = stolen.clone();
        pod["spec"]["initContainers"] = json!([init]);
    });
}

#[test]
fn an_ephemeral_container_mounts_nothing_of_the_sidecar_and_is_not_among_its_processes() {
    let Some(court) = court() else { return };
    let cluster = court.cluster();
    let mut pod = here(&asking());
    pod["metadata"]["name"] = json!("debugged");
    // One that is there: the API server adds ephemeral containers to no other. Nobody runs it.
    cluster.create(&pod).expect_success();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/debugged/ephemeralcontainers");
    let add = |name: &str, key: &str, value: Value| {
        let mut pod = cluster.read(NAMESPACE, "pod/debugged").json();
        let mut debugger = pods::ephemeral(name, STRANGER, "true");
        debugger[key] = value;
        match pod["spec"]["ephemeralContainers"].as_array_mut() {
            Some(list) => list.push(debugger),
            None => pod["spec"]["ephemeralContainers"] = json!([debugger]),
        }
        cluster.kubectl_with(&["replace", "--raw", &path, "-f", "-"], &pod.to_string())
    };
    add("harmless", "targetContainerName", json!("app")).expect_success();
    for volume in ["claviger-token", "claviger-config", "claviger-journal", "claviger-socket-0"] {
        let stolen = json!([{"name": volume, "mountPath": "/stolen"}]);
        let said = add("thief", "volumeMounts", stolen).expect_failure();
        assert!(said.contains("is the sidecar's"), "{volume}: {said}");
    }
    let said = add("guest", "targetContainerName", json!("claviger")).expect_failure();
    assert!(said.contains("among the processes of the sidecar"), "{said}");
}

#[test]
fn no_pod_has_a_second_token_of_audience_vault() {
    let Some(court) = court() else { return };
    let token = |audience: &str| {
        json!({"name": "mine", "projected": {"sources": [
            {"serviceAccountToken": {"audience": audience, "expirationSeconds": 600, "path": "token"}},
        ]}})
    };
    for pod in [asking(), plain()] {
        let with = |audience: &str| {
            let mut pod = pod.clone();
            pod["spec"]["volumes"] = json!([token(audience)]);
            pod
        };
        check_refused(court, &with("other"), "is for the sidecar alone", |pod| *pod = with("vault"));
    }
}

#[test]
fn only_the_charts_image_is_the_sidecar() {
    let Some(court) = court() else { return };
    check_refused(court, &injected(court), "is not allowed (guard.allowedImages)", |pod| {
        pod["spec"]["initContainers"][0]["image"] = json!("evil.example/claviger:1");
    });
}

#[test]
fn the_sidecar_runs_as_the_chart_says_with_the_config_of_the_chart() {
    let Some(court) = court() else { return };
    check_refused(court, &injected(court), "runs with other arguments", |pod| {
        pod["spec"]["initContainers"][0]["args"] = json!(["run", "--config=/tmp/mine.yaml"]);
    });
    check_refused(court, &injected(court), "from another ConfigMap", |pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
        let config = volumes.iter_mut().find(|volume| volume["name"] == "claviger-config").unwrap();
        config["projected"]["sources"][0]["configMap"]["name"] = json!("mine");
    });
}

#[test]
fn the_name_of_the_sidecar_is_nobody_elses() {
    let Some(court) = court() else { return };
    check_refused(court, &plain(), "only the sidecar may be called claviger", |pod| {
        pod["spec"]["containers"][0]["name"] = json!("claviger");
    });
}

#[test]
fn a_container_has_its_own_socket_only_and_cannot_write_there() {
    let Some(court) = court() else { return };
    let mut two = asking();
    two["spec"]["containers"].as_array_mut().unwrap().push(container("twin", USER, "true"));
    let mut two = court.admitted(&two);
    two["metadata"] = json!({"name": "two", "labels": two["metadata"]["labels"]});
    check_refused(court, &two, "may mount its own socket", |pod| {
        pod["spec"]["containers"][1]["volumeMounts"] = pod["spec"]["containers"][0]["volumeMounts"].clone();
    });
    check_refused(court, &two, "may mount its own socket", |pod| {
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap();
        mounts[0].as_object_mut().unwrap().remove("readOnly");
    });
}

#[test]
fn processes_are_shared_only_where_every_container_has_a_user_of_its_own() {
    let Some(court) = court() else { return };
    let mut shared = asking();
    shared["spec"]["shareProcessNamespace"] = json!(true);
    shared["spec"]["containers"].as_array_mut().unwrap().push(container("other", STRANGER, "true"));
    check_injected(&court.admitted(&shared));
    let words = "must set a runAsUser of its own";
    check_refused(court, &shared, words, |pod| {
        pod["spec"]["containers"][1]["securityContext"]["runAsUser"] = json!(USER);
    });
    check_refused(court, &shared, words, |pod| {
        pod["spec"]["containers"][1]["securityContext"]["runAsUser"] = json!(65_532);
    });
    check_refused(court, &shared, words, |pod| {
        let context = pod["spec"]["containers"][1]["securityContext"].as_object_mut().unwrap();
        context.remove("runAsUser");
    });
}

#[test]
fn a_pod_that_sees_the_nodes_processes_has_no_sidecar() {
    let Some(court) = court() else { return };
    let cluster = court.cluster();
    // Pod Security would refuse it first.
    cluster.namespace("lax");
    cluster.account("lax", "job");
    let mut pod = asking();
    pod["metadata"]["namespace"] = json!("lax");
    cluster.rehearse(&pod).expect_success();
    pod["spec"]["hostPID"] = json!(true);
    let said = cluster.rehearse(&pod).expect_failure();
    assert!(said.contains("hostPID shows the sidecar"), "{said}");
}

#[test]
fn nobody_puts_another_image_into_a_running_sidecar() {
    let Some(court) = court() else { return };
    let cluster = court.cluster();
    let mut pod = here(&asking());
    pod["metadata"]["name"] = json!("running");
    cluster.create(&pod).expect_success();
    let set = |container: &str, image: &str| {
        let image = format!("{container}={image}");
        cluster.kubectl(&["-n", NAMESPACE, "set", "image", "pod/running", &image])
    };
    // The kubelet would start it in the sidecar's place, with the sidecar's token. The user's own is his.
    let said = set("claviger", "evil.example/claviger:1").expect_failure();
    assert!(said.contains("is not allowed (guard.allowedImages)"), "{said}");
    set("app", "registry.example/app:2").expect_success();
    let label = ["-n", NAMESPACE, "label", "pod", "running", "tier=web"];
    cluster.kubectl(&label).expect_success();
}
