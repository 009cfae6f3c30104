//! A token for each process: other programs get one each, and it ends with them.

use crate::{
    skip,
    support::{Agent, BINARY, Config, Line, Scene, until},
};
use claviger::{
    crypto::{hex, sha256},
    peer::process::{self, Support},
};
use nix::{sys::signal::Signal, unistd::geteuid};
use serde_json::Value;
use std::{os::unix::net::UnixStream, process::Stdio};
use tokio::process::{Child, Command};

/// A scene in which `job` may have `ci`, a token for each process, and an agent in it; nothing where that cannot be had.
async fn started() -> Option<(Scene, Agent)> {
    if *process::support() != Support::Given {
        skip("needs a kernel that can prove level process (Linux 6.9)");
        return None;
    }
    let scene = Scene::new().await;
    let all: &[&str] = &["create", "read", "update"];
    scene
        .vault
        .policy("reports", &[("auth/token/create", all), ("auth/token/revoke-self", all), ("secret/*", all)]);
    let agent = scene.start(&config(&scene, "15m", "process")).await;
    Some((scene, agent))
}

fn config(scene: &Scene, ttl: &str, level: &str) -> Config {
    let uid = geteuid().as_raw();
    let workload = scene.workload("job", uid, "[{name: keys, secrets: [ci]}]");
    let workload = workload.replace(&format!("{{uid: {uid}}}"), &format!("{{uid: {uid}, level: {level}}}"));
    let secrets = format!(
        "{{ci: {{identity: reports, kind: token, policies: [reports], ttl: {ttl}, per_process: true, grace: 0s}}}}"
    );
    Config { workloads: format!("\n{workload}"), secrets, ..scene.config() }
}

/// A program that has been given a token in its environment, and lives until it is killed.
async fn program(scene: &Scene) -> Child {
    let mut command = Command::new(BINARY);
    command.args(["exec", "--env", "CI_TOKEN=ci", "--", "cat"]).env("CLAVIGER_SOCKET", scene.socket("job"));
    let program = command.stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    // It has become what it was to become: so it was given the token, and its connection is closed.
    let name = format!("/proc/{}/comm", program.id().unwrap());
    until("the program", || async { (std::fs::read_to_string(&name).ok()? == "cat\n").then_some(()) }).await;
    program
}

/// The children that live in Vault, each by the hash that events name it by.
fn children(scene: &Scene) -> Vec<String> {
    let tokens = scene.vault.tokens().into_iter().filter(|token| token.parent.is_some());
    tokens.map(|token| hex(&sha256(token.accessor.as_bytes()))).collect()
}

async fn until_children(scene: &Scene, count: usize) -> Vec<String> {
    until("so many children", || async { Some(children(scene)).filter(|found| found.len() == count) }).await
}

/// Stops the agent, which leaves no token behind and waits for nothing.
async fn stop(scene: &Scene, agent: &mut Agent) {
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(scene.vault.tokens().len(), 0);
    assert!(!agent.stderr().contains("cut off"), "{}", agent.stderr());
    assert!(scene.events().iter().any(|event| event["type"] == "agent.stopped.v1"));
}

async fn value(line: &mut Line) -> String {
    let reply = line.ask("/secrets/ci").await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["value"].as_str().unwrap().to_owned()
}

