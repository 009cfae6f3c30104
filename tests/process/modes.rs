//! When a read is answered, by the audit's mode; and what a flood of refusals, or a receiver that is silent, does to reads.

use crate::{
    receivers::{Answer, HttpReceiver, ids_of_lines},
    support::{Line, Scene, VALUE, until},
};
use std::time::Instant;
use tokio::task::JoinSet;

/// The header of a request that belongs to a trace.
const TRACED: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

fn audit(scene: &Scene, rest: &str) -> String {
    let dir = scene.journal();
    format!("{{journal: {{dir: \"{}\", segment: 1MiB, max_size: 8MiB}}, {rest}}}", dir.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_strict_remote_no_read_is_answered_before_the_receiver_has_its_event() {
    let scene = Scene::new().await;
    let receiver = HttpReceiver::start(None, |_| Answer::status(200)).await;
    let mut config = scene.config();
    let url = format!("http://{}/events", receiver.address);
    config.audit = audit(
        &scene,
        &format!("sinks: {{siem: {{kind: http, url: \"{url}\", timeout: 300ms, required: true}}}}"),
    );
    config.workloads =
        config.workloads.replace("secrets: [stripe]", "secrets: [stripe], audit: strict-remote");
    let mut agent = scene.start(&config).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    for _ in 0..5 {
        let reply = line.ask("/secrets/stripe").await.unwrap();
        assert_eq!((reply.status, reply.body.contains(VALUE)), (200, true));
        let read = scene.events().into_iter().rfind(|event| event["type"] == "secret.read.v1").unwrap();
        assert_eq!(read["rule"]["mode"], "strict-remote");
        let id = read["id"].as_str().unwrap().to_owned();
        assert!(receiver.ids().contains(&id), "{id} was answered and not sent");
    }
    receiver.obey(|_| Answer::Silence);
    let refused = line.ask("/secrets/stripe").await.unwrap();
    assert_eq!(
        (refused.status, &refused.json()["reason"]),
        (503, &"audit_unavailable".into()),
        "{refused:?}"
    );
    assert!(!refused.body.contains(VALUE) && refused.header("retry-after").is_some());
    // What discloses nothing waits for nobody.
    assert_eq!(line.ask("/secrets/nothing").await.unwrap().status, 403);
    // The read is on record as one, and then as one that was not delivered.
    until("undelivered", || async {
        scene.events().iter().any(|event| event["reason"] == "undelivered").then_some(())
    })
    .await;
    receiver.obey(|_| Answer::status(200));
    until("an answer", || async {
        let mut line = Line::open(&scene.socket("job")).await.unwrap();
        (line.ask("/secrets/stripe").await.unwrap().status == 200).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));
    let came = receiver.heard().iter().flat_map(|heard| ids_of_lines(&heard.body)).collect::<Vec<_>>();
    assert!(scene.events().iter().all(|event| came.iter().any(|id| event["id"] == id.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_hurts_no_permitted_read_and_is_counted_exactly() {
    const EACH: usize = 4_000;
    let scene = Scene::new().await;
    let mut config = scene.config();
    let uid = nix::unistd::geteuid().as_raw();
    config.workloads += &scene.workload("calm", uid, "[{name: keys, secrets: [stripe]}]");
    config.audit = audit(&scene, "sinks: {console: {kind: stdout}}");
    let mut agent = scene.start(&config).await;
    let started = Instant::now();
    let mut floods = JoinSet::new();
    for _ in 0..4 {
        let mut line = Line::open(&scene.socket("job")).await.unwrap();
        floods.spawn(async move {
            for _ in 0..EACH {
                assert_eq!(line.ask("/secrets/nothing").await.unwrap().status, 403);
            }
        });
    }
    // Both by the flooded socket and by another one.
    let mut reads = 0;
    let mut lines =
        [Line::open(&scene.socket("job")).await.unwrap(), Line::open(&scene.socket("calm")).await.unwrap()];
    while !floods.is_empty() {
        for line in &mut lines {
            let reply = line.ask("/secrets/stripe").await.unwrap();
            assert_eq!((reply.status, reply.body.contains(VALUE)), (200, true), "{reply:?}");
            reads += 1;
        }
        while let Some(done) = floods.try_join_next() {
            done.unwrap();
        }
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert_eq!(agent.stop().await, Some(0));
    let events = scene.events();
    let refused: Vec<_> = events.iter().filter(|event| event["type"] == "secret.denied.v1").collect();
    let counted: u64 = refused.iter().map(|event| event["agg"]["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!(counted, 4 * EACH as u64);
    // Fifty at once, ten a second, one count a second.
    assert!(refused.len() <= 50 + 11 * (seconds + 1), "{} in {seconds} s", refused.len());
    // Which is less than 1 MiB a minute.
    let longest = refused.iter().map(|event| event.to_string().len()).max().unwrap();
    assert!(11 * 60 * (longest + 8) < 1024 * 1024, "{longest} bytes");
    let allowed = events.iter().filter(|event| event["type"] == "secret.read.v1" && event["agg"].is_null());
    assert_eq!(allowed.count(), reads, "each read has an event of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_name_the_pod_the_process_the_engine_and_the_trace() {
    let scene = Scene::new().await;
    let mut command = scene.run(&scene.config());
    for (name, value) in [
        ("CLUSTER", "prod"),
        ("NAMESPACE", "payments"),
        ("POD_NAME", "api-7c9d"),
        ("POD_UID", "0d0c0b0a-0000-4000-8000-000000000001"),
        ("SERVICE_ACCOUNT", "api"),
        ("NODE", "n1"),
    ] {
        command.env(format!("CLAVIGER_{name}"), value);
    }
    command.env("CLAVIGER_OWNER", <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"api\xff"));
    let mut agent = crate::support::Agent::spawn(command).await;
    agent.until_ready().await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    line.send(&format!("GET /secrets/stripe HTTP/1.1\r\nHost: x\r\n{TRACED}\r\n")).await.unwrap();
    assert_eq!(line.hear().await.unwrap().status, 200);
    let twice = format!("GET /secrets/stripe HTTP/1.1\r\nHost: x\r\n{TRACED}{TRACED}\r\n");
    line.send(&twice).await.unwrap();
    assert_eq!(line.hear().await.unwrap().status, 200);
    assert_eq!(agent.stop().await, Some(0));
    let events = scene.events();
    let pod = serde_json::json!({
        "node": "n1", "ns": "payments", "owner": "api\\xff", "pod": "api-7c9d",
        "pod_uid": "0d0c0b0a-0000-4000-8000-000000000001", "sa": "api",
    });
    for event in &events {
        assert_eq!(event["k8s"], pod);
        assert_eq!(event["source"], "urn:claviger:prod/payments/api-7c9d/claviger");
    }
    let reads: Vec<_> = events.iter().filter(|event| event["type"] == "secret.read.v1").collect();
    let trace = serde_json::json!({"id": "4bf92f3577b34da6a3ce929d0e0e4736", "span": "00f067aa0ba902b7"});
    assert_eq!((&reads[0]["trace"], reads[1].get("trace")), (&trace, None));
    assert_eq!(reads[0]["resource"]["mount"], "secret");
    // At level `process`, where the kernel proves it, the label is what /proc says of us.
    if reads[0]["actor"]["level"] == "process" {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let started = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap();
        assert_eq!(reads[0]["actor"]["start_time"], started);
    }
}
