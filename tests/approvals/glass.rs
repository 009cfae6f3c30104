//! Emergencies: a rule that holds for a while, by a reason and a ticket, on record elsewhere, and what was taken is rotated.

use crate::{
    rig::{Agent, PROGRAM, Plan, printed, until},
    scene::{Scene, pending, send},
    server::{Seen, Server, Step, say},
};
use serde_json::{Value, json};
use std::{process::Command, sync::Arc};
use tokio::{runtime::Runtime, sync::Semaphore};

/// A receiver of events on another machine, as far as the agent can know.
pub(crate) struct Receiver {
    pub(crate) server: Server,
    _runtime: Runtime,
}

impl Receiver {
    pub(crate) fn start() -> Receiver {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(Server::start(None, |_: &Seen| say(200, &[], "")));
        Receiver { server, _runtime: runtime }
    }

    pub(crate) fn has(&self, id: &Value) -> bool {
        let id = id.as_str().unwrap();
        self.server.seen().iter().any(|seen| String::from_utf8_lossy(&seen.body).contains(id))
    }
}

/// `stripe` needs a yes, or an emergency; `account` an emergency alone. `stripe` is rotated once a day.
pub(crate) fn plan(scene: &Scene, receiver: &Receiver, window: &str) -> Plan {
    let mut plan = scene.plan(json!({}));
    let account = json!({"kind": "kv", "path": "secret/stripe", "field": "account", "refresh": "1h"});
    plan.secret("account", account);
    let rules = &mut plan.config["workloads"]["job"]["rules"];
    rules[0]["secrets"] = json!(["stripe"]);
    rules.as_array_mut().unwrap().push(json!({
        "name": "emergency", "secrets": ["stripe", "account"], "audit": "strict-remote",
        "break_glass": {"window": window},
    }));
    let url = format!("http://{}/events", receiver.server.address);
    plan.config["audit"]["sinks"] = json!({
        "console": {"kind": "stdout"},
        "siem": {"kind": "http", "url": url, "timeout": "2s", "required": true},
    });
    plan.config["rotations"] = json!({"stripe-key": {
        "kind": "generate", "identity": "reports", "path": "secret/stripe", "field": "api_key", "length": 24,
        "schedule": {"every": "24h"}, "min_interval": "4s", "holder_ttl": "3s", "grace": "1s",
        "journal": {"mount": "secret", "path": "rotation"},
    }});
    plan
}

fn break_glass(agent: &Agent, body: &Value) -> (u16, Value) {
    send(agent, "POST", "/break-glass/emergency", &body.to_string())
}

fn key(scene: &Scene) -> Value {
    scene.vault.root().get("secret/data/stripe").expect_success()["data"]["data"]["api_key"].clone()
}

/// It is over: on record, and what was taken is another.
fn rotated(scene: &Scene, agent: &Agent, id: &Value) {
    let over = agent.event("approval.expired.v1", |event| event["approval"]["id"] == *id);
    assert_eq!((&over["outcome"], &over["approval"]["ticket"]), (&json!("allow"), &json!("INC-7")));
    let started = agent.event("rotation.started.v1", |_| true).to_string();
    assert!(started.contains(&format!("break glass {}: INC-7", id.as_str().unwrap())), "{started}");
    until("another key", || (key(scene) != "sk_live_1").then_some(()));
}

