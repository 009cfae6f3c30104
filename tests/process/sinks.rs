//! Where events go on to: files, webhooks, collectors, syslog, Splunk, each with a receiver that is as strict as the
//! protocol's text. The fault cases A7 to A10 and A15 of the audit design.

use crate::{
    receivers::{Answer, DatagramReceiver, Heard, HttpReceiver, Pki, SyslogReceiver, ids_of_lines},
    support::{Agent, Config, Line, Scene, until},
};
use claviger::crypto::{hex, hmac_sha256};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

/// The scene's config with these sinks beside standard output.
fn with_sinks(scene: &Scene, sinks: &str) -> Config {
    let mut config = scene.config();
    let dir = scene.journal();
    config.audit = format!(
        "{{journal: {{dir: \"{}\", segment: 1MiB, max_size: 8MiB}}, sinks: {{console: {{kind: stdout}}, {sinks}}}}}",
        dir.display()
    );
    config
}

/// Reads the secret `count` times, each of which must be answered.
async fn read(scene: &Scene, count: usize) {
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    for _ in 0..count {
        assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    }
}

/// The ids of all events in the journal, oldest first.
fn journalled(scene: &Scene) -> Vec<String> {
    scene.events().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until `got` holds everything that is in the journal.
async fn all_arrived(scene: &Scene, got: impl Fn() -> Vec<String>) {
    until("every event at the receiver", || async {
        let (want, got) = (journalled(scene), got().into_iter().collect::<BTreeSet<_>>());
        want.iter().all(|id| got.contains(id)).then_some(())
    })
    .await;
}

/// Each id once, in the order of the first time: what a receiver keeps that removes duplicates.
fn deduplicated(ids: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    ids.iter().filter(|id| seen.insert((*id).clone())).cloned().collect()
}

async fn metric(agent: &Agent, name: &str) -> Option<f64> {
    let page = agent.page("/metrics").await.body;
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The ids of the events in a file that may be written to right now: its whole lines.
fn ids_in(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if end == 0 { Vec::new() } else { ids_of_lines(&bytes[..end]) }
}

/// The lines of such a file.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    std::str::from_utf8(&text[..end]).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_holds_exactly_the_journalled_lines_and_survives_logrotate() {
    let scene = Scene::new().await;
    let path = scene.path("audit.jsonl");
    let config = with_sinks(&scene, &format!("archive: {{kind: file, path: \"{}\"}}", path.display()));
    let mut agent = scene.start(&config).await;
    read(&scene, 5).await;
    let ids = || ids_in(&path);
    all_arrived(&scene, ids).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // As logrotate does it: rename, then SIGHUP.
    let moved = scene.path("audit.jsonl.moved");
    fs::rename(&path, &moved).unwrap();
    let before = lines(&moved).len();
    agent.signal(Signal::SIGHUP);
    read(&scene, 5).await;
    all_arrived(&scene, || [ids_in(&moved), ids_in(&path)].concat()).await;
    assert_eq!((lines(&moved).len(), lines(&path).len() >= 5), (before, true));
    // Deleted, without a word: seen at the next event.
    let second = lines(&path);
    fs::remove_file(&path).unwrap();
    read(&scene, 1).await;
    until("the third file", || async { (!lines(&path).is_empty()).then_some(()) }).await;
    assert_eq!(agent.stop().await, Some(0));
    // All three together are the journal, byte for byte, in order.
    let all: Vec<String> = [lines(&moved), second, lines(&path)].concat();
    assert_eq!(all.join("\n"), agent.stdout().trim_end());
    // The next agent goes on where this one stopped.
    let mut agent = scene.start(&config).await;
    assert_eq!(agent.stop().await, Some(0));
    let first = lines(&path).len();
    assert_eq!(ids_of_lines(&fs::read(&path).unwrap()).into_iter().collect::<BTreeSet<_>>().len(), first);
}

/// A7, with a smaller flood: `no_request_waits_for_a_sink` in `tests/architecture.rs` is its other half.
#[tokio::test(flavor = "multi_thread")]
async fn a_required_receiver_in_a_black_hole_slows_no_read_and_gets_everything_in_order_later() {
    let scene = Scene::new().await;
    let receiver = HttpReceiver::start(None, |_| Answer::Silence).await;
    let url = format!("http://{}/events", receiver.address);
    let sink = format!("siem: {{kind: http, url: \"{url}\", timeout: 300ms, required: true}}");
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    read(&scene, 2_000).await;
    let down = agent.event("down", |event| event["type"] == "audit.sink.down.v1").await;
    assert_eq!(
        (&down["sink"]["name"], &down["sink"]["code"], &down["reason"]),
        (&"siem".into(), &"timeout".into(), &"sink_failed".into())
    );
    assert!(metric(&agent, "audit_sink_lag_events{sink=\"siem\"} ").await.unwrap() >= 2_000.0);
    assert_eq!(agent.page("/readyz").await.status, 200);
    let lost = receiver.ids().into_iter().collect::<BTreeSet<_>>();
    receiver.obey(|_| Answer::status(200));
    let from = receiver.heard().len();
    let came =
        || receiver.heard()[from..].iter().flat_map(|heard| ids_of_lines(&heard.body)).collect::<Vec<_>>();
    all_arrived(&scene, came).await;
    agent.event("up", |event| event["type"] == "audit.sink.up.v1").await;
    assert!(metric(&agent, "audit_sink_errors_total{sink=\"siem\",code=\"timeout\"} ").await.unwrap() >= 2.0);
    assert_eq!(agent.stop().await, Some(0));
    // Nothing that was only sent into the hole was taken for delivered, and no id came twice.
    let came = came();
    assert!(lost.iter().all(|id| came.contains(id)));
    // Standard output, which is not required, has had them all too: the journal has let go of what the receiver has.
    assert_eq!(came, ids_of_lines(agent.stdout().as_bytes()), "in order, each once");
}

/// A8.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_whose_answer_is_lost_gets_the_same_events_under_the_same_key_again() {
    let scene = Scene::new().await;
    let mut silent = 3;
    let receiver = HttpReceiver::start(None, move |_| {
        silent -= 1;
        if silent >= 0 { Answer::Silence } else { Answer::status(204) }
    })
    .await;
    let sink = format!("siem: {{kind: http, url: \"http://{}/\", timeout: 300ms}}", receiver.address);
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    read(&scene, 20).await;
    all_arrived(&scene, || receiver.ids()).await;
    until("an answer", || async { (receiver.heard().len() > 3).then_some(()) }).await;
    let heard = receiver.heard();
    for again in &heard[1..4] {
        assert_eq!(again.header("idempotency-key"), heard[0].header("idempotency-key"));
        assert_eq!(again.body, heard[0].body);
    }
    let ids = ids_of_lines(&heard[0].body);
    assert_eq!(heard[0].header("idempotency-key"), format!("{}-{}", ids[0], ids.last().unwrap()));
    assert_eq!(heard[0].header("content-type"), "application/x-ndjson");
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(deduplicated(&receiver.ids()), journalled(&scene));
}

