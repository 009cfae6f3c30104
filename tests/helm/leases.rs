//! Rotations that a Lease coordinates: who may have it, who has a token for the API server, and that nobody else does.

use crate::helm::{Helm, example, object, of_kind};
use serde_json::{Value, json};

const API: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The minimal example with a rotation that is coordinated so, and more values.
fn with(coordination: &str, values: &str) -> String {
    let rotation = "rotations: {webhook: {kind: generate, identity: app, path: secret/hook, field: key, schedule: {every: 24h}, \
                    journal: {mount: kv, path: rotation}, coordination: COORDINATION}}";
    let rotation = rotation.replace("COORDINATION", coordination);
    format!("{}{values}\n", example("minimal").replace("config:\n", &format!("config:\n  {rotation}\n")))
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn a_rotation_that_a_lease_coordinates_has_the_lease_and_a_role_for_it_alone() {
    let Some(helm) = Helm::find() else { return };
    let values = "apps: {web: {kind: Deployment, containers: [{name: app, image: i}]}, \
                  other: {kind: Deployment, containers: [{name: app, image: i}], serviceAccount: {create: false, name: reports}}}\n\
                  rbac: {rotators: [pods]}\nnetworkPolicy: {enabled: true}";
    let objects = helm.renders(&with("kubernetes", values));
    let lease = object(&objects, "Lease", "rot-webhook");
    assert_eq!((&lease["metadata"]["namespace"], lease.get("spec")), (&json!("team-a"), None));
    let role = object(&objects, "Role", "claviger-lease-rot-webhook");
    let rule = json!({
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["rot-webhook"],
        "verbs": ["get", "update"],
    });
    assert_eq!(role["rules"], json!([rule]));
    let binding = object(&objects, "RoleBinding", "claviger-lease-rot-webhook");
    assert_eq!(names(&binding["subjects"]), ["pods", "reports", "claviger-web"]);
    let policy = object(&objects, "NetworkPolicy", "claviger");
    let ports = json!({"ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}]});
    assert_eq!(policy["spec"]["egress"].as_array().unwrap().last(), Some(&ports));

    // The sidecar has the token, and no other container.
    let spec = &object(&objects, "Deployment", "claviger-web")["spec"]["template"]["spec"];
    let mounts = |container: &Value| container["volumeMounts"].to_string().contains(API);
    assert!(mounts(&spec["initContainers"][0]) && !mounts(&spec["containers"][0]), "{spec:#}");
    assert_eq!(spec["automountServiceAccountToken"], false);
    let volume = spec["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "claviger-api");
    let token = &volume.unwrap()["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token.get("audience"), None, "the API server's own: {token}");
    let injected = object(&objects, "MutatingAdmissionPolicy", "claviger").to_string();
    assert!(injected.contains("claviger-api") && injected.contains(API), "{injected}");
}

#[test]
fn a_lease_of_another_name_is_the_one_that_the_config_says() {
    let Some(helm) = Helm::find() else { return };
    let values = "namespaces: [a, b]\nrbac: {rotators: [pods]}";
    let objects = helm.renders(&with("{kubernetes: {namespace: shared, lease: hook}}", values));
    let leases = of_kind(&objects, "Lease");
    assert_eq!(leases.len(), 1, "{leases:#?}");
    let place = ["namespace", "name"].map(|key| leases[0]["metadata"][key].as_str().unwrap());
    assert_eq!(place, ["shared", "hook"]);
    let binding = object(&objects, "RoleBinding", "claviger-lease-hook");
    let subject = |namespace: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": "pods"});
    assert_eq!(binding["subjects"], json!([subject("a"), subject("b")]));
}

#[test]
fn without_such_a_rotation_there_is_no_role_no_lease_and_no_token() {
    let Some(helm) = Helm::find() else { return };
    let unused = format!("{}rbac: {{rotators: [pods]}}\n", example("minimal"));
    for values in [example("minimal"), with("vault", ""), unused] {
        let objects = helm.renders(&values);
        for kind in ["Lease", "Role", "RoleBinding"] {
            assert!(of_kind(&objects, kind).is_empty(), "{kind}: {values}");
        }
        assert!(!objects.iter().any(|object| object.to_string().contains("claviger-api")), "{values}");
    }
    // Where nobody knows the config, it is said.
    let own = "image: {registry: r}\nexistingConfigMap: own\ntoken: {apiServer: always}\n";
    let policy = helm.renders(own);
    assert!(object(&policy, "MutatingAdmissionPolicy", "claviger").to_string().contains("claviger-api"));
}
