//! Requests whose bodies are longer than what is held of one, on their way through: whole for Vault, on record before and after, in little
//! memory, and never sent twice.

use crate::{
    rig::{Agent, Plan, printed, until},
    scene::{Said, Scene, make_token},
    streams::resident,
    taker::{Taken, Taker, sum},
};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

const MIB: usize = 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(60);

/// A claviger whose Vault takes uploads; its token may do anything.
pub(crate) fn agent(vault: &Vault, taker: &Taker, change: impl FnOnce(&mut Value)) -> Agent {
    let mut plan = Plan::new(vault);
    let file = plan.file("token", &make_token(vault).0);
    plan.identity(json!({"method": "token_file", "token_file": file}));
    plan.config["vault"]["addresses"] = json!([format!("http://{}", taker.address)]);
    plan.config["workloads"]["job"]["rules"] = json!([
        {"name": "large", "vault": {"paths": ["take/*"], "methods": ["GET", "POST"]}},
        {"name": "cached", "vault": {"paths": ["other/cached"], "methods": ["POST"], "cache": "leases"}},
        {"name": "children", "vault": {"tokens": {"policies": ["ci-read"]}}},
    ]);
    change(&mut plan.config);
    let agent = plan.start();
    agent.ready();
    agent
}

/// What no two pieces of are alike.
fn noise(length: usize) -> Vec<u8> {
    let word = |n: usize| ((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0];
    (0..length).map(word).collect()
}

/// The beginning of a request; its body is for the test to send.
fn begin(socket: &Path, path: &str, length: Option<usize>) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let framing = match length {
        Some(length) => format!("Content-Length: {length}"),
        None => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!("POST /v1/{path} HTTP/1.1\r\nHost: x\r\n{framing}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn finish(mut stream: UnixStream) -> Said {
    let mut raw = Vec::new();
    let _ = stream.read_to_end(&mut raw);
    let raw = String::from_utf8_lossy(&raw).into_owned();
    let status = raw.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Said { status, raw }
}

/// Sends it whole, in chunks where its length is not said before.
fn post(socket: &Path, path: &str, body: &[u8], is_told: Option<usize>) -> Said {
    let mut stream = begin(socket, path, is_told);
    for piece in body.chunks(100_000) {
        let sent = match is_told {
            Some(_) => stream.write_all(piece),
            None => stream
                .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                .and_then(|()| stream.write_all(piece))
                .and_then(|()| stream.write_all(b"\r\n")),
        };
        if sent.is_err() {
            // Somebody has heard enough.
            return finish(stream);
        }
    }
    if is_told.is_none() {
        let _ = stream.write_all(b"0\r\n\r\n");
    }
    finish(stream)
}

/// The events about one path, as soon as there are two: the intent and the result.
fn record(agent: &Agent, path: &str) -> (Value, Value) {
    until(&format!("the record of {path}"), || {
        let mut events = agent.events();
        events.retain(|event| event["resource"]["path"] == path);
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        match kinds.as_slice() {
            ["vault.intent.v1", "vault.result.v1"] => Some((events[0].clone(), events[1].clone())),
            [] | ["vault.intent.v1"] => None,
            other => panic!("{other:?}"),
        }
    })
}

fn words(event: &Value) -> (&str, &str) {
    (event["outcome"].as_str().unwrap(), event["reason"].as_str().unwrap_or("-"))
}

#[test]
fn a_large_secret_is_written_by_a_request_that_streams_and_read_back_the_same() {
    let Some(vault) = Vault::start() else { return };
    let rule = json!({"paths": ["secret/*"], "methods": ["GET", "POST"]});
    let scene = Scene::of(&vault, json!([{"name": "tree", "vault": rule}]));
    let fields: serde_json::Map<String, Value> =
        (0..12).map(|n| (format!("f{n:02}"), json!(format!("{n:07}x").repeat(MIB / 16)))).collect();
    let body = json!({"data": fields}).to_string();
    let wrote = post(&scene.agent.socket(), "secret/data/told", body.as_bytes(), Some(body.len()));
    assert_eq!((wrote.status, &wrote.json()["data"]["version"]), (200, &json!(1)));
    let wrote = post(&scene.agent.socket(), "secret/data/chunked", body.as_bytes(), None);
    assert_eq!((wrote.status, &wrote.json()["data"]["version"]), (200, &json!(1)));
    for name in ["told", "chunked"] {
        let path = format!("secret/data/{name}");
        let found = vault.root().get(&path).expect_success();
        assert_eq!(found["data"]["data"], Value::Object(fields.clone()), "{name}");
        let (intent, result) = record(&scene.agent, &path);
        assert_eq!((words(&intent), words(&result)), (("allow", "-"), ("allow", "-")));
        assert_eq!((&intent["vault"]["sent"], &result["vault"]["sent"]), (&Value::Null, &json!(body.len())));
        assert_eq!(result["vault"]["request_id"].as_str().unwrap().len(), 36);
    }
}

#[test]
fn a_body_that_does_not_come_whole_is_no_request_for_vault_and_on_record_with_what_went() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |_| {});
    let socket = agent.socket();
    let noise = noise(4 * MIB);
    // Its client hangs up.
    let mut half = begin(&socket, "take/half", Some(noise.len()));
    half.write_all(&noise[..MIB]).unwrap();
    until("a part of the body", || (taker.bytes() >= MIB / 2).then_some(()));
    drop(half);
    let (_, result) = record(&agent, "take/half");
    // Either is seen first: that the body broke off, or that nobody waits for an answer.
    assert!([("error", "bad_request"), ("error", "undelivered")].contains(&words(&result)), "{result}");
    let sent = result["vault"]["sent"].as_u64().unwrap() as usize;
    assert!((MIB / 2..=MIB).contains(&sent), "{sent}");
    until("the end of it", || taker.taken("half").first().cloned().filter(|taken| !taken.is_whole));
    // It says chunks and sends none.
    let mut bad = begin(&socket, "take/malformed", None);
    bad.write_all(format!("{MIB:x}\r\n").as_bytes()).unwrap();
    bad.write_all(&noise[..MIB]).unwrap();
    bad.write_all(b"\r\nno number\r\n").unwrap();
    let said = finish(bad);
    assert!(said.status == 400 && said.raw.contains("malformed or cut off"), "{said:?}");
    let (_, result) = record(&agent, "take/malformed");
    assert_eq!((words(&result), &result["vault"]["sent"]), (("error", "bad_request"), &json!(MIB)));
    assert!(!taker.taken("malformed")[0].is_whole);
    // It sends more than it says: what is too much is no part of it.
    let mut more = begin(&socket, "take/more", Some(MIB));
    more.write_all(&noise[..MIB]).unwrap();
    more.write_all(b"GET /v1/take/smuggled HTTP/1.1\r\n\r\n").unwrap();
    let said = finish(more);
    assert_eq!((said.status, said.raw.matches("HTTP/1.1").count()), (200, 1), "{said:?}");
    let whole = Taken { path: "more".into(), bytes: MIB, is_whole: true, sum: sum(0, &noise[..MIB]) };
    assert_eq!(taker.taken("more"), [whole]);
    assert_eq!(taker.taken("smuggled"), []);
}

