//! Kind `control_group` beside the double, which has control groups as OpenBao's docs and Vault's describe them: the community edition has
//! none.

use crate::{
    receivers::{Answer, Heard, HttpReceiver},
    support::{Agent, BINARY, Config, LIMIT, Line, Reply, Scene, finish, until},
};
use bytes::Bytes;
use devvault::{ControlGroup, Fault, Kind, Matcher, Person, Times, WaitingView};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{process::Output, time::Duration};
use tokio::process::Command;

/// What is behind the control group.
const GUARDED: &str = "guarded-and-unmistakable";
const PATH: &str = "/v1/secret/data/guarded/x";

/// A Vault with persons and a path that they guard.
struct Guarded {
    scene: Scene,
    lead: Person,
    eve: Person,
}

impl Guarded {
    async fn new() -> Self {
        Self::with(Duration::from_secs(600), 1).await
    }

    /// A request waits for `ttl`, for the yes of so many.
    async fn with(ttl: Duration, approvals: usize) -> Self {
        let scene = Scene::new().await;
        let vault = &scene.vault;
        vault.put_kv("secret/guarded/x", &[("key", GUARDED)]);
        vault.put_kv("secret/guarded/y", &[("key", GUARDED)]);
        vault.put_kv("secret/open/x", &[("key", GUARDED)]);
        vault.mount("transit", Kind::Transit);
        let write: &[&str] = &["create", "read", "update"];
        let store = ("secret/data/approvals/*", write);
        let list: (&str, &[&str]) = ("secret/metadata/approvals/*", &["list", "read"]);
        let reads = [("secret/data/guarded/*", write), ("secret/data/open/*", write)];
        let seals: [(&str, &[&str]); 3] = [
            ("transit/encrypt/approvals", &["update"]),
            ("transit/decrypt/approvals", &["update"]),
            ("secret/data/stripe", &["read"]),
        ];
        vault.policy("reports", &[&[store, list][..], &reads, &seals].concat());
        let authorize: (&str, &[&str]) = ("sys/control-group/authorize", &["update"]);
        vault.policy("approver", &[store, list, authorize]);
        let policies = ["approver", "default"];
        let (lead, eve) = (vault.person("lead", &policies), vault.person("eve", &policies));
        let members = vec![lead.entity.clone()];
        let group = ControlGroup { approvals, ttl, members, self_authorization: false, again: false };
        vault.control_group("secret/data/guarded/*", group);
        Self { scene, lead, eve }
    }

    /// A config whose rule needs the approval `two`, which `settings` are added to.
    fn config(&self, settings: &str) -> Config {
        let mut config = self.scene.config();
        config.vault = config.vault.replace("]}", "], budget: {calls_per_second: 200, burst: 400}}");
        let rule = "{name: guarded, vault: {paths: [\"secret/data/guarded/*\", \"secret/data/open/*\"], methods: [GET, POST]}, approval: two}";
        config.workloads = config.workloads.replace("]}\n", &format!(", {rule}]}}\n"));
        config.rest = format!(
            "approvals: {{two: {{kind: control_group, store: {{mount: secret, path: approvals}}{settings}}}}}\n"
        );
        config
    }

    async fn start(&self, settings: &str) -> Agent {
        self.scene.start(&self.config(settings)).await
    }

    async fn ask(&self, target: &str) -> Reply {
        ask(&self.scene, target).await
    }

    /// Asks, which must wait for a person; gives the request's id.
    async fn pending(&self, target: &str) -> String {
        pending(&self.scene, target).await
    }

    /// Asks until it no longer waits.
    async fn decided(&self, target: &str) -> Reply {
        let ended = async || Some(self.ask(target).await).filter(|reply| ![409, 503].contains(&reply.status));
        until("an end of the waiting", ended).await
    }

    /// The one request that waits in Vault.
    fn waiting(&self) -> WaitingView {
        let mut waiting = self.scene.vault.waiting();
        assert_eq!(waiting.len(), 1, "{waiting:?}");
        waiting.remove(0)
    }

    /// What a person's command does.
    async fn run(&self, person: &Person, line: &[&str]) -> Output {
        let url = self.scene.config().vault.split('"').nth(1).unwrap().to_owned();
        let mut command = Command::new(BINARY);
        command.args(line).args(["--store", "secret/approvals"]).env_clear().env("HOME", "/nonexistent");
        command.env("VAULT_ADDR", url).env("VAULT_TOKEN", &person.token);
        finish(command).await
    }