/// A9.
#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_a_receiver_refuses_becomes_a_dead_letter_and_holds_up_nothing() {
    let scene = Scene::new().await;
    let poison = |heard: &Heard| {
        let text = String::from_utf8_lossy(&heard.body);
        if text.contains("\"reason\":\"no_rule\"") { Answer::status(400) } else { Answer::status(200) }
    };
    let receiver = HttpReceiver::start(None, poison).await;
    let sink = format!("siem: {{kind: http, url: \"http://{}/\"}}", receiver.address);
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    read(&scene, 50).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(line.ask("/secrets/nothing").await.unwrap().status, 403);
    read(&scene, 50).await;
    let dead = agent.event("a dead letter", |event| event["type"] == "audit.dlq.v1").await;
    assert_eq!(dead["sink"], serde_json::json!({"code": "400", "events": 1, "name": "siem"}));
    let poisoned = scene.events().into_iter().find(|event| event["reason"] == "no_rule").unwrap();
    let taken = || {
        let heard = receiver.heard();
        let taken = heard.iter().filter(|heard| matches!(poison(heard), Answer::Say(200, ..)));
        taken.flat_map(|heard| ids_of_lines(&heard.body)).collect::<Vec<_>>()
    };
    until("all others", || async {
        let (got, poison) = (taken(), poisoned["id"].as_str().unwrap());
        journalled(&scene).iter().all(|id| id == poison || got.contains(id)).then_some(())
    })
    .await;
    assert_eq!(metric(&agent, "audit_dlq_total ").await, Some(1.0));
    let letters = lines(&scene.journal().join("dlq-siem.jsonl"));
    let letter: Value = serde_json::from_str(&letters[0]).unwrap();
    assert_eq!((letters.len(), &letter["event"], &letter["reason"]), (1, &poisoned, &"400".into()));
    assert_eq!(agent.stop().await, Some(0));
    let want: Vec<String> =
        journalled(&scene).into_iter().filter(|id| poisoned["id"] != id.as_str()).collect();
    assert_eq!(taken(), want, "in order, each once");
}