#[test]
fn a_body_is_no_longer_than_its_rule_says_and_one_that_says_so_is_not_begun() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |config| {
        let rules = &mut config["workloads"]["job"]["rules"];
        rules[0]["vault"]["max_request"] = json!("2MiB");
    });
    let socket = agent.socket();
    let said = post(&socket, "take/told", &[], Some(2 * MIB + 1));
    assert!(said.status == 413 && said.raw.contains("max_request"), "{said:?}");
    let event = agent.event("vault.denied.v1", |_| true);
    assert_eq!((words(&event), &event["resource"]["path"]), (("error", "too_large"), &json!("take/told")));
    assert_eq!((taker.taken(""), taker.bytes()), (vec![], 0));
    // It ends when Vault has got as much as it may, and no end.
    let mut endless = begin(&socket, "take/endless", None);
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x1_0000], b"\r\n".to_vec()].concat();
    while endless.write_all(&chunk).is_ok() {}
    let said = finish(endless);
    assert!(said.status == 413 && said.raw.contains("max_request"), "{said:?}");
    let (_, result) = record(&agent, "take/endless");
    assert_eq!(result["reason"], "too_large");
    assert!(result["vault"]["sent"].as_u64().unwrap() <= 2 * MIB as u64, "{result}");
    assert!(!taker.taken("endless")[0].is_whole);
    let noise = noise(2 * MIB);
    assert_eq!(post(&socket, "take/fits", &noise, None).status, 200);
}

#[test]
fn what_must_be_read_before_it_is_sent_is_never_longer_than_what_may_be_held() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |_| {});
    let large = vec![b' '; MIB + 1];
    for path in ["other/cached", "auth/token/create", "sys/leases/renew", "auth/token/revoke-accessor"] {
        for is_told in [Some(large.len()), None] {
            let said = post(&agent.socket(), path, &large, is_told);
            assert!(said.status == 413 && said.raw.contains("limits.body"), "{path}: {said:?}");
        }
    }
    let sent = agent.events().iter().filter(|event| event["type"] == "vault.intent.v1").count();
    assert_eq!((sent, taker.bytes()), (0, 0));
}

