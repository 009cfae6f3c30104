//! A real API server takes what is rendered, and takes it again after each change of the values. Injection itself is tried
//! in the suite `kube`.

use crate::helm::{CHART, Helm, examples, root};
use lab::ApiServer;

#[test]
fn the_api_server_takes_every_example_as_an_upgrade_of_the_one_before() {
    let Some(helm) = Helm::find() else { return };
    let Some(server) = ApiServer::start() else { return };
    let cluster = server.cluster();
    for namespace in ["team-a", "team-b"] {
        cluster.namespace(namespace);
    }
    let chart = root().join(CHART);
    let upgrade = |values: &str| {
        let line = ["upgrade", "--install", "claviger", chart.to_str().unwrap(), "--namespace", "team-a"];
        // The API server knows no monitors; `default` is a profile's ConfigMap that is not there, and nobody asks for it.
        let options = ["--set", "metrics.renderMode=skipIfMissing", "--values", values];
        cluster.helm(&helm.program, &[&line[..], &options].concat()).expect_success();
    };
    let file = |name: &str| chart.join(format!("ci/{name}-values.yaml")).display().to_string();
    // There and back: each is upgraded to and from.
    for (name, _) in examples().iter().chain(examples().iter().rev()) {
        upgrade(&file(name));
    }
    upgrade(root().join("tests/helm/earlier/0.1.0.yaml").to_str().unwrap());
    let typed = cluster.kubectl(&["get", "validatingadmissionpolicies", "-o", "json"]).json();
    for policy in typed["items"].as_array().unwrap() {
        assert_eq!(policy["status"].pointer("/typeChecking/expressionWarnings"), None, "{policy:#}");
    }
    let left = cluster.helm(&helm.program, &["uninstall", "claviger", "--namespace", "team-a"]);
    left.expect_success();
}

#[test]
fn the_plain_manifests_and_the_kustomize_component_are_taken_as_they_stand() {
    let Some(server) = ApiServer::start() else { return };
    let cluster = server.cluster();
    cluster.namespace("claviger");
    let manifests = std::fs::read_to_string(root().join("deploy/manifests/claviger.yaml")).unwrap();
    cluster.apply(&manifests).expect_success();

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let copy = std::process::Command::new("cp")
        .arg("-r")
        .arg(root().join("deploy/kustomize/component"))
        .arg(folder.path())
        .status();
    assert!(copy.unwrap().success());
    write("config.yaml", "# a config\n");
    write(
        "kustomization.yaml",
        "components: [component]\nresources: [workloads.yaml]\nnamespace: claviger\n\
         configMapGenerator: [{name: claviger-config, files: [config.yaml], options: {disableNameSuffixHash: true}}]\n",
    );
    let pod = "{spec: {restartPolicy: RESTART, initContainers: [{name: first, image: i}], containers: [{name: app, image: i}]}, \
               metadata: {labels: {app: a}}}";
    let job = pod.replace("RESTART", "Never");
    let pod = pod.replace("RESTART", "Always");
    let selector = "selector: {matchLabels: {app: a}}";
    let head = |version: &str, kind: &str, label: &str| {
        let name = format!("{}{}", kind.to_lowercase(), if label == "true" { "" } else { "-without" });
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, labels: {{claviger.io/inject: \"{label}\"}}}}\n"
        )
    };
    let workloads = [
        format!("{}spec: {{{selector}, template: {pod}}}\n", head("apps/v1", "Deployment", "true")),
        format!("{}spec: {{{selector}, template: {pod}}}\n", head("apps/v1", "Deployment", "false")),
        format!(
            "{}spec: {{{selector}, serviceName: s, template: {pod}}}\n",
            head("apps/v1", "StatefulSet", "true")
        ),
        format!("{}spec: {{{selector}, template: {pod}}}\n", head("apps/v1", "DaemonSet", "true")),
        format!("{}spec: {{template: {job}}}\n", head("batch/v1", "Job", "true")),
        format!(
            "{}spec: {{schedule: \"@daily\", jobTemplate: {{spec: {{template: {job}}}}}}}\n",
            head("batch/v1", "CronJob", "true")
        ),
    ];
    write("workloads.yaml", &workloads.join("---\n"));
    let built = cluster.kubectl(&["kustomize", folder.path().to_str().unwrap()]).expect_success();
    cluster.apply(&built).expect_success();
    for kind in ["deployment", "statefulset", "daemonset", "job", "cronjob"] {
        let object = cluster.read("claviger", &format!("{kind}/{kind}")).json();
        let template =
            object.pointer("/spec/jobTemplate/spec/template").unwrap_or(&object["spec"]["template"]);
        let inits: Vec<&str> = names(&template["spec"]["initContainers"]);
        assert_eq!(inits, ["claviger", "first"], "{kind}");
        assert_eq!(
            template["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], "/run/claviger",
            "{kind}"
        );
    }
    let without = cluster.read("claviger", "deployment/deployment-without").json();
    assert_eq!(names(&without["spec"]["template"]["spec"]["initContainers"]), ["first"]);
}

fn names(containers: &serde_json::Value) -> Vec<&str> {
    containers.as_array().unwrap().iter().map(|container| container["name"].as_str().unwrap()).collect()
}
