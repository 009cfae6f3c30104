//! A person suspends a rotation of two replicas on the real Vault, and resumes it.

use crate::{
    rig::{Agent, PROGRAM, output, printed, until},
    rotation::{generate, plan},
};
use lab::Vault;
use serde_json::{Value, json};
use std::process::Command;

#[test]
fn a_suspended_rotation_begins_no_run_on_any_replica_until_it_is_resumed() {
    let Some(vault) = Vault::start() else { return };
    let mut settings = generate();
    settings["missed"] = json!({"max_age": "5s"});
    let agents: Vec<Agent> = (0..2).map(|_| plan(&vault, settings.clone()).start()).collect();
    let config = agents[0].folder().join("claviger.yaml");
    let rotation = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("rotation").args(args).arg("--config").arg(&config);
        command
    };
    let suspend = ["suspend", "webhook", "--by", "alice", "--reason", "the database moves"];
    until("a journal that is suspended", || output(&mut rotation(&suspend)).status.success().then_some(()));
    let all = || agents.iter().flat_map(Agent::events).collect::<Vec<Value>>();
    let of = |kind: &str| all().into_iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    // Its slot has passed by then, and so has the age that would have made it due without one.
    let told =
        until("its age", || of("rotation.failed.v1").into_iter().find(|event| event["reason"] == "over_age"));
    assert_eq!(told["rotation"]["cred"], "webhook");
    let newest = || {
        let metadata = vault.root().get("secret/metadata/webhook").expect_success();
        metadata["data"]["current_version"].as_u64().unwrap()
    };
    let suspended = of("rotation.suspended.v1");
    let [event] = suspended.as_slice() else { unreachable!("{suspended:#?}") };
    assert_eq!(
        (&event["rotation"]["by"], &event["rotation"]["asked"]),
        (&json!("alice"), &json!("the database moves"))
    );
    let before = newest();
    for args in [&["now", "webhook", "--reason", "leaked"][..], &suspend] {
        let refused = output(&mut rotation(args));
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{text}");
        assert!(text.contains("alice") && text.contains("the database moves"), "{text}");
    }
    let status: Value = serde_json::from_str(&printed(&mut rotation(&["status", "--json"]))).unwrap();
    let status = &status["rotations"][0]["status"];
    assert_eq!((&status["suspended"]["by"], &status["phase"]), (&json!("alice"), &json!("idle")));
    for args in [&["status"][..], &["plan", "--journal"]] {
        let text = printed(&mut rotation(args));
        assert!(text.contains("by alice: the database moves"), "{text}");
    }
    let metrics = agents[0].health("/metrics").text;
    for line in
        ["rotation_suspended{rotation=\"webhook\"} 1", "rotation_max_age_seconds{rotation=\"webhook\"} 5"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_eq!((newest(), of("rotation.taken_over.v1").len()), (before, 0), "nothing has begun");
    let said = printed(&mut rotation(&["resume", "webhook", "--by", "bob", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["state"], "resumed");
    agents[1].generation("webhook", before + 1);
    let resumed = until("it on record", || of("rotation.resumed.v1").pop());
    assert_eq!(resumed["rotation"]["by"], "bob");
    let over_age = of("rotation.failed.v1").iter().filter(|event| event["reason"] == "over_age").count();
    assert_eq!(over_age, 1, "one replica tells it, once");
}
