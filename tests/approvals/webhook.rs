//! A service of chat or paging between the agent and those who say yes: what it signs counts, and nothing that it does holds a caller up.

use crate::{
    rig::{Agent, until},
    rotations,
    scene::{Scene, decided as ended, pending, stands},
    server::{Seen, Step, say},
    service::{Service, TOKEN, decided, digest, told},
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
};

/// Adds secrets that are read from the same place.
fn more_secrets(plan: &mut crate::rig::Plan, names: &[&str]) {
    for name in names {
        plan.secret(
            name,
            json!({"kind": "kv", "path": "secret/stripe", "field": "api_key", "refresh": "1h"}),
        );
    }
}

/// What is answered about a secret once its request is decided.
fn ended_for(agent: &Agent, secret: &str) -> crate::rig::Reply {
    until("an end", || Some(agent.read(secret)).filter(|reply| ![202, 503].contains(&reply.status)))
}

fn counts(agent: &Agent, call: &str, result: &str) -> bool {
    let line =
        format!("claviger_approval_calls_total{{approval=\"two\",call=\"{call}\",result=\"{result}\"}}");
    agent.health("/metrics").text.contains(&line)
}

#[test]
fn a_service_that_is_told_says_yes_in_its_answer_and_the_secret_is_given_once() {
    let Some(scene) = Scene::start() else { return };
    let service = Service::start();
    let key = Arc::clone(&service.key);
    service.server.obey(move |seen: &Seen| {
        let yes = decided(&key, "approve", &digest(&told(seen)["data"]), "release 7");
        say(200, &[], yes.to_string())
    });
    let agent = service.plan(&scene, service.settings(json!({}))).start();
    let id = pending(&agent);
    let value = agent.ask("/secrets/stripe?wait=60s");
    assert_eq!((value.status, &value.json()["value"]), (200, &json!("sk_live_1")), "{value:?}");
    let seen = service.server.seen().swap_remove(0);
    let message = told(&seen);
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    for header in ["webhook-id", "idempotency-key"] {
        assert_eq!(seen.header(header), Some(format!("approval-{id}").as_str()));
    }
    assert!(seen.header("webhook-signature").unwrap().starts_with("v1,"));
    let shown = message["text"].as_str().unwrap();
    assert!(shown.starts_with("job wants to read the secret stripe (rule keys,"), "{shown}");
    assert!(shown.contains(&format!("claviger approve {id} --store secret/approvals")), "{shown}");
    assert!(!String::from_utf8_lossy(&seen.body).contains("sk_live_1"));
    let asked = agent.event("approval.requested.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(asked["approval"]["digest"], message["data"]["digest"]);
    let granted = agent.event("approval.granted.v1", |_| true);
    assert_eq!(granted["approval"]["by"], json!(["webhook"]));
    assert_eq!(granted["approval"]["said"], json!(["release 7"]));
    assert_eq!(stands(&agent, &id, "used")["notified"], json!(true));
    assert!(counts(&agent, "notify", "ok"));
    // It stands where persons leave theirs, for them and for other replicas.
    assert_eq!(scene.stored(&format!("{id}/webhook"))["reason"], "release 7");
    assert_ne!(pending(&agent), id, "a yes is used once");
}

#[test]
fn of_what_a_service_says_only_what_is_signed_for_this_request_counts() {
    let Some(scene) = Scene::start() else { return };
    let service = Service::start();
    let (key, stranger) = (Arc::clone(&service.key), claviger::crypto::SigningKey::generate().unwrap());
    service.server.obey(move |seen: &Seen| {
        let data = told(seen)["data"].clone();
        let right = digest(&data);
        let mut yes = decided(&key, "approve", &right, "release 7");
        let asks = data["asks"].as_str().unwrap();
        if asks.ends_with("unsigned") {
            yes = json!({"decision": "approve", "reason": "trust me"});
        } else if asks.ends_with("forged") {
            yes = decided(&stranger, "approve", &right, "release 7");
        } else if asks.ends_with("reworded") {
            yes["reason"] = json!("another");
        } else if asks.ends_with("turned") {
            yes["decision"] = json!("refuse");
        } else if asks.ends_with("another") {
            yes = decided(&key, "approve", &"ab".repeat(32), "release 7");
        } else if asks.ends_with("changed") {
            // Another payload, which it shows to its people.
            let ticket = data["ticket"].as_str().unwrap().replace("changed", "harmless");
            yes = decided(&key, "approve", &digest(&json!({"ticket": ticket})), "release 7");
        }
        say(200, &[], yes.to_string())
    });
    let mut plan = service.plan(&scene, service.settings(json!({})));
    let cases = ["unsigned", "forged", "reworded", "turned", "another", "changed"];
    more_secrets(&mut plan, &cases);
    let agent = plan.start();
    for (secret, reason) in cases.into_iter().zip([
        "approval_forged",
        "approval_forged",
        "approval_forged",
        "approval_forged",
        "approval_replayed",
        "approval_replayed",
    ]) {
        let reply = ended_for(&agent, secret);
        assert_eq!((reply.status, &reply.json()["reason"]), (403, &json!(reason)), "{secret}: {reply:?}");
        let event = agent.event("approval.refused.v1", |event| event["resource"]["secret"] == secret);
        assert_eq!((&event["reason"], &event["approval"]["by"]), (&json!(reason), &json!(["webhook"])));
    }
    assert_eq!(ended_for(&agent, "stripe").status, 200, "the agent is well");
}

#[test]
fn a_yes_that_the_service_takes_back_is_not_used_nor_is_one_that_it_cannot_vouch_for() {
    let Some(scene) = Scene::start() else { return };
    let service = Service::start();
    let agent = service.plan(&scene, service.asked(json!({"uses": 5}))).start();
    let id = pending(&agent);
    service.mind.say("approve", "release 7");
    assert_eq!(ended(&agent).status, 200);
    service.server.obey(|_: &Seen| say(500, &[], ""));
    let reply = agent.read("stripe");
    assert_eq!((reply.status, &reply.json()["reason"]), (503, &json!("approval_unreachable")), "{reply:?}");
    assert!(reply.header("retry-after").is_some());
    service.remember();
    assert_eq!(agent.read("stripe").status, 200);
    service.mind.say("refuse", "stop it");
    // The very next use asks.
    let refused = agent.read("stripe");
    assert_eq!((refused.status, &refused.json()["reason"]), (403, &json!("approval_refused")), "{refused:?}");
    let event = agent.event("approval.refused.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(event["approval"]["said"], json!(["stop it"]));
    assert!(counts(&agent, "poll", "status"));
    let became = until("what became of it", || {
        let seen = service.server.seen().into_iter().filter(|seen| seen.method == "POST");
        seen.map(|seen| told(&seen)["data"].clone()).find(|data| data["state"] == "refused")
    });
    assert_eq!(
        (&became["reason"], &became["by"][0]["reason"]),
        (&json!("approval_refused"), &json!("stop it"))
    );
}

#[test]
fn a_person_and_a_service_make_a_quorum_and_a_restart_in_between_loses_nothing() {
    let Some(scene) = Scene::start() else { return };
    let service = Service::start();
    let mut plan = service.plan(&scene, service.asked(json!({"quorum": 2})));
    // The person's word comes by the service, or by the command.
    plan.config["approvals"]["two"]["approvers"] = json!({"lead": {"entity_id": scene.lead.entity}});
    let agent = plan.start();
    let id = pending(&agent);
    until("a message", || service.server.seen().into_iter().find(|seen| seen.method == "POST"));
    service.mind.say("approve", "the bot thinks so");
    until("the service's yes", || {
        (stands(&agent, &id, "pending")["approved_by"] == json!(["webhook"])).then_some(())
    });
    let agent = Agent::again(agent.stop());
    assert_eq!(pending(&agent), id);
    scene.approve(&scene.lead, &id);
    assert_eq!(ended(&agent).status, 200);
    let used = agent.event("approval.used.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(used["approval"]["by"], json!(["lead", "webhook"]));
    let posts = || service.server.seen().into_iter().filter(|seen| seen.method == "POST");
    let ids = |seen: &Seen| seen.header("webhook-id").unwrap().to_owned();
    // What became of it is told too, once, each state by a message of its own, so that a message in a chat can be put right.
    let [granted, used] = ["granted", "used"].map(|state| {
        let message = until(state, || posts().find(|seen| told(seen)["data"]["state"] == state));
        assert_eq!(ids(&message), format!("approval-{id}-{state}"));
        assert!(message.header("webhook-signature").unwrap().starts_with("v1,"));
        told(&message)
    });
    assert_eq!(granted["type"], "claviger.approval.granted");
    let by = json!([{"approver": "lead", "reason": "release 7"}, {"approver": "webhook", "reason": "the bot thinks so"}]);
    assert_eq!((&granted["data"]["by"], &granted["data"]["id"]), (&by, &json!(id)));
    let text = granted["text"].as_str().unwrap();
    assert!(text.starts_with("granted, approval two: job wanted to read the secret stripe ("), "{text}");
    assert!(text.ends_with(": lead (release 7), webhook (the bot thinks so)"), "{text}");
    assert_eq!(used["data"]["digest"], granted["data"]["digest"]);
    let mut all: Vec<String> = posts().map(|seen| ids(&seen)).collect();
    all.retain(|one| *one != format!("approval-{id}"));
    assert_eq!(all, [format!("approval-{id}-granted"), format!("approval-{id}-used")]);
    until("its count", || counts(&agent, "outcome", "ok").then_some(()));
}

#[test]
fn a_service_that_is_slow_answers_hugely_or_points_elsewhere_holds_nobody_up_and_is_told_again() {
    let Some(scene) = Scene::start() else { return };
    let service = Service::start();
    let (key, elsewhere) = (Arc::clone(&service.key), service.url("/elsewhere"));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let tries = Mutex::new(0);
    service.server.obey(move |seen: &Seen| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        let yes = || decided(&key, "approve", &digest(&told(seen)["data"]), "at last").to_string();
        match *tries {
            1 => vec![Step::Wait(Arc::clone(&gate))],
            2 => {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
                vec![Step::Say(head.into()), Step::Say(yes().into()), Step::Repeat(vec![b' '; 65_536], 1_500)]
            }
            3 => say(307, &[("location", &elsewhere)], yes()),
            _ => say(200, &[], yes()),
        }
    });
    let agent = service.plan(&scene, service.settings(json!({"timeout": "1s"}))).start();
    let id = pending(&agent);
    // Callers are answered while the service is silent.
    assert_eq!(pending(&agent), id);
    assert_eq!(stands(&agent, &id, "pending")["notified"], json!(false));
    assert_eq!(ended(&agent).status, 200);
    let seen = service.server.seen();
    assert!(seen.iter().all(|seen| seen.target == "/told"), "a redirect was followed");
    for result in ["timeout", "answer", "redirect", "ok"] {
        assert!(counts(&agent, "notify", result), "{result}: {}", agent.health("/metrics").text);
    }
    agent.says("redirects are not followed");
}

#[test]
fn a_request_that_the_service_never_took_ends_with_its_time_and_the_record_says_so() {
    let Some(scene) = Scene::start() else { return };
    let service = Service::start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = json!({"url": format!("https://{nobody}/told"), "ttl": "2s"});
    let mut plan = service.plan(&scene, service.settings(away));
    plan.config["approvals"]["two"]["approvers"] = json!({"lead": {"entity_id": scene.lead.entity}});
    let mut agent = plan.start();
    let id = pending(&agent);
    let waited = agent.ask("/secrets/stripe?wait=60s");
    assert_eq!((waited.status, &waited.json()["reason"]), (403, &json!("approval_expired")), "{waited:?}");
    let event = agent.event("approval.expired.v1", |event| event["approval"]["id"] == json!(id));
    assert_eq!(event["approval"]["how"], "undelivered");
    assert!(counts(&agent, "notify", "connect"));
    // Persons can say yes all the same.
    agent.change(|config| config["approvals"]["two"]["ttl"] = json!("10m"));
    agent.event("config.loaded.v1", |_| true);
    let id = pending(&agent);
    scene.approve(&scene.lead, &id);
    let given: Value = ended(&agent).json();
    assert_eq!(given["value"], "sk_live_1");
}

#[test]
fn a_service_is_told_once_of_a_run_that_replicas_ask_for_and_its_yes_begins_it() {
    let Some(scene) = Scene::start() else { return };
    let service = Service::start();
    let agents = [0, 1].map(|_| rotations::plan(&scene, service.asked(json!({})), rotations::soon()).start());
    let id = rotations::asked(&scene);
    let messages = || {
        let told = service.server.seen().into_iter().filter(|seen| seen.method == "POST");
        told.filter(|seen| seen.header("webhook-id") == Some(&*format!("approval-{id}"))).collect::<Vec<_>>()
    };
    let message = until("a message", || messages().pop());
    let text = told(&message)["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("claviger wants to rotate webhook (generate, secret/webhook)"), "{text}");
    assert_eq!(rotations::version(&scene), 1);
    // The word of a stranger is none, and is told of.
    service.mind.let_strangers_speak();
    until("a warning", || agents.iter().any(|agent| counts(agent, "poll", "stranger")).then_some(()));
    service.mind.say("approve", "go on");
    until("a rotation", || (rotations::version(&scene) >= 2).then_some(()));
    assert_eq!(messages().len(), 1);
    assert_eq!(scene.stored(&format!("{id}/webhook"))["reason"], "go on");
    let used = || {
        let seen = service.server.seen().into_iter();
        seen.filter(|seen| seen.header("webhook-id") == Some(&*format!("approval-{id}-used"))).count()
    };
    until("what became of it", || (used() == 1).then_some(()));
}
