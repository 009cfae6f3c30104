//! The lab tests itself: each server is started, really used, and really gone afterwards.
//! claviger takes no part here; what claviger does with these servers is tested in `tests/live`.
#![expect(clippy::indexing_slicing, reason = "a missing field of an answer must fail the test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{ApiServer, Node, Postgres, Vault};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

fn key_is_kept(vault: &Vault) {
    let root = vault.root();
    root.post("secret/data/payments/stripe", &json!({"data": {"api_key": "sk_test"}})).expect_success();
    let read = root.get("secret/data/payments/stripe").expect_success();
    assert_eq!(read["data"]["data"]["api_key"], "sk_test");
}

#[test]
fn a_key_written_to_vault_is_read_back_listed_and_deleted() {
    let Some(vault) = Vault::start() else { return };
    key_is_kept(&vault);
    let root = vault.root();
    assert_eq!(root.list("secret/metadata").expect_success()["data"]["keys"], json!(["payments/"]));
    root.delete("secret/metadata/payments/stripe").expect_success();
    assert_eq!(root.get("secret/data/payments/stripe").status, 404);
}

#[test]
fn another_token_gets_what_its_policies_allow_and_no_more() {
    let Some(vault) = Vault::start() else { return };
    let root = vault.root();
    root.put(
        "sys/policies/acl/none-of-it",
        &json!({"policy": "path \"secret/data/open\" { capabilities = [\"create\"] }"}),
    )
    .expect_success();
    let made =
        root.post("auth/token/create", &json!({"policies": ["none-of-it"], "ttl": "1m"})).expect_success();
    let other = vault.client(made["auth"]["client_token"].as_str().unwrap());
    assert_eq!(other.post("secret/data/open", &json!({"data": {"a": "b"}})).status, 200);
    let refused = other.get("secret/data/open");
    assert_eq!((refused.status, refused.body["errors"].is_array()), (403, true));
    assert_eq!(vault.client("").get("secret/data/open").status, 403);
}

#[test]
fn the_audit_file_counts_each_call_once() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let root = vault.root();
    let accessor = root.get("auth/token/lookup-self").expect_success()["data"]["accessor"].clone();
    root.post("auth/token/renew-self", &json!({}));
    root.get("auth/token/lookup-self").expect_success();
    assert_eq!(audit.calls("auth/token/lookup-self"), 2);
    assert_eq!(audit.calls("auth/token/*"), 3);
    let by_root = |entry: &Value| entry.pointer("/auth/accessor") == Some(&accessor);
    assert!(audit.count(by_root) >= 3, "{:#?}", audit.entries());
    assert_eq!(vault.audit_file().calls("auth/token/*"), 3);
}

#[test]
fn a_sealed_vault_refuses_and_serves_again_once_unsealed() {
    let Some(vault) = Vault::start() else { return };
    key_is_kept(&vault);
    vault.seal();
    assert_eq!(vault.root().get("secret/data/payments/stripe").status, 503);
    vault.unseal();
    assert_eq!(vault.root().get("secret/data/payments/stripe").status, 200);
}

#[test]
fn a_durable_vault_refuses_connections_while_stopped_and_keeps_tokens_and_data() {
    let Some(mut vault) = Vault::start_durable() else { return };
    key_is_kept(&vault);
    let made = vault.root().post("auth/token/create", &json!({"ttl": "1h"})).expect_success();
    let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    let url = vault.url();
    vault.stop();
    assert!(vault.root().try_call("GET", "sys/health", None).is_err());
    vault.restart();
    assert_eq!(vault.url(), url);
    assert_eq!(vault.client(&token).get("secret/data/payments/stripe").status, 200);
}

#[test]
fn a_tls_vault_has_a_ca_file_and_is_prepared_over_plain_http() {
    let Some(vault) = Vault::start_tls() else { return };
    key_is_kept(&vault);
    assert!(vault.url().starts_with("https://127.0.0.1:"));
    // Vault's own CLI is the TLS client here: it trusts that file and nothing else.
    let mut cli = std::process::Command::new(vault.program());
    cli.env_clear()
        .env("HOME", "/nonexistent")
        .env("VAULT_ADDR", vault.url())
        .env("VAULT_TOKEN", vault.root_token());
    cli.env("VAULT_CACERT", vault.ca_file().unwrap());
    let got = cli.args(["kv", "get", "-field=api_key", "secret/payments/stripe"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&got.stdout), "sk_test", "{got:?}");
}

