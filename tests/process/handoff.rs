//! The undelivered tail goes through Vault to the next agent of the workload: the fault case A11 of the audit design.

use crate::{
    receivers::{Answer, HttpReceiver, ids_of_lines},
    support::{Config, LIMIT, Line, Scene, finish, until},
};
use devvault::{Fault, Matcher, Times};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf};
use tokio::process::Command;

/// A Vault that lets the identity hand over, and a receiver that is down.
async fn prepared() -> (Scene, HttpReceiver) {
    let scene = Scene::new().await;
    let read: &[&str] = &["read"];
    let rules: &[(&str, &[&str])] = &[
        ("secret/data/*", read),
        ("secret/metadata/*", read),
        ("secret/data/handoff/*", &["create", "read", "update"]),
        ("secret/metadata/handoff*", &["delete", "list", "read"]),
    ];
    scene.vault.policy("reports", rules);
    (scene, HttpReceiver::start(None, |_| Answer::status(503)).await)
}

fn config(scene: &Scene, receiver: &HttpReceiver) -> Config {
    let mut config = scene.config();
    config.audit = format!(
        "{{journal: {{dir: \"{}\", segment: 1MiB, max_size: 16MiB}}, handoff: {{mount: secret, path: handoff, identity: \
         reports}}, sinks: {{console: {{kind: stdout}}, siem: {{kind: http, url: \"http://{}/\", required: true}}}}}}",
        scene.journal().display(),
        receiver.address
    );
    config.rest = "shutdown: {grace: 10s}\n".into();
    config
}

async fn read(scene: &Scene, count: usize) {
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    for _ in 0..count {
        assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    }
}

fn parts(scene: &Scene, method: &str, area: &str) -> Vec<String> {
    let all = Matcher::path(&format!("secret/{area}/handoff/*")).method(method);
    let calls = scene.vault.calls_matching(&all);
    calls
        .into_iter()
        .filter(|call| call.status.is_some_and(|status| status < 300))
        .map(|call| call.path)
        .collect()
}

