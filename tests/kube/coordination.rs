//! Replicas that a Lease of a real API server coordinates: taken by one at a time, made where that is allowed, refused by RBAC.
//! No pod runs here.

use crate::{
    logins::{Pair, pair},
    rig::{Agent, PROGRAM, Plan, printed, until},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, process::Command, sync::Mutex};

/// What the identity of the tests may do beside reading.
const POLICY: &str =
    "path \"secret/*\" { capabilities = [\"read\", \"create\", \"update\", \"list\", \"delete\"] }";

/// A namespace with a rotation of its own, and an account that the replicas are.
struct Scene {
    pair: &'static Pair,
    namespace: &'static str,
}

impl Scene {
    /// The account may do this with Leases: the rules of its Role.
    fn new(namespace: &'static str, rules: &Value) -> Option<Scene> {
        let scene = Scene { pair: pair()?, namespace };
        let cluster = scene.pair.api.cluster();
        cluster.namespace(namespace);
        cluster.account(namespace, "rotator");
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"namespace": namespace, "name": "lease"}, "rules": rules,
        });
        cluster.create(&role).expect_success();
        let binding = ["-n", namespace, "create", "rolebinding", "lease", "--role=lease", "--serviceaccount"];
        cluster.kubectl(&[&binding[..], &[&format!("{namespace}:rotator")]].concat()).expect_success();
        let first = json!({"data": {"key": "first"}});
        scene.pair.vault.root().post(&format!("secret/data/{namespace}"), &first).expect_success();
        Some(scene)
    }

    fn plan(&self) -> Plan {
        static APPROLE: Mutex<()> = Mutex::new(());
        let (pair, namespace) = (self.pair, self.namespace);
        let mut plan = Plan::new(&pair.vault);
        {
            let _alone = APPROLE.lock().unwrap();
            pair.vault.root().put("sys/policies/acl/ci-read", &json!({"policy": POLICY})).expect_success();
            if pair.vault.root().get("auth/approle/role/app").status == 200 {
                plan.approle_again(&pair.vault);
            } else {
                plan.approle(&pair.vault, json!({"token_ttl": "10m"}));
            }
        }
        plan.secret("hook", json!({"kind": "kv", "path": format!("secret/{namespace}"), "refresh": "1h"}));
        plan.config["vault"]["budget"] = json!({"calls_per_second": 100, "burst": 200});
        let token = pair.api.cluster().token(namespace, "rotator", "https://kubernetes.default.svc");
        let token_file = plan.file("api-token", &token);
        plan.config["rotations"] = json!({"hook": {
            "kind": "generate", "identity": "reports", "path": format!("secret/{namespace}"), "field": "key",
            "schedule": {"every": "4s"}, "min_interval": "4s", "holder_ttl": "3s", "grace": "1s",
            "journal": {"mount": "secret", "path": format!("{namespace}-rotation")},
            "coordination": {"kubernetes": {
                "namespace": namespace, "server": pair.api.url(), "ca_file": pair.api.ca_file(), "token_file": token_file,
            }},
        }});
        plan
    }

    fn lease(&self) -> Value {
        self.pair.api.cluster().read(self.namespace, "lease/rot-hook").json()
    }

    fn journal(&self) -> Value {
        let path = format!("secret/data/{}-rotation/hook", self.namespace);
        self.pair.vault.root().get(&path).expect_success()["data"]["data"]["journal"].clone()
    }
}

fn named(verbs: &[&str]) -> Value {
    json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["rot-hook"], "verbs": verbs}])
}

#[test]
fn of_three_replicas_one_at_a_time_has_the_lease_and_each_slot_is_run_once() {
    let Some(scene) = Scene::new("turns", &named(&["get", "update"])) else { return };
    // As the chart makes it.
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "turns", "name": "rot-hook", "labels": {"of": "a-chart"}},
    });
    scene.pair.api.cluster().create(&lease).expect_success();
    let agents: Vec<Agent> = (0..3).map(|_| scene.plan().start()).collect();
    let all = || agents.iter().flat_map(Agent::events).collect::<Vec<Value>>();
    let promoted = |all: &[Value]| -> Vec<Value> {
        all.iter().filter(|event| event["type"] == "rotation.promoted.v1").cloned().collect()
    };
    let all = until("two promotions on record", || Some(all()).filter(|all| promoted(all).len() >= 2));
    let promoted = promoted(&all);
    let distinct = |key: &str| {
        promoted.iter().map(|event| event["rotation"][key].to_string()).collect::<BTreeSet<_>>().len()
    };
    assert_eq!((distinct("slot"), distinct("to_v")), (promoted.len(), promoted.len()), "{promoted:#?}");
    // On a machine that is busy a request may take longer than it may: that is no harm.
    let bad = |event: &Value| {
        let harmless = event["type"] == "rotation.failed.v1" && event["reason"] == "lease_away";
        let kinds = ["rotation.failed.v1", "rotation.skipped.v1", "rotation.orphaned.v1"];
        !harmless && kinds.iter().any(|kind| event["type"] == *kind)
    };
    let bad: Vec<&Value> = all.iter().filter(|event| bad(event)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    until("a Lease that nobody has, with as many holders as the journal counts", || {
        let (lease, journal) = (scene.lease(), scene.journal());
        assert_eq!(lease["metadata"]["labels"]["of"], "a-chart");
        assert_eq!(
            (&journal["coordination"], &journal["lease"]),
            (&json!("kubernetes"), &json!("turns/rot-hook"))
        );
        let is_free = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().is_empty();
        (is_free && lease["spec"]["leaseTransitions"] == journal["epoch"]).then_some(())
    });
    let config = agents[0].folder().join("claviger.yaml");
    let status =
        printed(Command::new(PROGRAM).args(["rotation", "status", "--json", "--config"]).arg(config));
    let status: Value = serde_json::from_str(&status).unwrap();
    let rotation = &status["rotations"][0];
    assert_eq!(
        (&rotation["coordination"], &rotation["lease"]),
        (&json!("kubernetes"), &json!("turns/rot-hook"))
    );
}

#[test]
fn a_lease_that_is_not_there_is_made_where_the_role_allows_it() {
    let rules = json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]}]);
    let Some(scene) = Scene::new("made", &rules) else { return };
    let agent = scene.plan().start();
    agent.event("rotation.promoted.v1", |_| true);
    let lease = scene.lease();
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 3, "{lease:#}");
    // Killed by SIGKILL: what it had is somebody else's after its time.
    drop(agent);
    let next = scene.plan().start();
    next.event("rotation.promoted.v1", |_| true);
    assert!(scene.lease()["spec"]["leaseTransitions"].as_u64() >= Some(2));
}

#[test]
fn a_pod_that_may_not_have_the_lease_rotates_nothing_and_is_told_the_rule() {
    let Some(scene) = Scene::new("refused", &named(&["update"])) else { return };
    let agent = scene.plan().start();
    let failed = agent.event("rotation.failed.v1", |_| true);
    assert_eq!(failed["reason"], "lease_denied", "{failed}");
    let said = agent.says("cannot get resource").to_string();
    for words in ["resourceNames: [rot-hook], verbs: [get, update]", "a Role in refused must have"] {
        assert!(said.contains(words), "{said}");
    }
    let metrics = agent.health("/metrics").text;
    assert!(
        metrics.contains("rotation_failures_total{rotation=\"hook\",phase=\"idle\",reason=\"lease_denied\"}"),
        "{metrics}"
    );
    assert_eq!(agent.value("hook")["generation"], 1, "what there is is served all the same");
    assert_eq!(scene.journal()["phase"], "idle");
}