#[test]
fn a_dynamic_database_user_logs_in_until_its_lease_is_revoked() {
    let (Some(vault), Some(postgres)) = (Vault::start(), Postgres::start()) else { return };
    let path = postgres.vault_database(&vault, "orders", HOUR, 24 * HOUR);
    let lease = vault.root().get(&path).expect_success();
    let (user, password) =
        (lease["data"]["username"].as_str().unwrap(), lease["data"]["password"].as_str().unwrap());
    assert_eq!(lease["lease_duration"], 3600);
    assert_eq!(postgres.query_as(user, password, "select current_user").unwrap(), user);
    assert!(!postgres.can_login(user, "not the password"));
    vault
        .root()
        .put("sys/leases/revoke", &json!({"lease_id": lease["lease_id"], "sync": true}))
        .expect_success();
    assert!(!postgres.can_login(user, password));
    assert_eq!(postgres.query("select count(*) from pg_roles where rolname like 'v-%'").unwrap(), "0");
}

#[test]
fn wrong_sql_is_an_error_with_the_servers_words() {
    let Some(postgres) = Postgres::start() else { return };
    assert!(postgres.query("select nothing from nowhere").unwrap_err().to_string().contains("nowhere"));
}

/// Whom the API server takes `token` for when it is asked for `audience`.
fn reviewed(cluster: &lab::Cluster, token: &str, audience: &str) -> Value {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    });
    cluster.create(&review).json()["status"]["user"]["username"].clone()
}

#[test]
#[ignore = "the suite kube starts the same servers; `tests/run long` runs it"]
fn an_api_server_knows_a_token_of_its_own_by_its_audience() {
    let Some(api) = ApiServer::start() else { return };
    let cluster = api.cluster();
    cluster.namespace("tenant");
    cluster.account("tenant", "job");
    let token = cluster.token("tenant", "job", "vault");
    assert_eq!(reviewed(cluster, &token, "vault"), "system:serviceaccount:tenant:job");
    assert_eq!(reviewed(cluster, &token, "other"), Value::Null);
    assert_eq!(reviewed(cluster, &format!("{token}x"), "vault"), Value::Null);
}

/// A pod that ends well at once runs to its end.
fn runs_a_pod(node: &Node) {
    let cluster = node.cluster();
    let busybox = lab::require("busybox").expect("a shell for the image");
    let folder = tempfile::tempdir().expect("a folder for the image");
    let archive = folder.path().join("busybox.tar");
    lab::write_image(&archive, "node.local/busybox:1", &[(&busybox, "bin/busybox")]);
    node.import(&archive);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "main", "image": "node.local/busybox:1", "args": ["echo", "hello"], "imagePullPolicy": "Never",
        }]},
    });
    cluster.create(&pod).expect_success();
    let wait = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/hello", "--timeout=60s"];
    cluster.kubectl(&wait).expect_success();
    assert_eq!(cluster.kubectl(&["logs", "hello"]).expect_success(), "hello\n");
}

/// What a node has on the machine while it runs: its link and its cgroup, by the number in its addresses.
fn traces(number: u8) -> Vec<PathBuf> {
    let cgroup = format!("claviger-lab-{number}");
    let mut places = vec![Path::new("/sys/class/net").join(format!("claviger{number}"))];
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"] {
        places.push(Path::new(root).join(&cgroup));
    }
    places.retain(|place| place.exists());
    places
}

#[test]
#[ignore = "two nodes take 2 GB and half a minute; `tests/run long` runs it"]
fn two_nodes_run_pods_side_by_side_and_leave_nothing_behind() {
    let Some(first) = Node::start() else { return };
    let Some(second) = Node::start() else { return };
    let numbers = [&first, &second].map(|node| node.machine().octets()[1]);
    assert_ne!(numbers[0], numbers[1]);
    runs_a_pod(&first);
    runs_a_pod(&second);
    assert!(numbers.iter().all(|number| traces(*number).len() >= 2), "{numbers:?}");
    drop(first);
    second.cluster().kubectl(&["get", "--raw", "/readyz"]).expect_success();
    drop(second);
    assert_eq!(numbers.map(traces), [Vec::<PathBuf>::new(), Vec::new()]);
}

#[test]
fn a_dropped_server_leaves_no_process_and_no_folder() {
    let Some(vault) = Vault::start_tls() else { return };
    let (pid, ca_file) = (vault.pid(), vault.ca_file().unwrap());
    assert!(Path::new(&format!("/proc/{pid}")).exists() && ca_file.exists());
    vault.pause();
    drop(vault);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!ca_file.parent().unwrap().exists());
}

#[test]
fn a_program_the_lab_does_not_know_is_reported_with_its_remedy() {
    let missing = lab::require("no-such-server").unwrap_err().to_string();
    assert!(missing.contains("no-such-server") && missing.contains("tests/lab/build"), "{missing}");
}
