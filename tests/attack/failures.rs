//! Attack 30: what fails or changes while somebody is being looked at. None of it is a yes.

use crate::{
    program::{Programs, record},
    scene::{Attacked, config, stands_still},
    support::{Agent, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::fs;

/// The child of a process, by whichever of its threads.
fn child_of(pid: i32) -> Option<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")));
    children.flatten().find_map(|children| children.split_whitespace().next()?.parse().ok())
}

/// The attestor's first process, and its worker, if that is there.
async fn attestor_of(agent: &Agent) -> (i32, i32) {
    let first = until("the attestor", || async { child_of(agent.pid) }).await;
    (first, until("its worker", || async { child_of(first) }).await)
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_while_it_looks_is_a_refusal_and_the_next_one_serves() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = programs.attacked().await;
    programs.run(&attacked, "legit").await.got_the_secret();
    let (first, worker) = attestor_of(&attacked.agent).await;
    signal(worker, Signal::SIGSTOP);
    stands_still(worker).await;
    let before = attacked.agent.descriptors();
    let asking = programs.run(&attacked, "legit");
    let killing = async {
        let accepted = || async { (attacked.agent.descriptors() > before).then_some(()) };
        until("the connection", accepted).await;
        signal(worker, Signal::SIGKILL);
    };
    let (told, ()) = tokio::join!(asking, killing);
    assert!(told.text.contains("unchallenged"), "{}", told.text);
    until("another worker", || async { child_of(first).filter(|other| *other != worker) }).await;
    programs.run(&attacked, "legit").await.got_the_secret();
    let record = attacked.record().await;
    // Where the machine was too slow, its time was over first.
    let refused =
        ["attestor_failed", "timeout"].map(|reason| format!("peer.rejected.v1 deny {reason} process"));
    assert!(refused.contains(&record[1]), "{record:?}");
    assert_eq!(
        (record.len(), &*record[0], &*record[2]),
        (3, "secret.read.v1 allow - program", "secret.read.v1 allow - program")
    );
}

/// What a worker held it takes with it: whoever was proved by it must connect again.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_proved_by_a_worker_that_was_killed_is_asked_anew() {
    let Some(programs) = Programs::new().await else { return };
    assert!(programs.compile("relayer", "tests/attack/hostile.c", &["-O2"]).await);
    let attacked = programs.attacked_where(&["relayer"]).await;
    let relay = ["relayer", "relay", "SOCKET"];
    let mut playing = programs.play(&attacked, &relay);
    playing.until("challenged").await;
    playing.say("/secrets/stripe").await;
    playing.until("answered").await;
    playing.told().got_the_secret();
    let (first, worker) = attestor_of(&attacked.agent).await;
    signal(worker, Signal::SIGKILL);
    until("another worker", || async { child_of(first).filter(|other| *other != worker) }).await;
    playing.say("/secrets/stripe").await;
    playing.until("answered").await;
    let told = playing.told();
    assert!(told.text.contains("attestor_failed"), "{}", told.text);
    playing.end().await;
    let mut playing = programs.play(&attacked, &relay);
    playing.until("challenged").await;
    playing.say("/secrets/stripe").await;
    playing.until("answered").await;
    playing.told().got_the_secret();
    playing.end().await;
    let record = record(attacked).await;
    let (read, failed) = ("secret.read.v1 allow - program", "peer.rejected.v1 deny attestor_failed program");
    assert_eq!(record, [read, failed, read]);
}

/// The config requires another program from now on: also of whoever was proved before.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_permitted_any_more_is_not_answered_any_more() {
    let Some(programs) = Programs::new().await else { return };
    assert!(programs.compile("relayer", "tests/attack/hostile.c", &["-O2"]).await);
    let attacked = programs.attacked_where(&["legit", "relayer"]).await;
    let mut playing = programs.play(&attacked, &["relayer", "relay", "SOCKET"]);
    playing.until("challenged").await;
    playing.say("/secrets/stripe").await;
    playing.until("answered").await;
    playing.told().got_the_secret();
    reload(&attacked, &programs.peer(&["legit"])).await;
    playing.say("/secrets/stripe").await;
    playing.until("answered").await;
    let told = playing.told();
    assert!(
        told.text.contains("policy_reload") && !told.text.contains(crate::support::VALUE),
        "{}",
        told.text
    );
    playing.end().await;
    programs.tell(&attacked, &["relayer", "relay", "SOCKET"]).await.got_no_nonce("digest");
    programs.run(&attacked, "legit").await.got_the_secret();
    let read = "secret.read.v1 allow - program";
    let reloaded = "peer.rejected.v1 deny policy_reload program";
    let expected = [read, reloaded, "peer.rejected.v1 deny digest process", read];
    assert_eq!(record(attacked).await, expected);
}

async fn reload(attacked: &Attacked, peer: &str) {
    attacked.scene.write(&config(&attacked.scene, peer, 300).text());
    attacked.agent.signal(Signal::SIGHUP);
    attacked.agent.err_line("the new config", |line| line["message"] == "config taken over").await;
}