/// A request of OTLP/HTTP with JSON, by the protocol's text: what is in it, or a panic.
fn otlp(heard: &Heard) -> Vec<Value> {
    assert_eq!((heard.path.as_str(), heard.header("content-type")), ("/v1/logs", "application/json"));
    let body: Value = serde_json::from_slice(&heard.body).unwrap();
    let mut records = Vec::new();
    for resource in body["resourceLogs"].as_array().unwrap() {
        let service = &resource["resource"]["attributes"][0];
        assert_eq!(
            (&service["key"], &service["value"]["stringValue"]),
            (&"service.name".into(), &"claviger".into())
        );
        for scope in resource["scopeLogs"].as_array().unwrap() {
            records.extend(scope["logRecords"].as_array().unwrap().iter().cloned());
        }
    }
    for record in &records {
        // 64-bit integers are texts in protobuf's JSON; enums are numbers in OTLP's.
        for time in ["timeUnixNano", "observedTimeUnixNano"] {
            assert!(record[time].as_str().unwrap().parse::<u64>().unwrap() > 1_600_000_000_000_000_000);
        }
        assert!([9, 13, 17].contains(&record["severityNumber"].as_u64().unwrap()));
        let event: Value = serde_json::from_str(record["body"]["stringValue"].as_str().unwrap()).unwrap();
        assert_eq!(record["eventName"], event["type"]);
        let attributes: BTreeMap<&str, &Value> = record["attributes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attribute| (attribute["key"].as_str().unwrap(), &attribute["value"]["stringValue"]))
            .collect();
        assert_eq!(attributes.len(), record["attributes"].as_array().unwrap().len(), "a key twice");
        assert_eq!(attributes["log.record.uid"], &event["id"]);
        assert_eq!(attributes["audit.sequence.prev_hash"], &event["chain"]["prev"]);
    }
    records
}

/// A10.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_success_of_otlp_is_not_sent_again_and_what_is_unsure_is_kept() {
    let scene = Scene::new().await;
    let mut first = true;
    let receiver = HttpReceiver::start(None, move |heard| {
        let text = if otlp(heard).len() >= 10 && std::mem::take(&mut first) {
            r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}"#
        } else {
            "{}"
        };
        Answer::Say(200, "content-type: application/json", text.to_owned())
    })
    .await;
    let sink = format!("otel: {{kind: otlp, url: \"http://{}/v1/logs\", required: true}}", receiver.address);
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    read(&scene, 100).await;
    let ids = |heard: &Heard| -> Vec<String> {
        let bodies =
            otlp(heard).into_iter().map(|record| record["body"]["stringValue"].as_str().unwrap().to_owned());
        ids_of_lines(bodies.map(|line| line + "\n").collect::<String>().as_bytes())
    };
    let all = || receiver.heard().iter().flat_map(ids).collect::<Vec<_>>();
    let dead = agent.event("the loss", |event| event["type"] == "audit.dlq.v1").await;
    all_arrived(&scene, all).await;
    let (count, of) = (&dead["sink"]["events"], dead["sink"]["of"].as_u64().unwrap());
    assert_eq!((count, &dead["reason"]), (&3.into(), &"sink_partial".into()));
    assert_eq!(metric(&agent, "audit_dlq_total ").await, Some(3.0));
    let letters = lines(&scene.journal().join("dlq-otel.jsonl"));
    assert_eq!(letters.len() as u64, of);
    assert!(letters.iter().all(|line| line.contains(&format!("\"reason\":\"indeterminate(3/{of})\""))));
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(all(), journalled(&scene), "each once, the half taken batch too");
}

