//! What the agent gives up for good, as the kernel and the agent itself say it.

use crate::support::{Agent, BINARY, Config, Line, Scene, VALUE, finish, until};
use nix::unistd::geteuid;
use serde_json::Value;
use std::fs;
use tokio::process::Command;

/// The one line of the log that says what holds.
async fn said(agent: &Agent) -> Value {
    agent.err_line("what holds", |line| line["message"] == "sandbox").await
}

/// A line of a file in /proc/PID, without its name.
fn kernel_says(agent: &Agent, file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/{file}", agent.pid)).unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The workload has another uid than the agent.
fn of_a_stranger(scene: &Scene) -> Config {
    let rules = "[{name: keys, secrets: [stripe]}]";
    Config {
        workloads: format!("\n{}", scene.workload("job", geteuid().as_raw() + 20001, rules)),
        ..scene.config()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_says_in_one_line_what_holds_and_the_kernel_agrees() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let line = said(&agent).await;
    assert_eq!(agent.stderr().matches("\"message\":\"sandbox\"").count(), 1, "{}", agent.stderr());
    // The binary under test can be read by all.
    assert_eq!(
        (&line["dumpable"], &line["core"], &line["no_new_privs"]),
        (&"partly".into(), &"0".into(), &"yes".into()),
        "{line}"
    );
    assert_eq!((&line["seccomp"], &line["secrets"]), (&"yes".into(), &"locked".into()), "{line}");
    assert_eq!(kernel_says(&agent, "limits", "Max core file size"), "0 0 bytes");
    assert_eq!(kernel_says(&agent, "status", "NoNewPrivs:"), "1");
    assert_eq!(kernel_says(&agent, "status", "Seccomp:"), "2");
    assert_ne!(kernel_says(&agent, "status", "VmLck:"), "0 kB");
    // Every thread, not only the first.
    for task in fs::read_dir(format!("/proc/{}/task", agent.pid)).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    }
    assert_eq!(agent.stop().await, Some(0));
    let started = scene.events().into_iter().find(|event| event["type"] == "agent.started.v1").unwrap();
    let fact = started["agent"]["sandbox"].as_str().unwrap();
    assert!(fact.starts_with("dumpable=partly; core=0; no_new_privs=yes; landlock="), "{fact}");
    assert!(fact.contains(line["landlock"].as_str().unwrap()), "{fact}");
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_it_filters_nothing_and_what_costs_nothing_holds_all_the_same() {
    let scene = Scene::new().await;
    let config = Config { rest: "sandbox: off\n".into(), ..scene.config() };
    let mut agent = scene.start(&config).await;
    let line = said(&agent).await;
    assert_eq!((&line["landlock"], &line["seccomp"]), (&"off".into(), &"off".into()), "{line}");
    assert_eq!(kernel_says(&agent, "status", "Seccomp:"), "0");
    assert_eq!(kernel_says(&agent, "status", "NoNewPrivs:"), "1");
    assert_eq!(kernel_says(&agent, "limits", "Max core file size"), "0 0 bytes");
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn required_it_starts_where_everything_holds() {
    let scene = Scene::new().await;
    let config = Config { rest: "sandbox: required\n".into(), ..of_a_stranger(&scene) };
    let mut agent = Agent::spawn(scene.run(&config)).await;
    let line = said(&agent).await;
    if line["landlock"].as_str().is_some_and(|landlock| !landlock.contains("scopes")) {
        return crate::skip("needs Landlock with scopes (Linux 6.12)");
    }
    agent.until_ready().await;
    assert_eq!(agent.stop().await, Some(0));
}

/// The same command with no memory that may be locked: root's right to lock all the same is taken away first.
fn without_locked_memory(command: &Command) -> Command {
    let mut limited = Command::new("sh");
    let line = if geteuid().is_root() {
        "ulimit -l 0; exec setpriv --bounding-set=-ipc_lock \"$@\""
    } else {
        "ulimit -l 0; exec \"$@\""
    };
    limited.args(["-c", line, "sh"]).arg(command.as_std().get_program()).args(command.as_std().get_args());
    limited
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_is_a_warning_or_if_required_a_refusal_with_the_remedy() {
    let scene = Scene::new().await;
    let mut agent = Agent::spawn(without_locked_memory(&scene.run(&of_a_stranger(&scene)))).await;
    assert_eq!(said(&agent).await["secrets"], "not locked");
    let warned = agent.err_line("a warning", |line| line["remedy"].is_string()).await;
    assert_eq!(warned["level"], "WARN");
    assert!(warned["remedy"].as_str().unwrap().contains("RLIMIT_MEMLOCK"), "{warned}");
    agent.until_ready().await;
    assert_eq!(agent.stop().await, Some(0));

    let calls = scene.vault.calls().len();
    let config = Config { rest: "sandbox: required\n".into(), ..of_a_stranger(&scene) };
    let output = finish(without_locked_memory(&scene.run(&config))).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not locked") && said.contains("raise RLIMIT_MEMLOCK"), "{said}");
    assert_eq!(scene.vault.calls().len(), calls, "it started all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_of_our_own_uid_beside_a_readable_binary_is_a_note_or_if_required_a_bad_config() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let page = agent.page("/readyz").await;
    assert_eq!(page.body, r#"{"ready":true,"reasons":[],"notes":["dumpable_at_exec"]}"#);
    agent
        .err_line("a warning", |line| {
            line["warning"].as_str().is_some_and(|text| text.contains("our memory"))
        })
        .await;
    // A config without such a workload has nothing to say.
    scene.write(&of_a_stranger(&scene).text());
    until("the note is gone", || async {
        (!agent.page("/readyz").await.body.contains("notes")).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));

    let file = scene.write(&Config { rest: "sandbox: required\n".into(), ..scene.config() }.text());
    for line in [["run", "--config"].as_slice(), &["check"]] {
        let mut command = Command::new(BINARY);
        command.args(line).arg(&file);
        let output = finish(command).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("workloads.job.peer.uid") && said.contains("0111"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_needs_what_was_given_up_is_rejected_whole_and_named() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    fs::create_dir(scene.path("elsewhere")).unwrap();
    for file in ["role_id", "secret_id"] {
        fs::copy(scene.path(file), scene.path("elsewhere").join(file)).unwrap();
    }
    let folder = scene.path("").display().to_string();
    let mut config = scene.config();
    config.vault = config.vault.replace("addresses: [", "addresses: [\"https://vault.example:8201\", ");
    let fresh = config.identities.replace("{reports: ", "").replace("}}", "}");
    // Below the scene's folder, which the config file's rule lets in; the system's own does not.
    config.identities = format!("{{reports: {fresh}, fresh: {}}}", fresh.replace(&folder, "/srv/claviger/"));
    config.secrets =
        config.secrets.replace("{stripe", "{other: {identity: fresh, kind: kv, path: secret/other}, stripe");
    let sinks = "sinks: {console: {kind: stdout}, far: {kind: http, url: \"https://siem.example:8443/\"}, \
                 archive: {kind: file, path: /srv/claviger/events}}";
    config.audit = config.audit.replace("{journal:", &format!("{{{sinks}, journal:"));
    scene.write(&config.text());
    let event = agent.event("a rejected config", |event| event["type"] == "config.rejected.v1").await;
    assert_eq!(event["reason"], "needs_restart", "{event}");
    let keys = ["vault.addresses", "identities.fresh", "audit.sinks.far", "audit.sinks.archive"];
    assert_eq!(event["agent"]["keys"], serde_json::json!(keys));
    let reply = Line::open(&scene.socket("job")).await.unwrap().ask("/secrets/stripe").await.unwrap();
    assert_eq!((reply.status, reply.body.contains(VALUE)), (200, true));
    // What is within reach is taken over: another file in a directory that is let in.
    let mut config = scene.config();
    config.identities =
        format!("{{reports: {fresh}, fresh: {}}}", fresh.replace(&folder, &format!("{folder}elsewhere/")));
    config.secrets =
        config.secrets.replace("{stripe", "{other: {identity: fresh, kind: kv, path: secret/other}, stripe");
    scene.write(&config.text());
    agent.event("a loaded config", |event| event["type"] == "config.loaded.v1").await;
    until("a second token", || async { (scene.vault.tokens().len() == 2).then_some(()) }).await;
    assert_eq!(agent.stop().await, Some(0));
}
