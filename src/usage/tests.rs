//! The ledger, its snapshots, and what is read back of them.

use super::{
    history::{History, Record},
    shared::{PARTS, Paths, Shared},
    told::{Rotated, Told},
    *,
};
use serde_json::{Value, json};

const WORDS: [&str; 2] = ["secret.read.v1", "allow"];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn read(path: &str) -> Told<'_> {
    let [kind, outcome] = WORDS;
    Told {
        kind,
        outcome,
        workload: Some("job"),
        rule: Some("keys"),
        secret: Some("stripe"),
        path: Some(path),
        sort: Some("kv"),
        version: Some(1),
        level: Some("process"),
        ..Told::default()
    }
}

fn parts(ledger: &Ledger) -> Vec<Part> {
    std::iter::from_fn(|| ledger.part()).collect()
}

#[test]
fn what_is_used_again_is_one_row_with_its_first_and_last_time() {
    let ledger = Ledger::default();
    for (seq, second) in [(1, 5), (2, 9), (3, 7)] {
        ledger.note(&read("secret/a"), seq, at(second));
    }
    ledger.note(&Told { kind: "secret.stale_served.v1", level: Some("user"), ..read("secret/a") }, 4, at(8));
    let [part] = parts(&ledger).try_into().unwrap();
    let [entry] = part.entries.try_into().unwrap();
    assert_eq!((part.upto, entry.allow, entry.stale, entry.deny), (4, 3, 1, 0));
    assert_eq!((entry.first, entry.last, entry.level), (at(5), at(9), Some("user")));
    // Nothing new, nothing told; then what changed, and everything when it is asked for.
    assert_eq!(parts(&ledger), []);
    ledger.note(&read("secret/b"), 5, at(10));
    assert_eq!(parts(&ledger).iter().map(|part| part.entries.len()).sum::<usize>(), 1);
    ledger.retell();
    assert_eq!(parts(&ledger).iter().map(|part| part.entries.len()).sum::<usize>(), 2);
}

#[test]
fn a_persons_yes_is_counted_beside_what_was_had_without_one() {
    let ledger = Ledger::default();
    ledger.note(&read("secret/a"), 1, at(3));
    ledger.note(&Told { approval: Some("a1"), ..read("secret/a") }, 2, at(5));
    ledger.note(&Told { approval: Some("a2"), ..read("secret/a") }, 3, at(7));
    let denied = Told { kind: "secret.denied.v1", outcome: "deny", approval: Some("a3"), ..read("secret/a") };
    ledger.note(&denied, 4, at(9));
    let whole = left(&ledger, "A");
    let [entry] = whole[0].entries() else { panic!("{whole:?}") };
    assert_eq!((entry.allow, entry.approved, entry.deny), (3, 2, 1));
    assert_eq!((entry.asked, entry.unasked), (Some(at(5)), Some(at(3))));
}

#[test]
fn a_full_ledger_counts_what_it_does_not_tell_and_refusals_take_a_quarter_of_it_at_most() {
    let ledger = Ledger::default();
    let denied = |ledger: &Ledger, path: &str| {
        let told = Told { kind: "vault.denied.v1", outcome: "deny", operation: Some("read"), ..read(path) };
        ledger.note(&told, 1, at(0));
    };
    for n in 0..MOST {
        denied(&ledger, &format!("secret/made-up/{n}"));
    }
    assert_eq!(ledger.size(), (MOST / 4, (MOST - MOST / 4) as u64));
    for n in 0..MOST {
        ledger.note(&read(&format!("secret/{n}")), 2, at(1));
    }
    assert_eq!(ledger.size(), (MOST, MOST as u64));
    // What has its row is counted on.
    ledger.note(&read("secret/1"), 3, at(2));
    assert_eq!(ledger.size(), (MOST, MOST as u64));
}

/// A line as the journal writes it.
fn line(chain: &str, seq: u64, told: &Told<'_>, second: i64) -> Value {
    json!({
        "chain": {"uid": chain, "prev": ""}, "seq": format!("{seq:020}"), "time": at(second), "source": "urn:claviger:a",
        "type": told.kind, "outcome": told.outcome, "workload": told.workload, "rule": {"name": told.rule},
        "actor": {"level": told.level},
        "resource": {"secret": told.secret, "path": told.path, "kind": told.sort, "version": told.version},
    })
}

