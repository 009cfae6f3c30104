//! One real node for all tests that run pods, with a Vault beside it that trusts its API server, claviger's image and the
//! chart. Each test has pods of its own; what the chart renders is for others to judge.

use crate::{
    accounts, chart, pods,
    proxy::Proxy,
    rig::{printed, until},
    runs,
};
use lab::{Node, Ran, Vault};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The namespace of the tests' pods, which Pod Security holds to `restricted`.
pub(crate) const NAMESPACE: &str = "jobs";
/// How long kubectl waits for what must come.
const LIMIT: &str = "--timeout=120s";
/// What the pods' identity may do in Vault.
const POLICY: &str = "path \"secret/*\" { capabilities = [\"read\"] }";

/// A node, a Vault, and the chart on the node.
pub(crate) struct Bench {
    pub(crate) helm: PathBuf,
    pub(crate) node: Node,
    pub(crate) vault: Vault,
    /// A way to the same Vault that can be held up.
    pub(crate) proxy: Proxy,
}

/// The bench, as soon as it stands. It is tried once: where it cannot be made, every test says so at once.
pub(crate) fn bench() -> Option<&'static Bench> {
    static BENCH: OnceLock<Result<Option<Bench>, ()>> = OnceLock::new();
    // Past the harness's capture, the first test to ask prints why; the others refer to it.
    let start = || std::panic::catch_unwind(Bench::start).map_err(drop);
    BENCH.get_or_init(start).as_ref().expect("the bench could not be made; another test says why").as_ref()
}

impl Bench {
    fn start() -> Option<Bench> {
        let (helm, busybox) = (lab::require_or_skip("helm")?, lab::require_or_skip("busybox")?);
        // Beside the node's start: on a fresh machine the image is compiled first.
        let images = std::thread::spawn(move || Images::make(&busybox));
        let node = Node::start()?;
        let vault = Vault::start_tls_at(node.machine())?;
        let cluster = node.cluster();
        accounts::trust(&vault, cluster, &node.url(), &node.ca_file());
        vault.root().put("sys/policies/acl/reports", &json!({"policy": POLICY})).expect_success();
        vault.audit_file();
        for (name, value) in [("stripe", "sk_live_1"), ("other", "sk_other_1")] {
            let data = json!({"data": {"api_key": value}});
            vault.root().post(&format!("secret/data/{name}"), &data).expect_success();
        }
        accounts::role(&vault, "reports", &format!("{NAMESPACE},{}", chart::UNGUARDED), "*", &json!({}));
        chart::namespaces(cluster, &vault.ca_file()?);
        let images = images.join().unwrap();
        node.import(&images.agent);
        node.import(&images.workload);
        let proxy = Proxy::start(node.machine(), vault.plain());
        chart::install(cluster, &helm, &vault, &proxy.url());
        let bench = Bench { helm, node, vault, proxy };
        // Due within a minute, in which the other tests go on.
        runs::begin_nightly(&bench);
        Some(bench)
    }