#[test]
fn in_an_emergency_a_rule_holds_for_a_while_and_what_was_taken_is_rotated() {
    let Some(scene) = Scene::start() else { return };
    let receiver = Receiver::start();
    let agent = plan(&scene, &receiver, "5s").start();
    pending(&agent);
    let whole = agent.read("account");
    assert_eq!((whole.status, &whole.json()["reason"]), (403, &json!("glass_whole")), "{whole:?}");
    assert!(whole.text.contains("claviger break-glass emergency"), "{whole:?}");
    for body in [
        json!({}),
        json!({"reason": "both are away"}),
        json!({"ticket": "INC-7"}),
        json!({"reason": " ", "ticket": "INC-7"}),
        json!({"reason": "both are away", "ticket": "a\nb"}),
        json!({"reason": "both are away", "ticket": "INC-7", "window": "24h"}),
    ] {
        let (status, said) = break_glass(&agent, &body);
        assert_eq!((status, &said["reason"]), (400, &json!("bad_request")), "{body}");
    }
    // A rule without glass cannot be broken.
    let full = json!({"reason": "both are away", "ticket": "INC-7"});
    assert_eq!(send(&agent, "POST", "/break-glass/keys", &full.to_string()).0, 403);
    assert_eq!(agent.read("account").status, 403);
    let mut command = Command::new(PROGRAM);
    command.args(["break-glass", "emergency", "--reason", "both are away", "--ticket", "INC-7", "--json"]);
    let opened: Value = serde_json::from_str(&printed(command.arg("--socket").arg(agent.socket()))).unwrap();
    let id = &opened["id"];
    for secret in ["stripe", "account"] {
        let given = agent.read(secret);
        assert_eq!(given.status, 200, "{given:?}");
    }
    assert_eq!(agent.read("stripe").json()["value"], "sk_live_1");
    let broken = agent.event("approval.break_glass.v1", |event| event["outcome"] == "allow");
    assert_eq!((&broken["severity"], &broken["rule"]["mode"]), (&json!(21), &json!("strict-remote")));
    let said = (&broken["approval"]["said"], &broken["approval"]["ticket"], &broken["approval"]["id"]);
    assert_eq!(said, (&json!(["both are away"]), &json!("INC-7"), id));
    let read = agent.event("secret.read.v1", |event| event["resource"]["secret"] == "stripe");
    assert_eq!((&read["approval"]["how"], &read["approval"]["id"]), (&json!("break_glass"), id));
    assert!(receiver.has(&broken["id"]) && receiver.has(&read["id"]), "on record elsewhere first");
    until("the metric", || {
        agent.health("/metrics").text.contains("claviger_break_glass_open 1").then_some(())
    });
    // Its time is over.
    until("its end", || (agent.read("account").status == 403).then_some(()));
    pending(&agent);
    rotated(&scene, &agent, id);
    assert!(
        agent.event("approval.break_glass.v1", |event| event["outcome"] == "deny")["reason"] == "no_rule"
    );
}

