//! Answers that are too large to be held, on their way through: whole for the client, with nothing of the token, and in little memory.

use crate::{
    failover::{Mode, Relay, agent},
    rig::Agent,
    scene::Scene,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

const MIB: usize = 1024 * 1024;

/// An answer, and whether it came to the end that its head, or its last chunk, says.
struct Came {
    status: u16,
    body: Vec<u8>,
    is_whole: bool,
}

fn get(socket: &Path, path: &str) -> Came {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let text = format!("GET /v1/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut raw = Vec::new();
    // A connection that is cut may end in an error, too.
    let _ = stream.read_to_end(&mut raw);
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("no head") + 4;
    let body = raw.split_off(end);
    let head = String::from_utf8(raw).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => Came { status, is_whole: body.len() == length.parse::<usize>().unwrap(), body },
        None => {
            let (body, is_whole) = joined(&body);
            Came { status, body, is_whole }
        }
    }
}

/// What stands in chunks, and whether the last of them came.
fn joined(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = memchr::memmem::find(raw, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        raw = &raw[end + 2..];
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(&raw[..size.min(raw.len())]);
        raw = raw.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

/// Vault takes no text of more than a MiB; it gives fields back in the order of their names.
fn write(vault: &Vault, name: &str, fields: &[String]) {
    let data: serde_json::Map<String, Value> =
        fields.iter().enumerate().map(|(at, text)| (format!("f{at:02}"), json!(text))).collect();
    vault.root().post(&format!("secret/data/{name}"), &json!({"data": data})).expect_success();
}

fn contains(bytes: &[u8], part: &str) -> bool {
    memchr::memmem::find(bytes, part.as_bytes()).is_some()
}

#[test]
fn a_large_answer_is_passed_on_as_vault_gives_it_and_is_on_record() {
    let Some(vault) = Vault::start() else { return };
    let scene = Scene::wide(&vault);
    let text = "0123456789abcdef".repeat(MIB / 32);
    write(&vault, "large", &vec![text.clone(); 24]);
    let came = get(&scene.agent.socket(), "secret/data/large");
    assert!(came.status == 200 && came.is_whole);
    let found: Value = serde_json::from_slice(&came.body).unwrap();
    let fields = found["data"]["data"].as_object().unwrap();
    assert!(fields.len() == 24 && fields.values().all(|found| found == text.as_str()));
    let event =
        scene.agent.event("vault.called.v1", |event| event["resource"]["path"] == "secret/data/large");
    assert_eq!((&event["outcome"], &event["vault"]["request_id"]), (&json!("allow"), &found["request_id"]));
    assert_eq!(scene.events(1).len(), 1, "it arrived");
}

#[test]
fn a_large_answer_with_the_token_in_it_is_cut_off_before_it_and_on_record() {
    let Some(vault) = Vault::start() else { return };
    let scene = Scene::wide(&vault);
    let coded = BASE64_STANDARD.encode(format!("x{}x", scene.token));
    for (at, (name, echo)) in
        [("token", &scene.token), ("accessor", &scene.accessor), ("coded", &coded)].into_iter().enumerate()
    {
        let (before, behind) = ("x".repeat(MIB / 2), "y".repeat(MIB / 2));
        write(&vault, name, &[before.clone(), before.clone(), before, format!("x{echo}y"), behind]);
        let came = get(&scene.agent.socket(), &format!("secret/data/{name}"));
        assert!(came.status == 200 && !came.is_whole && came.body.len() > MIB, "{name}: {}", came.body.len());
        for length in [8, 12] {
            assert!(!contains(&came.body, &echo[..length]), "{name}: its beginning");
        }
        assert!(!contains(&came.body, "yyyyyyyy"), "{name}: what stands behind it");
        let events = scene.events(2 * at + 2);
        let last = &events[2 * at + 1];
        assert_eq!((&last["outcome"], &last["reason"]), (&json!("deny"), &json!("own_token")), "{last}");
    }
}

/// Of the agent, in KiB.
pub(crate) fn resident(agent: &Agent) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_snapshot_streams_through_little_memory_and_one_that_breaks_off_is_never_a_clean_end() {
    let Some(vault) = Vault::start() else { return };
    vault.root().post("secret/data/a", &json!({"data": {"k": "v"}})).expect_success();
    let relay = Relay::start(&vault);
    let agent = agent(&vault, &relay);
    let whole = 96 * MIB;
    relay.set(Mode::Snapshot { sent: 8 * MIB, of: 8 * MIB });
    assert_eq!(get(&agent.socket(), "sys/storage/raft/snapshot").body.len(), 8 * MIB);
    let before = resident(&agent);
    relay.set(Mode::Snapshot { sent: whole, of: whole });
    let came = get(&agent.socket(), "sys/storage/raft/snapshot");
    let after = resident(&agent);
    assert_eq!((came.status, came.is_whole, came.body.len()), (200, true, whole));
    assert!(after < before + 8 * 1024, "{before} KiB, then {after} KiB");
    relay.set(Mode::Snapshot { sent: 2 * MIB, of: whole });
    let came = get(&agent.socket(), "sys/storage/raft/snapshot");
    assert!(!came.is_whole && came.body.len() > MIB, "{}", came.body.len());
    let event = agent.event("vault.called.v1", |event| event["outcome"] == "error");
    assert_eq!(
        (&event["reason"], &event["resource"]["path"]),
        (&json!("vault_away"), &json!("sys/storage/raft/snapshot"))
    );
}
