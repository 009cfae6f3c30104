//! `claviger rotation --once`, as a CronJob runs it: the built program, on a real Vault.

use lab::Vault;
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(60);

struct Scene {
    vault: Vault,
    folder: tempfile::TempDir,
}

/// What one run said last, how it ended, and all that it said.
struct Ran {
    result: Value,
    code: Option<i32>,
    text: String,
}

impl Scene {
    fn new() -> Option<Scene> {
        let (vault, folder) = (Vault::start()?, tempfile::tempdir().unwrap());
        vault.root().post("secret/data/webhook", &json!({"data": {"key": "first"}})).expect_success();
        fs::write(folder.path().join("token"), vault.root_token()).unwrap();
        let scene = Scene { vault, folder };
        let config = json!({
            "vault": {"addresses": [scene.vault.url()]},
            "identities": {
                "rotator": {"method": "token_file", "token_file": scene.path("token")},
                // Of no rotation: it is not logged in.
                "other": {"method": "token_file", "token_file": scene.path("nowhere")},
            },
            "secrets": {"webhook": {"identity": "other", "kind": "kv", "path": "secret/webhook"}},
            "rotations": {"webhook": {
                "kind": "generate", "identity": "rotator", "path": "secret/webhook", "field": "key", "length": 24,
                "schedule": {"every": "4s"}, "min_interval": "4s", "holder_ttl": "3s", "grace": "1s",
                "journal": {"mount": "secret", "path": "rotation"},
            }},
            "audit": {"journal": {"dir": scene.path("audit")}},
        });
        fs::write(scene.path("config.yaml"), config.to_string()).unwrap();
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn claviger(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
        command.arg("rotation").args(args).env_clear().stdin(Stdio::null()).output().unwrap()
    }

    fn once(&self, args: &[&str]) -> Ran {
        let config = self.path("config.yaml");
        let ran =
            self.claviger(&[&["--once", "--json", "--config", config.to_str().unwrap()], args].concat());
        let text = String::from_utf8(ran.stdout).unwrap();
        let last = text.lines().last().unwrap_or_default();
        let last: Value = serde_json::from_str(last)
            .unwrap_or_else(|_| panic!("{text}\n{}", String::from_utf8_lossy(&ran.stderr)));
        Ran { result: last["rotations"][0].clone(), code: ran.status.code(), text }
    }

    /// Again and again, until one has this result.
    fn until(&self, result: &str) -> Ran {
        let end = Instant::now() + LIMIT;
        loop {
            let ran = self.once(&[]);
            if ran.result["result"] == result {
                return ran;
            }
            assert_eq!((&ran.result["result"], ran.code), (&json!("nothing"), Some(0)), "{}", ran.text);
            assert!(Instant::now() < end, "never {result}: {}", ran.result);
        }
    }

    fn version(&self) -> u64 {
        let metadata = self.vault.root().get("secret/metadata/webhook").expect_success();
        metadata["data"]["current_version"].as_u64().unwrap()
    }
}

#[test]
fn what_is_due_is_done_once_and_recorded_and_nothing_due_is_a_success() {
    let Some(scene) = Scene::new() else { return };
    let first = scene.once(&[]);
    assert_eq!((&first.result["result"], first.code), (&json!("nothing"), Some(0)), "{}", first.text);
    assert!(first.result["next"].is_string(), "{}", first.result);
    let ran = scene.until("rotated");
    assert_eq!(ran.code, Some(0));
    assert_eq!((&ran.result["phase"], scene.version()), (&json!("idle"), 2), "its grace was waited for");
    assert_eq!(scene.vault.root().get("secret/data/webhook?version=1").status, 404);
    for event in [
        "agent.started.v1",
        "rotation.started.v1",
        "rotation.promoted.v1",
        "rotation.revoked.v1",
        "agent.stopped.v1",
    ] {
        assert!(ran.text.contains(event), "{event}: {}", ran.text);
    }
    let id = ran.result["id"].as_str().unwrap();
    assert!(ran.text.lines().any(|line| line.contains("rotation.promoted.v1") && line.contains(id)));
    let verified = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["audit", "verify"])
        .arg(scene.path("audit"))
        .output();
    assert!(verified.unwrap().status.success(), "the record of all runs is one chain");
    // A run that somebody began, and whose lease is not over: there is no more time, and the next one goes on.
    let mut journal = scene.vault.root().get("secret/data/rotation/webhook").expect_success()["data"].clone();
    let cas = journal["metadata"]["version"].clone();
    let open = &mut journal["data"]["journal"];
    for (key, value) in [
        ("phase", json!("pending")),
        ("rotation_id", json!("0123456789abcdef")),
        ("slot", open["settled"].clone()),
        ("slot_time", json!("2026-11-26T03:00:00+00:00")),
        ("holder", json!("gone")),
        ("before", json!(2)),
        ("candidates", json!([{"n": 1, "value": "machine", "refused": false}])),
    ] {
        open[key] = value;
    }
    let body = json!({"options": {"cas": cas}, "data": journal["data"]});
    scene.vault.root().post("secret/data/rotation/webhook", &body).expect_success();
    let cut = scene.once(&["--wait", "1s"]);
    assert_eq!((&cut.result["result"], cut.code), (&json!("unfinished"), Some(4)), "{}", cut.text);
    assert_eq!(scene.version(), 2);
    let gone_on = scene.once(&["--only", "webhook", "--wait", "1m"]);
    assert_eq!((&gone_on.result["result"], gone_on.code), (&json!("rotated"), Some(0)), "{}", gone_on.text);
    assert_eq!((&gone_on.result["id"], scene.version()), (&json!("0123456789abcdef"), 3));
}

#[test]
fn what_cannot_be_done_is_a_failure_with_its_reason_and_a_wrong_command_line_teaches() {
    let Some(scene) = Scene::new() else { return };
    let config = scene.path("config.yaml");
    let token =
        scene.vault.root().post("auth/token/create", &json!({"policies": ["default"]})).expect_success();
    fs::write(scene.path("token"), token["auth"]["client_token"].as_str().unwrap()).unwrap();
    let refused = scene.once(&[]);
    assert_eq!((&refused.result["result"], refused.code), (&json!("failed"), Some(1)), "{}", refused.text);
    assert_eq!(refused.result["failure"], "vault_denied");
    for (args, code, says) in [
        (vec!["--once"], 2, "--config"),
        (vec!["--config", config.to_str().unwrap()], 2, "--once"),
        (vec!["--once", "--only", "nobody", "--config", config.to_str().unwrap()], 1, "no rotation nobody"),
        (vec!["--help"], 0, "in a CronJob"),
    ] {
        let ran = scene.claviger(&args);
        let text = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        assert_eq!((ran.status.code(), text.contains(says)), (Some(code), true), "{args:?}: {text}");
    }
}
