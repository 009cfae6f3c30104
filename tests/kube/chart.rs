//! The chart as a platform team installs it for these tests: its values, and the words by which pods ask for the sidecar.

use crate::{bench::NAMESPACE, pods, replicas};
use lab::{Cluster, Ran, Vault};
use serde_json::{Value, json};
use std::path::Path;

/// claviger's own image, as it is imported.
pub(crate) const IMAGE: &str = "node.local/claviger:1";
/// A namespace that neither injector nor guard covers.
pub(crate) const UNGUARDED: &str = "unguarded";
/// A way to Vault that no pod goes.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";
/// Where the agent finds Vault's CA.
const CA: &str = "/etc/claviger/vault-ca.pem";

/// Makes the namespaces of the pods, with the CA of Vault in each.
pub(crate) fn namespaces(cluster: &Cluster, ca_file: &Path) {
    for name in [NAMESPACE, UNGUARDED] {
        cluster.namespace(name);
        let label = ["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"];
        cluster.kubectl(&label).expect_success();
        let from = format!("--from-file=ca.crt={}", ca_file.display());
        cluster.kubectl(&["-n", name, "create", "configmap", "vault-ca", &from]).expect_success();
        cluster.account(name, "probe");
    }
}

/// A workload of the container `name`: one user, one rule.
fn workload(name: &str, user: u32, secrets: &[&str]) -> Value {
    json!({
        "socket": {"path": format!("/run/claviger/{name}/claviger.sock")},
        "peer": {"uid": user, "gid": user},
        "rules": [{"name": "keys", "secrets": secrets}],
    })
}

/// The values: what all share at the top, and who may read what in profiles.
fn values(vault: &Vault, proxy: &str) -> Value {
    let secret = |name: &str| json!({"identity": "reports", "kind": "kv", "path": format!("secret/{name}"), "field": "api_key"});
    let app = json!({"app": workload("app", pods::USER, &["stripe"])});
    let (repository, tag) = IMAGE.split_once(':').unwrap();
    json!({
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "caBundle": {"configMapName": "vault-ca"},
        "config": {
            "vault": {"addresses": [vault.url()], "ca_file": CA},
            "identities": {"reports": {"method": "kubernetes", "role": "reports"}},
            "secrets": {"stripe": secret("stripe"), "other": secret("other")},
            "workloads": app,
            "audit": {"journal": {"dir": "/var/lib/claviger/audit"}},
        },
        "profiles": {
            "trio": {"config": {"workloads": {
                "twin": workload("twin", pods::USER, &["other"]),
                "stranger": workload("stranger", pods::USER, &["stripe"]),
            }}},
            "edited": {"config": {"shutdown": {"grace": "4s"}}},
            // The agent's own user: then it can tell one container from another.
            "contained": {"config": {"workloads": {"app": {"peer": {
                "uid": pods::AGENT, "gid": pods::AGENT, "level": "container",
            }}}}},
            "replicas": {"config": replicas::config(proxy)},
        },
        "rbac": {"rotators": ["replicas"]},
        // The sidecar stands in what is rendered, and nothing is injected.
        "apps": {"once": {
            "kind": "Job",
            "containers": [pods::container("app", pods::USER, "claviger get stripe")],
            "spec": {"backoffLimit": 0},
        }},
        "namespaces": [NAMESPACE, UNGUARDED],
        "injector": {"namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", UNGUARDED]},
        ]}},
    })
}

/// Installs it and waits until the API server applies its policies.
pub(crate) fn install(cluster: &Cluster, helm: &Path, vault: &Vault, proxy: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.json");
    std::fs::write(&file, values(vault, proxy).to_string()).unwrap();
    let (chart, file) = (path(), file.display().to_string());
    cluster
        .helm(helm, &["install", "claviger", &chart, "--namespace", NAMESPACE, "--values", &file])
        .expect_success();
    let mut probe = pods::pod(
        "probe",
        template("true", "probe", pods::spec(&[pods::container("app", pods::USER, "true")])),
    );
    probe["metadata"]["namespace"] = json!(NAMESPACE);
    answered(cluster, &probe, |ran| ran.out.contains("claviger-token"));
    // The guard is another policy, which the API server takes over at its own time.
    probe["metadata"]["labels"]["claviger.io/inject"] = json!("nobody");
    answered(cluster, &probe, |ran| ran.err.contains("there are only the profiles"));
}

/// Waits until the API server says to this pod what it must.
fn answered(cluster: &Cluster, pod: &Value, wanted: impl Fn(&Ran) -> bool) {
    let mut said = String::new();
    for _ in 0..200 {
        let ran = cluster.rehearse(pod);
        if wanted(&ran) {
            return;
        }
        said = format!("{}{}", ran.out, ran.err);
    }
    panic!("the policies are not there yet: {said}");
}

/// Runs the chart's own test.
pub(crate) fn test(cluster: &Cluster, helm: &Path) -> Ran {
    cluster.helm(helm, &["test", "claviger", "--namespace", NAMESPACE, "--timeout", "120s", "--logs"])
}

/// What `helm template` makes of one of the chart's own apps, which has the sidecar of the library; as the app's object.
pub(crate) fn render_app(helm: &Path, cluster: &Cluster, vault: &Vault, name: &str, app: &Value) -> Value {
    let mut values = values(vault, NOBODY);
    values["apps"] = json!({name: app});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let (chart, file) = (path(), file.path().display().to_string());
    let line = ["template", "claviger", &chart, "--namespace", NAMESPACE, "--values", &file];
    let only = ["--kube-version", "1.36.3", "--show-only", "templates/apps.yaml"];
    let text = cluster.helm(helm, &[&line[..], &only].concat()).expect_success();
    // kubectl reads the YAML for us.
    let objects = cluster
        .kubectl_with(&["create", "--dry-run=client", "-o", "json", "-f", "-"], &text)
        .expect_success();
    let objects = serde_json::Deserializer::from_str(&objects).into_iter::<Value>().map(Result::unwrap);
    let mut objects = objects.flat_map(|one| one["items"].as_array().cloned().unwrap_or_else(|| vec![one]));
    objects.find(|one| one["kind"] == app["kind"]).unwrap()
}

fn path() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("helm/claviger").display().to_string()
}

/// A pod's template that asks for the sidecar of a profile, as a service account.
pub(crate) fn template(profile: &str, account: &str, mut spec: Value) -> Value {
    spec["serviceAccountName"] = json!(account);
    pods::template(&json!({"claviger.io/inject": profile}), &json!({}), spec)
}
