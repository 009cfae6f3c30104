//! One template, said three ways: by the library to a chart, by the policy as CEL, by the chart in its own apps.

use crate::{
    cel,
    helm::{Helm, documents, example, object, yaml},
};
use serde_json::{Value, json};

/// What `helm template` makes of a chart with claviger-lib: a pod whose containers are `clients`.
fn consumer(helm: &Helm, values: &Value, config: &str, clients: &[&str]) -> Value {
    let mut own =
        json!({"config": config, "containers": clients, "global": values["global"], "claviger-lib": {}});
    for key in ["image", "caBundle", "token", "volumes", "sidecar"] {
        if let Some(value) = values.get(key) {
            own["claviger-lib"][key] = value.clone();
        }
    }
    if own["global"].is_null() {
        own["global"] = json!({});
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), own.to_string()).unwrap();
    let line = ["template", "consumer", "tests/helm/consumer", "--values", file.path().to_str().unwrap()];
    documents(&helm.prints(&line)).remove(0)
}

/// An expression of the policy's variables.
fn variable<'a>(policy: &'a Value, name: &str) -> &'a str {
    let variables = policy["spec"]["variables"].as_array().unwrap();
    variables.iter().find(|found| found["name"] == name).unwrap()["expression"].as_str().unwrap()
}

/// What the policy puts in is what a chart with the library says itself.
fn agree(helm: &Helm, values: &str, clients: &[&str]) {
    let objects = helm.renders(values);
    let policy = object(&objects, "MutatingAdmissionPolicy", "claviger");
    let values = yaml(values);
    let pod = consumer(helm, &values, "claviger-config", clients);
    let spec = &pod["spec"];
    assert_eq!(cel::evaluate(variable(policy, "sidecar"), clients), spec["initContainers"][0]);
    assert_eq!(cel::evaluate(variable(policy, "volumes"), clients), spec["volumes"]);
    let mounts = policy["spec"]["mutations"][1]["jsonPatch"]["expression"].as_str().unwrap();
    let mount = mounts.split_once("/volumeMounts/-\", value: ").unwrap().1;
    for (number, client) in clients.iter().enumerate() {
        let found = cel::evaluate_start(mount, clients, client);
        assert_eq!(found, spec["containers"][number]["volumeMounts"][0]);
    }
}

#[test]
fn the_policy_puts_in_exactly_what_the_library_says() {
    let Some(helm) = Helm::find() else { return };
    let longest = "c".repeat(63);
    agree(&helm, &example("minimal"), &["app"]);
    agree(&helm, &example("minimal"), &["app", "other", &longest]);
    agree(&helm, &example("openshift"), &["app"]);
    agree(&helm, &format!("{}token: {{apiServer: always}}\n", example("minimal")), &["app"]);
    // The library takes the default of the health port.
    agree(&helm, &example("mesh").replace("  health: {listen: \"0.0.0.0:9099\"}\n", ""), &["app", "other"]);
    let strange = json!([{"name": "A", "value": "=\"'{{`}}\\ $cel dyn(x)\n"}]);
    agree(&helm, &format!("{}sidecar: {{env: {strange}}}\n", example("minimal")), &["app"]);
}

#[test]
fn no_name_of_a_volume_is_longer_than_kubernetes_takes() {
    let Some(helm) = Helm::find() else { return };
    let longest = "c".repeat(63);
    let pod = consumer(&helm, &yaml(&example("minimal")), "claviger-config", &[&longest, "app"]);
    for volume in pod["spec"]["volumes"].as_array().unwrap() {
        assert!(volume["name"].as_str().unwrap().len() <= 63, "{volume}");
    }
    let mounts = pod["spec"]["initContainers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == format!("/run/claviger/{longest}")));
}

#[test]
fn an_app_of_the_values_gets_the_sidecar_of_the_library() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.renders(&example("full"));
    let mut values = yaml(&example("full"));
    // The library knows no config, and so no rotation that needs it.
    values["token"] = json!({"apiServer": "always"});
    let library = consumer(&helm, &values, "claviger-config-reports", &["app"]);
    let spec = &object(&objects, "Deployment", "claviger-web")["spec"]["template"]["spec"];
    assert_eq!(spec["initContainers"], library["spec"]["initContainers"]);
    assert_eq!(spec["volumes"], library["spec"]["volumes"]);
    assert_eq!(spec["containers"][0]["volumeMounts"], library["spec"]["containers"][0]["volumeMounts"]);
    // The other container of the Job is no client.
    let job = objects.iter().find(|object| object["kind"] == "Job").unwrap();
    let containers = &job["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["volumeMounts"][0]["mountPath"], "/run/claviger");
    assert_eq!(containers[1].get("volumeMounts"), None);
}

#[test]
fn the_sidecar_asks_for_no_more_than_pod_security_restricted_allows() {
    let Some(helm) = Helm::find() else { return };
    let pod = consumer(&helm, &yaml(&example("minimal")), "c", &["app"]);
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(
        sidecar["securityContext"],
        json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}
        })
    );
    assert_eq!(sidecar["resources"]["requests"], json!({"cpu": "5m", "memory": "16Mi"}));
    let shift = json!({"global": {"openshift": true}});
    let pod = consumer(&helm, &shift, "c", &["app"]);
    let context = &pod["spec"]["initContainers"][0]["securityContext"];
    assert_eq!((context.get("runAsUser"), context.get("runAsGroup")), (None, None), "OpenShift gives them");
    assert_eq!(context["runAsNonRoot"], true);
}

#[test]
fn a_changed_job_is_another_job_since_none_can_be_changed() {
    let Some(helm) = Helm::find() else { return };
    let name = |values: &str| {
        let objects = helm.renders(values);
        let job = objects.iter().find(|object| object["kind"] == "Job").unwrap();
        job["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let values = example("full");
    assert_eq!(name(&values), name(&values));
    assert_ne!(name(&values), name(&values.replace("registry.example/job:1", "registry.example/job:2")));
}

#[test]
fn the_longest_names_are_names_that_kubernetes_takes() {
    let Some(helm) = Helm::find() else { return };
    let longest = "n".repeat(20);
    let values = example("full")
        .replace("reports:\n    config", &format!("{longest}:\n    config"))
        .replace("profile: reports", &format!("profile: {longest}"))
        .replace("  nightly: {kind: CronJob", &format!("  {longest}: {{kind: CronJob"))
        .replace("  once: {", &format!("  {}: {{", "o".repeat(20)));
    let objects = helm.renders(&format!("{values}fullnameOverride: {}\n", "f".repeat(60)));
    for object in objects {
        let most = match object["kind"].as_str().unwrap() {
            "CronJob" => 52,
            "Service" | "Job" | "Pod" | "Deployment" => 63,
            _ => 253,
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(name.len() <= most, "{} {name}", object["kind"]);
    }
}
