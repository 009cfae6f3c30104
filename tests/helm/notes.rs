//! What `helm install` says: commands for Vault, which are run here on a real one as they stand.

use crate::helm::{CHART, Helm, example};
use lab::Vault;
use serde_json::json;
use std::process::Command;

/// The notes of a release of these values.
fn notes(helm: &Helm, values: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values).unwrap();
    let line = ["install", "claviger", CHART, "--dry-run=client", "--namespace", "team-a", "--values"];
    let said = helm.prints(&[&line[..], &[file.path().to_str().unwrap()]].concat());
    said.split_once("\nNOTES:\n").unwrap().1.to_owned()
}

#[test]
fn the_notes_say_the_labels_and_name_what_only_a_person_knows() {
    let Some(helm) = Helm::find() else { return };
    let full = notes(&helm, &example("full"));
    for words in [
        "claviger.io/inject: \"reports\"",
        "export VAULT_ADDR=https://vault.vault.svc:8200",
        "helm test claviger --namespace team-a",
    ] {
        assert!(full.contains(words), "{words}\nis not in\n{full}");
    }
    let minimal = notes(&helm, &example("minimal"));
    assert!(minimal.contains("bound_service_account_names=…the ServiceAccounts of these pods…"), "{minimal}");
    let library = notes(&helm, &example("library"));
    assert!(
        library.contains("Nothing is injected") && library.contains("which you keep yourself"),
        "{library}"
    );
}

#[test]
fn the_commands_of_the_notes_can_be_pasted_and_make_roles_and_policies_of_exactly_these_values() {
    let Some(helm) = Helm::find() else { return };
    let Some(vault) = Vault::start() else { return };
    let notes = notes(&helm, &example("full"));
    let mut script = format!("set -e\nvault() {{ {} \"$@\"; }}\n", vault.program().display());
    for part in notes.split("to be pasted as it stands:\n").skip(1) {
        let end = part.find("\nWhat Vault must know").or(part.find("\nCheck the config")).unwrap();
        let commands = part[..end].lines().filter(|line| !line.starts_with("export VAULT_ADDR="));
        script.extend(commands.flat_map(|line| [line, "\n"]));
    }
    let output = Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("VAULT_ADDR", vault.url())
        .env("VAULT_TOKEN", vault.root_token())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));

    let read = |path: &str| vault.root().get(path).expect_success();
    let role = read("auth/kubernetes/role/reports")["data"].clone();
    assert_eq!(role["audience"], "vault");
    assert_eq!(role["bound_service_account_names"], json!(["claviger-web"]));
    assert_eq!(role["bound_service_account_namespaces"], json!(["team-a", "team-b"]));
    assert_eq!(role["token_policies"], json!(["reports"]));
    let role = read("auth/jwt/role/nightly")["data"].clone();
    let subjects = ["a:claviger-nightly", "a:claviger-once", "b:claviger-nightly", "b:claviger-once"];
    let subjects = subjects.map(|subject| format!("system:serviceaccount:team-{subject}"));
    assert_eq!(
        (&role["bound_audiences"], &role["bound_claims"]["sub"]),
        (&json!(["vault"]), &json!(subjects))
    );
    for (policy, path) in [
        ("reports", "secret/data/payments/stripe"),
        ("reports", "secret/metadata/payments/stripe"),
        ("reports", "database/creds/orders"),
        ("nightly", "auth/token/create"),
        ("nightly", "pki/issue/web"),
    ] {
        let text = read(&format!("sys/policies/acl/{policy}"))["data"]["policy"].as_str().unwrap().to_owned();
        assert!(text.contains(&format!("path \"{path}\"")), "{text}");
    }
}
