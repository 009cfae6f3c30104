//! Workloads are told: `claviger watch` and its stream, while a real rotation changes the secret on the real Vault.

use crate::{
    rig::{Agent, PROGRAM, until},
    rotation::{generate, plan},
};
use lab::Vault;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// `claviger watch webhook …`, whose output is in a file.
struct Watcher {
    child: Child,
    out: PathBuf,
}

impl Watcher {
    fn start(agent: &Agent, name: &str, args: &[&str]) -> Watcher {
        let out = agent.folder().join(name);
        let mut command = Command::new(PROGRAM);
        command.args(["watch", "webhook"]).args(args).env("CLAVIGER_SOCKET", agent.socket());
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap());
        Watcher { child: command.spawn().unwrap(), out }
    }

    /// Its output, line by line.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.out).unwrap();
        text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().map(str::to_owned).collect()
    }

    fn events(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It ends the command that it runs, which a kill would leave behind.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn script(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_watcher_is_told_of_a_rotation_and_the_command_after_it_is_started_anew() {
    let Some(vault) = Vault::start() else { return };
    // The old value is handed out for a moment, so that all three events come.
    let mut plan = plan(&vault, generate());
    plan.config["secrets"]["webhook"]["grace"] = json!("1s");
    let agent = plan.start();
    agent.generation("webhook", 1);
    let told = Watcher::start(&agent, "told", &["--json"]);
    until("the state at the start", || (!told.lines().is_empty()).then_some(()));
    let home = agent.folder().to_owned();
    // A program that says that it runs, and one that says that it was told; each ends with a code of its own.
    let server =
        script(&home.join("server"), "echo started; trap 'exit 7' TERM; while :; do sleep 0.1; done");
    let reload = script(
        &home.join("reload"),
        "trap 'echo told; test -e $0.end && exit 9' HUP; echo started; while :; do sleep 0.1; done",
    );
    let anew = Watcher::start(&agent, "anew", &["--debounce", "10ms", "--", "sh", &server]);
    let mut hup = Watcher::start(&agent, "hup", &["--signal", "HUP", "--", "sh", &reload]);
    until("both run", || (!anew.lines().is_empty() && !hup.lines().is_empty()).then_some(()));
    let events = until("an old value that is gone", || {
        Some(told.events()).filter(|events| events.iter().any(|event| event["event"] == "revoked"))
    });
    let of = |word: &str| events.iter().find(|event| event["event"] == word && event["generation"] != 1);
    let promoted = of("promoted").unwrap();
    let run =
        agent.event("rotation.promoted.v1", |event| event["rotation"]["to_v"] == promoted["generation"]);
    assert_eq!((&promoted["name"], &promoted["rotation_id"]), (&json!("webhook"), &run["rotation"]["id"]));
    let order = events.iter().map(|event| event["event"].as_str().unwrap());
    let order: Vec<&str> = order.filter(|word| *word != "pending_soon").collect();
    assert_eq!(&order[..4], ["promoted", "promoted", "grace_ending", "revoked"], "{events:?}");
    // It was said ahead, and then it came; whoever reads meanwhile is told as well.
    until("what was said ahead", || {
        let events = told.events();
        let soon = events.iter().find(|event| event["event"] == "pending_soon" && event["at"].is_string())?;
        let next = soon["generation"].as_u64().unwrap() + 1;
        let came =
            events.iter().position(|event| event["event"] == "promoted" && event["generation"] == next)?;
        assert!(events.iter().position(|event| event == soon) < Some(came), "{events:?}");
        Some(())
    });
    until("a read ahead of a rotation", || agent.read("webhook").header("claviger-rotates-at").map(drop));
    until("a second start", || (anew.lines().len() >= 2).then_some(()));
    until("a signal", || (hup.lines().get(1).map(String::as_str) == Some("told")).then_some(()));
    fs::write(home.join("reload.end"), "").unwrap();
    let ended = until("its own code", || hup.child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(9));
    let text = fs::read_to_string(&told.out).unwrap();
    let key = agent.value("webhook")["data"]["key"].as_str().unwrap().to_owned();
    assert!(!text.contains(&key) && !text.contains("first"), "{text}");
    agent.event("secret.watch.told.v1", |event| event["resource"]["operation"] == "promoted");
}

#[test]
fn a_watch_outlives_the_agent_and_signals_the_process_of_a_file() {
    let Some(vault) = Vault::start() else { return };
    let mut rotation = generate();
    rotation["schedule"] = json!({"every": "1h"});
    let agent = plan(&vault, rotation).start();
    agent.generation("webhook", 1);
    let home = agent.folder().to_owned();
    let hit = home.join("hit");
    let text = format!(
        "trap 'echo x >> {}' USR1; echo $$ > {}; while :; do sleep 0.1; done",
        hit.display(),
        home.join("pid").display()
    );
    let mut program = Command::new("sh").args(["-c", &text]).spawn().unwrap();
    until("its number", || fs::read_to_string(home.join("pid")).ok().filter(|text| text.ends_with('\n')));
    let pid_file = home.join("pid").to_str().unwrap().to_owned();
    let watcher = Watcher::start(&agent, "told", &["--json", "--signal", "USR1", "--pid-file", &pid_file]);
    until("the state at the start", || (!watcher.lines().is_empty()).then_some(()));
    let stopped = agent.stop();
    let newer = json!({"data": {"key": "newer"}});
    vault.root().post("secret/data/webhook", &newer).expect_success();
    let agent = Agent::again(stopped);
    agent.generation("webhook", 2);
    until("what was missed", || watcher.events().iter().any(|event| event["generation"] == 2).then_some(()));
    until("the signal", || fs::read_to_string(&hit).ok().filter(|text| text.ends_with("x\n")));
    program.kill().unwrap();
    program.wait().unwrap();
    drop(agent);
}
