//! Leases, made on both servers by the PKI engine with `generate_lease`; renewable ones by the double's database engine,
//! since a real database is heavy (the live suite has one).

use devvault::Kind;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, Side};

contract!(
    a_certificate_with_a_lease,
    a_certificate_without_a_lease,
    certificates_that_are_refused,
    a_lease_is_looked_up_and_revoked,
    a_lease_that_is_not_renewable_is_refused,
    leases_that_are_not_there,
    a_lease_dies_with_its_token,
    a_lease_dies_with_the_parent_of_its_token,
    revoking_a_prefix_ends_its_leases,
    a_database_role_without_its_connection,
);

/// A PKI mount with a root and the roles `leased` and `plain`.
async fn pki(bench: &Bench) -> String {
    let mount = bench.mount("pki", json!({ "type": "pki" })).await;
    let root = json!({ "common_name": "tests", "key_type": "ec", "key_bits": 256 });
    let made = bench.prepare(&format!("{mount}/root/generate/internal"), root).await;
    assert!(made.text("/data/certificate").starts_with("-----BEGIN CERTIFICATE-----"));
    for (role, leased) in [("leased", true), ("plain", false)] {
        let settings = json!({
            "allowed_domains": "internal", "allow_subdomains": true, "ttl": "60s", "generate_lease": leased,
            "key_type": "ec", "key_bits": 256,
        });
        bench.prepare(&format!("{mount}/roles/{role}"), settings).await;
    }
    mount
}

async fn issue(bench: &Bench, mount: &str, role: &str, token: &str) -> Answer {
    bench.post(&format!("{mount}/issue/{role}"), token, json!({ "common_name": "web.internal" })).await
}

async fn lookup(bench: &Bench, id: &str) -> Answer {
    bench.post("sys/leases/lookup", &bench.root, json!({ "lease_id": id })).await
}

/// A token that may issue and make children.
async fn issuer(bench: &Bench, mount: &str) -> String {
    let text = format!(
        r#"path "{mount}/issue/*" {{ capabilities = ["create", "update"] }}
           path "auth/token/create" {{ capabilities = ["update"] }}"#
    );
    let policy = bench.policy("issuer", &text).await;
    bench.token(json!({ "policies": [policy], "ttl": "600s" })).await.token()
}

async fn a_certificate_with_a_lease(bench: &Bench) {
    let mount = pki(bench).await;
    let made = issue(bench, &mount, "leased", &bench.root).await.is(200);
    let id = made.text("/lease_id");
    let name = id.strip_prefix(&format!("{mount}/issue/leased/")).expect("the lease is named by its path");
    assert_eq!(name.len(), 24);
    assert!((58..=60).contains(&made.number("/lease_duration")), "{made:?}");
    assert_eq!(made.body["renewable"], false);
    assert_eq!(made.text("/mount_type"), "pki");
}

