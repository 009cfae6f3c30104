//! The secret id of a running agent, rotated in a real Vault by a process that is killed again and again.

use lab::{Client, Vault};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A wait that gets no further than this fails.
const LIMIT: Duration = Duration::from_secs(60);
const ROLE: &str = "auth/approle/role/app";
const POLICY: &str = r#"
path "auth/approle/role/app/secret-id" { capabilities = ["update", "list"] }
path "auth/approle/role/app/secret-id/lookup" { capabilities = ["update"] }
path "auth/approle/role/app/secret-id-accessor/lookup" { capabilities = ["update"] }
path "auth/approle/role/app/secret-id-accessor/destroy" { capabilities = ["update"] }
"#;

/// A role in Vault, and the folder of an agent that logs in to it.
struct Scene {
    vault: Vault,
    folder: tempfile::TempDir,
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {LIMIT:?} for: {what}");
        pause(10);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two questions; nothing is asserted about it"
)]
fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

impl Scene {
    fn new() -> Option<Scene> {
        let vault = Vault::start()?;
        let (root, folder) = (vault.root(), tempfile::tempdir().unwrap());
        root.put("sys/policies/acl/own", &json!({"policy": POLICY})).expect_success();
        root.post("sys/auth/approle", &json!({"type": "approle"})).expect_success();
        root.post(ROLE, &json!({"token_policies": ["own"], "token_ttl": "5m"})).expect_success();
        let scene = Scene { vault, folder };
        for name in ["audit", "own", "out"] {
            fs::create_dir(scene.path(name)).unwrap();
        }
        let role_id = root.get(&format!("{ROLE}/role-id")).expect_success();
        fs::write(scene.path("own/role-id"), role_id["data"]["role_id"].as_str().unwrap()).unwrap();
        let made = root.post(&format!("{ROLE}/secret-id"), &json!({})).expect_success();
        fs::write(scene.path("own/secret-id"), made["data"]["secret_id"].as_str().unwrap()).unwrap();
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, every: &str) -> Value {
        json!({
            "vault": {"addresses": [self.vault.url()], "budget": {"calls_per_second": 1000, "burst": 1000}},
            "identities": {"own": {
                "method": "approle", "role_id_file": self.path("own/role-id"),
                "secret_id_file": self.path("own/secret-id"),
            }},
            "rotations": {"own": {
                "kind": "bootstrap", "identity": "own", "role": "app", "schedule": {"every": every},
                "min_interval": "1s", "grace": "0s",
            }},
            "audit": {"journal": {"dir": self.path("audit")}},
            "health": {"listen": "127.0.0.1:0"},
        })
    }

