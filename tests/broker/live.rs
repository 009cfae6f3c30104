//! The same on the real Vault: a key that is rotated there is used from the next call on.

use crate::{
    rig::{Plan, Rig},
    server::{Server, acceptor, certify, say},
    support::{LIMIT, Scene},
};
use serde_json::json;
use std::time::Duration;

const OLD: &str = "sk_live_the-old-one-of-real-vault";
const NEW: &str = "sk_live_the-new-one-of-real-vault";

/// Puts the key into the real Vault, and gives the config's section that reads it with the root token.
fn prepare(vault: &lab::Vault, scene: &Scene, key: &str) -> (String, String) {
    vault.root().post("secret/data/broker", &json!({"data": {"api_key": key}})).expect_success();
    let policy = "path \"secret/data/*\" { capabilities = [\"read\"] }\npath \"secret/metadata/*\" { capabilities = [\"read\"] }";
    token(vault, scene, policy)
}

/// The config's sections `vault` and `identities`: a token with this policy.
pub(crate) fn token(vault: &lab::Vault, scene: &Scene, policy: &str) -> (String, String) {
    vault.root().put("sys/policies/acl/broker", &json!({"policy": policy})).expect_success();
    let token = vault
        .root()
        .post("auth/token/create", &json!({"policies": ["broker"], "period": "1h"}))
        .expect_success();
    let file = scene.path("token");
    std::fs::write(&file, token["auth"]["client_token"].as_str().unwrap()).unwrap();
    let ca = vault.ca_file().map(|ca| format!(", ca_file: \"{}\"", ca.display())).unwrap_or_default();
    let vault = format!("{{addresses: [\"{}\"]{ca}}}", vault.url());
    (vault, format!("{{reports: {{method: token_file, token_file: \"{}\"}}}}", file.display()))
}

#[test]
fn a_key_that_is_rotated_in_the_real_vault_is_used_from_the_next_call_on() {
    let Some(vault) = lab::Vault::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (rig, vault) = runtime.block_on(async {
        let scene = Scene::new().await;
        let (address, identities) = prepare(&vault, &scene, OLD);
        certify(&scene.path(""), &[("server", "127.0.0.1")]);
        let server = Server::start(Some(acceptor(&scene.path(""), "server")), |seen| {
            let is_old = seen.header("authorization") == Some(&*format!("Bearer {OLD}"));
            if is_old { say(200, &[], "old") } else { say(401, &[], "") }
        })
        .await;
        let plan = Plan {
            secrets: Some(
                "{stripe: {identity: reports, kind: kv, path: secret/broker, field: api_key, refresh: 1h}}",
            ),
            ..Plan::default()
        };
        let mut config = crate::rig::config(&scene, &server, &plan);
        (config.vault, config.identities) = (address, identities);
        let agent = scene.start(&config).await;
        let rig = Rig { scene, server, agent };
        assert_eq!(rig.get("/a").await.text(), "old");
        rig.server.obey(|seen| {
            let is_new = seen.header("authorization") == Some(&*format!("Bearer {NEW}"));
            if is_new { say(200, &[], "new") } else { say(401, &[], "") }
        });
        (rig, vault)
    });
    vault.root().post("secret/data/broker", &json!({"data": {"api_key": NEW}})).expect_success();
    runtime.block_on(async {
        let reply = tokio::time::timeout(LIMIT.max(Duration::from_secs(30)), rig.get("/a")).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "new"));
        let intents = rig.events("intent", 3).await;
        assert_eq!(intents[2]["resource"]["version"], 2);
    });
}