#[test]
fn in_an_emergency_vaults_own_api_and_another_api_are_open_for_a_while_and_what_was_read_is_rotated() {
    let Some(scene) = Scene::start() else { return };
    let (receiver, bank) = (Receiver::start(), Receiver::start());
    let key = json!({"data": {"key": "bank_key_0123456789"}});
    scene.vault.root().post("secret/data/bank", &key).expect_success();
    let mut plan = plan(&scene, &receiver, "5s");
    plan.config["secrets"]["bank-key"] =
        json!({"identity": "reports", "kind": "kv", "path": "secret/bank", "field": "key"});
    plan.config["upstreams"] = json!({"bank": {
        "url": format!("http://{}", bank.server.address), "insecure_http": true, "allow_cidrs": ["127.0.0.0/8"],
        "inject": {"secret": "bank-key", "header": "Authorization", "format": "Bearer {}"},
    }});
    for (name, window, subject) in [
        ("emergency-api", "5s", json!({"vault": {"paths": ["secret/data/stripe"]}})),
        ("emergency-bank", "5s", json!({"upstream": "bank", "methods": ["POST"], "paths": ["pay"]})),
        ("emergency-write", "30m", json!({"vault": {"paths": ["secret/data/app"], "methods": ["POST"]}})),
    ] {
        let mut rule = json!({"name": name, "audit": "strict-remote", "break_glass": {"window": window}});
        rule.as_object_mut().unwrap().extend(subject.as_object().unwrap().clone());
        plan.config["workloads"]["job"]["rules"].as_array_mut().unwrap().push(rule);
    }
    let agent = plan.start();
    pending(&agent);
    let read = || send(&agent, "GET", "/v1/secret/data/stripe", "");
    let pay = || send(&agent, "POST", "/upstreams/bank/pay", "{}");
    for (status, said) in [read(), pay()] {
        assert_eq!((status, &said["reason"]), (403, &json!("glass_whole")), "{said}");
        assert!(said["errors"][0].as_str().unwrap().contains("claviger break-glass emergency-"), "{said}");
    }
    let full = json!({"reason": "both are away", "ticket": "INC-7"}).to_string();
    let opened = ["emergency-api", "emergency-bank", "emergency-write"].map(|rule| {
        let (status, opened) = send(&agent, "POST", &format!("/break-glass/{rule}"), &full);
        assert_eq!(status, 200, "{opened}");
        opened["id"].clone()
    });
    let (status, given) = read();
    assert_eq!((status, &given["data"]["data"]["api_key"]), (200, &json!("sk_live_1")), "{given}");
    assert_eq!(pay().0, 200);
    assert_eq!(bank.server.seen()[0].header("authorization"), Some("Bearer bank_key_0123456789"));
    for (kind, id) in [("vault.called.v1", &opened[0]), ("upstream.intent.v1", &opened[1])] {
        let event = agent.event(kind, |event| event["approval"]["how"] == "break_glass");
        assert_eq!((&event["approval"]["id"], &event["rule"]["mode"]), (id, &json!("strict-remote")));
        assert!(receiver.has(&event["id"]), "on record elsewhere first: {event}");
    }
    until("its end", || (read().0 == 403 && pay().0 == 403).then_some(()));
    rotated(&scene, &agent, &opened[0]);
    agent.says("taken in an emergency, and no rotation changes it");
    // What changes something is on record elsewhere before it is sent.
    let write = || send(&agent, "POST", "/v1/secret/data/app", r#"{"data":{"limit":"100"}}"#);
    assert_eq!(write().0, 200);
    let intent = agent.event("vault.intent.v1", |event| event["approval"]["id"] == opened[2]);
    assert!(receiver.has(&intent["id"]), "{intent}");
    let gate = Arc::new(Semaphore::new(0));
    receiver.server.obey(move |_: &Seen| vec![Step::Wait(Arc::clone(&gate))]);
    let (status, said) = write();
    assert_eq!((status, &said["reason"]), (503, &json!("audit_unavailable")), "{said}");
    let unsent = agent.event("vault.result.v1", |event| event["reason"] == "audit_unavailable");
    assert_eq!((&unsent["outcome"], &unsent["approval"]["id"]), (&json!("error"), &opened[2]));
    let there = scene.vault.root().get("secret/metadata/app").expect_success();
    assert_eq!(there["data"]["current_version"], 1, "it was not sent");
}

#[test]
fn without_a_receiver_elsewhere_no_glass_breaks() {
    let Some(scene) = Scene::start() else { return };
    let receiver = Receiver::start();
    let agent = plan(&scene, &receiver, "30m").start();
    pending(&agent);
    let gate = Arc::new(Semaphore::new(0));
    receiver.server.obey(move |_: &Seen| vec![Step::Wait(Arc::clone(&gate))]);
    let full = json!({"reason": "both are away", "ticket": "INC-7"});
    let (status, said) = break_glass(&agent, &full);
    assert_eq!((status, &said["reason"]), (503, &json!("audit_unavailable")), "{said}");
    assert_eq!(agent.read("account").json()["reason"], "glass_whole");
    let undone = agent.event("approval.refused.v1", |event| event["approval"]["ticket"] == "INC-7");
    assert_eq!(undone["reason"], "audit_unavailable");
    receiver.server.obey(|_: &Seen| say(200, &[], ""));
    until("a receiver", || (break_glass(&agent, &full).0 == 200).then_some(()));
    assert_eq!(agent.read("account").status, 200);
}

#[test]
fn an_emergency_ends_with_its_agent_and_the_next_start_sees_to_what_was_taken() {
    let Some(scene) = Scene::start() else { return };
    let receiver = Receiver::start();
    let agent = plan(&scene, &receiver, "30m").start();
    pending(&agent);
    let (status, opened) = break_glass(&agent, &json!({"reason": "both are away", "ticket": "INC-7"}));
    assert_eq!(status, 200, "{opened}");
    assert_eq!(agent.read("stripe").status, 200);
    let agent = Agent::again(agent.stop());
    pending(&agent);
    rotated(&scene, &agent, &opened["id"]);
}
