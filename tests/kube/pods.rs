//! The tests' own workloads: what a platform team's users write, before anything is injected.
//! Their image is busybox and the client commands of claviger; nothing here knows the chart.

use serde_json::{Value, json};

/// The workloads' image, as it is imported.
pub(crate) const IMAGE: &str = "node.local/workload:1";
/// The user of the containers that may read.
pub(crate) const USER: u32 = 20_001;
/// Another one.
pub(crate) const STRANGER: u32 = 20_002;

/// The agent's own, as the chart has it.
pub(crate) const AGENT: u32 = 65_532;

/// A container of `user` that runs a shell script, as restricted as Pod Security asks for.
pub(crate) fn container(name: &str, user: u32, script: &str) -> Value {
    json!({
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sh", "-c", script],
        "securityContext": {
            "runAsUser": user, "runAsGroup": user, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}},
    })
}

/// The same as one that is added to a pod that runs.
pub(crate) fn ephemeral(name: &str, user: u32, script: &str) -> Value {
    let mut container = container(name, user, script);
    container.as_object_mut().unwrap().remove("resources");
    container
}

/// A pod's spec of these containers.
pub(crate) fn spec(containers: &[Value]) -> Value {
    json!({
        "serviceAccountName": "job",
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": containers,
    })
}

/// A pod's template: `labels` are those that ask for the sidecar, or none.
pub(crate) fn template(labels: &Value, annotations: &Value, spec: Value) -> Value {
    json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
}

/// A pod of a template, as a controller would make it.
pub(crate) fn pod(name: &str, mut template: Value) -> Value {
    template["apiVersion"] = json!("v1");
    template["kind"] = json!("Pod");
    template["metadata"]["name"] = json!(name);
    template
}

/// A Deployment of one replica.
pub(crate) fn deployment(name: &str, mut template: Value) -> Value {
    template["metadata"]["labels"]["app"] = json!(name);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template},
    })
}

/// A Job that is tried once.
pub(crate) fn job(name: &str, template: Value) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": once(template)})
}

/// A CronJob that is due each minute.
pub(crate) fn cron_job(name: &str, template: Value) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": once(template)}},
    })
}

fn once(mut template: Value) -> Value {
    template["spec"]["restartPolicy"] = json!("Never");
    json!({"backoffLimit": 0, "template": template})
}
