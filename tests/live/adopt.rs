//! On the real Vault: what a person wrote while a run was under way is given to the system, when a person says so and not before.

use crate::{
    credential::{plan, two_slot, userpass},
    rig::{PROGRAM, output, until},
};
use lab::Vault;
use serde_json::json;
use std::process::Command;

#[test]
fn what_a_person_wrote_is_given_to_the_system_by_one_command() {
    let Some(vault) = Vault::start() else { return };
    let driver = json!({"vault": {
        "set": {"path": "auth/userpass/users/{user}/password", "data": {"password": "{value}"}},
        "test": {"path": "auth/userpass/login/{user}", "data": {"password": "{value}"}},
    }});
    let mut rotation = two_slot(driver);
    rotation["schedule"] = json!({"every": "1h"});
    userpass(&vault);
    let agent = plan(&vault, rotation).start();
    let root = vault.root();
    let journal = || root.get("secret/data/rotation/orders");
    until("a journal", || (journal().status == 200).then_some(()));
    let human = json!({"data": {"username": "orders_a", "password": "human"}});
    root.post("secret/data/orders", &human).expect_success();
    let login = |password: &str| {
        root.post("auth/userpass/login/orders_a", &json!({"password": password})).status == 200
    };
    // A run that found it instead of what was there when it began.
    until("a journal that nobody wrote meanwhile", || {
        let mut read = journal().expect_success()["data"].clone();
        let open = &mut read["data"]["journal"];
        for (key, value) in [
            ("phase", json!("orphaned")),
            ("orphaned", json!("conflict")),
            ("rotation_id", json!("0123456789abcdef")),
            ("slot", open["settled"].clone()),
            ("slot_time", json!("2026-11-26T03:00:00+00:00")),
            ("before", json!(1)),
            ("candidates", json!([{"n": 1, "value": "machine", "refused": false}])),
        ] {
            open[key] = value;
        }
        let body = json!({"options": {"cas": read["metadata"]["version"]}, "data": read["data"]});
        (root.post("secret/data/rotation/orders", &body).status == 200).then_some(())
    });
    assert!(login("first") && !login("human"));
    let config = agent.folder().join("claviger.yaml");
    let adopt = ["rotation", "unorphan", "orders", "--adopt", "--by", "alice", "--config"];
    let done = output(Command::new(PROGRAM).args(adopt).arg(config));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let repaired = agent.event("rotation.repaired.v1", |_| true);
    assert_eq!(repaired["rotation"]["id"], "0123456789abcdef");
    assert!(login("human") && !login("first"));
    let said = agent.event("rotation.adopted.v1", |_| true);
    assert_eq!(said["rotation"]["by"], "alice");
    let newest = root.get("secret/data/orders").expect_success();
    assert_eq!(
        (&newest["data"]["metadata"]["version"], &newest["data"]["data"]),
        (&json!(2), &human["data"])
    );
    // Whoever asks gets it at once, and not in an hour.
    assert_eq!(agent.generation("orders", 2)["data"]["password"], "human");
    until("an idle journal", || {
        let journal = journal().expect_success();
        (journal["data"]["data"]["journal"]["phase"] == "idle").then_some(())
    });
}