    /// Starts an agent; JSON is YAML.
    fn start(&self, every: &str) -> Agent {
        fs::write(self.path("config.yaml"), self.config(every).to_string()).unwrap();
        let out =
            |name: &str| File::options().create(true).append(true).open(self.path("out").join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
        command.arg("run").arg("--config").arg(self.path("config.yaml")).env_clear().stdin(Stdio::null());
        Agent { child: command.stdout(out("events")).stderr(out("log")).spawn().unwrap() }
    }

    fn secret_id(&self) -> String {
        fs::read_to_string(self.path("own/secret-id")).unwrap().trim().to_owned()
    }

    fn accessors(&self) -> usize {
        let all = self.vault.root().list(&format!("{ROLE}/secret-id")).expect_success();
        all["data"]["keys"].as_array().unwrap().len()
    }

    fn events(&self, kind: &str) -> usize {
        let text = fs::read_to_string(self.path("out/events")).unwrap();
        let wanted = format!(r#""type":"{kind}""#);
        text.lines().filter(|line| line.contains(&wanted)).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("out/log")).unwrap()
    }

    fn login(&self) -> Login {
        let role_id = fs::read_to_string(self.path("own/role-id")).unwrap();
        Login { client: self.vault.client(""), role_id, file: self.path("own/secret-id") }
    }
}

/// Somebody who logs in with what is in the file.
struct Login {
    client: Client,
    role_id: String,
    file: PathBuf,
}

impl Login {
    /// Whether it works with what is in the file, read again where it is another one by now.
    fn works(&self) -> bool {
        let mut text = fs::read_to_string(&self.file).unwrap();
        loop {
            let body = json!({"role_id": self.role_id, "secret_id": text.trim()});
            if self.client.post("auth/approle/login", &body).status == 200 {
                return true;
            }
            let now = fs::read_to_string(&self.file).unwrap();
            if std::mem::replace(&mut text, now.clone()) == now {
                return false;
            }
        }
    }
}

struct Agent {
    child: Child,
}

impl Agent {
    /// By SIGKILL, wherever it is.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// By SIGTERM; gives how it ended.
    fn stop(mut self) -> ExitStatus {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rotates `rounds` times with a kill and a new start after each, while somebody logs in all the time.
fn rotate_and_kill(rounds: usize) {
    let Some(scene) = Scene::new() else { return };
    let (stop, good, bad) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
    let watch = {
        let (login, stop) = (scene.login(), Arc::clone(&stop));
        let (good, bad): (Arc<AtomicUsize>, Arc<AtomicUsize>) = (Arc::clone(&good), Arc::clone(&bad));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let count = if login.works() { &good } else { &bad };
                count.fetch_add(1, Ordering::Relaxed);
                pause(5);
            }
        })
    };
    let login = scene.login();
    for round in 0..rounds {
        let before = scene.secret_id();
        let agent = scene.start("1s");
        until("a new secret id", || (scene.secret_id() != before).then_some(()));
        // Each time a little later: in its steps after the promotion, and in the next run.
        pause(round as u64 * 37 % 400);
        agent.kill();
        assert!(login.works(), "after kill {round}; its log:\n{}", scene.log());
    }
    let ready = || scene.log().matches("\"message\":\"ready\"").count();
    let before = ready();
    let last = scene.start("1h");
    until("readiness", || (ready() > before).then_some(()));
    let status = || {
        let text = fs::read(scene.path("own/secret-id.rotation")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["journal"]["phase"].clone()
    };
    until("the end of what was begun", || (status() == "idle" && scene.accessors() == 1).then_some(()));
    let ended = last.stop();
    assert!(ended.success(), "{ended}; its log:\n{}", scene.log());
    stop.store(true, Ordering::Relaxed);
    watch.join().unwrap();
    let (good, bad): (usize, usize) = (good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed));
    let promoted = scene.events("rotation.promoted.v1");
    println!(
        "bootstrap: {rounds} kills, {promoted} promotions on record, {good} logins, {bad} of them failed"
    );
    assert_eq!((bad, scene.events("rotation.orphaned.v1")), (0, 0), "{}", scene.log());
    assert!(good > rounds && login.works());
    let text = scene.log() + &fs::read_to_string(scene.path("out/events")).unwrap();
    assert!(!text.contains(&scene.secret_id()), "a secret id is in no event and in no line of the log");
}

#[test]
fn a_secret_id_is_rotated_by_an_agent_that_is_killed_after_each_and_there_is_always_a_login() {
    rotate_and_kill(5);
}

#[test]
#[ignore = "three minutes: the long proof"]
fn a_secret_id_is_rotated_a_hundred_times_with_a_kill_after_each_and_there_is_always_a_login() {
    rotate_and_kill(100);
}

#[test]
fn two_replicas_of_one_role_rotate_a_secret_id_each_and_never_one_anothers() {
    let Some(scene) = Scene::new() else { return };
    // The same role, and a folder of its own.
    fs::create_dir(scene.path("other")).unwrap();
    let made = scene.vault.root().post(&format!("{ROLE}/secret-id"), &json!({})).expect_success();
    let first = made["data"]["secret_id"].as_str().unwrap().to_owned();
    fs::write(scene.path("other/secret-id"), &first).unwrap();
    let mut config = scene.config("1h");
    config["identities"]["own"]["secret_id_file"] = json!(scene.path("other/secret-id"));
    config["rotations"]["own"]["schedule"] = json!({"every": "1s"});
    config["audit"]["journal"]["dir"] = json!(scene.path("other/audit"));
    fs::create_dir(scene.path("other/audit")).unwrap();
    fs::set_permissions(scene.path("other/audit"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    fs::write(scene.path("other/config.yaml"), config.to_string()).unwrap();
    let out = File::create(scene.path("out/other")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    command.arg("run").arg("--config").arg(scene.path("other/config.yaml")).env_clear().stdin(Stdio::null());
    let other = Agent { child: command.stdout(out).stderr(Stdio::null()).spawn().unwrap() };
    let (mine, agent) = (scene.secret_id(), scene.start("1s"));
    let theirs = Login { file: scene.path("other/secret-id"), ..scene.login() };
    until("a new one of each", || {
        let text = fs::read_to_string(scene.path("other/secret-id")).unwrap();
        (scene.secret_id() != mine && text.trim() != first).then_some(())
    });
    agent.kill();
    other.kill();
    assert!(scene.login().works() && theirs.works());
}
