//! What the API server makes of pods once the chart is installed: which get the sidecar and which are refused. Every pod is
//! admitted for real; no kubelet runs here, and so no pod.

use crate::{
    bench::NAMESPACE,
    chart,
    logins::{Pair, pair},
    pods::{self, STRANGER, USER, container},
};
use lab::Cluster;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::OnceLock};

/// An API server with the chart, for all tests here.
pub(crate) struct Court {
    pair: &'static Pair,
    helm: PathBuf,
}

pub(crate) fn court() -> Option<&'static Court> {
    static COURT: OnceLock<Option<Court>> = OnceLock::new();
    let start = || {
        let (helm, pair) = (lab::require_or_skip("helm")?, pair()?);
        let cluster = pair.api.cluster();
        chart::namespaces(cluster, &pair.api.ca_file());
        chart::install(cluster, &helm, &pair.vault, chart::NOBODY);
        cluster.account(NAMESPACE, "job");
        Some(Court { pair, helm })
    };
    COURT.get_or_init(start).as_ref()
}

impl Court {
    pub(crate) fn cluster(&self) -> &Cluster {
        self.pair.api.cluster()
    }

    /// The pod as the API server would keep it.
    pub(crate) fn admitted(&self, pod: &Value) -> Value {
        self.cluster().rehearse(&here(pod)).json()
    }

    /// What the API server says to this pod, which it does not take.
    #[track_caller]
    pub(crate) fn refused(&self, pod: &Value) -> String {
        self.cluster().rehearse(&here(pod)).expect_failure()
    }
}

/// The same pod in the tests' namespace.
pub(crate) fn here(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    pod
}

/// A pod of one container that asks for the sidecar.
pub(crate) fn asking() -> Value {
    pods::pod("app", chart::template("true", "job", pods::spec(&[app()])))
}

fn app() -> Value {
    container("app", USER, "true")
}

/// The member of a list that has this name.
#[track_caller]
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().into_iter().flatten().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {name}: {list:#}"))
}

/// The pod has the sidecar of the profile "true", first, and `app` its socket.
#[track_caller]
pub(crate) fn check_injected(pod: &Value) {
    let spec = &pod["spec"];
    let sidecar = &spec["initContainers"][0];
    assert_eq!((&sidecar["name"], &sidecar["restartPolicy"]), (&json!("claviger"), &json!("Always")));
    assert_eq!(sidecar["image"], chart::IMAGE);
    let token = named(&spec["volumes"], "claviger-token");
    let source = &token["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(source, &json!({"audience": "vault", "expirationSeconds": 600, "path": "token"}));
    let socket = named(&spec["volumes"], "claviger-socket-0");
    assert_eq!(socket["emptyDir"]["medium"], "Memory");
    let mount = named(&named(&spec["containers"], "app")["volumeMounts"], "claviger-socket-0");
    assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&json!("/run/claviger"), &json!(true)));
    let inside = named(&sidecar["volumeMounts"], "claviger-socket-0");
    assert_eq!((&inside["mountPath"], &inside["readOnly"]), (&json!("/run/claviger/app"), &Value::Null));
}

#[test]
fn the_pods_of_a_deployment_a_job_and_a_cron_job_come_back_injected() {
    let Some(court) = court() else { return };
    let template = || chart::template("true", "job", pods::spec(&[app()]));
    let cron_job = pods::cron_job("app", template());
    let templates = [
        pods::deployment("app", template())["spec"]["template"].clone(),
        pods::job("app", template())["spec"]["template"].clone(),
        cron_job["spec"]["jobTemplate"]["spec"]["template"].clone(),
    ];
    for template in templates {
        check_injected(&court.admitted(&pods::pod("app", template)));
    }
}

#[test]
fn a_pod_that_was_injected_is_not_injected_again() {
    let Some(court) = court() else { return };
    let mut once = court.admitted(&asking());
    let spec = once["spec"].clone();
    once["metadata"] = json!({"name": "again", "labels": once["metadata"]["labels"]});
    assert_eq!(court.admitted(&once)["spec"], spec);
}

