//! Logging in at the real Vault: approle, jwt, cert, a token from a file; each one call.

use crate::{
    calls, pem,
    rig::{self, Plan, until, vault_cli},
};
use lab::Vault;
use serde_json::{Value, json};
use std::path::Path;

const APPROLE: &str = "auth/approle/login";
const UNWRAP: &str = "sys/wrapping/unwrap";

#[test]
fn a_login_by_approle_is_one_call_and_the_secret_comes_with_two_more() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    plan.config["secrets"]["stripe"]["refresh"] = json!("1h");
    let agent = plan.start();
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    agent.ready();
    let paths: Vec<String> = calls::ours(&audit).into_iter().map(|call| call.path).collect();
    assert_eq!(paths, [APPROLE, "sys/internal/ui/mounts/secret/stripe", "secret/data/stripe"]);
}

/// An AppRole whose secret id is behind `wrapping`.
fn wrapped(plan: &mut Plan, vault: &Vault, wrapping: &str) {
    let role_id = plan.file("role_id", &rig::role_id(vault));
    let secret_id = plan.file("secret_id", wrapping);
    plan.identity(json!({
        "method": "approle", "role_id_file": role_id, "secret_id_file": secret_id, "secret_id_wrapped": true,
        "wrapped_path": "auth/approle/role/app/secret-id",
    }));
}

#[test]
fn a_wrapped_secret_id_is_unwrapped_once_and_serves_every_later_login() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    // So short that a new login is due every three seconds.
    rig::make_approle(&vault, json!({"token_ttl": "4s", "token_max_ttl": "5s"}));
    let path = "auth/approle/role/app/secret-id";
    let wrapping = vault_cli(&vault, &["write", "-f", "-wrap-ttl=60s", "-field=wrapping_token", path]);
    wrapped(&mut plan, &vault, &wrapping);
    plan.stripe(&vault);
    let agent = plan.start();
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    until("a second login", || (calls::logged_in(&audit, APPROLE).len() >= 2).then_some(()));
    assert_eq!((calls::count(&audit, "sys/wrapping/lookup"), calls::count(&audit, UNWRAP)), (1, 1));
}

#[test]
fn a_secret_id_that_somebody_wrapped_again_is_refused_and_stays_wrapped() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    rig::make_approle(&vault, json!({}));
    // What a thief would do who has read the secret id and wants nobody to notice.
    let wrapping = vault_cli(
        &vault,
        &["write", "-wrap-ttl=60s", "-field=wrapping_token", "sys/wrapping/wrap", "secret_id=x"],
    );
    wrapped(&mut plan, &vault, &wrapping);
    plan.stripe(&vault);
    let agent = plan.start();
    let said = agent.says("login failed").to_string();
    for part in ["sys/wrapping/wrap", "auth/approle/role/app/secret-id", "find out who had this one"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(agent.event("auth.failed.v1", |_| true)["reason"], "credential_file");
    assert_eq!((calls::count(&audit, UNWRAP), calls::count(&audit, APPROLE)), (0, 0));
    // Before it is unwrapped here: the agent tries again, and would then find nothing.
    let refused = agent.read("stripe");
    assert_eq!((refused.status, &refused.json()["reason"]), (503, &json!("credential_file")));
    assert_eq!(vault_cli(&vault, &["unwrap", "-field=secret_id", &wrapping]), "x");
}

/// Vault accepts what `public` can check, for the role `app`.
fn accept_jwts(vault: &Vault, public: &str) {
    let root = vault.root();
    root.post("sys/auth/jwt", &json!({"type": "jwt"})).expect_success();
    root.post("auth/jwt/config", &json!({"jwt_validation_pubkeys": [public]})).expect_success();
    let role = json!({
        "role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub", "token_policies": ["reports"],
        "token_ttl": "10m",
    });
    root.post("auth/jwt/role/app", &role).expect_success();
}

fn claims() -> Value {
    json!({"iss": "live-tests", "sub": "job-7", "aud": "vault", "iat": 1_760_000_000, "exp": 4_102_444_800_u64})
}