fn snapshot(chain: &str, seq: u64, part: &Part, second: i64) -> Value {
    let entry = |entry: &Entry| {
        json!({
            "workload": entry.workload, "rule": entry.rule, "secret": entry.secret, "path": entry.path,
            "version": entry.version, "capability": entry.capability.word(), "first": entry.first, "last": entry.last,
            "allow": entry.allow, "deny": entry.deny, "stale": entry.stale, "level": entry.level,
        })
    };
    json!({
        "chain": {"uid": chain, "prev": ""}, "seq": format!("{seq:020}"), "time": at(second), "source": "urn:claviger:a",
        "type": "usage.snapshot.v1", "outcome": "allow",
        "usage": {
            "upto": format!("{:020}", part.upto), "overflow": part.overflow,
            "entries": part.entries.iter().map(entry).collect::<Vec<_>>(),
        },
    })
}

fn history<'a>(lines: impl IntoIterator<Item = &'a Value>) -> Record {
    let mut history = History::default();
    for line in lines {
        assert!(history.take(line.to_string().as_bytes()));
    }
    history.finish()
}

/// One start: ten reads, a snapshot after the fifth, three more of something else.
fn start(chain: &str) -> Vec<Value> {
    let ledger = Ledger::default();
    let mut lines = Vec::new();
    for seq in 1..=10_u64 {
        let told = read(if seq > 7 { "secret/b" } else { "secret/a" });
        lines.push(line(chain, lines.len() as u64 + 1, &told, seq.cast_signed()));
        ledger.note(&told, lines.len() as u64, at(seq.cast_signed()));
        if seq == 5 {
            let part = ledger.part().unwrap();
            lines.push(snapshot(chain, lines.len() as u64 + 1, &part, 6));
        }
    }
    lines
}

#[track_caller]
fn check<'a>(lines: impl IntoIterator<Item = &'a Value>, expected: &[(&str, u64)]) {
    let record = history(lines);
    let mut found: Vec<_> =
        record.entries.iter().map(|entry| (entry.path.as_deref().unwrap(), entry.allow)).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(record.entries.iter().all(|entry| entry.first >= at(1) && entry.last <= at(10)));
}

#[test]
fn snapshots_tell_what_the_journal_has_let_go_of() {
    let (one, two) = (start("A"), start("B"));
    check(&one, &[("secret/a", 7), ("secret/b", 3)]);
    // The oldest events are gone.
    check(&one[5..], &[("secret/a", 7), ("secret/b", 3)]);
    check(&one[3..], &[("secret/a", 7), ("secret/b", 3)]);
    // The snapshot is gone.
    check(&one[6..], &[("secret/a", 2), ("secret/b", 3)]);
    // Two starts, or two pods.
    check(one[5..].iter().chain(&two), &[("secret/a", 14), ("secret/b", 6)]);
}

#[test]
fn an_event_that_comes_twice_counts_once() {
    let one = start("A");
    check(one.iter().chain(&one).chain(&one[2..4]), &[("secret/a", 7), ("secret/b", 3)]);
    let mixed: Vec<_> = one[4..].iter().chain(&one[..6]).collect();
    check(mixed, &[("secret/a", 7), ("secret/b", 3)]);
}

#[test]
fn a_rule_that_nobody_uses_is_known_since_it_stood_in_the_config() {
    let ledger = Ledger::default();
    ledger.grant("job", "spare", at(1));
    ledger.grant("job", "spare", at(9));
    let [part] = parts(&ledger).try_into().unwrap();
    let record = history([&snapshot("A", 1, &part, 9)]);
    let [entry] = record.entries.try_into().unwrap();
    assert_eq!((entry.rule.as_deref(), entry.first, entry.had()), (Some("spare"), at(1), 0));
}

/// What an agent leaves in Vault, as it is read there.
fn left(ledger: &Ledger, chain: &str) -> Vec<Shared> {
    let parts = Shared::parts(ledger.whole(), ("urn:claviger:a", chain), at(9), Paths::Clear);
    parts.iter().map(|part| Shared::read(serde_json::to_value(part).unwrap()).unwrap()).collect()
}