    /// Runs kubectl in the namespace of the tests' pods.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Ran {
        self.node.cluster().kubectl(&[&["-n", NAMESPACE], args].concat())
    }

    /// Creates an object there.
    pub(crate) fn create(&self, mut object: Value) {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        self.node.cluster().create(&object).expect_success();
    }

    /// Runs a Deployment of these containers with the sidecar of a profile, until it is ready: its pod.
    pub(crate) fn deploy(&self, name: &str, profile: &str, containers: &[Value]) -> Pod<'_> {
        self.account(name);
        self.create(pods::deployment(name, chart::template(profile, name, pods::spec(containers))));
        let rollout = self.kubectl(&["rollout", "status", &format!("deployment/{name}"), LIMIT]);
        if rollout.code != Some(0) {
            let said = self.kubectl(&["describe", "pod", "-l", &format!("app={name}")]).out;
            let log = self.kubectl(&["logs", "-l", &format!("app={name}"), "-c", "claviger"]).out;
            panic!("{name} did not become ready: {}\n{said}\n{log}", rollout.err);
        }
        self.pod(&format!("app={name}"))
    }

    /// Runs a Job to its end: its pod.
    pub(crate) fn finish(&self, name: &str, job: Value) -> Pod<'_> {
        self.account(name);
        self.create(job);
        self.completed(&format!("job/{name}"));
        self.pod(&format!("batch.kubernetes.io/job-name={name}"))
    }

    /// Waits until a Job has completed.
    pub(crate) fn completed(&self, job: &str) {
        let waited = self.kubectl(&["wait", "--for=condition=Complete", job, LIMIT]);
        if waited.code != Some(0) {
            panic!("{job} did not complete: {}\n{}", waited.err, self.kubectl(&["describe", "pods"]).out);
        }
    }

    /// Makes a service account, by which Vault tells one test's pods from another's.
    pub(crate) fn account(&self, name: &str) {
        self.node.cluster().account(NAMESPACE, name);
    }

    /// The one pod that has these labels.
    pub(crate) fn pod(&self, labels: &str) -> Pod<'_> {
        let found = self.kubectl(&["get", "pods", "-l", labels, "-o", "json"]).json();
        let pods = found["items"].as_array().unwrap();
        assert_eq!(pods.len(), 1, "{labels}: {found:#}");
        Pod { bench: self, name: pods[0]["metadata"]["name"].as_str().unwrap().to_owned() }
    }

    /// The accessors of the tokens that Vault gave to a service account, oldest first.
    pub(crate) fn logins(&self, account: &str) -> Vec<String> {
        let given = |entry: &Value| {
            let of = entry.pointer("/response/auth/metadata/service_account_name")?;
            (entry["type"] == "response" && of == account)
                .then(|| entry.pointer("/response/auth/accessor")?.as_str().map(str::to_owned))?
        };
        self.vault.audit_file().entries().iter().filter_map(given).collect()
    }

    /// Whether Vault still knows the token of this accessor.
    pub(crate) fn is_alive(&self, accessor: &str) -> bool {
        let asked = json!({"accessor": accessor});
        self.vault.root().post("auth/token/lookup-accessor", &asked).status == 200
    }
}

/// The archives of the two images.
struct Images {
    _folder: tempfile::TempDir,
    agent: PathBuf,
    workload: PathBuf,
}

impl Images {
    /// Makes claviger's own image as `deploy/image` does, of a build that is quick to make, and that of the workloads.
    fn make(busybox: &Path) -> Images {
        let folder = tempfile::tempdir().unwrap();
        let (agent, workload) = (folder.path().join("agent.tar"), folder.path().join("workload.tar"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut image = Command::new(root.join("deploy/image"));
        image.args(["--profile", "dev", "--name", chart::IMAGE, "--output"]).arg(&agent);
        printed(&mut image);
        let binary = format!("target/{}-unknown-linux-musl/debug/claviger", std::env::consts::ARCH);
        let files = [(busybox, "bin/busybox"), (&root.join(binary), "bin/claviger")];
        lab::write_image(&workload, pods::IMAGE, &files);
        Images { _folder: folder, agent, workload }
    }
}

/// A pod that runs, or has run, on the node.
pub(crate) struct Pod<'a> {
    bench: &'a Bench,
    pub(crate) name: String,
}

impl Pod<'_> {
    /// The pod as the API server has it.
    pub(crate) fn read(&self) -> Value {
        self.bench.kubectl(&["get", "pod", &self.name, "-o", "json"]).json()
    }

    /// What the kubelet says about one container.
    pub(crate) fn container(&self, name: &str) -> Value {
        let status = self.read()["status"].clone();
        let all = ["initContainerStatuses", "containerStatuses"].map(|list| status[list].clone());
        let found = all.iter().filter_map(Value::as_array).flatten().find(|one| one["name"] == name);
        found.unwrap_or_else(|| panic!("{} has no container {name}: {status:#}", self.name)).clone()
    }

    /// The id of one container, for the node.
    pub(crate) fn id(&self, container: &str) -> String {
        self.container(container)["containerID"].as_str().unwrap().to_owned()
    }

    /// Runs a command in one container.
    pub(crate) fn exec(&self, container: &str, line: &[&str]) -> Ran {
        self.bench.kubectl(&[&["exec", &self.name, "-c", container, "--"], line].concat())
    }

    /// What one container wrote to its standard output and error.
    pub(crate) fn log(&self, container: &str) -> String {
        self.bench.kubectl(&["logs", &self.name, "-c", container]).expect_success()
    }

    /// The sidecar's events, as its log has them.
    pub(crate) fn events(&self) -> Vec<Value> {
        let log = self.log("claviger");
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["type"].is_string()).collect()
    }

    /// The first event of a type for which `wanted` holds, as soon as it is there.
    pub(crate) fn event(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(kind, || self.events().into_iter().find(|event| event["type"] == kind && wanted(event)))
    }
}
