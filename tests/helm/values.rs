//! Values: what is refused and in which words, and that values, schema and table know the same keys.

use crate::helm::{CHART, Helm, example, root, yaml};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

/// The minimal example with these values merged over it is refused, and this is said.
fn refused(helm: &Helm, values: &Value, said: &str) {
    let mut all = yaml(&example("minimal"));
    merge(&mut all, values);
    let found = helm.refuses(&all.to_string());
    assert!(found.contains(said), "{values}\nwanted: {said}\nfound: {found}");
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// The rows of a table in `wrong-values.yaml`.
fn wrong(table: &str) -> Vec<(Value, String)> {
    let all = yaml(&fs::read_to_string(root().join("tests/helm/wrong-values.yaml")).unwrap());
    let rows = all[table].as_array().unwrap();
    rows.iter().map(|row| (row["values"].clone(), row["said"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_wrong_value_is_refused_by_its_place_with_what_is_allowed() {
    let Some(helm) = Helm::find() else { return };
    for (values, said) in wrong("schema") {
        refused(&helm, &values, &said);
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_with_the_remedy() {
    let Some(helm) = Helm::find() else { return };
    for (values, said) in wrong("contradictions") {
        refused(&helm, &values, &said);
    }
}

#[test]
fn what_a_reviewer_would_send_back_is_refused_in_strict_mode() {
    let Some(helm) = Helm::find() else { return };
    for (values, said) in wrong("strict") {
        let digest = format!("sha256:{}", "0".repeat(64));
        let mut strict = json!({"strictMode": true, "image": {"digest": digest}});
        merge(&mut strict, &values);
        refused(&helm, &strict, &said);
    }
}

#[test]
fn before_kubernetes_1_36_injection_by_label_is_refused_and_the_other_ways_are_named() {
    let Some(helm) = Helm::find() else { return };
    let values = format!("{CHART}/ci/minimal-values.yaml");
    let line = ["template", "claviger", CHART, "--values", &values, "--kube-version"];
    let output = helm.run(&[&line[..], &["1.35.2"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    for words in
        ["Kubernetes v1.35.2 has no MutatingAdmissionPolicy", "claviger-lib", "deploy/kustomize/component"]
    {
        assert!(said.contains(words), "{said}");
    }
    helm.prints(&[&line[..], &["1.29.0", "--set", "injector.mode=off"]].concat());
    // Managed clusters add to the version.
    helm.prints(&[&line[..], &["v1.36.1-eks-1a2b3c"]].concat());
}

/// The keys of a schema, by their path; what is open has no keys of its own.
fn of_schema(schema: &Value, all: &Value, at: &str, found: &mut BTreeSet<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => all.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        of_schema(below, all, &path, found);
        found.insert(path);
    }
}

/// The keys of the values, down to where the schema is open.
fn of_values(values: &Value, at: &str, schema: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    let inner = schema.iter().any(|path| path.starts_with(&format!("{at}.")));
    for (key, below) in values.as_object().filter(|_| at.is_empty() || inner).into_iter().flatten() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        of_values(below, &path, schema, found);
        found.insert(path);
    }
}

#[test]
fn values_schema_and_table_know_the_same_keys() {
    let read = |name: &str| fs::read_to_string(root().join(CHART).join(name)).unwrap();
    let (values, schema) = (yaml(&read("values.yaml")), yaml(&read("values.schema.json")));
    let (mut in_schema, mut in_values) = (BTreeSet::new(), BTreeSet::new());
    of_schema(&schema, &schema, "", &mut in_schema);
    // The library's own values, which Helm puts there; and what Kubernetes says of a selector and a probe.
    in_schema.remove("claviger-lib");
    in_schema.retain(|path| !path.contains("Probe.") && !path.contains("Selector."));
    of_values(&values, "", &in_schema, &mut in_values);
    in_values.retain(|path| !path.contains("Probe."));
    assert_eq!(in_schema, in_values);

    let table = read("README.md");
    let leaves =
        in_values.iter().filter(|path| !in_values.iter().any(|other| other.starts_with(&format!("{path}."))));
    for path in leaves {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{path}` |")));
        let said = row
            .and_then(|row| row.rsplit('|').nth(1))
            .unwrap_or_else(|| panic!("{path} is not in the table"));
        assert!(said.trim().len() > 2, "{path} has no explanation");
    }
}

#[test]
fn values_of_an_earlier_release_are_still_taken() {
    let Some(helm) = Helm::find() else { return };
    for entry in fs::read_dir(root().join("tests/helm/earlier")).unwrap() {
        let values = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(helm.renders(&values).len() > 5);
    }
}
