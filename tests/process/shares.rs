//! Workloads that share a journal while a required sink's receiver is away: none takes the others' room.

use crate::{
    receivers::{Answer, HttpReceiver, ids_of_lines},
    support::{Agent, Config, LIMIT, Line, Reply, Scene, until},
};
use nix::{sys::signal::Signal, unistd::geteuid};
use std::collections::BTreeSet;

/// Two workloads, one required sink whose receiver refuses.
async fn prepared() -> (Scene, HttpReceiver, Config) {
    let scene = Scene::new().await;
    let receiver = HttpReceiver::start(None, |_| Answer::status(503)).await;
    let mut config = scene.config();
    let rules = "[{name: keys, secrets: [stripe]}]";
    config.workloads += &scene.workload("web", geteuid().as_raw(), rules);
    config.audit = format!(
        "{{mode: buffered, journal: {{dir: \"{}\", segment: 1MiB, max_size: 8MiB}}, sinks: {{console: {{kind: stdout}}, siem: {{kind: http, \
         url: \"http://{}/\", required: true}}}}}}",
        scene.journal().display(),
        receiver.address
    );
    (scene, receiver, config)
}

async fn read(scene: &Scene, workload: &str) -> Reply {
    Line::open(&scene.socket(workload)).await.unwrap().ask("/secrets/stripe").await.unwrap()
}

/// Reads as `job` until it is refused.
async fn fill(scene: &Scene) -> (Reply, usize) {
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    let mut reads = 0;
    loop {
        let reply = line.ask("/secrets/stripe").await.unwrap();
        if reply.status != 200 {
            return (reply, reads);
        }
        reads += 1;
    }
}

async fn reads_again(scene: &Scene, agent: &Agent) {
    until("a read", || async { (read(scene, "job").await.status == 200).then_some(()) }).await;
    assert_eq!(agent.page("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_whose_events_fill_half_of_the_journal_is_refused_and_the_others_go_on() {
    let (scene, receiver, config) = prepared().await;
    let mut agent = scene.start(&config).await;
    let (refused, _) = fill(&scene).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (503, &"audit_unavailable".into()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let said = refused.json()["errors"][0].as_str().unwrap().to_owned();
    assert!(said.contains("this workload") && said.contains("half"), "{said}");
    // It holds half, give or take a batch; the other one and refusals have room, and the agent is ready.
    let held: usize = scene.events().iter().filter(|event| event["workload"] == "job").count();
    for _ in 0..200 {
        assert_eq!(read(&scene, "web").await.status, 200);
    }
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(line.ask("/secrets/nothing").await.unwrap().status, 403);
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 503);
    assert_eq!(agent.page("/readyz").await.status, 200);
    agent.err_line("who fills it", |line| line["workload"] == "job" && line["level"] == "ERROR").await;
    let reads = scene.events().into_iter().filter(|event| event["workload"] == "job").count();
    assert_eq!(reads, held + 1, "only the refusal came to it");
    receiver.obey(|_| Answer::status(200));
    reads_again(&scene, &agent).await;
    let all: BTreeSet<String> =
        scene.events().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    until("every event at the receiver", || async {
        let got: BTreeSet<String> =
            receiver.heard().iter().flat_map(|heard| ids_of_lines(&heard.body)).collect();
        all.is_subset(&got).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_start_could_not_deliver_counts_for_its_workload_after_a_restart() {
    let (scene, receiver, config) = prepared().await;
    let mut agent = scene.start(&config).await;
    let (_, before) = fill(&scene).await;
    agent.signal(Signal::SIGKILL);
    agent.wait().await;
    let mut agent = scene.start(&config).await;
    // Its old segments are weighed when the journal has a moment.
    let (refused, after) = tokio::time::timeout(LIMIT, fill(&scene)).await.unwrap();
    assert_eq!(refused.status, 503);
    assert!(after < before / 2, "{after} more after {before}");
    assert_eq!(read(&scene, "web").await.status, 200);
    receiver.obey(|_| Answer::status(200));
    reads_again(&scene, &agent).await;
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_best_effort_reads_beyond_the_half_are_answered_and_the_exact_count_of_those_lost_is_on_record() {
    let (scene, _receiver, mut config) = prepared().await;
    config.audit = config.audit.replacen("buffered", "best-effort", 1);
    let mut agent = scene.start(&config).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    let (mut reads, mut looks) = (0_u64, 0);
    while looks < 3 {
        for _ in 0..500 {
            assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
            reads += 1;
        }
        looks += u64::from(scene.events().iter().any(|event| event["reason"] == "dropped"));
    }
    assert_eq!(read(&scene, "web").await.status, 200);
    assert_eq!(agent.stop().await, Some(0));
    let events = scene.events();
    let recorded = events.iter().filter(|event| event["workload"] == "job").count() as u64;
    let gaps = events.iter().filter(|event| event["reason"] == "dropped");
    let lost: u64 = gaps.map(|event| event["agg"]["count"].as_u64().unwrap()).sum();
    assert!(lost > 0);
    assert_eq!(recorded + lost, reads, "{recorded} and {lost}");
}
