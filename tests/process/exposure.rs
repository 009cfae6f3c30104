//! KA011: the agent finds its values where they must not be, from within its sandbox, and says where it could not look.

use crate::support::{Agent, BINARY, Config, LIMIT, Line, Scene, VALUE, finish, until};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{fs, process::Stdio};
use tokio::process::{Child, Command};

/// The workload of the scene, another one below level `process`, and two files to be watched, of which one is not there.
fn config(scene: &Scene) -> Config {
    let own = nix::unistd::geteuid();
    let loose = format!(
        "  loose: {{socket: {{path: \"{}\"}}, peer: {{uid: {own}, level: user}}, rules: []}}\n",
        scene.socket("loose").display()
    );
    fs::create_dir_all(scene.path("watched")).unwrap();
    let at = |name: &str| scene.path(name).display().to_string();
    Config {
        workloads: scene.config().workloads + &loose,
        rest: format!(
            "report: {{every: 5s, exposure: {{files: [\"{}\", \"{}\"]}}}}\n",
            at("watched"),
            at("missing.env")
        ),
        ..scene.config()
    }
}

/// A permitted process that has the secret in its environment: the very one that asked for it.
fn careless(scene: &Scene) -> Child {
    let mut command = Command::new(BINARY);
    command.args(["exec", "--env", "API_KEY=stripe", "--", "sleep", "1000"]);
    command.env("CLAVIGER_SOCKET", scene.socket("job")).env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap()
}

async fn is_there(pid: u32) {
    until("the program instead of claviger", || async move {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        exe.ends_with("sleep").then_some(()).or_else(|| exe.ends_with("coreutils").then_some(()))
    })
    .await;
}

async fn event(agent: &Agent, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    agent.event(kind, |event| event["type"] == kind && wanted(event)).await
}

fn all(list: &Value) -> String {
    list.as_array().unwrap().iter().map(|one| format!("{}\n", one.as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_in_a_permitted_processs_environment_and_in_a_watched_file_is_found_and_never_told() {
    let scene = Scene::new().await;
    let config = config(&scene);
    let encoded = BASE64_STANDARD.encode(format!("user:{VALUE}"));
    fs::write(scene.path("watched/app.env"), format!("# settings\nAUTH=Basic {encoded}\n")).unwrap();
    fs::write(scene.path("watched/clean.env"), &VALUE[1..]).unwrap();
    let mut agent = scene.start(&config).await;
    let job = careless(&scene);
    let pid = job.id().unwrap();
    is_there(pid).await;
    Line::open(&scene.socket("loose")).await.unwrap().ask("/whoami").await.unwrap();

    let seen = event(&agent, "exposure.found.v1", |event| event["exposure"]["place"] == "environment").await;
    let place = &seen["exposure"];
    assert_eq!(
        (&place["name"], &place["pid"], &place["form"]),
        (&json!("API_KEY"), &json!(pid), &json!("raw"))
    );
    assert!(place["exe"].as_str().unwrap().starts_with('/'), "{seen:#}");
    let resource = &seen["resource"];
    assert_eq!((&resource["secret"], &resource["version"]), (&json!("stripe"), &json!(1)));
    assert_eq!((&seen["workload"], &seen["severity"]), (&json!("job"), &json!(21)));
    let seen = event(&agent, "exposure.found.v1", |event| event["exposure"]["place"] == "file").await;
    let file = scene.path("watched/app.env").display().to_string();
    let place = &seen["exposure"];
    assert_eq!(
        (&place["name"], &place["number"], &place["form"]),
        (&json!(file), &json!(2), &json!("base64"))
    );

    let whole = event(&agent, "exposure.looked.v1", |event| event["exposure"]["processes"] == 1).await;
    let looked = &whole["exposure"];
    assert_eq!(looked["files"], json!(2), "{whole:#}");
    let unseen = all(&looked["unseen"]);
    assert!(unseen.contains("missing.env: entity not found"), "{unseen}");
    assert!(unseen.contains("workload loose: 1 peers are not known as processes"), "{unseen}");

    let finding = event(&agent, "report.finding.v1", |event| event["report"]["id"] == "KA011").await;
    let evidence = all(&finding["report"]["evidence"]);
    assert!(
        evidence.contains("variable API_KEY") && evidence.contains("app.env: line 2, as base64"),
        "{evidence}"
    );
    assert!(!evidence.contains("clean.env"), "{evidence}");
    let page = agent.page("/metrics").await;
    assert!(page.body.contains("key_findings{id=\"KA011\",severity=\"critical\"} 1"), "{}", page.body);
    assert_eq!(agent.stop().await, Some(0));

    // A person's report says the same from the record, and what could not be looked at.
    let file = scene.path("config.yaml").display().to_string();
    let ran = scene.claviger(&["report", "keys", "--config", &file, "--fail-on", "critical"]).await;
    let text = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(14), "{text}");
    assert!(
        text.contains("KA011") && text.contains("variable API") && text.contains("not looked at by"),
        "{text}"
    );
    // Nothing that was written anywhere has the value, or the spelling in which it stood there.
    for said in [agent.stdout(), agent.stderr(), text] {
        assert!(!said.contains(VALUE) && !said.contains(&encoded));
    }
    let journal = format!("{:?}", scene.events());
    assert!(!journal.contains(VALUE) && !journal.contains(&encoded));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_may_not_be_looked_into_is_named_and_not_clean() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip("needs root");
    }
    let scene = Scene::new().await;
    // An agent with less rights than its workload may not read what that holds.
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-sys_ptrace,-perfmon,-sys_admin", BINARY, "run", "--config"])
        .arg(scene.write(&config(&scene).text()));
    let mut agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let job = careless(&scene);
    is_there(job.id().unwrap()).await;
    let whole = event(&agent, "exposure.looked.v1", |event| {
        event["exposure"]["unseen"].to_string().contains("the environment of")
    })
    .await;
    let looked = &whole["exposure"];
    assert_eq!(looked["processes"], json!(0), "{whole:#}");
    let unseen = all(&looked["unseen"]);
    let pid = job.id().unwrap();
    assert!(
        unseen.contains(&format!("the environment of process {pid} of workload job: we may not")),
        "{unseen}"
    );
    let report = event(&agent, "report.generated.v1", |_| true).await;
    assert!(report["report"]["unjudged"].to_string().contains("KA011"), "{report:#}");
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test]
async fn a_look_into_processes_comes_with_a_restart_and_one_at_nothing_is_no_config() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    scene.write(&config(&scene).text());
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    let line =
        agent.err_line("the refusal", |line| line.to_string().contains("report.exposure.processes")).await;
    assert!(line.to_string().contains("restart"), "{line}");
    assert_eq!(agent.stop().await, Some(0));
    let nothing = Config { rest: "report: {exposure: {processes: false}}\n".into(), ..scene.config() };
    let file = scene.write(&nothing.text());
    let mut command = Command::new(BINARY);
    command.arg("check").arg(file);
    let ran = tokio::time::timeout(LIMIT, finish(command)).await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(64), "{said}");
    assert!(said.contains("report.exposure") && said.contains("neither processes nor files"), "{said}");
}
