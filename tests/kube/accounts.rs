//! Vault's `kubernetes` auth method on a cluster's TokenReview, as the chart's notes tell a platform team to set it up.
//! Knows nothing of claviger.

use lab::{Cluster, Vault};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Lets `vault` ask the API server at `url`, whose CA is in `ca_file`, whom a token belongs to.
pub(crate) fn trust(vault: &Vault, cluster: &Cluster, url: &str, ca_file: &Path) {
    cluster.namespace("vault");
    cluster.account("vault", "reviewer");
    let binding =
        ["create", "clusterrolebinding", "vault-reviewer", "--clusterrole", "system:auth-delegator"];
    cluster.kubectl(&[&binding[..], &["--serviceaccount", "vault:reviewer"]].concat()).expect_success();
    let root = vault.root();
    root.post("sys/auth/kubernetes", &json!({"type": "kubernetes"})).expect_success();
    let config = json!({
        "kubernetes_host": url,
        "kubernetes_ca_cert": fs::read_to_string(ca_file).unwrap(),
        "token_reviewer_jwt": cluster.token("vault", "reviewer", "https://kubernetes.default.svc"),
        "disable_local_ca_jwt": true,
    });
    root.post("auth/kubernetes/config", &config).expect_success();
}

/// Makes the role `name`, which one account of one namespace gets with a token of audience `vault`; `settings` are added.
pub(crate) fn role(vault: &Vault, name: &str, namespace: &str, account: &str, settings: &Value) {
    let mut role = json!({
        "bound_service_account_names": account,
        "bound_service_account_namespaces": namespace,
        "audience": "vault",
        "token_policies": ["reports"],
        "token_ttl": "10m",
    });
    for (key, value) in settings.as_object().unwrap() {
        role[key] = value.clone();
    }
    vault.root().post(&format!("auth/kubernetes/role/{name}"), &role).expect_success();
}