    async fn approve(&self, id: &str) {
        let ran = self.run(&self.lead, &["approve", id, "--reason", "release 7"]).await;
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// How a request stands, as soon as it is so.
    async fn stands(&self, id: &str, state: &str) -> Value {
        let target = format!("/approvals/{id}");
        let shown = async || Some(self.ask(&target).await.json()).filter(|shown| shown["state"] == state);
        until(state, shown).await
    }

    /// Says something to Vault past claviger.
    async fn vault(&self, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = http::Request::builder().method(method).uri(format!("/v1/{path}"));
        let body = Bytes::from(body.to_string());
        let answer =
            self.scene.vault.answer(request.header("x-vault-token", token).body(body).unwrap()).await;
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    fn unwraps(&self) -> usize {
        self.scene.vault.count_calls(&Matcher::path("sys/wrapping/unwrap"))
    }
}

async fn ask(scene: &Scene, target: &str) -> Reply {
    Line::open(&scene.socket("job")).await.unwrap().ask(target).await.unwrap()
}

async fn pending(scene: &Scene, target: &str) -> String {
    let answered = async || Some(ask(scene, target).await).filter(|reply| reply.status != 503);
    let reply = until("a request that waits", answered).await;
    assert_eq!((reply.status, &reply.json()["reason"]), (409, &json!("approval_pending")), "{}", reply.body);
    reply.json()["approval_id"].as_str().unwrap().to_owned()
}

async fn event(agent: &Agent, kind: &str, id: &str) -> Value {
    agent.event(kind, |event| event["type"] == kind && event["approval"]["id"] == id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_authorizes_in_vault_and_the_answer_comes_once() {
    let guarded = Guarded::new().await;
    let agent = guarded.start("").await;
    let id = guarded.pending(PATH).await;
    assert_eq!(guarded.pending(PATH).await, id, "equal calls join");
    let waiting = guarded.waiting();
    assert_eq!(waiting.path, "secret/data/guarded/x");
    let shown = guarded.stands(&id, "pending").await;
    assert!(shown["needed"].is_null(), "{shown}");
    let list = guarded.run(&guarded.lead, &["approvals"]).await;
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("job wants to read secret/data/guarded/x in Vault"), "{list}");
    assert!(list.contains("those whom its control group in Vault names"), "{list}");
    // Who is in no group says nothing.
    let eve = guarded.run(&guarded.eve, &["approve", &id, "--reason", "I am"]).await;
    assert_eq!(eve.status.code(), Some(3), "{eve:?}");
    assert!(String::from_utf8_lossy(&eve.stderr).contains("is in no group"), "{eve:?}");
    guarded.approve(&id).await;
    let given = guarded.decided(PATH).await;
    assert_eq!((given.status, &given.json()["data"]["data"]["key"]), (200, &json!(GUARDED)));
    let by = format!("lead ({})", guarded.lead.entity);
    let granted = event(&agent, "approval.granted.v1", &id).await;
    assert_eq!(
        (&granted["approval"]["by"], &granted["approval"]["said"]),
        (&json!([by]), &json!(["release 7"]))
    );
    event(&agent, "approval.requested.v1", &id).await;
    event(&agent, "approval.used.v1", &id).await;
    let called = event(&agent, "vault.called.v1", &id).await;
    assert_eq!(called["outcome"], "allow");
    // Nobody can have it done again: it is ended in Vault, and the next one asks anew.
    assert!(guarded.scene.vault.waiting().is_empty());
    assert_eq!(guarded.unwraps(), 1);
    assert_ne!(guarded.pending(PATH).await, id);
    let seen = [agent.stdout(), agent.stderr(), list, given.body];
    assert!(seen.iter().all(|text| !text.contains(&waiting.token) && !text.contains(&waiting.accessor)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_done_when_it_is_unwrapped_and_each_step_is_on_record() {
    let guarded = Guarded::new().await;
    // As OpenBao does it: again, each time that it is unwrapped.
    let members = vec![guarded.lead.entity.clone()];
    let ttl = Duration::from_secs(600);
    let group = ControlGroup { approvals: 1, ttl, members, self_authorization: false, again: true };
    guarded.scene.vault.control_group("secret/data/guarded/*", group);
    let agent = guarded.start("").await;
    let body = r#"{"data":{"key":"new"}}"#;
    let post = async || {
        let mut line = Line::open(&guarded.scene.socket("job")).await.unwrap();
        let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        line.send(&format!("{head}{body}")).await.unwrap();
        Some(line.hear().await.unwrap()).filter(|reply| reply.status != 503)
    };
    let asked = until("an answer", &post).await;
    assert_eq!((asked.status, &asked.json()["reason"]), (409, &json!("approval_pending")));
    let id = asked.json()["approval_id"].as_str().unwrap().to_owned();
    let root = guarded.scene.vault.root_token();
    let stored = async || {
        guarded.vault(&root, "GET", "secret/data/guarded/x", &Value::Null).await.1["data"]["data"]["key"]
            .clone()
    };
    assert_eq!(stored().await, GUARDED);
    let asking = agent.event("the asking", |event| event["type"] == "vault.result.v1").await;
    assert_eq!((&asking["reason"], &asking["outcome"]), (&json!("approval_pending"), &json!("deny")));
    guarded.approve(&id).await;
    let done = until("an end", || async { post().await.filter(|reply| reply.status != 409) }).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(stored().await, "new");
    event(&agent, "vault.intent.v1", &id).await;
    let result = event(&agent, "vault.result.v1", &id).await;
    assert_eq!(result["outcome"], "allow");
    assert!(guarded.scene.vault.waiting().is_empty(), "it cannot be unwrapped again");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_vault_is_away_or_sealed_a_request_waits() {
    let guarded = Guarded::new().await;
    let agent = guarded.start("").await;
    let id = guarded.pending(PATH).await;
    let vault = &guarded.scene.vault;
    let away = vault.script(Matcher::any(), Fault::Drop, Times::Always);
    let seen = vault.calls().len();
    let looked = Matcher::path("sys/control-group/request");
    let since = vault.count_calls(&looked);
    let any = Matcher::any();
    vault.wait_for_calls(&any, seen + 2, LIMIT).await.unwrap();
    guarded.stands(&id, "pending").await;
    vault.clear(away);
    vault.seal();
    vault.wait_for_calls(&any, vault.calls().len() + 2, LIMIT).await.unwrap();
    guarded.stands(&id, "pending").await;
    vault.unseal();
    vault.wait_for_calls(&looked, since + 1, LIMIT).await.unwrap();
    assert_eq!(guarded.waiting().path, "secret/data/guarded/x");
    guarded.approve(&id).await;
    guarded.stands(&id, "granted").await;
    vault.seal();
    let sealed = guarded.ask(PATH).await;
    assert_eq!((sealed.status, &sealed.json()["reason"]), (503, &json!("vault_sealed")), "{}", sealed.body);
    vault.unseal();
    assert_eq!(guarded.decided(PATH).await.status, 200);
    assert_eq!(guarded.unwraps(), 1);
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_a_sealed_request_goes_on_and_after_a_stop_it_is_asked_anew() {
    let guarded = Guarded::new().await;
    let settings = ", transit_key: transit/approvals";
    let mut agent = guarded.start(settings).await;
    let id = guarded.pending(PATH).await;
    let (root, place) = (guarded.scene.vault.root_token(), format!("secret/data/approvals/{id}/held"));
    let held = guarded.vault(&root, "GET", &place, &Value::Null).await.1.to_string();
    assert!(held.contains("vault:v1:") && !held.contains(&guarded.waiting().token), "{held}");
    agent.signal(Signal::SIGKILL);
    agent.wait().await;
    let mut agent = guarded.start(settings).await;
    assert_eq!(guarded.pending(PATH).await, id);
    let joined =
        |event: &Value| event["approval"]["id"] == id.as_str() && event["approval"]["how"] == "joined";
    agent.event("the joining", joined).await;
    guarded.approve(&id).await;
    assert_eq!(guarded.decided(PATH).await.status, 200);
    // A stop ends the token that Vault would do it with, and so what waits.
    let second = guarded.pending(PATH).await;
    assert_eq!(agent.stop().await, Some(0));
    assert!(guarded.scene.vault.waiting().is_empty());
    let _agent = guarded.start(settings).await;
    assert_ne!(guarded.pending(PATH).await, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vault_has_let_go_by_its_time_is_asked_anew() {
    let guarded = Guarded::with(Duration::from_secs(2), 1).await;
    let agent = guarded.start("").await;
    let id = guarded.pending(PATH).await;
    let expired = event(&agent, "approval.expired.v1", &id).await;
    assert_eq!(expired["reason"], "approval_expired");
    guarded.stands(&id, "expired").await;
    assert_ne!(guarded.pending(PATH).await, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_unwrapped_is_on_record_as_taken() {
    let guarded = Guarded::new().await;
    let agent = guarded.start("").await;
    let id = guarded.pending(PATH).await;
    let waiting = guarded.waiting();
    let accessor = json!({"accessor": waiting.accessor});
    let (status, _) =
        guarded.vault(&guarded.lead.token, "POST", "sys/control-group/authorize", &accessor).await;
    assert_eq!(status, 200);
    let (status, stolen) = guarded.vault(&waiting.token, "POST", "sys/wrapping/unwrap", &json!({})).await;
    assert_eq!((status, &stolen["data"]["data"]["key"]), (200, &json!(GUARDED)));
    let before = guarded.unwraps();
    // It may have been seen as granted: then whoever asks finds out.
    let target = format!("/approvals/{id}");
    let ended = async || {
        let state = guarded.ask(&target).await.json()["state"].clone();
        if state == "granted" {
            guarded.ask(PATH).await;
        }
        (state == "refused").then_some(())
    };
    until("the theft", ended).await;
    let taken = event(&agent, "approval.refused.v1", &id).await;
    assert_eq!(taken["reason"], "approval_taken");
    assert_eq!(guarded.unwraps(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_that_nobody_waits_for_any_more_does_nothing_until_somebody_asks() {
    let guarded = Guarded::new().await;
    let _agent = guarded.start("").await;
    // Each call has a connection of its own: its caller is gone when it is answered.
    let id = guarded.pending(PATH).await;
    guarded.approve(&id).await;
    guarded.stands(&id, "granted").await;
    assert_eq!(guarded.unwraps(), 0);
    assert_eq!(guarded.decided(PATH).await.status, 200);
    assert_eq!(guarded.unwraps(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_in_one_place_one_unwraps() {
    let guarded = Guarded::new().await;
    let members = vec![guarded.lead.entity.clone()];
    let ttl = Duration::from_secs(600);
    let group = ControlGroup { approvals: 1, ttl, members, self_authorization: false, again: true };
    guarded.scene.vault.control_group("secret/data/guarded/*", group);
    let settings = ", transit_key: transit/approvals";
    let other = guarded.scene.another();
    let _one = guarded.start(settings).await;
    let id = guarded.pending(PATH).await;
    let mut config = guarded.config(settings);
    for part in [&mut config.workloads, &mut config.audit, &mut config.identities] {
        *part = part
            .replace(&guarded.scene.path("").display().to_string(), &other.path("").display().to_string());
    }
    let _second = other.start(&config).await;
    assert_eq!(pending(&other, PATH).await, id, "they ask together");
    guarded.waiting();
    guarded.approve(&id).await;
    let at = async |scene: &Scene| {
        let ended = async || Some(ask(scene, PATH).await).filter(|reply| ![409, 503].contains(&reply.status));
        until("an end", ended).await
    };
    // Who is late may have begun to ask anew: then it waits, and is not counted.
    let first = tokio::select! {
        reply = at(&guarded.scene) => reply,
        reply = at(&other) => reply,
    };
    assert!([200, 403].contains(&first.status), "{}", first.body);
    until("one use", || async { (guarded.unwraps() == 1).then_some(()) }).await;
    assert_eq!(guarded.unwraps(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_requests_wait_in_vault_as_the_config_says() {
    let guarded = Guarded::new().await;
    let _agent = guarded.start(", pending_max: 1").await;
    guarded.pending(PATH).await;
    let crowded = guarded.decided("/v1/secret/data/guarded/y").await;
    assert_eq!((crowded.status, &crowded.json()["reason"]), (429, &json!("approval_crowded")));
    guarded.waiting();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identitys_own_yes_and_that_of_nobody_count_for_nothing() {
    let guarded = Guarded::new().await;
    let agent = guarded.start("").await;
    let read = |name: &str| std::fs::read_to_string(guarded.scene.path(name)).unwrap();
    let login = json!({"role_id": read("role_id"), "secret_id": read("secret_id")});
    let auth = guarded.vault("", "POST", "auth/approle/login", &login).await.1["auth"].clone();
    let members = vec![auth["entity_id"].as_str().unwrap().to_owned()];
    let ttl = Duration::from_secs(600);
    let own = ControlGroup { approvals: 1, ttl, members, self_authorization: true, again: false };
    guarded.scene.vault.control_group("secret/data/guarded/*", own.clone());
    let update: &[&str] = &["update"];
    let usual = [
        ("sys/control-group/request", update),
        ("auth/token/lookup-self", &["read"]),
        ("auth/token/revoke-self", update),
    ];
    guarded.scene.vault.policy("default", &[&usual[..], &[("sys/control-group/authorize", update)]].concat());
    let id = guarded.pending(PATH).await;
    let accessor = json!({"accessor": guarded.waiting().accessor});
    let token = auth["client_token"].as_str().unwrap();
    let (status, said) = guarded.vault(token, "POST", "sys/control-group/authorize", &accessor).await;
    assert_eq!((status, &said["data"]["approved"]), (200, &json!(true)), "Vault would do it");
    guarded.stands(&id, "refused").await;
    let refused = event(&agent, "approval.refused.v1", &id).await;
    assert_eq!(refused["reason"], "approval_self");
    until("its end in Vault", || async { guarded.scene.vault.waiting().is_empty().then_some(()) }).await;
    // A policy that asks for nobody's yes has nobody's.
    let nobody = ControlGroup { approvals: 0, ..own };
    guarded.scene.vault.control_group("secret/data/guarded/*", nobody);
    let id = guarded.pending("/v1/secret/data/guarded/y").await;
    let looked = Matcher::path("sys/control-group/request");
    let since = guarded.scene.vault.count_calls(&looked);
    guarded.scene.vault.wait_for_calls(&looked, since + 2, LIMIT).await.unwrap();
    guarded.stands(&id, "pending").await;
    assert_eq!(guarded.unwraps(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_left_in_the_store_and_ends_the_request_in_vault() {
    let guarded = Guarded::new().await;
    let agent = guarded.start("").await;
    let id = guarded.pending(PATH).await;
    let ran = guarded.run(&guarded.lead, &["refuse", &id, "--reason", "not on a Friday"]).await;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let refused = event(&agent, "approval.refused.v1", &id).await;
    assert_eq!(
        (&refused["reason"], &refused["approval"]["said"]),
        (&json!("approval_refused"), &json!(["not on a Friday"]))
    );
    until("its end in Vault", || async { guarded.scene.vault.waiting().is_empty().then_some(()) }).await;
    let asked = guarded.decided(PATH).await;
    assert_eq!(
        (asked.status, &asked.json()["reason"]),
        (403, &json!("approval_refused")),
        "it stands until its time is over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vault_answers_without_having_asked_is_not_given() {
    let guarded = Guarded::new().await;
    let agent = guarded.start("").await;
    let open = guarded.decided("/v1/secret/data/open/x").await;
    assert_eq!((open.status, &open.json()["reason"]), (403, &json!("approval_unguarded")), "{}", open.body);
    assert!(open.body.contains("control_group") && !open.body.contains(GUARDED), "{}", open.body);
    let denied = agent.event("the refusal", |event| event["reason"] == "approval_unguarded").await;
    assert_eq!((&denied["type"], &denied["approval"]["name"]), (&json!("vault.denied.v1"), &json!("two")));
    // What Vault refuses it refuses whoever might say yes.
    let missing = guarded.decided("/v1/secret/data/open/none").await;
    assert_eq!(missing.status, 404, "{}", missing.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_vault_did_without_asking_is_on_record_as_that() {
    let guarded = Guarded::new().await;
    let agent = guarded.start("").await;
    let body = r#"{"data":{"key":"new"}}"#;
    let post = async || {
        let mut line = Line::open(&guarded.scene.socket("job")).await.unwrap();
        let head = format!(
            "POST /v1/secret/data/open/x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        line.send(&format!("{head}{body}")).await.unwrap();
        Some(line.hear().await.unwrap()).filter(|reply| reply.status != 503)
    };
    let done = until("an answer", post).await;
    assert_eq!((done.status, &done.json()["reason"]), (403, &json!("approval_unguarded")), "{}", done.body);
    for kind in ["vault.intent.v1", "vault.result.v1", "vault.denied.v1"] {
        let event = agent.event(kind, |event| event["type"] == kind).await;
        assert_eq!(event["approval"]["name"], "two", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_told_what_to_authorize_and_who_is_excluded_says_no_yes() {
    let guarded = Guarded::new().await;
    let (sender, told) = tokio::sync::watch::channel(None::<Value>);
    let receiver = HttpReceiver::start(None, move |heard: &Heard| {
        sender.send_replace(serde_json::from_slice(&heard.body).ok());
        Answer::status(200)
    });
    let receiver = receiver.await;
    let settings = format!(
        ", url: \"http://{}/hook\", insecure_http: true, exclude: [{}]",
        receiver.address, guarded.lead.entity
    );
    let agent = guarded.start(&settings).await;
    let id = guarded.pending(PATH).await;
    let mut told = told;
    let message =
        tokio::time::timeout(LIMIT, told.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!(message["data"]["accessor"], guarded.waiting().accessor);
    assert!(
        message["text"].as_str().unwrap().contains("the control group in Vault must say yes"),
        "{message}"
    );
    assert!(!message.to_string().contains(&guarded.waiting().token));
    guarded.approve(&id).await;
    let refused = event(&agent, "approval.refused.v1", &id).await;
    assert_eq!(refused["reason"], "approval_self");
}
