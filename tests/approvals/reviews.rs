//! Rules for emergencies that persons look at afterwards: reviewed, not reviewed, and tried by a drill.

use crate::{
    glass::{Receiver, plan},
    rig::{Agent, PROGRAM, Plan, output, until},
    scene::{Scene, pending, send},
    server::{Seen, Step, say},
    service::Service,
};
use serde_json::{Value, json};
use std::{process::Command, sync::Arc};
use tokio::sync::Semaphore;

/// The rule `emergency` gives `stripe` and is reviewed within a minute; `fire` gives `account`, and a review of it comes too late.
fn reviewed(scene: &Scene, receiver: &Receiver) -> Plan {
    let mut plan = plan(scene, receiver, "30m");
    plan.config["approvals"]["two"]["quorum"] = json!(2);
    plan.config.as_object_mut().unwrap().remove("rotations");
    let rules = plan.config["workloads"]["job"]["rules"].as_array_mut().unwrap();
    rules.truncate(1);
    for (name, secret, within) in [("emergency", "stripe", "1m"), ("fire", "account", "4s")] {
        rules.push(json!({
            "name": name, "secrets": [secret], "audit": "strict-remote",
            "break_glass": {"window": "30m", "review": "two", "review_within": within},
        }));
    }
    plan
}

fn break_glass(agent: &Agent, rule: &str, act: &str) -> (u16, Value) {
    let body = json!({"act": act, "reason": "both are away", "ticket": "INC-7"});
    send(agent, "POST", &format!("/break-glass/{rule}"), &body.to_string())
}

fn metric(agent: &Agent, line: &str) {
    until(line, || agent.health("/metrics").text.contains(line).then_some(()));
}