/// A15: the process is killed again and again, so some kill falls between any two steps of saving a place.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_a_required_sink_loses_nothing_and_repeats_one_batch_at_most() {
    let scene = Scene::new().await;
    let receiver = HttpReceiver::start(None, |_| Answer::status(200)).await;
    let sink = format!("siem: {{kind: http, url: \"http://{}/\", required: true}}", receiver.address);
    let config = with_sinks(&scene, &sink);
    let (kills, mut seen) = (8_u64, BTreeSet::new());
    for kill in 0..kills {
        let mut agent = scene.start(&config).await;
        // Counted before: all may have gone out while the last one is read.
        let from = receiver.heard().len();
        read(&scene, 300).await;
        until("a delivery", || async { (receiver.heard().len() > from).then_some(()) }).await;
        tokio::time::sleep(Duration::from_micros(700 * kill)).await;
        agent.signal(Signal::SIGKILL);
        agent.wait().await;
        seen.extend(journalled(&scene));
    }
    let mut agent = scene.start(&config).await;
    seen.extend(journalled(&scene));
    all_arrived(&scene, || receiver.ids()).await;
    // Killed again: what a stop has a second to deliver is not what this is about.
    agent.signal(Signal::SIGKILL);
    agent.wait().await;
    let (came, batches) = (receiver.ids(), receiver.heard());
    let once = deduplicated(&came);
    let got: BTreeSet<_> = once.iter().cloned().collect();
    let mut written = seen.clone();
    written.extend(journalled(&scene));
    let (lost, made_up): (Vec<_>, Vec<_>) =
        (seen.difference(&got).collect(), got.difference(&written).collect());
    assert!(lost.is_empty() && made_up.is_empty(), "lost {lost:#?}, made up {made_up:#?}");
    assert!(once.is_sorted(), "in order");
    let twice = batches.iter().enumerate().filter(|(place, heard)| {
        let first = ids_of_lines(&heard.body).remove(0);
        batches[..*place].iter().any(|earlier| ids_of_lines(&earlier.body).contains(&first))
    });
    assert!(twice.count() as u64 <= kills, "more than one batch a kill came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_full_of_what_a_required_sink_did_not_take_refuses_reads_until_it_takes_it() {
    let scene = Scene::new().await;
    let receiver = HttpReceiver::start(None, |_| Answer::Say(503, "retry-after: 1", String::new())).await;
    let sink = format!("siem: {{kind: http, url: \"http://{}/\", required: true}}", receiver.address);
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    let refused = loop {
        let reply = line.ask("/secrets/stripe").await.unwrap();
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((refused.status, &refused.json()["reason"]), (503, &"audit_unavailable".into()));
    // Refusals and the agent's own events have room of their own.
    assert_eq!(line.ask("/secrets/nothing").await.unwrap().status, 403);
    until("not ready", || async { (agent.page("/readyz").await.status == 503).then_some(()) }).await;
    let before = journalled(&scene);
    receiver.obey(|_| Answer::status(200));
    until("a read", || async {
        let mut line = Line::open(&scene.socket("job")).await.unwrap();
        (line.ask("/secrets/stripe").await.unwrap().status == 200).then_some(())
    })
    .await;
    let taken = || {
        let heard = receiver.heard();
        heard.iter().flat_map(|heard| ids_of_lines(&heard.body)).collect::<BTreeSet<_>>()
    };
    until("all of it", || async {
        let taken = taken();
        before.iter().all(|id| taken.contains(id)).then_some(())
    })
    .await;
    agent.until_ready().await;
    // What the sink has is let go long before the journal is full again.
    until("a small journal", || async {
        (metric(&agent, "audit_journal_bytes ").await.unwrap() < 4.0 * 1024.0 * 1024.0).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_sink_that_falls_behind_skips_says_so_and_refuses_no_read() {
    let scene = Scene::new().await;
    let receiver = HttpReceiver::start(None, |_| Answer::status(503)).await;
    let sink = format!("siem: {{kind: http, url: \"http://{}/\"}}", receiver.address);
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    // More than the journal holds.
    read(&scene, 22_000).await;
    receiver.obey(|_| Answer::status(200));
    let skip = agent.event("the loss", |event| event["reason"] == "sink_behind").await;
    assert!(skip["sink"]["events"].as_u64().unwrap() > 0, "{skip}");
    let last = scene.events().pop().unwrap()["id"].as_str().unwrap().to_owned();
    let newest = || receiver.heard().iter().any(|heard| String::from_utf8_lossy(&heard.body).contains(&last));
    until("the newest event", || async { newest().then_some(()) }).await;
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_and_knows_who_calls() {
    let scene = Scene::new().await;
    let pki = Pki::new(&scene.path(""));
    fs::write(scene.path("hmac"), "marked-hmac-key\n").unwrap();
    fs::write(scene.path("bearer"), "marked-bearer-token\n").unwrap();
    let receiver = HttpReceiver::start(Some(pki.mutual()), |_| Answer::status(200)).await;
    let file = |name: &str| scene.path(name).display().to_string();
    let sink = format!(
        "siem: {{kind: http, format: cloudevents, url: \"https://localhost:{}/hook\", ca_file: \"{}\", \
         client_cert: {{cert_file: \"{}\", key_file: \"{}\"}}, hmac_key_file: \"{}\", bearer_file: \"{}\"}}",
        receiver.address.port(),
        pki.file("ca.pem"),
        pki.file("client.pem"),
        pki.file("client.key"),
        file("hmac"),
        file("bearer"),
    );
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    read(&scene, 3).await;
    let ids = |heard: &Heard| -> Vec<String> {
        let batch: Vec<Value> = serde_json::from_slice(&heard.body).unwrap();
        batch.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    };
    all_arrived(&scene, || receiver.heard().iter().flat_map(ids).collect()).await;
    for heard in receiver.heard() {
        assert_eq!(heard.header("content-type"), "application/cloudevents-batch+json");
        assert_eq!(heard.header("authorization"), "Bearer marked-bearer-token");
        let (time, tag) = heard.header("claviger-signature").split_once(",v1=").unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let age = claviger::clock::now().as_second() - time.parse::<i64>().unwrap();
        assert!((0..600).contains(&age));
        assert_eq!(tag, hex(&hmac_sha256(b"marked-hmac-key", &[time.as_bytes(), b".", &heard.body])));
    }
    assert_eq!(agent.stop().await, Some(0));
    // The key of a sink is nobody's business.
    let everything =
        agent.stdout() + &agent.stderr() + &fs::read_to_string(scene.path("config.yaml")).unwrap();
    assert!(!everything.contains("marked-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_another_ca_vouches_for_gets_nothing() {
    let scene = Scene::new().await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (Pki::new(here.path()), Pki::new(there.path()).plain());
    let receiver = HttpReceiver::start(Some(theirs.clone()), |_| Answer::status(200)).await;
    let syslog = SyslogReceiver::start(Some(theirs)).await;
    let sinks = format!(
        "siem: {{kind: http, url: \"https://localhost:{}/\", ca_file: \"{ca}\"}}, \
         logs: {{kind: syslog, address: \"tls://localhost:{}\", ca_file: \"{ca}\"}}",
        receiver.address.port(),
        syslog.address.port(),
        ca = ours.file("ca.pem"),
    );
    let mut agent = scene.start(&with_sinks(&scene, &sinks)).await;
    for sink in ["siem", "logs"] {
        agent
            .event("down", |event| event["type"] == "audit.sink.down.v1" && event["sink"]["name"] == sink)
            .await;
    }
    assert!(receiver.heard().is_empty() && syslog.messages().is_empty());
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn splunk_gets_one_object_an_event_and_is_asked_whether_it_is_indexed() {
    let scene = Scene::new().await;
    fs::write(scene.path("token"), "marked-splunk-token").unwrap();
    let (mut next, mut asked) = (0, 0);
    let receiver = HttpReceiver::start(None, move |heard| {
        assert_eq!(heard.header("authorization"), "Splunk marked-splunk-token");
        let channel = heard.header("x-splunk-request-channel");
        assert!(channel.len() == 36 && channel.split('-').map(str::len).eq([8, 4, 4, 4, 12]), "{channel}");
        let json = |text: String| Answer::Say(200, "content-type: application/json", text);
        match heard.path.as_str() {
            "/services/collector/event" => {
                next += 1;
                json(format!(r#"{{"text":"Success","code":0,"ackId":{next}}}"#))
            }
            "/services/collector/ack" => {
                asked += 1;
                assert_eq!(heard.body, format!(r#"{{"acks":[{next}]}}"#).into_bytes());
                // The first question comes too early.
                json(format!(r#"{{"acks":{{"{next}":{}}}}}"#, asked > 1))
            }
            path => panic!("{path}"),
        }
    })
    .await;
    let sink = format!(
        "splunk: {{kind: splunk, url: \"http://{}\", token_file: \"{}\", index: audit, ack: true}}",
        receiver.address,
        scene.path("token").display()
    );
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    read(&scene, 5).await;
    let ids = |heard: &Heard| -> Vec<String> {
        let objects =
            serde_json::Deserializer::from_slice(&heard.body).into_iter::<Value>().map(Result::unwrap);
        objects
            .map(|object| {
                assert_eq!(
                    (&object["sourcetype"], &object["index"]),
                    (&"claviger:audit".into(), &"audit".into())
                );
                assert_eq!(object["fields"]["event_id"], object["event"]["id"]);
                // Seconds since 1970, with a fraction.
                assert!(object["time"].as_str().unwrap().parse::<f64>().unwrap() > 1.6e9);
                object["event"]["id"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    let events = |heard: &Heard| if heard.path.ends_with("/event") { ids(heard) } else { Vec::new() };
    let came = || receiver.heard().iter().flat_map(events).collect::<Vec<_>>();
    all_arrived(&scene, came).await;
    until("the place is saved", || async {
        let cursor = fs::read_to_string(scene.journal().join("cursor-splunk")).ok()?;
        (cursor.trim() == journalled(&scene).pop()?).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(came(), deduplicated(&came()));
    assert!(!(agent.stdout() + &agent.stderr()).contains("marked-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_splunk_does_not_know_makes_no_dead_letter() {
    let scene = Scene::new().await;
    fs::write(scene.path("token"), "x").unwrap();
    let receiver = HttpReceiver::start(None, |_| {
        Answer::Say(400, "", r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#.into())
    })
    .await;
    let token = scene.path("token");
    let sink = format!(
        "splunk: {{kind: splunk, url: \"http://{}\", token_file: \"{}\"}}",
        receiver.address,
        token.display()
    );
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    let down = agent.event("down", |event| event["type"] == "audit.sink.down.v1").await;
    assert_eq!(down["sink"]["code"], "400");
    receiver.obey(|_| Answer::Say(200, "", r#"{"text":"Success","code":0}"#.into()));
    agent.event("up", |event| event["type"] == "audit.sink.up.v1").await;
    assert!(!scene.journal().join("dlq-splunk.jsonl").exists());
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_gets_one_message_an_event_over_tcp_tls_and_a_datagram_socket() {
    let scene = Scene::new().await;
    let pki = Pki::new(&scene.path(""));
    let (tcp, tls) = (SyslogReceiver::start(None).await, SyslogReceiver::start(Some(pki.mutual())).await);
    let unix = DatagramReceiver::start(&scene.path("log"));
    let sinks = format!(
        "tcp: {{kind: syslog, address: \"tcp://127.0.0.1:{}\"}}, \
         tls: {{kind: syslog, address: \"tls://localhost:{}\", ca_file: \"{}\", facility: local3, app_name: sidecar, \
         client_cert: {{cert_file: \"{}\", key_file: \"{}\"}}}}, \
         unix: {{kind: syslog, address: \"unix://{}\", format: ecs, max_message: 1KiB}}",
        tcp.address.port(),
        tls.address.port(),
        pki.file("ca.pem"),
        pki.file("client.pem"),
        pki.file("client.key"),
        scene.path("log").display(),
    );
    let mut agent = scene.start(&with_sinks(&scene, &sinks)).await;
    read(&scene, 20).await;
    let id = |text: &str| {
        let event: Value = serde_json::from_str(text).unwrap();
        let ecs = event["event"]["id"].as_str();
        ecs.or(event["id"].as_str()).unwrap().to_owned()
    };
    let ids = |messages: Vec<crate::receivers::Message>| {
        messages.iter().map(|message| id(&message.text)).collect::<Vec<_>>()
    };
    all_arrived(&scene, || ids(tcp.messages())).await;
    all_arrived(&scene, || ids(tls.messages())).await;
    all_arrived(&scene, || ids(unix.messages())).await;
    let events: BTreeMap<String, Value> =
        scene.events().into_iter().map(|event| (event["id"].as_str().unwrap().to_owned(), event)).collect();
    for (messages, facility, app) in [(tcp.messages(), 10, "claviger"), (tls.messages(), 19, "sidecar")] {
        for message in messages {
            let event = &events[&id(&message.text)];
            assert_eq!(serde_json::from_str::<Value>(&message.text).unwrap(), *event);
            let severity = if event["outcome"] == "allow" { 6 } else { 3 };
            assert_eq!((message.priority, message.app.as_str()), (facility * 8 + severity, app));
            assert_eq!(
                (&message.time, &message.id),
                (&event["time"].as_str().unwrap().to_owned(), &event["type"].as_str().unwrap().to_owned())
            );
        }
    }
    // Of what is too long, a short event that names it and its hash.
    let short =
        unix.messages().into_iter().find(|message| message.text.contains("\"truncated\":true")).unwrap();
    let short: Value = serde_json::from_str(&short.text).unwrap();
    let native = events[short["id"].as_str().unwrap()].to_string();
    assert_eq!(short["sha256"], hex(&claviger::crypto::sha256(native.as_bytes())));
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_over_a_syslog_connection_that_broke_is_sent_again_on_the_next() {
    let scene = Scene::new().await;
    let receiver = SyslogReceiver::start(None).await;
    let sink = format!("tcp: {{kind: syslog, address: \"tcp://127.0.0.1:{}\"}}", receiver.address.port());
    let mut agent = scene.start(&with_sinks(&scene, &sink)).await;
    let ids = || {
        let messages = receiver.messages();
        let id = |message: &crate::receivers::Message| {
            serde_json::from_str::<Value>(&message.text).unwrap()["id"].as_str().unwrap().to_owned()
        };
        messages.iter().map(id).collect::<Vec<_>>()
    };
    read(&scene, 3).await;
    all_arrived(&scene, ids).await;
    let last = ids().pop().unwrap();
    receiver.cut();
    read(&scene, 3).await;
    all_arrived(&scene, ids).await;
    assert!(
        ids().iter().filter(|id| **id == last).count() == 2,
        "the last batch came again, with the same ids"
    );
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(deduplicated(&ids()), journalled(&scene));
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_come_change_and_go_while_the_agent_runs() {
    let scene = Scene::new().await;
    // The sandbox would leave no place that was not named at the start.
    let with_sinks =
        |scene: &Scene, sinks: &str| Config { rest: "sandbox: off\n".into(), ..with_sinks(scene, sinks) };
    let mut agent = scene.start(&with_sinks(&scene, "")).await;
    read(&scene, 3).await;
    let file = |name: &str| format!("archive: {{kind: file, path: \"{}\"}}", scene.path(name).display());
    let taken_over = async |config: Config| {
        let text = config.text();
        scene.write(&text);
        let revision = format!("sha256:{}", &hex(&claviger::crypto::sha256(text.as_bytes()))[..16]);
        agent
            .event("taken over", |event| {
                event["agent"]["revision"] == revision.as_str() && event["type"] == "config.loaded.v1"
            })
            .await;
    };
    let ids = |name: &str| ids_in(&scene.path(name));
    taken_over(with_sinks(&scene, &file("one"))).await;
    // A new sink starts with the oldest event there is.
    all_arrived(&scene, || ids("one")).await;
    taken_over(with_sinks(&scene, &file("two"))).await;
    read(&scene, 3).await;
    all_arrived(&scene, || [ids("one"), ids("two")].concat()).await;
    taken_over(with_sinks(&scene, "")).await;
    read(&scene, 3).await;
    assert_eq!(agent.stop().await, Some(0));
    // The changed sink went on where it was: nothing twice. The removed one has nothing of what came after.
    let both = [ids("one"), ids("two")].concat();
    assert_eq!(both, journalled(&scene)[..both.len()]);
    assert!(both.len() + 3 <= journalled(&scene).len());
}
