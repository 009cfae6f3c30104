//! Every command with its exit codes (design section 9).

use crate::support::{Agent, BINARY, Config, Line, Scene, VALUE, finish, until};
use devvault::{Fault, Matcher, Times};
use serde_json::Value;
use std::process::Output;
use tokio::process::Command;

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// `stripe` is one value, `fields` the same secret with its fields.
fn with_fields(scene: &Scene) -> Config {
    let mut config = scene.config();
    config.secrets =
        config.secrets.replacen('{', "{fields: {identity: reports, kind: kv, path: secret/stripe}, ", 1);
    config.workloads = config.workloads.replace("[stripe]", "[stripe, fields]");
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn get_writes_the_bare_value_and_says_by_its_code_why_not() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&with_fields(&scene)).await;
    let by_field = ["get", "fields", "--field", "api_key"];
    for line in [&["get", "stripe"][..], &["get", "fields"], &by_field] {
        let got = scene.claviger(line).await;
        assert_eq!((got.status.code(), out(&got), err(&got)), (Some(0), VALUE, ""), "{line:?}");
    }
    let json = scene.claviger(&["get", "stripe", "--json"]).await;
    let body: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (json.status.code(), &body["name"], &body["generation"]),
        (Some(0), &"stripe".into(), &1.into())
    );
    for (line, code, said) in [
        (&["get", "nothing"][..], 3, "no_rule"),
        (&["get", "fields", "--field", "nothing"], 1, "no field"),
        (&["get", "stripe", "--field", "api_key"], 1, "without fields"),
        (&["get"], 2, "Usage"),
        (&["get", "stripe", "--socket", "/nowhere/claviger.sock"], 1, "is the sidecar running?"),
    ] {
        let got = scene.claviger(line).await;
        assert_eq!((got.status.code(), out(&got)), (Some(code), ""), "{line:?}");
        assert!(err(&got).contains(said), "{line:?}: {}", err(&got));
        assert!(!err(&got).contains(VALUE));
    }
    assert_eq!(agent.stop().await, Some(0));
    // The socket is gone with the agent.
    assert_eq!(scene.claviger(&["get", "stripe"]).await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn get_is_4_while_there_is_no_value_and_waits_when_asked_to() {
    let scene = Scene::new().await;
    let gate = devvault::Gate::new();
    scene.vault.script(Matcher::login(), Fault::Hold(gate.clone()), Times::Always);
    let mut agent = Agent::spawn(scene.run(&scene.config())).await;
    until("the socket", || async { Line::open(&scene.socket("job")).await.ok() }).await;
    for wait in ["0s", "1s"] {
        let got = scene.claviger(&["get", "stripe", "--wait", wait]).await;
        assert_eq!((got.status.code(), out(&got)), (Some(4), ""), "{got:?}");
        assert!(err(&got).contains("not ready"), "{}", err(&got));
    }
    let exec = scene.claviger(&["exec", "--env", "K=stripe", "--", "true"]).await;
    assert_eq!(exec.status.code(), Some(125), "{exec:?}");
    let asked = ["get", "stripe", "--wait", "30s"];
    let (got, ()) = tokio::join!(scene.claviger(&asked), async {
        agent.page("/livez").await;
        gate.open();
    });
    assert_eq!((got.status.code(), out(&got)), (Some(0), VALUE));
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn get_waits_for_an_agent_that_is_not_there_yet() {
    let scene = Scene::new().await;
    let asked = ["get", "stripe", "--wait", "30s"];
    let config = scene.config();
    let (got, agent) = tokio::join!(scene.claviger(&asked), scene.start(&config));
    assert_eq!((got.status.code(), out(&got)), (Some(0), VALUE), "{got:?}");
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_becomes_the_command_with_what_was_asked_for_and_nothing_else() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&with_fields(&scene)).await;
    let exec = async |line: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("KEPT", "as it was");
        command.env("CLAVIGER_SOCKET", scene.socket("job")).arg("exec").args(line);
        finish(command).await
    };
    let got = exec(&["--env", "STRIPE_KEY=stripe", "--", "env"]).await;
    let mut variables: Vec<&str> = out(&got).lines().collect();
    variables.sort_unstable();
    let (key, socket) =
        (format!("STRIPE_KEY={VALUE}"), format!("CLAVIGER_SOCKET={}", scene.socket("job").display()));
    assert_eq!(variables, [socket.as_str(), "KEPT=as it was", "PATH=/usr/bin:/bin", key.as_str()]);
    let got = exec(&["--", "env"]).await;
    assert!(!out(&got).contains(VALUE) && got.status.success());
    for (line, code) in [
        (&["--env", "K=fields.api_key", "--", "sh", "-c", "exit 7"][..], 7),
        (&["--", "sh", "-c", "exit 0"], 0),
        (&["--env", "K=nothing", "--", "true"], 125),
        (&["--socket", "/nowhere/x.sock", "--env", "K=stripe", "--", "true"], 125),
        (&["--", "no-such-command-anywhere"], 127),
        (&["--", "/dev/null"], 126),
        (&["--env", "K=stripe"], 2),
        (&["--env", "7=stripe", "--", "true"], 2),
    ] {
        let got = exec(line).await;
        assert_eq!(got.status.code(), Some(code), "{line:?}: {}", err(&got));
        assert!(!err(&got).contains(VALUE));
    }
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_dies_as_its_command_does() {
    use std::os::unix::process::ExitStatusExt as _;
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    for (name, number) in [("TERM", 15), ("KILL", 9), ("INT", 2)] {
        let script = format!("kill -{name} $$");
        let got = scene.claviger(&["exec", "--env", "K=stripe", "--", "sh", "-c", &script]).await;
        assert_eq!((got.status.code(), got.status.signal()), (None, Some(number)));
        // As a shell spells it.
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\"; echo $?", "sh", BINARY, "exec", "--", "sh", "-c", &script]);
        let got = finish(shell).await;
        assert_eq!(out(&got).trim(), (128 + number).to_string());
    }
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoami_says_what_the_kernel_says() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let mut command = Command::new(BINARY);
    command.args(["whoami", "--json"]).env("CLAVIGER_SOCKET", scene.socket("job"));
    command.stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let pid = child.id().unwrap();
    let got = child.wait_with_output().await.unwrap();
    let said: Value = serde_json::from_slice(&got.stdout).unwrap();
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    assert_eq!((&said["workload"], &said["uid"], &said["gid"]), (&"job".into(), &uid.into(), &gid.into()));
    // `auto` is what the kernel of the machine can prove.
    let level = match claviger::peer::process::support() {
        claviger::peer::process::Support::Given => "process",
        _ => "user",
    };
    assert_eq!(
        (&said["pid"], &said["level"], &said["rules"][0]),
        (&pid.into(), &level.into(), &"keys".into())
    );
    assert_eq!(said["server_uid"], uid);
    let people = scene.claviger(&["whoami"]).await;
    assert_eq!(people.status.code(), Some(0));
    assert!(out(&people).contains(&format!("uid: {uid}\n")), "{}", out(&people));
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(scene.claviger(&["whoami"]).await.status.code(), Some(1));
    assert_eq!(scene.claviger(&["whoami", "who"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_expects_another_server_asks_it_nothing() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let own = nix::unistd::geteuid().as_raw();
    let ask = async |line: &[&str], variable: &str| {
        let mut command = Command::new(BINARY);
        command.args(line).env("CLAVIGER_SOCKET", scene.socket("job")).env("CLAVIGER_SERVER_UID", variable);
        finish(command).await
    };
    let (right, wrong) = (own.to_string(), (own + 1).to_string());
    for (line, variable, code) in [
        (&["get", "stripe", "--server-uid", &right][..], &*wrong, 0),
        (&["get", "stripe"], &*right, 0),
        (&["get", "stripe"], "", 0),
        (&["get", "stripe", "--server-uid", &wrong], "", 1),
        (&["get", "stripe"], &*wrong, 1),
        (&["whoami"], &*wrong, 1),
        (&["exec", "--env", "K=stripe", "--", "true"], &*wrong, 125),
        (&["get", "stripe"], "root", 2),
    ] {
        let got = ask(line, variable).await;
        assert_eq!(got.status.code(), Some(code), "{line:?} {variable}: {got:?}");
        assert_eq!(got.stdout.is_empty(), code != 0, "{line:?} {variable}");
    }
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(scene.events().iter().filter(|event| event["type"] == "secret.read.v1").count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_says_how_the_agent_is() {
    let scene = Scene::new().await;
    let gate = devvault::Gate::new();
    scene.vault.script(Matcher::login(), Fault::Hold(gate.clone()), Times::Always);
    let mut agent = Agent::spawn(scene.run(&scene.config())).await;
    // The kernel chose the port; a probe needs to be told.
    let mut told = scene.config();
    told.health = format!("{{listen: \"{}\"}}", agent.health().await);
    std::fs::write(scene.path("probe.yaml"), told.text()).unwrap();
    let config = scene.path("probe.yaml").display().to_string();
    let probe = async |what: &str, more: &[&str]| {
        scene.claviger(&[&["probe", what, "--config", &config], more].concat()).await
    };
    for (what, code) in [("live", 0), ("ready", 1), ("startup", 1), ("happy", 2)] {
        assert_eq!(probe(what, &[]).await.status.code(), Some(code), "{what}");
    }
    let json: Value = serde_json::from_slice(&probe("ready", &["--json"]).await.stdout).unwrap();
    let codes: Vec<&str> =
        json["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect();
    assert_eq!(
        (&json["ready"], &codes[..]),
        (&false.into(), &["starting", "no_token", "secret_not_ready"][..])
    );
    assert!(json["reasons"][0]["names"].is_null(), "names leave only where they may");
    let people = probe("ready", &[]).await;
    assert!(out(&people).contains("no_token"), "{}", out(&people));
    gate.open();
    agent.until_ready().await;
    for what in ["live", "ready", "startup"] {
        assert_eq!(probe(what, &[]).await.status.code(), Some(0), "{what}");
    }
    assert_eq!(agent.stop().await, Some(0));
    for what in ["live", "ready", "startup"] {
        assert_eq!(probe(what, &[]).await.status.code(), Some(1), "{what}");
    }
    let line = ["probe", "live", "--config", "/nowhere/claviger.yaml"];
    assert_eq!(scene.claviger(&line).await.status.code(), Some(64));
}

#[tokio::test]
async fn version_and_help_are_0_and_a_wrong_line_is_2() {
    let scene = Scene::new().await;
    let version = scene.claviger(&["version"]).await;
    assert_eq!(version.status.code(), Some(0));
    assert!(
        out(&version).starts_with(concat!("claviger ", env!("CARGO_PKG_VERSION"), "\n")),
        "{}",
        out(&version)
    );
    let json: Value = serde_json::from_slice(&scene.claviger(&["version", "--json"]).await.stdout).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    for (line, code) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["exec", "--help"], 0),
        (&[], 2),
        (&["fly"], 2),
        (&["run"], 2),
        (&["check"], 2),
        (&["probe", "ready"], 2),
        (&["version", "now"], 2),
    ] {
        assert_eq!(scene.claviger(line).await.status.code(), Some(code), "{line:?}");
    }
    let help = scene.claviger(&["exec", "--help"]).await;
    assert!(out(&help).contains("The socket is the better way"), "{}", out(&help));
}

#[tokio::test(flavor = "multi_thread")]
async fn get_into_a_closed_pipe_fails_without_a_word() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let mut shell = Command::new("bash");
    shell.args(["-c", "\"$@\" | true; echo ${PIPESTATUS[0]}", "sh", BINARY, "get", "stripe"]);
    shell.env("CLAVIGER_SOCKET", scene.socket("job"));
    let got = finish(shell).await;
    // Whichever of the two is first: it was written, or nobody was there.
    assert!(["0", "1"].contains(&out(&got).trim()), "{got:?}");
    assert_eq!(err(&got), "");
    assert_eq!(agent.stop().await, Some(0));
}
