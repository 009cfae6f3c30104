//! A Deployment of three replicas that rotate one credential by a Lease of Kubernetes, and one of which is killed in the middle. Vault, the
//! node, the chart's Role and its token are real; a proxy holds the replica up right after it wrote the phase that it is killed in.

use crate::{
    accounts,
    bench::{Bench, NAMESPACE, bench},
    chart,
    pods::{self, USER, container},
    rig::until,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Deployment, service account, role and profile.
const NAME: &str = "replicas";
const JOURNAL: &str = "secret/data/rotation/orders";
const CONSUMER: &str = "secret/data/orders";
/// What the replicas may do in Vault.
const POLICY: &str = r#"
path "secret/data/orders" { capabilities = ["read", "create", "update"] }
path "secret/metadata/orders" { capabilities = ["read"] }
path "secret/delete/orders" { capabilities = ["update"] }
path "secret/data/rotation/*" { capabilities = ["read", "create", "update"] }
path "secret/metadata/rotation/*" { capabilities = ["read", "update", "list", "delete"] }
path "auth/userpass/users/+/password" { capabilities = ["update"] }
path "auth/userpass/login/*" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
"#;

/// The config of their profile: two users of Vault's own userpass take turns.
pub(crate) fn config(proxy: &str) -> Value {
    let user = |path: &str| json!({"path": path, "data": {"password": "{value}"}});
    json!({
        "vault": {
            "addresses": [proxy], "insecure_http": true,
            "budget": {"calls_per_second": 100, "burst": 200},
        },
        "identities": {NAME: {"method": "kubernetes", "role": NAME}},
        "secrets": {"orders": {"identity": NAME, "kind": "kv", "path": "secret/orders"}},
        "workloads": {"app": {"rules": [{"name": "keys", "secrets": ["orders"]}]}},
        "rotations": {"orders": {
            "kind": "two-slot", "identity": NAME, "path": "secret/orders", "users": ["orders_a", "orders_b"],
            "schedule": {"every": "8s"}, "min_interval": "8s", "holder_ttl": "6s", "grace": "1s",
            "journal": {"mount": "secret", "path": "rotation"},
            "coordination": {"kubernetes": {"namespace": NAMESPACE}},
            "driver": {"vault": {
                "set": user("auth/userpass/users/{user}/password"), "test": user("auth/userpass/login/{user}"),
            }},
        }},
    })
}

/// The replicas at work, made once, for one test at a time.
fn replicas() -> Option<(&'static Bench, MutexGuard<'static, ()>)> {
    static REPLICAS: OnceLock<Option<&'static Bench>> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let bench = *REPLICAS.get_or_init(|| bench().inspect(|bench| start(bench)));
    Some((bench?, ALONE.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn start(bench: &Bench) {
    let root = bench.vault.root();
    root.post("sys/auth/userpass", &json!({"type": "userpass"})).expect_success();
    for user in ["orders_a", "orders_b"] {
        let body = json!({"password": "first", "token_ttl": "60s"});
        root.post(&format!("auth/userpass/users/{user}"), &body).expect_success();
    }
    let first = json!({"data": {"username": "orders_a", "password": "first"}});
    root.post(CONSUMER, &first).expect_success();
    root.put("sys/policies/acl/replicas", &json!({"policy": POLICY})).expect_success();
    let policies = json!({"token_policies": ["reports", "replicas"]});
    accounts::role(&bench.vault, NAME, NAMESPACE, NAME, &policies);
    bench.account(NAME);
    let app = container("app", USER, "exec busybox sleep 3600");
    let mut deployment = pods::deployment(NAME, chart::template(NAME, NAME, pods::spec(&[app])));
    deployment["spec"]["replicas"] = json!(3);
    bench.create(deployment);
    bench.kubectl(&["rollout", "status", "deployment/replicas", "--timeout=120s"]).expect_success();
}

fn journal(bench: &Bench) -> Value {
    bench.vault.root().get(JOURNAL).expect_success()["data"]["data"]["journal"].clone()
}

/// The pod at this address, and the id of its sidecar's container.
fn sidecar(bench: &Bench, at: IpAddr) -> (String, String) {
    let found = bench.kubectl(&["get", "pods", "-l", "app=replicas", "-o", "json"]).json();
    let pods = found["items"].as_array().unwrap();
    let pod = pods.iter().find(|pod| pod["status"]["podIP"] == at.to_string());
    let pod = pod.unwrap_or_else(|| panic!("no pod is at {at}: {found:#}"));
    let containers = pod["status"]["initContainerStatuses"].as_array().unwrap();
    let id =
        containers.iter().find(|one| one["name"] == "claviger").unwrap()["containerID"].as_str().unwrap();
    (pod["metadata"]["name"].as_str().unwrap().to_owned(), id.to_owned())
}

/// What consumers read works, whatever was cut off.
fn assert_works(bench: &Bench, why: &str) {
    let read = bench.vault.root().get(CONSUMER).expect_success()["data"]["data"].clone();
    let login = format!("auth/userpass/login/{}", read["username"].as_str().unwrap());
    let answer = bench.vault.client("").post(&login, &json!({"password": read["password"]}));
    assert_eq!(answer.status, 200, "{why}: {read}");
}

/// Kills the replica that works on the rotation right after it wrote that its run is in `phase`.
fn kill_in(bench: &Bench, phase: &'static str) {
    bench.proxy.hold(JOURNAL, phase);
    let at = bench.proxy.held();
    // At once: another goes on when its lease is over.
    let cut = journal(bench);
    let lease = bench.kubectl(&["get", "lease", "rot-orders", "-o", "json"]).json();
    let (pod, id) = sidecar(bench, at);
    assert_eq!(cut["phase"], phase, "{cut}");
    let run = cut["rotation_id"].as_str().unwrap();
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap();
    assert!(holder.contains(&pod), "{pod}: {lease:#}");
    assert_eq!(Some(holder), cut["holder"].as_str());
    assert_eq!(lease["spec"]["leaseTransitions"], cut["epoch"]);
    bench.node.kill(&id);
    bench.proxy.release();
    assert_works(bench, phase);
    until("the end of the run", || {
        let now = journal(bench);
        assert_ne!(now["phase"], "orphaned", "{now}");
        (now["rotation_id"] != run).then_some(())
    });
    assert_works(bench, phase);
    let promoted = bench.proxy.promoted();
    assert_eq!(promoted.iter().filter(|(id, _)| id == run).count(), 1, "{phase}: {promoted:?}");
}

/// Each run is of a slot of its own, and consumers got one version of each.
fn assert_once_each(bench: &Bench) {
    let (runs, writes) = until("a moment between two runs", || {
        let runs = bench.proxy.promoted();
        let writes = bench.proxy.written(CONSUMER);
        (journal(bench)["phase"] == "idle" && runs == bench.proxy.promoted()).then_some((runs, writes))
    });
    let slots: BTreeSet<&String> = runs.iter().map(|(_, slot)| slot).collect();
    assert_eq!((slots.len(), writes as usize), (runs.len(), runs.len()), "{runs:?}");
}

#[test]
fn a_replica_that_is_killed_with_the_lease_leaves_its_run_to_another() {
    let Some((bench, _alone)) = replicas() else { return };
    kill_in(bench, "tested");
    assert_once_each(bench);
}

#[test]
#[ignore = "two minutes of kills; `tests/run long` runs it"]
fn a_replica_that_is_killed_in_any_phase_leaves_one_rotation_for_each_slot() {
    let Some((bench, _alone)) = replicas() else { return };
    for phase in ["pending", "set", "tested", "promoted", "grace"] {
        kill_in(bench, phase);
        assert_once_each(bench);
    }
}
