//! What is on record of a call.

use crate::{
    rig::{Plan, Rig, events},
    server::{Step, say},
    support::VALUE,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_on_record_before_it_is_sent_and_its_end_after_it_without_a_value_of_it() {
    let rig =
        Rig::with(Plan { mode: "strict", ..Plan::default() }, |_| say(201, &[], "answer-body-marker")).await;
    let body = "request-body-marker";
    let text = format!(
        "POST /v1/charges?amount=query-value-marker HTTP/1.1\r\nhost: x\r\nx-mine: header-value-marker\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = rig.own().await.ask(text).await;
    assert_eq!(reply.status, 201);
    let (intent, result) = (rig.events("intent", 1).await.remove(0), rig.events("result", 1).await.remove(0));
    assert_eq!(reply.header("x-claviger-request-id"), intent["id"].as_str());
    let of = |event: &Value, keys: &[&str]| {
        keys.iter().map(|key| event["upstream"][key].clone()).collect::<Vec<_>>()
    };
    let values = |values: &[&str]| values.iter().map(|value| Value::from(*value)).collect::<Vec<_>>();
    assert_eq!(
        of(&intent, &["name", "method", "path", "slot"]),
        values(&["api", "POST", "/v1/charges", "header"])
    );
    assert_eq!(intent["upstream"]["query"], serde_json::json!(["amount"]));
    assert_eq!(
        (&intent["resource"]["secret"], &intent["resource"]["version"]),
        (&"stripe".into(), &1.into())
    );
    assert_eq!(
        (&intent["rule"]["name"], &intent["actor"]["uid"]),
        (&"calls".into(), &nix::unistd::geteuid().as_raw().into())
    );
    assert_eq!(result["upstream"]["intent"], intent["id"]);
    assert_eq!(of(&result, &["status", "sent", "received"]), [201, body.len(), 18].map(Value::from));
    assert_eq!(result["upstream"]["end"], "complete");
    assert!(result["upstream"]["body_hmac"].as_str().unwrap().len() == 64);
    let all = events(&rig.scene.journal()).iter().map(Value::to_string).collect::<String>()
        + &rig.agent.stdout()
        + &rig.agent.stderr();
    for marker in
        ["answer-body-marker", "request-body-marker", "query-value-marker", "header-value-marker", VALUE]
    {
        assert!(!all.contains(marker), "{marker}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_end_of_the_agent_cut_off_is_unknown() {
    let gate = Arc::new(Semaphore::new(0));
    let mut rig = Rig::with(Plan { mode: "strict", ..Plan::default() }, move |seen| {
        if seen.target == "/slow" { vec![Step::Wait(Arc::clone(&gate))] } else { say(200, &[], "fine") }
    })
    .await;
    rig.get("/fast").await;
    rig.events("result", 1).await;
    let mut line = rig.own().await;
    line.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    crate::support::until("the call", || async { (rig.server.seen().len() == 2).then_some(()) }).await;
    rig.agent.signal(Signal::SIGKILL);
    rig.agent.wait().await;
    assert_eq!((rig.events("intent", 2).await.len(), rig.events("result", 1).await.len()), (2, 1));
    let journal = rig.scene.journal();
    let tail = rig.scene.claviger(&["audit", "tail", journal.to_str().unwrap(), "-n", "100"]).await;
    let text = String::from_utf8(tail.stdout).unwrap();
    let unknown: Vec<_> = text.lines().filter(|line| line.contains("result unknown")).collect();
    assert_eq!(unknown.len(), 1, "{text}");
    assert!(unknown[0].contains("upstream.intent") && unknown[0].contains("/slow"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_nothing_is_sent() {
    let rig = Rig::with(Plan { mode: "strict", ..Plan::default() }, |_| say(200, &[], "fine")).await;
    assert_eq!(rig.get("/").await.status, 200);
    // A directory that is gone cannot be written to.
    std::fs::rename(rig.scene.journal(), rig.scene.path("elsewhere")).unwrap();
    let reply = crate::support::until("a refusal", || async {
        let reply = rig.get("/").await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!((reply.status, reply.reason().as_str()), (503, "audit_unavailable"));
    let seen = rig.server.seen().len();
    assert_eq!(rig.get("/").await.status, 503);
    assert_eq!(rig.server.seen().len(), seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_upstream_and_rule() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let rig = Rig::new(move |seen| match seen.target.as_str() {
        "/slow" => {
            let mut steps = vec![Step::Wait(Arc::clone(&wait))];
            steps.extend(say(200, &[], "fine"));
            steps
        }
        "/bad" => vec![Step::Cut],
        _ => say(200, &[("x-echo", VALUE)], VALUE),
    })
    .await;
    rig.get("/good").await;
    rig.get("/bad").await;
    let mut line = rig.own().await;
    line.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    crate::support::until("the call", || async { (rig.server.seen().len() == 3).then_some(()) }).await;
    let labels = "{upstream=\"api\",rule=\"calls\"";
    let page = rig.agent.page("/metrics").await.body;
    for expected in [
        format!("claviger_upstream_calls_total{labels},outcome=\"allow\",reason=\"\"}} 1"),
        format!("claviger_upstream_calls_total{labels},outcome=\"error\",reason=\"upstream_protocol\"}} 1"),
        format!("claviger_upstream_in_flight{labels}}} 1"),
        format!("claviger_upstream_first_byte_seconds_count{labels}}} 1"),
        format!("claviger_upstream_masked_total{labels}}} 2"),
    ] {
        assert!(page.lines().any(|line| line == expected), "no {expected} in\n{page}");
    }
    gate.add_permits(1);
    assert_eq!(line.head().await.unwrap().0, 200);
    rig.events("result", 3).await;
    let page = rig.agent.page("/metrics").await.body;
    assert!(page.contains(&format!("claviger_upstream_in_flight{labels}}} 0")), "{page}");
}
