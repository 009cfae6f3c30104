//! Calls of Vault's own API and of other APIs that wait for a person's yes.

use crate::{
    rig::{Agent, Plan, until, write_stripe},
    scene::{Scene, send},
};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

/// Calls until the identity has a token.
fn call(agent: &Agent, method: &str, target: &str, body: &str) -> (u16, Value) {
    until("an answer", || Some(send(agent, method, target, body)).filter(|(status, _)| *status != 503))
}

/// The same, which must wait for a person; gives the request's id.
fn waits(agent: &Agent, method: &str, target: &str, body: &str) -> String {
    let (status, said) = call(agent, method, target, body);
    assert_eq!((status, &said["reason"]), (409, &json!("approval_pending")), "{said}");
    said["approval_id"].as_str().unwrap().to_owned()
}

/// The same, once it is decided.
fn ends(agent: &Agent, method: &str, target: &str, body: &str) -> (u16, Value) {
    until("an end", || Some(call(agent, method, target, body)).filter(|(status, _)| *status != 409))
}

#[test]
fn a_write_to_vault_waits_for_a_yes_to_exactly_this_body() {
    let Some(scene) = Scene::start() else { return };
    let mut plan = scene.plan(json!({}));
    let vault = json!({"paths": ["secret/data/app"], "methods": ["POST", "GET"]});
    let rule = json!({"name": "writes", "vault": vault, "approval": "two"});
    plan.config["workloads"]["job"]["rules"].as_array_mut().unwrap().push(rule);
    let agent = plan.start();
    let (one, other) = (r#"{"data":{"limit":"100"}}"#, r#"{"data":{"limit":"999"}}"#);
    let id = waits(&agent, "POST", "/v1/secret/data/app", one);
    let list = scene.done(&scene.lead, &["approvals"]);
    assert!(list.contains("job wants to write secret/data/app in Vault, with 24 bytes"), "{list}");
    assert!(!list.contains("100\""), "no value is shown");
    scene.approve(&scene.lead, &id);
    // Another payload is another request.
    assert_ne!(waits(&agent, "POST", "/v1/secret/data/app", other), id);
    assert_eq!(ends(&agent, "POST", "/v1/secret/data/app", one).0, 200);
    let stored = scene.vault.root().get("secret/data/app").expect_success();
    assert_eq!(stored["data"]["data"]["limit"], "100");
    for kind in ["vault.intent.v1", "vault.result.v1"] {
        assert_eq!(agent.event(kind, |_| true)["approval"]["id"], json!(id), "{kind}");
    }
    let used = agent.event("approval.used.v1", |_| true);
    assert_eq!(used["resource"]["path"], "secret/data/app");
    // What is asked about the token itself needs nobody's yes.
    assert_eq!(call(&agent, "GET", "/v1/auth/token/lookup-self", "").0, 200);
}

/// A plan by which the API at `server` may be called with the yes that `settings` say.
fn paying(scene: &Scene, settings: Value, server: &TcpListener) -> Plan {
    let mut plan = scene.plan(settings);
    write_stripe(&scene.vault, "sk_live_0123456789");
    plan.config["upstreams"] = json!({"bank": {
        "url": format!("http://{}", server.local_addr().unwrap()), "insecure_http": true,
        "allow_cidrs": ["127.0.0.0/8"],
        "inject": {"secret": "stripe", "header": "Authorization", "format": "Bearer {}"},
    }});
    let rule = json!({
        "name": "pay", "upstream": "bank", "methods": ["POST"], "paths": ["pay"], "approval": "two",
        "also_readable": true,
    });
    plan.config["workloads"]["job"]["rules"].as_array_mut().unwrap().push(rule);
    plan
}

#[test]
fn a_call_that_is_refused_or_out_of_time_is_not_sent() {
    let Some(scene) = Scene::start() else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let (target, body) = ("/upstreams/bank/pay", r#"{"amount":5}"#);
    let refused = paying(&scene, json!({}), &server).start();
    let id = waits(&refused, "POST", target, body);
    scene.done(&scene.lead, &["refuse", &id, "--reason", "too much"]);
    let (status, said) = ends(&refused, "POST", target, body);
    assert_eq!((status, &said["reason"]), (403, &json!("approval_refused")), "{said}");
    refused.event("upstream.denied.v1", |event| event["reason"] == "approval_refused");
    let late = paying(&scene, json!({"ttl": "1s", "hold": "60s", "uses": 2}), &server).start();
    let (status, said) = call(&late, "POST", target, body);
    assert_eq!((status, &said["reason"]), (403, &json!("approval_expired")), "{said}");
    late.event("upstream.denied.v1", |event| event["reason"] == "approval_expired");
    assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    for agent in [&refused, &late] {
        assert!(agent.events().iter().all(|event| event["type"] != "upstream.intent.v1"));
    }
}

#[test]
fn a_call_of_another_api_waits_for_a_yes_and_then_goes_out_whole() {
    let Some(scene) = Scene::start() else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = paying(&scene, json!({}), &server).start();
    let id = waits(&agent, "POST", "/upstreams/bank/pay", r#"{"amount":5}"#);
    assert_ne!(waits(&agent, "POST", "/upstreams/bank/pay", r#"{"amount":6}"#), id);
    let list = scene.done(&scene.lead, &["approvals"]);
    assert!(list.contains("job wants to call bank: POST /pay"), "{list}");
    scene.approve(&scene.lead, &id);
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut got = String::new();
        let mut piece = [0; 4096];
        while !got.ends_with("}") {
            let read = stream.read(&mut piece).unwrap();
            got.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npaid").unwrap();
        got
    });
    let (status, said) = ends(&agent, "POST", "/upstreams/bank/pay", r#"{"amount":5}"#);
    assert_eq!((status, said), (200, json!("paid")));
    let got = serving.join().unwrap();
    assert!(got.contains("Bearer sk_live_0123456789") && got.ends_with(r#"{"amount":5}"#), "{got}");
    assert_eq!(agent.event("upstream.intent.v1", |_| true)["approval"]["id"], json!(id));
    agent.event("upstream.denied.v1", |event| event["reason"] == "approval_pending");
}
