//! How long after a promotion each watcher is told of it: by the agent that promoted, and by another replica.
//!
//! It measures, and asserts only that everybody is told of everything. Counted is from the time that Vault gave the new version
//! to the moment at which a watcher has read the last byte of its notice.

use crate::{
    rig::{Agent, until},
    rotation::{generate, plan},
};
use lab::Vault;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// As many watch each agent.
const WATCHERS: usize = 20;

/// A notice: of which generation, and when it was there, in microseconds since 1970.
struct Notice {
    agent: usize,
    generation: u64,
    at: i64,
}

/// Reads the stream until `last` was promoted.
fn watch(socket: PathBuf, agent: usize, last: u64, opened: &mpsc::Sender<()>, told: &mpsc::Sender<Notice>) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /watch?names=webhook HTTP/1.1\r\nHost: claviger\r\n\r\n").unwrap();
    let (mut is_promotion, mut is_open) = (false, false);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(word) = line.strip_prefix("event: ") {
            is_promotion = word == "promoted";
        } else if let Some(data) = line.strip_prefix("data: ").filter(|_| is_promotion) {
            let at = now();
            let generation = serde_json::from_str::<Value>(data).unwrap()["generation"].as_u64().unwrap();
            if !std::mem::replace(&mut is_open, true) {
                // What was there when it came.
                opened.send(()).unwrap();
                continue;
            }
            told.send(Notice { agent, generation, at }).unwrap();
            if generation >= last {
                return;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with what Vault writes, on the same machine")]
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// When each version was made, by Vault.
fn made(vault: &Vault) -> BTreeMap<u64, i64> {
    let metadata = vault.root().get("secret/metadata/webhook").expect_success();
    let of = |(version, of): (&String, &Value)| {
        let at: jiff::Timestamp = of["created_time"].as_str().unwrap().parse().unwrap();
        (version.parse().unwrap(), at.as_microsecond())
    };
    metadata["data"]["versions"].as_object().unwrap().iter().map(of).collect()
}

/// Promotes `rounds` times; gives how long it took to tell each watcher, of the agent that promoted and of the other, in microseconds.
fn tell(rounds: u64) -> Option<[Vec<i64>; 2]> {
    let vault = Vault::start()?;
    let root = vault.root();
    let mut rotation = generate();
    rotation["grace"] = serde_json::json!("0s");
    let agents: Vec<Agent> = (0..2).map(|_| plan(&vault, rotation.clone()).start()).collect();
    root.post("secret/metadata/webhook", &serde_json::json!({"max_versions": 1000})).expect_success();
    let first: u64 =
        agents.iter().map(|agent| agent.generation("webhook", 1)["generation"].as_u64().unwrap()).max()?;
    // Some come before everybody watches.
    let last = first + rounds + 2;
    let ((opened, open), (told, notices)) = (mpsc::channel(), mpsc::channel());
    let mut threads = Vec::new();
    for (number, agent) in agents.iter().enumerate() {
        for _ in 0..WATCHERS {
            let (socket, opened, told) = (agent.socket(), opened.clone(), told.clone());
            threads.push(thread::spawn(move || watch(socket, number, last, &opened, &told)));
        }
    }
    drop(told);
    (0..threads.len()).for_each(|_| open.recv_timeout(Duration::from_secs(60)).unwrap());
    let notices: Vec<Notice> = notices.iter().collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let holder = |generation: u64| {
        until("the event of a promotion", || {
            agents.iter().position(|agent| {
                let is_its = |event: &Value| {
                    event["type"] == "rotation.promoted.v1" && event["rotation"]["to_v"] == generation
                };
                agent.events().iter().any(is_its)
            })
        })
    };
    let made = made(&vault);
    let mut took = [Vec::new(), Vec::new()];
    for generation in (last + 1 - rounds)..=last {
        let (promoter, at) = (holder(generation), made[&generation]);
        let of: Vec<&Notice> = notices.iter().filter(|notice| notice.generation == generation).collect();
        assert_eq!(of.len(), 2 * WATCHERS, "each watcher is told of {generation} once");
        of.iter().for_each(|notice| took[usize::from(notice.agent != promoter)].push(notice.at - at));
    }
    took.iter_mut().for_each(|took| took.sort_unstable());
    Some(took)
}

/// Prints how long it took until watchers were told.
#[test]
#[ignore = "long: sixty rotations, four seconds apart"]
#[expect(clippy::print_stdout, reason = "it measures")]
fn sixty_promotions_reach_twenty_local_watchers() {
    let Some(all) = tell(60) else { return };
    for (whose, took) in ["of the agent that promoted", "of another replica"].iter().zip(&all) {
        let at = |share: usize| took[(took.len() - 1) * share / 100] as f64 / 1000.0;
        println!(
            "{} notices to watchers {whose}: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            took.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}