fn with_jwt(vault: &Vault, signer: &str) -> Plan {
    let mut plan = Plan::new(vault);
    let public = pem::key_pair(plan.folder(), "issuer");
    pem::key_pair(plan.folder(), "stranger");
    accept_jwts(vault, &public);
    let token = plan.file("jwt", &pem::jwt(plan.folder(), signer, &claims()));
    plan.identity(json!({"method": "jwt", "role": "app", "token_file": token}));
    plan.stripe(vault);
    plan
}

#[test]
fn a_jwt_of_the_issuer_that_vault_knows_logs_in() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let agent = with_jwt(&vault, "issuer").start();
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    assert_eq!(calls::logged_in(&audit, "auth/jwt/login").len(), 1);
    let login = agent.event("auth.login.v1", |_| true);
    assert_eq!((&login["vault"]["role"], &login["vault"]["addr"]), (&json!("app"), &json!(vault.url())));
}

#[test]
fn a_jwt_of_another_key_is_refused_and_not_tried_in_a_loop() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let agent = with_jwt(&vault, "stranger").start();
    let failed = agent.event("auth.failed.v1", |_| true);
    assert_eq!((&failed["reason"], &failed["vault"]["status"]), (&json!("vault_invalid"), &json!(400)));
    let again = rig::again_in_ms(&agent.says("login failed"));
    assert!(again >= 30_000, "{again}");
    let unready = agent.health("/readyz");
    assert!(unready.status == 503 && unready.text.contains("no_token"), "{unready:?}");
    assert_eq!(calls::count(&audit, "auth/jwt/login"), 1);
}

/// A Vault with TLS that accepts the certificate of `reports`, and a claviger that shows the one of `shown`.
fn with_certificate(vault: &Vault, shown: &str) -> Plan {
    let mut plan = Plan::new(vault);
    let folder = plan.folder().to_owned();
    let (known, _) = pem::client(&folder, "reports");
    let root = vault.root();
    root.post("sys/auth/cert", &json!({"type": "cert"})).expect_success();
    let text = std::fs::read_to_string(known).unwrap();
    let role = json!({"certificate": text, "token_policies": "reports", "token_ttl": "10m"});
    root.post("auth/cert/certs/app", &role).expect_success();
    let (cert, key) = certificate(&folder, shown);
    plan.config["vault"]["client_cert"] = json!({"cert_file": cert, "key_file": key});
    plan.identity(json!({"method": "cert", "role": "app"}));
    plan.stripe(vault);
    plan
}

fn certificate(folder: &Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    if name == "reports" {
        return (folder.join("reports.crt"), folder.join("reports.key"));
    }
    pem::client(folder, name)
}

#[test]
fn a_client_certificate_that_vault_knows_logs_in_over_tls() {
    let Some(vault) = Vault::start_tls() else { return };
    let audit = vault.audit_file();
    let agent = with_certificate(&vault, "reports").start();
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    assert_eq!(calls::logged_in(&audit, "auth/cert/login").len(), 1);
}

#[test]
fn another_client_certificate_is_refused() {
    let Some(vault) = Vault::start_tls() else { return };
    let audit = vault.audit_file();
    let agent = with_certificate(&vault, "stranger").start();
    let reason = agent.event("auth.failed.v1", |_| true)["reason"].clone();
    assert!(reason == "vault_invalid" || reason == "vault_denied", "{reason}");
    assert_eq!(calls::logged_in(&audit, "auth/cert/login"), Vec::<String>::new());
}

#[test]
fn a_token_from_a_file_is_used_and_renewed_and_outlives_us() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    let made = vault.root().post("auth/token/create", &json!({"policies": ["reports"], "ttl": "6s"}));
    let made = made.expect_success();
    let token_file = plan.file("token", made["auth"]["client_token"].as_str().unwrap());
    plan.identity(json!({"method": "token_file", "token_file": token_file}));
    plan.stripe(&vault);
    let agent = plan.start();
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    assert_eq!(calls::count(&audit, "auth/token/lookup-self"), 1);
    until("a renewal", || (calls::count(&audit, "auth/token/renew-self") >= 1).then_some(()));
    assert_eq!(agent.stop().code, Some(0));
    let accessor = json!({"accessor": made["auth"]["accessor"]});
    vault.root().post("auth/token/lookup-accessor", &accessor).expect_success();
    assert_eq!(calls::count(&audit, "auth/token/revoke-self"), 0);
}
