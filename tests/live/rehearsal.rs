//! `rotation now --dry-run` on the real Vault and PostgreSQL: what it says is missing is what a run needs, and it changes nothing.

use crate::{
    credential::{exec, plan, two_slot},
    rig::{PROGRAM, output, until},
};
use lab::{Postgres, Vault};
use serde_json::{Value, json};
use std::process::Command;

/// The policy of `rights`, but for the words in `without`.
fn policy(rights: &[(String, Vec<String>)], without: &[&str]) -> String {
    let stanza = |(path, words): &(String, Vec<String>)| {
        let words: Vec<String> = words
            .iter()
            .filter(|word| !without.contains(&word.as_str()))
            .map(|it| format!("{it:?}"))
            .collect();
        format!("path \"{path}\" {{ capabilities = [{}] }}\n", words.join(", "))
    };
    rights.iter().map(stanza).collect()
}

fn of(said: &Value, check: &str) -> Vec<Value> {
    said["checks"].as_array().unwrap().iter().filter(|it| it["check"] == check).cloned().collect()
}

/// Each path that it names, with what is needed there.
fn rights(said: &Value) -> Vec<(String, Vec<String>)> {
    let right = |right: &Value| {
        let words = right["needs"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
        (right["path"].as_str().unwrap().to_owned(), words.collect())
    };
    of(said, "right").iter().map(right).collect()
}

#[test]
fn a_dry_run_names_each_right_that_a_run_needs_asks_the_system_and_changes_nothing() {
    let (Some(vault), Some(postgres)) = (Vault::start(), Postgres::start()) else { return };
    postgres.query("create role orders_a login password 'first'; create role orders_b").unwrap();
    let mut rotation = two_slot(json!(null));
    (rotation["schedule"], rotation["group"]) =
        (json!({"every": "1h"}), json!({"name": "all", "min_gap": "1s"}));
    let mut plan = plan(&vault, rotation);
    exec(&mut plan, &postgres);
    let agent = plan.start();
    let config = agent.folder().join("claviger.yaml");
    let rehearse = || {
        let mut command = Command::new(PROGRAM);
        let ran = output(
            command.args(["rotation", "now", "orders", "--dry-run", "--json", "--config"]).arg(&config),
        );
        let text = String::from_utf8(ran.stdout).unwrap();
        let said: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| unreachable!("{text}{}", String::from_utf8_lossy(&ran.stderr)));
        (ran.status.code(), said)
    };
    let journal = || vault.root().get("secret/data/rotation/orders");
    until("a journal", || (journal().status == 200).then_some(()));
    let before = journal().expect_success()["data"].clone();
    let (code, said) = until("a rehearsal after min_interval", || {
        Some(rehearse()).filter(|(_, said)| said["result"] == "would_begin")
    });
    assert_eq!(code, Some(0), "{said:#}");
    assert!(of(&said, "target")[0]["says"].as_str().unwrap().contains("lets orders_a in"), "{said:#}");
    let steps = said["steps"].as_array().unwrap();
    let is_there = |part: &str| steps.iter().any(|step| step["does"].as_str().unwrap().contains(part));
    for part in ["give orders_b the new value", "log in as orders_b", "version 2", "take orders_a out of use"]
    {
        assert!(is_there(part), "{part}: {said:#}");
    }
    // What it asks for is all that a run needs: with that alone the agent rotates to the end.
    let rights = rights(&said);
    assert!(rights.len() > 5, "{rights:?}");
    let grant = |without: &[&str]| {
        let policy = json!({"policy": policy(&rights, without)});
        vault.root().put("sys/policies/acl/ci-read", &policy).expect_success();
    };
    // Vault takes a changed policy at once.
    grant(&["update"]);
    let (code, said) = rehearse();
    assert_eq!((code, &said["result"]), (Some(1), &json!("blocked")), "{said:#}");
    let blocked: Vec<Value> = of(&said, "right").into_iter().filter(|it| it["state"] == "blocked").collect();
    assert!(
        blocked.iter().any(|it| it["remedy"].as_str().unwrap().contains("secret/data/orders")),
        "{said:#}"
    );
    assert_eq!(journal().expect_success()["data"], before, "nothing was changed");
    assert!(postgres.can_login("orders_a", "first"));
    grant(&[]);
    let mut now = Command::new(PROGRAM);
    let asked =
        output(now.args(["rotation", "now", "orders", "--reason", "a test", "--config"]).arg(&config));
    assert!(asked.status.success());
    agent.generation("orders", 2);
    agent.event("rotation.revoked.v1", |_| true);
    assert!(agent.stop().events("rotation.failed.v1").is_empty());
}