async fn a_certificate_without_a_lease(bench: &Bench) {
    let mount = pki(bench).await;
    let made = issue(bench, &mount, "plain", &bench.root).await.is(200);
    assert_eq!((made.text("/lease_id"), made.number("/lease_duration")), (String::new(), 0));
    assert!(made.text("/data/certificate").starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(made.text("/data/issuing_ca").ends_with("\n-----END CERTIFICATE-----"));
    assert!(made.text("/data/private_key").contains("PRIVATE KEY-----"));
    assert_eq!(made.body["data"]["ca_chain"].as_array().unwrap().len(), 1);
    assert_eq!(made.text("/data/serial_number").split(':').count(), 20);
    assert!(made.number("/data/expiration") > 1_700_000_000);
}

async fn certificates_that_are_refused(bench: &Bench) {
    let mount = pki(bench).await;
    let root = bench.root.as_str();
    issue(bench, &mount, "nobody", root).await.fails(400, &["unknown role: nobody"]);
    let foreign =
        bench.post(&format!("{mount}/issue/plain"), root, json!({ "common_name": "example.org" })).await;
    foreign.fails(400, &["common name example.org not allowed by this role"]);
    let error = "the common_name field is required, or must be provided in a CSR with \"use_csr_common_name\" set to true, unless \"require_cn\" is set to false";
    bench.post(&format!("{mount}/issue/plain"), root, json!({})).await.fails(400, &[error]);
    let empty = bench.mount("pki-empty", json!({ "type": "pki" })).await;
    bench.prepare(&format!("{empty}/roles/web"), json!({ "allow_any_name": true })).await;
    let error = "1 error occurred:\n\t* could not fetch the CA certificate (was one set?): no default issuer currently configured\n\n";
    issue(bench, &empty, "web", root).await.fails(500, &[error]);
}

async fn a_lease_is_looked_up_and_revoked(bench: &Bench) {
    let mount = pki(bench).await;
    let id = issue(bench, &mount, "leased", &bench.root).await.text("/lease_id");
    let found = lookup(bench, &id).await.is(200);
    assert_eq!((found.text("/data/id"), found.text("/mount_type")), (id.clone(), "system".into()));
    assert_eq!(
        (&found.body["data"]["last_renewal"], &found.body["data"]["renewable"]),
        (&Value::Null, &Value::Bool(false))
    );
    assert!((57..=60).contains(&found.number("/data/ttl")));
    assert!(found.text("/data/issue_time").ends_with('Z') && found.text("/data/expire_time").ends_with('Z'));
    bench.post("sys/leases/revoke", &bench.root, json!({ "lease_id": id })).await.is(204);
    lookup(bench, &id).await.fails(400, &["invalid lease"]);
    bench.post("sys/leases/revoke", &bench.root, json!({ "lease_id": id })).await.is(204);
}

async fn a_lease_that_is_not_renewable_is_refused(bench: &Bench) {
    let mount = pki(bench).await;
    let id = issue(bench, &mount, "leased", &bench.root).await.text("/lease_id");
    let renewed = bench.post("sys/leases/renew", &bench.root, json!({ "lease_id": id })).await;
    renewed.fails(400, &["lease is not renewable"]);
}

async fn leases_that_are_not_there(bench: &Bench) {
    let root = bench.root.as_str();
    let id = json!({ "lease_id": "nonsense" });
    bench.post("sys/leases/lookup", root, id.clone()).await.fails(400, &["invalid lease"]);
    bench.post("sys/leases/renew", root, id.clone()).await.fails(400, &["lease not found"]);
    bench.post("sys/leases/revoke", root, id).await.is(204);
    bench.post("sys/leases/renew", root, json!({})).await.fails(400, &["lease_id must be specified"]);
    bench.post("sys/leases/revoke", root, json!({})).await.fails(400, &["lease_id must be specified"]);
}

/// The real server ends the leases of a dead token in the background, within a moment.
async fn is_gone(bench: &Bench, id: &str) {
    bench.until_posted(|answer| answer.status != 200, "sys/leases/lookup", json!({ "lease_id": id })).await;
    lookup(bench, id).await.fails(400, &["invalid lease"]);
}

async fn a_lease_dies_with_its_token(bench: &Bench) {
    let mount = pki(bench).await;
    let token = issuer(bench, &mount).await;
    let id = issue(bench, &mount, "leased", &token).await.is(200).text("/lease_id");
    bench.post("auth/token/revoke-self", &token, json!({})).await.is(204);
    is_gone(bench, &id).await;
}

async fn a_lease_dies_with_the_parent_of_its_token(bench: &Bench) {
    let mount = pki(bench).await;
    let parent = issuer(bench, &mount).await;
    let child = bench.post("auth/token/create", &parent, json!({ "ttl": "300s" })).await.is(200).token();
    let id = issue(bench, &mount, "leased", &child).await.is(200).text("/lease_id");
    bench.post("auth/token/revoke", &bench.root, json!({ "token": parent })).await.is(204);
    is_gone(bench, &id).await;
}

async fn revoking_a_prefix_ends_its_leases(bench: &Bench) {
    let mount = pki(bench).await;
    let id = issue(bench, &mount, "leased", &bench.root).await.text("/lease_id");
    bench.list(&format!("sys/leases/lookup/{mount}/issue/leased"), &bench.root).await.is(200);
    bench.post(&format!("sys/leases/revoke-prefix/{mount}"), &bench.root, json!({})).await.is(204);
    is_gone(bench, &id).await;
}

async fn a_database_role_without_its_connection(bench: &Bench) {
    let mount = bench.mount("database", json!({ "type": "database" })).await;
    bench.get(&format!("{mount}/creds/nobody"), &bench.root).await.fails(400, &["unknown role: nobody"]);
    let role =
        json!({ "db_name": "orders", "creation_statements": "x", "default_ttl": "60s", "max_ttl": "300s" });
    bench.prepare(&format!("{mount}/roles/app"), role).await;
    let read = bench.get(&format!("{mount}/roles/app"), &bench.root).await.is(200);
    assert_eq!((read.number("/data/default_ttl"), read.number("/data/max_ttl")), (60, 300));
    let error = "1 error occurred:\n\t* failed to find entry for connection with name: \"orders\"\n\n";
    bench.get(&format!("{mount}/creds/app"), &bench.root).await.fails(500, &[error]);
}

/// The live suite asserts the same on a real database.
#[tokio::test]
async fn a_database_lease_of_the_double_is_renewed_and_cut() {
    let bench = Bench::double().await;
    let Side::Double { vault, .. } = &bench.side else { panic!("the double") };
    vault.mount("database", Kind::Database);
    bench.prepare("database/config/orders", json!({ "plugin_name": "postgresql-database-plugin" })).await;
    let role =
        json!({ "db_name": "orders", "creation_statements": "x", "default_ttl": "60s", "max_ttl": "300s" });
    bench.prepare("database/roles/app", role).await;
    let made = bench.get("database/creds/app", &bench.root).await.is(200);
    assert_eq!((made.number("/lease_duration"), &made.body["renewable"]), (60, &Value::Bool(true)));
    let renewed = json!({ "lease_id": made.text("/lease_id"), "increment": 3600 });
    let renewed = bench.post("sys/leases/renew", &bench.root, renewed).await.is(200);
    assert!((298..=300).contains(&renewed.number("/lease_duration")), "{renewed:?}");
    assert_eq!((renewed.text("/lease_id"), &renewed.body["data"]), (made.text("/lease_id"), &Value::Null));
}
