//! What becomes of requests that were over long ago.

use crate::{
    rig::until,
    scene::{Scene, pending},
};
use serde_json::{Value, json};

/// Made in 2018, and over an hour later.
const OLD: &str = "5b000000-0123456789ab";

fn names(scene: &Scene, folder: &str) -> Vec<String> {
    let list = scene.vault.root().get(&format!("secret/metadata/approvals{folder}?list=true"));
    if list.status != 200 {
        return Vec::new();
    }
    let keys = list.expect_success()["data"]["keys"].clone();
    keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
}

/// The request of `id`, as it would be if it had been made as `made` and could be answered until `until`.
fn again(scene: &Scene, id: &str, made: &str, until: &str) {
    let mut request = scene.stored(&format!("{id}/request"));
    let mut ticket: Value = serde_json::from_str(request["ticket"].as_str().unwrap()).unwrap();
    ticket["not_after"] = json!(until);
    request["ticket"] = json!(ticket.to_string());
    scene.store(&format!("{made}/request"), &request);
    scene.store(&format!("{made}/uses"), &json!({"granted": until, "used": 1}));
    scene.store(&format!("open/{made}"), &json!({"id": made, "not_after": until}));
}

#[test]
fn requests_that_were_over_a_week_ago_are_deleted_and_no_others() {
    let Some(scene) = Scene::start() else { return };
    let root = scene.vault.root();
    let agent = scene.plan(json!({})).start();
    let id = pending(&agent);
    drop(agent);
    again(&scene, &id, OLD, "2018-05-19T12:00:00.000000Z");
    // As old, and still open.
    again(&scene, &id, "5b000001-0123456789ab", "2199-01-01T00:00:00.000000Z");
    let policy = root.get("sys/policies/acl/ci-read").expect_success()["data"]["policy"].clone();
    let may = r#"path "secret/metadata/approvals" { capabilities = ["list"] }
        path "secret/metadata/approvals/*" { capabilities = ["list", "read", "delete"] }"#;
    let policy = format!("{}\n{may}", policy.as_str().unwrap());
    root.put("sys/policies/acl/ci-read", &json!({"policy": policy})).expect_success();
    let agent = scene.plan(json!({})).start();
    until("the old one to be gone", || {
        let left = [names(&scene, ""), names(&scene, "/open")].concat();
        left.iter().all(|name| !name.contains(OLD)).then_some(())
    });
    agent.says("old requests for a person's yes are deleted");
    let left = names(&scene, "");
    for kept in [id.as_str(), "5b000001-0123456789ab"] {
        assert!(left.contains(&format!("{kept}/")), "{kept} in {left:?}");
    }
    assert_eq!(names(&scene, "/open").len(), 2);
    assert_eq!(pending(&agent), id);
}