fn command(agent: &Agent, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    let ran = output(command.arg("break-glass").args(args).arg("--socket").arg(agent.socket()));
    (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// What every agent has on record of this kind about a rule.
fn on_record(agents: &[&Agent], kind: &str, rule: &str) -> Vec<Value> {
    let events = agents.iter().flat_map(|agent| agent.events());
    events.filter(|event| event["type"] == kind && event["rule"]["name"] == rule).collect()
}

#[test]
fn an_emergency_that_two_persons_look_at_in_time_keeps_its_rule() {
    let Some(scene) = Scene::start() else { return };
    let receiver = Receiver::start();
    let agent = reviewed(&scene, &receiver).start();
    pending(&agent);
    let (status, opened) = break_glass(&agent, "emergency", "break");
    assert_eq!(status, 200, "{opened}");
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    let review = opened["review"]["approval_id"].as_str().unwrap().to_owned();
    let list = scene.done(&scene.lead, &["approvals"]);
    for part in [
        "job wants to have an emergency reviewed, in which it had the rule emergency",
        "both are away (INC-7",
        "a no, or silence, disables that rule",
    ] {
        assert!(list.contains(part), "{part}: {list}");
    }
    metric(&agent, "claviger_break_glass_unreviewed 1");
    scene.approve(&scene.lead, &review);
    scene.approve(&scene.on_call, &review);
    let granted = agent.event("approval.granted.v1", |event| event["approval"]["id"] == json!(review));
    assert_eq!(granted["approval"]["by"], json!(["lead", "on-call"]));
    assert_eq!((&granted["rule"]["name"], &granted["workload"]), (&json!("emergency"), &json!("job")));
    metric(&agent, "claviger_break_glass_unreviewed 0");
    // What holds cannot be had again.
    let (status, said) = break_glass(&agent, "emergency", "enable");
    assert_eq!((status, &said["reason"]), (400, &json!("bad_request")), "{said}");
    // A no is worse than silence: the rule ends at once.
    let (_, opened) = break_glass(&agent, "emergency", "break");
    let review = opened["review"]["approval_id"].as_str().unwrap();
    scene.done(&scene.on_call, &["refuse", review, "--reason", "nobody was away"]);
    let disabled = agent.event("approval.disabled.v1", |_| true);
    assert_eq!(
        (&disabled["reason"], &disabled["rule"]["name"]),
        (&json!("approval_refused"), &json!("emergency"))
    );
    until("its end", || (agent.read("stripe").status == 202).then_some(()));
    assert_eq!(break_glass(&agent, "emergency", "break").1["reason"], "glass_disabled");
}

#[test]
fn a_rule_whose_emergency_nobody_looks_at_disables_itself_everywhere_until_persons_enable_it() {
    let Some(scene) = Scene::start() else { return };
    let receiver = Receiver::start();
    let [agent, replica] = [0, 1].map(|_| reviewed(&scene, &receiver).start());
    pending(&agent);
    pending(&replica);
    assert_eq!(break_glass(&agent, "fire", "break").0, 200);
    assert_eq!(agent.read("account").status, 200);
    // Nobody looks at it in time.
    until("its end", || (agent.read("account").status == 403).then_some(()));
    let both = [&agent, &replica];
    let [disabled] = until("its word", || {
        Some(on_record(&both, "approval.disabled.v1", "fire")).filter(|events| !events.is_empty())
    })
    .try_into()
    .unwrap();
    assert_eq!((&disabled["reason"], &disabled["outcome"]), (&json!("approval_expired"), &json!("deny")));
    for agent in both {
        let (status, said) = break_glass(agent, "fire", "break");
        assert_eq!((status, &said["reason"]), (403, &json!("glass_disabled")), "{said}");
        assert!(said["errors"][0].as_str().unwrap().contains("claviger break-glass fire --enable"), "{said}");
    }
    let (_, drill) = break_glass(&agent, "fire", "drill");
    assert_eq!(drill["ready"], false, "{drill}");
    assert!(drill["checks"].to_string().contains("\"reason\":\"glass_disabled\""), "{drill}");
    // Over restarts too.
    drop(replica);
    let agent = Agent::again(agent.stop());
    pending(&agent);
    assert_eq!(break_glass(&agent, "fire", "break").1["reason"], "glass_disabled");
    metric(&agent, "claviger_break_glass_disabled 1");
    let said =
        command(&agent, &["fire", "--enable", "--reason", "we looked late", "--ticket", "INC-7", "--json"]);
    let asked: Value = serde_json::from_str(&said.1).unwrap();
    let id = asked["approval_id"].as_str().unwrap();
    // Whoever asks meanwhile joins.
    assert_eq!(break_glass(&agent, "fire", "enable").1["approval_id"], json!(id));
    let list = scene.done(&scene.lead, &["approvals"]);
    assert!(
        list.contains("job wants to have the rule fire for emergencies again, which is disabled"),
        "{list}"
    );
    scene.approve(&scene.lead, id);
    assert_eq!(break_glass(&agent, "fire", "break").1["reason"], "glass_disabled", "one is not two");
    scene.approve(&scene.on_call, id);
    let enabled = agent.event("approval.enabled.v1", |_| true);
    assert_eq!(
        (&enabled["rule"]["name"], &enabled["approval"]["by"]),
        (&json!("fire"), &json!(["lead", "on-call"]))
    );
    assert_eq!(break_glass(&agent, "fire", "break").0, 200);
    assert_eq!(agent.read("account").status, 200);
}

#[test]
fn a_drill_shows_what_would_work_and_what_would_not_and_opens_nothing() {
    let Some(scene) = Scene::start() else { return };
    let receiver = Receiver::start();
    let mut plan = reviewed(&scene, &receiver);
    let mut ghosts = plan.config["approvals"]["two"].clone();
    ghosts["approvers"]["ghost"] = json!({"entity_id": "00000000-0000-0000-0000-000000000000"});
    plan.config["approvals"]["ghosts"] = ghosts;
    let rules = &mut plan.config["workloads"]["job"]["rules"];
    rules[2]["break_glass"]["review"] = json!("ghosts");
    let service = Service::start();
    let mut flood = rules[2].clone();
    flood["name"] = json!("flood");
    flood["break_glass"]["review"] = json!("bot");
    rules.as_array_mut().unwrap().push(flood);
    let mut bot = service.asked(json!({}));
    bot["store"] = plan.config["approvals"]["two"]["store"].clone();
    plan.config["approvals"]["bot"] = bot;
    let agent = plan.start();
    pending(&agent);
    let (code, said) = command(&agent, &["--drill", "emergency"]);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "ok    receiver",
        "ok    approvers known: 2",
        "emergency would hold in an emergency; nothing was opened",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let drill = agent.event("approval.drill.v1", |event| event["rule"]["name"] == "emergency");
    assert_eq!((&drill["outcome"], &drill["approval"]["how"]), (&json!("allow"), &json!("drill")));
    assert!(receiver.has(&drill["id"]), "on record elsewhere");
    // An approver without a key could not be heard.
    let (code, said) = command(&agent, &["--drill", "fire"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("WRONG approvers no key in Vault of ghost"), "{said}");
    // Nor one that a service brings which does not answer.
    let (code, said) = command(&agent, &["--drill", "flood"]);
    assert!(code == Some(0) && said.contains("ok    service   answers"), "{said}");
    service.server.obey(|_: &Seen| say(500, &[], ""));
    let (code, said) = command(&agent, &["--drill", "flood"]);
    assert!(
        code == Some(1) && said.contains("WRONG service   the webhook does not answer: HTTP 500"),
        "{said}"
    );
    let gate = Arc::new(Semaphore::new(0));
    receiver.server.obey(move |_: &Seen| vec![Step::Wait(Arc::clone(&gate))]);
    let (code, said) = command(&agent, &["--drill", "emergency"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("WRONG receiver"), "{said}");
    agent.event("approval.drill.v1", |event| event["reason"] == "audit_unavailable");
    receiver.server.obey(|_: &Seen| say(200, &[], ""));
    // Nothing was opened, nobody was asked.
    assert_eq!(agent.read("account").json()["reason"], "glass_whole");
    let kinds = ["approval.break_glass.v1", "approval.expired.v1"];
    assert!(agent.events().iter().all(|event| kinds.iter().all(|kind| event["type"] != *kind)));
    assert!(!scene.done(&scene.lead, &["approvals"]).contains("emergency reviewed"));
    metric(&agent, "claviger_break_glass_open 0");
    // A rule that is none is refused like any other.
    assert_eq!(command(&agent, &["--drill", "keys"]).0, Some(3));
}