fn hash_of(event: &Value) -> &str {
    event["resource"]["lease_id_hash"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_killed_long_after_it_was_given_a_token_takes_it_along() {
    let Some((scene, mut agent)) = started().await else { return };
    let (mut one, two) = (program(&scene).await, program(&scene).await);
    let both = until_children(&scene, 2).await;
    let page = agent.page("/metrics").await.body;
    assert!(page.contains("claviger_process_tokens{secret=\"ci\"} 2.0\n"), "{page}");
    let pid = one.id().unwrap();
    one.start_kill().unwrap();
    one.wait().await.unwrap();
    let left = until_children(&scene, 1).await;
    // The record joins what was given to a process with what was taken back.
    let read = agent
        .event("the read", |event| event["type"] == "secret.read.v1" && event["actor"]["pid"] == pid)
        .await;
    let revoked = agent.event("the revocation", |event| event["type"] == "lease.revoked.v1").await;
    assert_eq!((hash_of(&read), &revoked["outcome"]), (hash_of(&revoked), &"allow".into()));
    assert!(both.contains(&hash_of(&read).to_owned()) && !left.contains(&hash_of(&read).to_owned()));
    assert_eq!((&read["cache"]["hit"], &read["resource"]["kind"]), (&false.into(), &"token".into()));
    // A command that only shows it has ended by the time that anybody could use it.
    let shown = scene.claviger(&["get", "ci"]).await;
    assert!(shown.status.success(), "{shown:?}");
    assert_eq!(until_children(&scene, 1).await, left);
    stop(&scene, &mut agent).await;
    drop(two);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_of_a_process_are_given_its_one_token() {
    let Some((scene, mut agent)) = started().await else { return };
    let other = program(&scene).await;
    let socket = scene.socket("job");
    let (mut one, mut two) = (Line::open(&socket).await.unwrap(), Line::open(&socket).await.unwrap());
    let list = one.ask("/secrets").await.unwrap().json();
    assert_eq!(list["secrets"][0]["generation"], Value::Null, "what others have is not listed: {list}");
    let token = value(&mut one).await;
    assert_eq!(value(&mut two).await, token);
    let list = two.ask("/secrets").await.unwrap().json();
    assert_eq!(
        (&list["secrets"][0]["kind"], &list["secrets"][0]["generation"]),
        (&"token".into(), &1.into())
    );
    drop((one, two));
    assert_eq!(value(&mut Line::open(&socket).await.unwrap()).await, token);
    assert_eq!(children(&scene).len(), 2);
    stop(&scene, &mut agent).await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_lets_another_one_use_its_connection_loses_its_token_at_once() {
    let Some((scene, mut agent)) = started().await else { return };
    let stream = UnixStream::connect(scene.socket("job")).unwrap();
    let lent = stream.try_clone().unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut line = Line::over(tokio::net::UnixStream::from_std(stream).unwrap());
    let token = value(&mut line).await;
    let before = until_children(&scene, 1).await;
    let mut command = Command::new("sh");
    command.args(["-c", r"printf 'GET /secrets/ci HTTP/1.1\r\nHost: x\r\n\r\n' >&0"]);
    let status = command.stdin(Stdio::from(std::os::fd::OwnedFd::from(lent))).status().await.unwrap();
    assert!(status.success());
    assert!(line.ends().await);
    until_children(&scene, 0).await;
    // We live, and may ask again.
    assert_ne!(value(&mut Line::open(&scene.socket("job")).await.unwrap()).await, token);
    assert_ne!(until_children(&scene, 1).await, before);
    stop(&scene, &mut agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_settings_bring_new_tokens_and_a_level_that_names_no_process_is_refused() {
    let Some((scene, mut agent)) = started().await else { return };
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    let token = value(&mut line).await;
    let before = until_children(&scene, 1).await;
    scene.write(&config(&scene, "15m", "user").text());
    agent.signal(Signal::SIGHUP);
    agent.event("the refusal", |event| event["type"] == "config.rejected.v1").await;
    let why = "names no process; write level: process";
    agent.err_line(why, |line| line.to_string().contains(why)).await;
    assert_eq!(value(&mut line).await, token);
    scene.write(&config(&scene, "20m", "process").text());
    agent.signal(Signal::SIGHUP);
    agent.event("the change", |event| event["type"] == "config.loaded.v1").await;
    assert_ne!(value(&mut line).await, token);
    let after = until("the end of the old one", || async {
        Some(children(&scene)).filter(|found| !found.contains(&before[0]))
    })
    .await;
    assert_eq!(after.len(), 1);
    stop(&scene, &mut agent).await;
}
