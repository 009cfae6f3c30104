//! Values: what is refused and in which words, and that values, schema and table know the same keys.

use crate::helm::{CHART, Helm, example, root, yaml};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

/// The minimal example with these values merged over it is refused, and this is said.
fn refused(helm: &Helm, values: &Value, said: &str) {
    let mut all = yaml(&example("minimal"));
    merge(&mut all, values);
    let found = helm.refuses(&all.to_string());
    assert!(found.contains(said), "{values}\nwanted: {said}\nfound: {found}");
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

#[test]
fn a_wrong_value_is_refused_by_its_place_with_what_is_allowed() {
    let Some(helm) = Helm::find() else { return };
    for (values, said) in [
        (json!({"imag": {}}), "additional properties 'imag' not allowed"),
        (json!({"image": {"digset": ""}}), "at '/image': additional properties 'digset' not allowed"),
        (
            json!({"image": {"digest": "latest"}}),
            "at '/image/digest': 'latest' does not match pattern '^$|^sha256:",
        ),
        (json!({"image": {"tag": 1.5}}), "at '/image/tag': got number, want string"),
        (
            json!({"image": {"pullPolicy": "always"}}),
            "at '/image/pullPolicy': value must be one of '', 'Always', 'IfNotPresent', 'Never'",
        ),
        (
            json!({"token": {"expirationSeconds": 60}}),
            "at '/token/expirationSeconds': minimum: got 60, want 600",
        ),
        (json!({"token": {"audience": ""}}), "at '/token/audience': minLength: got 0, want 1"),
        (json!({"caBundle": {"pem": "MIIB"}}), "at '/caBundle/pem'"),
        (
            json!({"volumes": {"journal": {"sizeLimit": "128M"}}}),
            "at '/volumes/journal/sizeLimit': '128M' does not match pattern",
        ),
        (
            json!({"sidecar": {"placement": "before:app"}}),
            "at '/sidecar/placement': 'before:app' does not match pattern '^(first|last|after:",
        ),
        (
            json!({"sidecar": {"waitFor": "login"}}),
            "at '/sidecar/waitFor': value must be one of 'secrets', 'socket'",
        ),
        (
            json!({"sidecar": {"startupProbe": {"exec": {}}}}),
            "at '/sidecar/startupProbe': additional properties 'exec' not allowed",
        ),
        (
            json!({"injector": {"mode": "webhook"}}),
            "at '/injector/mode': value must be one of 'auto', 'policy', 'off'",
        ),
        (
            json!({"injector": {"failurePolicy": "ignore"}}),
            "at '/injector/failurePolicy': value must be one of 'Fail', 'Ignore'",
        ),
        (
            json!({"guard": {"validationActions": ["deny"]}}),
            "at '/guard/validationActions/0': value must be one of 'Deny', 'Warn', 'Audit'",
        ),
        (
            json!({"guard": {"allowedImages": ["registry.example/claviger"]}}),
            "at '/guard/allowedImages/0': 'registry.example/claviger' does not match pattern '[/:@]$'",
        ),
        (json!({"namespaces": ["Team_A"]}), "at '/namespaces/0': 'Team_A' does not match pattern"),
        (json!({"profiles": {"Reports": {}}}), "invalid propertyName 'Reports'"),
        (
            json!({"profiles": {"reports": {"injector": {}}}}),
            "at '/profiles/reports': additional properties 'injector' not allowed",
        ),
        (
            json!({"rbac": {"leases": [{"name": "a", "namespace": "b"}]}}),
            "at '/rbac/leases/0': missing property 'serviceAccounts'",
        ),
        (
            json!({"apps": {"web": {"kind": "StatefulSet", "containers": [{"name": "a", "image": "b"}]}}}),
            "at '/apps/web/kind': value must be one of 'Deployment', 'Job', 'CronJob'",
        ),
        (
            json!({"apps": {"web": {"kind": "Job", "containers": [{"name": "a"}]}}}),
            "at '/apps/web/containers/0': missing property 'image'",
        ),
        (json!({"apps": {"web": {"kind": "Job"}}}), "at '/apps/web': missing property 'containers'"),
        (
            json!({"metrics": {"podMonitor": {"interval": 30}}}),
            "at '/metrics/podMonitor/interval': got number, want string",
        ),
        (
            json!({"metrics": {"renderMode": "never"}}),
            "at '/metrics/renderMode': value must be one of 'always', 'skipIfMissing'",
        ),
    ] {
        refused(&helm, &values, said);
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_with_the_remedy() {
    let Some(helm) = Helm::find() else { return };
    let app = json!([{"name": "app", "image": "i"}]);
    for (values, said) in [
        (
            json!({"config": {"workloads": null}}),
            "There is no config. Set `config` with at least one of its `workloads`, or `profiles`",
        ),
        (
            json!({"caBundle": {"secretName": "vault-ca"}}),
            "caBundle: give one of pem, configMapName, secretName and clusterTrustBundle, not 2.",
        ),
        (
            json!({"caBundle": {"configMapName": ""}}),
            "config.vault.ca_file is /etc/claviger/vault-ca.pem, but nothing is there: give caBundle",
        ),
        (
            json!({"config": {"vault": {"ca_file": "/etc/ssl/ca.pem"}}}),
            "caBundle stands at /etc/claviger/vault-ca.pem; write that, or remove caBundle.",
        ),
        (
            json!({"config": {"health": {"listen": "127.0.0.1:8099"}}}),
            "config.health.listen is \"127.0.0.1:8099\", where the kubelet does not reach it; write \"[::]:8099\"",
        ),
        (
            json!({"profiles": {"reports": {"config": {"health": {"listen": "localhost"}}}}}),
            "profiles.reports.config.health.listen is \"localhost\"",
        ),
        (
            json!({"profiles": {"true": {}}}),
            "profiles.true: \"true\" is the profile without a name; its values stand at the top.",
        ),
        (
            json!({"profiles": {"reports": {"existingConfigMap": "a", "config": {}}}}),
            "profiles.reports.existingConfigMap and profiles.reports.config contradict each other; remove one.",
        ),
        (json!({"strictMode": true}), "strictMode: image.digest is empty; `deploy/image` prints it."),
        (
            json!({"apps": {"web": {"kind": "Deployment", "profile": "reports", "containers": app}}}),
            "apps.web.profile: there is no profile \"reports\"; there are: true.",
        ),
        (
            json!({"apps": {"web": {"kind": "Deployment", "clients": ["ap"], "containers": app}}}),
            "apps.web.clients: there is no container \"ap\"; there are: app.",
        ),
        (
            json!({"apps": {"web": {"kind": "CronJob", "containers": app}}}),
            "apps.web.schedule is missing: when does the CronJob run?",
        ),
        (
            json!({"sidecar": {"placement": "after:istio-proxy"}, "apps": {"web": {"kind": "Job", "containers": app}}}),
            "apps.web: sidecar.placement is after:istio-proxy, but there is no init container istio-proxy",
        ),
    ] {
        refused(&helm, &values, said);
    }
    let digest = format!("sha256:{}", "0".repeat(64));
    for (values, said) in [
        (json!({"guard": {"enabled": false}}), "strictMode: guard.enabled is false."),
        (json!({"injector": {"failurePolicy": "Ignore"}}), "strictMode: failurePolicy is Ignore"),
        (json!({"config": {"sandbox": "off"}}), "strictMode: config.sandbox is off; remove it."),
    ] {
        let mut strict = json!({"strictMode": true, "image": {"digest": digest}});
        merge(&mut strict, &values);
        refused(&helm, &strict, said);
    }
}

#[test]
fn before_kubernetes_1_36_injection_by_label_is_refused_and_the_other_ways_are_named() {
    let Some(helm) = Helm::find() else { return };
    let values = format!("{CHART}/ci/minimal-values.yaml");
    let line = ["template", "claviger", CHART, "--values", &values, "--kube-version"];
    let output = helm.run(&[&line[..], &["1.35.2"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    for words in
        ["Kubernetes v1.35.2 has no MutatingAdmissionPolicy", "claviger-lib", "deploy/kustomize/component"]
    {
        assert!(said.contains(words), "{said}");
    }
    helm.prints(&[&line[..], &["1.29.0", "--set", "injector.mode=off"]].concat());
    // Managed clusters add to the version.
    helm.prints(&[&line[..], &["v1.36.1-eks-1a2b3c"]].concat());
}

/// The keys of a schema, by their path; what is open has no keys of its own.
fn of_schema(schema: &Value, all: &Value, at: &str, found: &mut BTreeSet<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => all.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        of_schema(below, all, &path, found);
        found.insert(path);
    }
}

/// The keys of the values, down to where the schema is open.
fn of_values(values: &Value, at: &str, schema: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    let inner = schema.iter().any(|path| path.starts_with(&format!("{at}.")));
    for (key, below) in values.as_object().filter(|_| at.is_empty() || inner).into_iter().flatten() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        of_values(below, &path, schema, found);
        found.insert(path);
    }
}

#[test]
fn values_schema_and_table_know_the_same_keys() {
    let read = |name: &str| fs::read_to_string(root().join(CHART).join(name)).unwrap();
    let (values, schema) = (yaml(&read("values.yaml")), yaml(&read("values.schema.json")));
    let (mut in_schema, mut in_values) = (BTreeSet::new(), BTreeSet::new());
    of_schema(&schema, &schema, "", &mut in_schema);
    // The library's own values, which Helm puts there; and what Kubernetes says of a selector and a probe.
    in_schema.remove("claviger-lib");
    in_schema.retain(|path| !path.contains("Probe.") && !path.contains("Selector."));
    of_values(&values, "", &in_schema, &mut in_values);
    in_values.retain(|path| !path.contains("Probe."));
    assert_eq!(in_schema, in_values);

    let table = read("README.md");
    let leaves =
        in_values.iter().filter(|path| !in_values.iter().any(|other| other.starts_with(&format!("{path}."))));
    for path in leaves {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{path}` |")));
        let said = row
            .and_then(|row| row.rsplit('|').nth(1))
            .unwrap_or_else(|| panic!("{path} is not in the table"));
        assert!(said.trim().len() > 2, "{path} has no explanation");
    }
}

#[test]
fn values_of_an_earlier_release_are_still_taken() {
    let Some(helm) = Helm::find() else { return };
    for entry in fs::read_dir(root().join("tests/helm/earlier")).unwrap() {
        let values = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(helm.renders(&values).len() > 5);
    }
}