fn read_ids(scene: &Scene) -> Vec<String> {
    let reads = scene.events().into_iter().filter(|event| event["type"] == "secret.read.v1");
    reads.map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// What the receiver took, as the lines of a file that must verify.
async fn verified(scene: &Scene, receiver: &HttpReceiver, from: usize) -> Vec<String> {
    let lines: Vec<u8> = receiver.heard()[from..].iter().flat_map(|heard| heard.body.clone()).collect();
    let file = scene.path("received.jsonl");
    fs::write(&file, &lines).unwrap();
    let mut command = Command::new(crate::support::BINARY);
    command.args(["audit", "verify", "--json"]).arg(&file);
    let judged = finish(command).await;
    let text = String::from_utf8(judged.stdout).unwrap();
    assert_eq!(judged.status.code(), Some(0), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["verdict"], "good");
    ids_of_lines(&lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_that_is_down_did_not_get_is_delivered_by_the_next_agent_before_its_own() {
    let (old, receiver) = prepared().await;
    let mut agent = old.start(&config(&old, &receiver)).await;
    read(&old, 2_000).await;
    assert_eq!(agent.stop().await, Some(0));
    let written = parts(&old, "POST", "data");
    assert!(written.len() > 1, "{written:?} {}", agent.stderr());
    let stopped = old.events().into_iter().find(|event| event["type"] == "agent.stopped.v1").unwrap();
    let events = old.events().len() as u64;
    // All before it, in this journal.
    assert_eq!(stopped["agent"]["undelivered"], events - 1);
    // Another pod: nothing is left of the old one's disk.
    let new = old.another();
    receiver.obey(|_| Answer::status(200));
    let from = receiver.heard().len();
    let mut agent = new.start(&config(&new, &receiver)).await;
    read(&new, 3).await;
    until("both agents' reads at the receiver", || async {
        let got: BTreeSet<String> =
            receiver.heard()[from..].iter().flat_map(|heard| ids_of_lines(&heard.body)).collect();
        [read_ids(&old), read_ids(&new)].concat().iter().all(|id| got.contains(id)).then_some(())
    })
    .await;
    until("an empty Vault", || async {
        let gone = parts(&new, "DELETE", "metadata").into_iter().collect::<BTreeSet<_>>();
        (gone.len() == written.len()).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));
    let ids = verified(&new, &receiver, from).await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each once");
    assert!(ids.is_sorted(), "the old chain first");
    // Everything was delivered: nothing is handed on.
    assert_eq!(parts(&new, "POST", "data"), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_two_parts_the_first_one_is_delivered_and_the_rest_is_not_made_up() {
    let (old, receiver) = prepared().await;
    let mut agent = old.start(&config(&old, &receiver)).await;
    read(&old, 2_000).await;
    let second =
        Matcher::path("secret/data/handoff/*").method("POST").when(|call| call.path.ends_with("/00002"));
    old.vault.script(second.clone(), Fault::Hang, Times::Always);
    agent.signal(Signal::SIGTERM);
    old.vault.wait_for_call(&second, LIMIT).await.unwrap();
    agent.signal(Signal::SIGKILL);
    agent.wait().await;
    old.vault.clear_scripts();
    assert_eq!(parts(&old, "POST", "data").len(), 1);
    let new = old.another();
    receiver.obey(|_| Answer::status(200));
    let from = receiver.heard().len();
    let mut agent = new.start(&config(&new, &receiver)).await;
    until("an empty Vault", || async { (parts(&new, "DELETE", "metadata").len() == 1).then_some(()) }).await;
    assert_eq!(agent.stop().await, Some(0));
    let ids = verified(&new, &receiver, from).await;
    let came = read_ids(&old).into_iter().filter(|id| ids.contains(id)).count();
    assert!(came > 100 && came < 2_000, "{came}");
    assert_eq!(
        read_ids(&old)[..came],
        read_ids(&old).into_iter().filter(|id| ids.contains(id)).collect::<Vec<_>>()
    );
}

/// What `audit verify` says of a scene's journal.
async fn judged(scene: &Scene) -> (Option<i32>, Value) {
    let mut command = Command::new(crate::support::BINARY);
    command.args(["audit", "verify", "--json"]).arg(scene.journal());
    let ran = finish(command).await;
    (ran.status.code(), serde_json::from_slice(&ran.stdout).unwrap())
}

fn chain_of(events: &[Value]) -> String {
    events[0]["chain"]["uid"].as_str().unwrap().to_owned()
}

/// The segments of `chain` in a scene's journal, oldest first.
fn segments(scene: &Scene, chain: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(scene.journal()).unwrap().map(|entry| entry.unwrap().path());
    let of_chain = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(chain) && name.ends_with(".seg")
    };
    let mut found: Vec<PathBuf> = files.filter(of_chain).collect();
    found.sort();
    found
}

/// All agents of a test have the same host, and so the same source. What was taken over lies between, before or behind the
/// taker's own chains.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_with_what_was_taken_over_from_agents_of_the_same_host_verifies_good_and_tampering_is_found()
 {
    for is_older in [true, false] {
        let (old, receiver) = prepared().await;
        let new = old.another();
        let (mut agent, mut own);
        if is_older {
            agent = old.start(&config(&old, &receiver)).await;
            read(&old, 700).await;
            own = new.start(&config(&new, &receiver)).await;
            read(&new, 3).await;
        } else {
            own = new.start(&config(&new, &receiver)).await;
            read(&new, 3).await;
            agent = old.start(&config(&old, &receiver)).await;
            read(&old, 700).await;
        }
        assert_eq!(own.stop().await, Some(0));
        assert_eq!(agent.stop().await, Some(0));
        let chain = chain_of(&old.events());
        let mut agent = new.start(&config(&new, &receiver)).await;
        until("what the old one handed over", || async {
            let taken =
                new.events().into_iter().filter(|event| event["chain"]["uid"] == chain.as_str()).count();
            (taken >= 700).then_some(())
        })
        .await;
        read(&new, 3).await;
        let (code, report) = judged(&new).await;
        assert_eq!(code, Some(0), "beside the agent: {report:#}");
        assert_eq!(agent.stop().await, Some(0));
        let (code, report) = judged(&new).await;
        assert_eq!((code, report["chains"].as_array().unwrap().len()), (Some(0), 3), "{report:#}");
        let taken =
            report["chains"].as_array().unwrap().iter().find(|one| one["chain"] == chain.as_str()).unwrap();
        assert_eq!(taken["ending"], "sealed_by_successor", "{report:#}");
        let last = segments(&new, &chain).pop().unwrap();
        let whole = fs::read(&last).unwrap();
        let mut flipped = whole.clone();
        flipped[1_000] ^= 1;
        fs::write(&last, flipped).unwrap();
        assert_eq!(judged(&new).await.0, Some(10));
        fs::write(&last, &whole[..84]).unwrap();
        assert_eq!(judged(&new).await.0, Some(11), "the end of it is cut");
        fs::write(&last, &whole).unwrap();
        assert_eq!(judged(&new).await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_two_parts_that_it_takes_over_the_next_start_takes_the_rest() {
    let (old, receiver) = prepared().await;
    let mut agent = old.start(&config(&old, &receiver)).await;
    read(&old, 2_000).await;
    assert_eq!(agent.stop().await, Some(0));
    assert!(parts(&old, "POST", "data").len() > 1);
    let (new, chain) = (old.another(), chain_of(&old.events()));
    let second =
        Matcher::path("secret/data/handoff/*").method("GET").when(|call| call.path.ends_with("/00002"));
    old.vault.script(second.clone(), Fault::Hang, Times::Always);
    let mut agent = new.start(&config(&new, &receiver)).await;
    old.vault.wait_for_call(&second, LIMIT).await.unwrap();
    assert_eq!(segments(&new, &chain).len(), 1);
    agent.signal(Signal::SIGKILL);
    agent.wait().await;
    old.vault.clear_scripts();
    receiver.obey(|_| Answer::status(200));
    let from = receiver.heard().len();
    let mut agent = new.start(&config(&new, &receiver)).await;
    let got = || -> BTreeSet<String> {
        receiver.heard()[from..].iter().flat_map(|heard| ids_of_lines(&heard.body)).collect()
    };
    until("every read of the old agent", || async {
        let got = got();
        read_ids(&old).iter().all(|id| got.contains(id)).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));
    verified(&new, &receiver, from).await;
}
