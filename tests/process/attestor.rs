//! The agent and its second process, the attestor.

use crate::support::{Config, Scene, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::fs;

/// The children of a process, by its one thread that has them.
fn children(pid: i32) -> Vec<i32> {
    let told = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    told.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn config(scene: &Scene, peer: &str) -> Config {
    let workloads = format!(
        "\n  job: {{socket: {{path: \"{}\"}}, peer: {{{peer}}}, rules: [{{name: keys, secrets: [stripe]}}]}}\n",
        scene.socket("job").display()
    );
    Config { workloads, ..scene.config() }
}

#[tokio::test]
async fn the_attestor_is_there_only_for_levels_that_need_it_and_ends_with_the_agent() {
    if !can_tell_containers() {
        return;
    }
    let scene = Scene::new().await;
    let mut agent = scene.start(&config(&scene, "level: user")).await;
    assert_eq!(children(agent.pid), [0; 0]);
    assert_eq!(agent.stop().await, Some(0));
    let mut agent = scene.start(&config(&scene, "level: container")).await;
    let parent = children(agent.pid)[0];
    let worker = until("the worker", || async { children(parent).first().copied() }).await;
    assert_eq!(agent.stop().await, Some(0), "{}", agent.stderr());
    until("both to end", || async {
        let gone = |pid: i32| !fs::exists(format!("/proc/{pid}")).unwrap();
        (gone(parent) && gone(worker)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_whose_attestor_was_killed_ends_and_says_why() {
    if !can_tell_containers() {
        return;
    }
    let scene = Scene::new().await;
    let mut agent = scene.start(&config(&scene, "level: container")).await;
    let parent = children(agent.pid)[0];
    kill(Pid::from_raw(parent), Signal::SIGKILL).unwrap();
    assert_eq!(agent.wait().await.code(), Some(1));
    assert!(agent.stderr().contains("the task attestor ended by itself"), "{}", agent.stderr());
}

#[tokio::test]
async fn a_level_that_needs_an_attestor_comes_only_with_a_restart() {
    if !can_tell_containers() {
        return;
    }
    let scene = Scene::new().await;
    let mut agent = scene.start(&config(&scene, "level: user")).await;
    scene.write(&config(&scene, "level: container").text());
    kill(Pid::from_raw(agent.pid), Signal::SIGHUP).unwrap();
    let line =
        agent.err_line("the refusal", |line| line.to_string().contains("workloads.job.peer.level")).await;
    assert!(line.to_string().contains("restart"), "{line}");
    assert_eq!(agent.stop().await, Some(0));
}

/// Whether this machine can do that; says so if not.
fn can_tell_containers() -> bool {
    use claviger::peer::{container, process::Support};
    let given = *container::support() == Support::Given;
    if !given {
        crate::skip("needs level container");
    }
    given
}