#[test]
fn ledgers_that_pods_left_count_together_and_once_beside_their_own_record() {
    let ledger = Ledger::default();
    for seq in 1..=7 {
        ledger.note(&read("secret/a"), seq, at(5));
    }
    let rotated = |slot| Some(Rotated { name: "hook", from: None, slot: Some(slot) });
    let skipped = |slot| Told { kind: "rotation.skipped.v1", rotation: rotated(slot), ..Told::default() };
    for slot in ["1", "2", "2"] {
        ledger.note(&skipped(slot), 8, at(6));
    }
    let one = start("A");
    let mut history = History::default();
    for line in &one {
        assert!(history.take(line.to_string().as_bytes()));
    }
    // Of the start whose record is here, and of two others.
    for chain in ["A", "B", "C"] {
        left(&ledger, chain).iter().for_each(|part| history.join(part));
    }
    let record = history.finish();
    let count =
        |path: &str| record.entries.iter().find(|one| one.path.as_deref() == Some(path)).unwrap().allow;
    assert_eq!((count("secret/a"), count("secret/b"), record.chains), (21, 3, 3));
    assert_eq!(record.marks.rotations["hook"].skipped(), 2);
    assert!(record.sources.contains("urn:claviger:a"));
}

#[test]
fn a_ledger_is_left_in_parts_that_vault_takes_and_says_what_it_has_no_room_for() {
    let ledger = Ledger::default();
    let texts: Vec<String> = (0..MOST).map(|n| format!("secret/{}/{n}", "x".repeat(500))).collect();
    texts.iter().for_each(|path| ledger.note(&read(path), 1, at(1)));
    let parts = left(&ledger, "A");
    assert!(parts.len() <= PARTS && parts.iter().skip(1).all(|part| part.marks.is_none()));
    let sizes = parts.iter().map(|part| serde_json::to_vec(part).unwrap().len());
    assert!(sizes.max() < Some(300_000));
    let rows: usize = parts.iter().map(|part| part.entries().len()).sum();
    assert_eq!(rows as u64 + parts[0].overflow, MOST as u64);
    assert!(Shared::read(serde_json::json!({"v": 2})).is_none());
    // Nothing is written again that says the same.
    assert_eq!(left(&ledger, "A")[0].content(), parts[0].content());
}

/// The events of a look, as the journal has them.
fn looks(chain: &str, second: i64, version: u64) -> [Value; 2] {
    let event = |seq: u64, kind: &str, exposure: Value| {
        json!({
            "chain": {"uid": chain, "prev": ""}, "seq": format!("{seq:020}"), "time": at(second), "source": "urn:claviger:a",
            "type": kind, "outcome": "allow", "workload": "job", "exposure": exposure,
            "resource": {"secret": "stripe", "path": "secret/stripe", "kind": "kv", "version": version, "field": "key"},
        })
    };
    let found =
        json!({"place": "environment", "exe": "/usr/bin/job", "pid": 7, "name": "KEY", "form": "base64"});
    let looked = json!({"processes": 3, "files": 2, "unseen": ["the file /x: permission denied"]});
    [event(1, "exposure.found.v1", found), event(2, "exposure.looked.v1", looked)]
}

#[test]
fn what_was_seen_outside_is_one_place_however_often_and_the_newest_look_is_the_one_that_counts() {
    let all = [looks("A", 5, 1), looks("B", 3, 1), looks("C", 9, 2)].concat();
    let exposures = history(&all).marks.exposures;
    let places: Vec<_> = exposures.found.values().map(|one| (one.version, one.first, one.last)).collect();
    assert_eq!(places, [(Some(1), at(3), at(5)), (Some(2), at(9), at(9))]);
    let one = exposures.found.values().next().unwrap();
    assert_eq!(one.place, "the environment of /usr/bin/job (pid 7): variable KEY, as base64");
    let looked = &exposures.looked["urn:claviger:a"];
    assert_eq!((looked.at, looked.processes, looked.files, looked.unseen.len()), (at(9), 3, 2, 1));
    // As other pods read it in Vault, where each agent signs what it left.
    let ledger = Ledger::default();
    let unseen = ["the file /x: permission denied".to_owned()];
    let exposure = exposed::Told {
        place: None,
        exe: None,
        pid: None,
        name: None,
        number: None,
        form: None,
        processes: 3,
        files: 2,
        unseen: &unseen,
    };
    let told =
        Told { kind: "exposure.looked.v1", outcome: "allow", exposure: Some(exposure), ..Told::default() };
    ledger.note(&told, 1, at(4));
    let seen = exposed::Told { place: Some("file"), name: Some("/x"), number: Some(2), ..exposure };
    let told = Told { kind: "exposure.found.v1", secret: Some("stripe"), exposure: Some(seen), ..told };
    ledger.note(&told, 2, at(4));
    let mut history = History::default();
    left(&ledger, "D").iter().for_each(|part| history.join(part));
    let exposures = history.finish().marks.exposures;
    assert_eq!(exposures.looked.keys().collect::<Vec<_>>(), ["urn:claviger:a"]);
    let found: Vec<_> =
        exposures.found.values().map(|one| (one.source.as_str(), one.place.as_str())).collect();
    assert_eq!(found, [("urn:claviger:a", "the file /x: line 2")]);
}