#[test]
fn an_answer_that_comes_before_the_end_of_the_body_is_the_answer() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |_| {});
    let noise = noise(8 * MIB);
    for (path, is_told) in [("take/early", Some(noise.len())), ("take/early?x=y", None)] {
        let said = post(&agent.socket(), path, &noise, is_told);
        assert!(said.status == 413 && said.raw.contains("http: request body too large"), "{said:?}");
    }
    // As curl asks first whether it is to send so much: it is not, and not kept waiting.
    let file = agent.folder().join("noise");
    std::fs::write(&file, &noise).unwrap();
    for (path, expected) in [("take/curl", "200"), ("elsewhere", "403")] {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(agent.socket());
        curl.arg("--data-binary").arg(format!("@{}", file.display())).arg(format!("http://x/v1/{path}"));
        assert_eq!(printed(&mut curl), expected, "{path}");
    }
    // No rule allows it: that is said though nobody wants its body.
    let said = post(&agent.socket(), "elsewhere", &noise, Some(noise.len()));
    assert!(said.status == 403 && said.raw.contains("no_rule"), "{said:?}");
    let results: Vec<Value> = agent
        .events()
        .into_iter()
        .filter(|event| event["resource"]["path"] == "take/early" && event["type"] == "vault.result.v1")
        .collect();
    for result in &results {
        assert_eq!((words(result), &result["vault"]["status"]), (("error", "vault_invalid"), &json!(413)));
        assert!(result["vault"]["sent"].as_u64().is_some_and(|sent| sent > 0), "{result}");
    }
    assert_eq!(results.len(), 2);
}

#[test]
fn a_body_that_went_is_never_sent_again_and_its_client_is_told_whose_fault_it_is_and_when_to_ask() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |_| {});
    let noise = noise(3 * MIB);
    let said = post(&agent.socket(), "take/gone", &noise, Some(noise.len()));
    assert_eq!((said.status, &said.json()["reason"]), (503, &json!("vault_away")), "{said:?}");
    assert!(said.raw.contains("may have been done") && said.raw.contains("retry-after: 1"), "{said:?}");
    let said = post(&agent.socket(), "take/unknown", &noise, None);
    assert_eq!((said.status, &said.json()["reason"]), (503, &json!("not_ready")), "{said:?}");
    assert!(said.raw.contains("send it again") && said.raw.contains("retry-after: 1"), "{said:?}");
    for (name, reason) in [("gone", "vault_away"), ("unknown", "not_ready")] {
        let (_, result) = record(&agent, &format!("take/{name}"));
        assert_eq!(words(&result), ("error", reason));
        assert_eq!(taker.taken(name).len(), 1, "{name}");
    }
    // And the next one goes through.
    assert_eq!(post(&agent.socket(), "take/again", &noise, None).status, 200);
}

#[test]
fn without_a_record_no_byte_of_a_body_goes_out() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |_| {});
    // A directory that is gone cannot be written to.
    std::fs::rename(agent.folder().join("audit"), agent.folder().join("elsewhere")).unwrap();
    let noise = noise(MIB);
    let said = until("a refusal", || {
        let before = taker.bytes();
        let said = post(&agent.socket(), "take/unrecorded", &noise, None);
        (said.status != 200).then_some((said, taker.bytes() - before))
    });
    assert_eq!((said.0.status, said.1), (503, 0), "{said:?}");
    assert!(said.0.raw.contains("audit_unavailable") && said.0.raw.contains("retry-after"), "{said:?}");
}

#[test]
fn the_end_of_the_agent_cuts_a_body_off_and_that_is_on_record() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |config| config["shutdown"] = json!({"grace": "1s"}));
    let mut half = begin(&agent.socket(), "take/stopped", Some(4 * MIB));
    half.write_all(&noise(MIB)).unwrap();
    until("a part of the body", || (taker.bytes() >= MIB / 2).then_some(()));
    let stopped = agent.stop();
    assert_eq!(stopped.code, Some(0));
    let results = stopped.events("vault.result.v1");
    assert_eq!((results.len(), words(results[0])), (1, ("error", "undelivered")));
    assert!(results[0]["vault"]["sent"].as_u64().unwrap() >= MIB as u64 / 2);
    until("the end of it", || taker.taken("stopped").first().cloned().filter(|taken| !taken.is_whole));
}

#[test]
fn many_large_bodies_at_once_go_through_little_memory() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |_| {});
    let noise = noise(16 * MIB);
    let all = |count: usize| {
        thread::scope(|scope| {
            for n in 0..count {
                let (noise, agent) = (&noise, &agent);
                let is_told = (n % 2 == 0).then_some(noise.len());
                scope.spawn(move || {
                    assert_eq!(post(&agent.socket(), "take/many", noise, is_told).status, 200);
                });
            }
        });
    };
    all(2);
    let before = resident(&agent);
    all(16);
    let after = resident(&agent);
    assert!(after < before + 8 * 1024, "{before} KiB, then {after} KiB");
    let right = sum(0, &noise);
    assert!(taker.taken("many").iter().all(|taken| taken.is_whole && taken.sum == right));
    // One whose Vault takes nothing more waits, and is not read into memory.
    let mut slow = begin(&agent.socket(), "take/slow", Some(32 * MIB));
    slow.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(slow.write_all(&vec![0; 32 * MIB]).is_err());
    let held = resident(&agent);
    assert!(held < after + 8 * 1024, "{after} KiB, then {held} KiB");
}
