//! The configs that are rendered: each is one that the agent takes, and what the values said.

use crate::helm::{Helm, example, examples, object, of_kind, yaml};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    process::{Command, Output},
};

fn check(config: &str) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(config.as_bytes()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    // As in the pods.
    command.env("CLAVIGER_NAMESPACE", "team-a").arg("check").arg(file.path()).output().unwrap()
}

#[test]
fn the_agent_takes_every_config_of_every_example() {
    let Some(helm) = Helm::find() else { return };
    let mut taken = 0;
    for (name, values) in examples() {
        for map in of_kind(&helm.renders(&values), "ConfigMap") {
            let Some(config) = map["data"]["config.yaml"].as_str() else { continue };
            let output = check(config);
            assert!(output.status.success(), "{name}: {}\n{config}", String::from_utf8_lossy(&output.stderr));
            taken += 1;
        }
    }
    assert!(taken >= 7, "{taken}");
}

#[test]
fn a_profile_is_the_values_at_the_top_with_its_own_merged_in() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.renders(&example("full"));
    for namespace in ["team-a", "team-b"] {
        let map = objects.iter().find(|map| {
            map["metadata"]["name"] == "claviger-config-reports" && map["metadata"]["namespace"] == namespace
        });
        let config = yaml(map.unwrap()["data"]["config.yaml"].as_str().unwrap());
        assert_eq!(config["vault"]["addresses"], json!(["https://vault.vault.svc:8200"]), "of the top");
        assert_eq!(
            config["identities"],
            json!({"reports": {"method": "kubernetes", "role": "reports"}}),
            "of its own"
        );
    }
    // The top alone has no workloads: there is nothing for the label `true`.
    assert!(!objects.iter().any(|map| map["metadata"]["name"] == "claviger-config"));
}

#[test]
fn a_bare_on_in_the_values_is_the_word_and_not_a_truth_value() {
    let Some(helm) = Helm::find() else { return };
    for (word, found) in [("on", "on"), ("off", "off"), ("required", "required")] {
        let values = example("minimal").replace("config:\n", &format!("config:\n  sandbox: {word}\n"));
        let objects = helm.renders(&values);
        let config =
            object(&objects, "ConfigMap", "claviger-config")["data"]["config.yaml"].as_str().unwrap();
        assert_eq!(yaml(config)["sandbox"], Value::from(found), "{config}");
        assert!(check(config).status.success());
    }
}

#[test]
fn certificates_in_the_values_stand_beside_the_config() {
    let Some(helm) = Helm::find() else { return };
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let values = example("minimal").replace("configMapName: vault-ca", &format!("pem: {pem:?}"));
    let objects = helm.renders(&values);
    assert_eq!(object(&objects, "ConfigMap", "claviger-config")["data"]["vault-ca.pem"], pem);
}