/// `cargo test --lib --release -- --ignored --nocapture ten_thousand` prints what it costs.
#[test]
#[ignore = "a measurement; run it alone"]
#[expect(clippy::print_stdout, reason = "it prints what it measured")]
fn ten_thousand_rows_are_measured() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let texts: Vec<_> = (0..MOST)
        .map(|n| (format!("secret/payments/service-{n:05}/key"), format!("k1:hmac-sha256:{n:064x}")))
        .collect();
    let (ledger, before) = (Ledger::default(), resident());
    for (path, fingerprint) in &texts {
        ledger.note(&Told { fingerprint: Some(fingerprint), ..read(path) }, 1, at(0));
    }
    println!("10,000 rows, each with a path and a fingerprint of its own: {} KiB", resident() - before);
    let began = std::time::Instant::now();
    for _ in 0..100 {
        for (path, fingerprint) in &texts {
            ledger.note(&Told { fingerprint: Some(fingerprint), ..read(path) }, 1, at(1));
        }
    }
    println!("one more use of a row: {} ns", began.elapsed().as_nanos() / 1_000_000);
}

#[test]
fn what_was_read_of_vault_in_an_emergency_is_replaced_by_whoever_writes_there_later() {
    let marks = |lines: &[(&str, &str, Option<&str>, i64)]| {
        let mut marks = super::history::Marks::default();
        let opened = Told { kind: "approval.break_glass.v1", approval: Some("g1"), ..Told::default() };
        marks.take(&opened, at(0));
        for (kind, operation, approval, second) in lines {
            let told = Told {
                kind,
                outcome: "allow",
                operation: Some(operation),
                path: Some("secret/data/a"),
                approval: *approval,
                ..Told::default()
            };
            marks.take(&told, at(*second));
        }
        let touched = marks.glass.get("g1").unwrap().touched.get("secret/data/a").copied();
        touched.map(|touched| (touched.at, touched.is_replaced))
    };
    let read = ("vault.called.v1", "read", Some("g1"), 5);
    assert_eq!(marks(&[read]), Some((at(5), false)));
    assert_eq!(marks(&[read, ("vault.result.v1", "write", None, 9)]), Some((at(5), true)));
    assert_eq!(marks(&[read, ("vault.called.v1", "read", None, 9)]), Some((at(5), false)));
    // What the same emergency wrote is known to it.
    assert_eq!(marks(&[read, ("vault.result.v1", "write", Some("g1"), 9)]), Some((at(9), false)));
    assert_eq!(marks(&[("vault.called.v1", "list", Some("g1"), 5)]), None);
}

#[test]
fn a_rule_for_emergencies_stands_as_the_newest_event_says_in_whatever_order_they_are_read() {
    let stands = |events: &[(&str, i64)]| {
        let mut marks = super::history::Marks::default();
        for (kind, second) in events {
            let told = Told { kind, workload: Some("job"), rule: Some("fire"), ..Told::default() };
            marks.take(&told, at(*second));
        }
        marks.behind_glass.get("job/fire").unwrap().is_disabled_since()
    };
    let (off, on) = (("approval.disabled.v1", 5), ("approval.enabled.v1", 9));
    assert_eq!(stands(&[off]), Some(at(5)));
    assert_eq!(stands(&[off, on]), None);
    assert_eq!(stands(&[on, off]), None);
    assert_eq!(stands(&[on, off, ("approval.disabled.v1", 12)]), Some(at(12)));
}
