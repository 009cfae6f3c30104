//! Members of a group that are due at the same moment keep their distance.

use crate::{
    rig::until,
    rotation::{generate, plan},
};
use lab::Vault;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// What the identity of this test may do.
const POLICY: &str = r#"
path "secret/data/*" { capabilities = ["read", "create", "update"] }
path "secret/metadata/*" { capabilities = ["read", "update", "list", "delete"] }
path "secret/delete/*" { capabilities = ["update"] }
"#;
const GAP: Duration = Duration::from_secs(2);

/// When whose run began, by what members write for each other.
fn began(vault: &Vault) -> Vec<(jiff::Timestamp, String)> {
    let one = |version: u64| {
        let read = vault.root().get(&format!("secret/data/rotation/groups/hooks?version={version}"));
        let last = (read.status == 200).then(|| read.expect_success()["data"]["data"]["last"].clone())?;
        Some((last["at"].as_str().unwrap().parse().unwrap(), last["by"].as_str().unwrap().to_owned()))
    };
    (1..).map_while(one).collect()
}

#[test]
fn two_members_of_a_group_that_are_due_at_once_keep_their_distance() {
    let Some(vault) = Vault::start() else { return };
    let mut first = generate();
    first["group"] = json!({"name": "hooks", "min_gap": "2s"});
    let mut second = first.clone();
    second["path"] = json!("secret/other");
    let mut plan = plan(&vault, first);
    plan.config["rotations"]["other"] = second;
    plan.secret("other", json!({"kind": "kv", "path": "secret/other", "refresh": "1h"}));
    vault.root().put("sys/policies/acl/ci-read", &json!({"policy": POLICY})).expect_success();
    vault.root().post("secret/data/other", &json!({"data": {"key": "first"}})).expect_success();
    let agent = plan.start();
    for name in ["webhook", "other"] {
        agent.generation(name, 2);
    }
    let runs = until("both on record", || {
        let events = agent.events();
        let promoted = events.iter().filter(|event| event["type"] == "rotation.promoted.v1");
        let runs: Vec<Value> = promoted.map(|event| event["rotation"].clone()).collect();
        let names: BTreeSet<&str> = runs.iter().map(|run| run["cred"].as_str().unwrap()).collect();
        (names.len() == 2).then_some(runs)
    });
    let ids: BTreeSet<&str> = runs.iter().map(|run| run["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), runs.len(), "each run has a name of its own");
    let began = began(&vault);
    assert_eq!(began.iter().map(|(_, by)| by).collect::<BTreeSet<_>>().len(), 2, "{began:?}");
    for pair in began.windows(2) {
        let apart = Duration::try_from(pair[1].0.duration_since(pair[0].0)).unwrap();
        assert!(apart >= GAP, "{began:?}");
    }
    assert!(agent.stop().events("rotation.failed.v1").is_empty());
}