#[test]
fn what_the_pod_has_already_stays_beside_what_is_injected() {
    let Some(court) = court() else { return };
    let mut pod = asking();
    let mut migrate = container("migrate", STRANGER, "true");
    let data = json!([{"name": "data", "mountPath": "/data"}]);
    migrate["volumeMounts"] = data.clone();
    pod["spec"]["initContainers"] = json!([migrate]);
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = data;
    let admitted = court.admitted(&pod);
    check_injected(&admitted);
    let spec = &admitted["spec"];
    assert_eq!(spec["initContainers"][1]["name"], "migrate");
    // It runs to its end before the others start, and is no client unless the pod says so.
    assert_eq!(spec["initContainers"][1]["volumeMounts"], json!([{"name": "data", "mountPath": "/data"}]));
    named(&spec["volumes"], "data");
    named(&spec["containers"][0]["volumeMounts"], "data");

    pod["metadata"]["annotations"]["claviger.io/containers"] = json!("migrate");
    let spec = court.admitted(&pod)["spec"].clone();
    named(&spec["initContainers"][1]["volumeMounts"], "claviger-socket-0");
    assert_eq!(spec["containers"][0]["volumeMounts"], json!([{"name": "data", "mountPath": "/data"}]));
}

#[test]
fn what_is_injected_is_what_the_library_says() {
    let Some(court) = court() else { return };
    let mut around = pods::spec(&[]);
    around.as_object_mut().unwrap().remove("containers");
    let app_alone = json!({"kind": "Deployment", "containers": [app()], "podSpec": around});
    let rendered = chart::render_app(&court.helm, court.cluster(), &court.pair.vault, "web", &app_alone);
    let mut by_library = pods::pod("app", rendered["spec"]["template"].clone());
    by_library["spec"]["serviceAccountName"] = json!("job");
    let injected = court.admitted(&asking());
    let included = court.admitted(&by_library);
    check_injected(&included);
    assert_eq!(included["spec"], injected["spec"]);
}

#[test]
fn a_pod_without_the_label_or_with_false_is_left_alone() {
    let Some(court) = court() else { return };
    for labels in [json!({}), json!({"claviger.io/inject": "false"}), json!({"inject": "true"})] {
        let mut pod = asking();
        pod["metadata"]["labels"] = labels.clone();
        let spec = court.admitted(&pod)["spec"].to_string();
        assert!(!spec.contains("claviger-") && !spec.contains("initContainers"), "{labels}: {spec}");
    }
}

#[test]
fn a_label_of_no_profile_is_refused_with_those_that_there_are() {
    let Some(court) = court() else { return };
    let mut pod = asking();
    pod["metadata"]["labels"]["claviger.io/inject"] = json!("flase");
    let said = court.refused(&pod);
    assert!(said.contains("there are only the profiles contained, edited, replicas, trio, true"), "{said}");
}

#[test]
fn no_annotation_changes_the_image_vault_or_the_security_context() {
    let Some(court) = court() else { return };
    let part = |pod: &Value| {
        let mut sidecar = pod["spec"]["initContainers"][0].clone();
        sidecar["volumeMounts"] = Value::Null;
        (
            sidecar,
            named(&pod["spec"]["volumes"], "claviger-config").clone(),
            pod["spec"]["securityContext"].clone(),
        )
    };
    let expected = part(&court.admitted(&asking()));
    for (name, value) in [
        ("claviger.io/image", "evil.example/claviger:1"),
        ("claviger.io/vault-address", "https://evil.example"),
        ("claviger.io/run-as-user", "0"),
        ("claviger.io/config", "another"),
        ("claviger.io/containers", "nobody,of,these"),
        ("claviger.io/containers", "claviger"),
        ("claviger.io/containers", "../../etc"),
        ("vault.hashicorp.com/agent-image", "evil.example/vault:1"),
        ("vault.hashicorp.com/service", "https://evil.example"),
    ] {
        let mut pod = asking();
        pod["metadata"]["annotations"][name] = json!(value);
        assert_eq!(part(&court.admitted(&pod)), expected, "{name}: {value}");
    }
}

#[test]
fn pod_security_restricted_takes_an_injected_pod_and_names_only_the_users_own_faults() {
    let Some(court) = court() else { return };
    check_injected(&court.admitted(&asking()));
    let mut pod = asking();
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let said = court.refused(&pod);
    assert!(said.contains("container \"app\" must set") && !said.contains("\"claviger\" must set"), "{said}");
}
