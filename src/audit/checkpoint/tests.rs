//! Checkpoints of a real journal, and what the judge says once somebody has tampered with it. Vault is a key of ours here;
//! the real one is in tests/live.

use super::{
    text::{Certificate, Checkpoint, spell_key},
    *,
};
use crate::{
    audit::{
        Audit, ChainId, Journal, Settings as AuditSettings,
        event::{AgentFacts, Event, Outcome, Resource, Type},
        note::Note,
        tree::Tree,
        verify::{Input, Report, Terms, Verdict, Voucher, export, public_keys, verify},
    },
    clock,
    crypto::{SigningKey, hex, sha256},
    policy::rule::AuditMode,
};
use serde_json::{Value, json};
use std::{fs, path::Path};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SOURCE: &str = "urn:claviger:host/claviger";

fn settings(dir: &Path) -> AuditSettings {
    AuditSettings {
        mode: AuditMode::Strict,
        journal: Journal { dir: dir.to_owned(), max_size: 8 << 20, segment: 1 << 20, retain: Duration::ZERO },
        sinks: Vec::new(),
        workloads: 1,
        source: SOURCE.into(),
        pod: None,
        hash_paths: false,
        fingerprint_key: None,
        handoff: None,
        checkpoints: Some(boot()),
    }
}

fn boot() -> Settings {
    Settings { signer: Signer::Boot, key: None, anchor: None, identity: None }
}

fn read_event(number: usize) -> Event {
    let mut event = Event::new(Type::SecretRead, Outcome::Allow, clock::now());
    event.resource = Some(Resource { path: Some(format!("secret/{number}")), ..Resource::default() });
    event
}

fn certificate(vault: &SigningKey, origin: &str, key: &str, since: clock::Timestamp) -> String {
    let key = text::public_key(key).unwrap();
    let text = Certificate { origin: origin.into(), key, since }.text();
    let signature = vault.sign(text.as_bytes());
    Note::new(text).signed("transit/audit", &vault.public(), &signature).to_string()
}

/// One agent: so many events, a stop in order, and checkpoints of a key that `vault` certified, if there is one.
async fn agent(dir: &Path, events: usize, vault: Option<&SigningKey>) {
    let since = clock::now();
    let key = Key::new(&boot(), since).unwrap();
    let audit = Audit::open(&settings(dir), |_| {}).unwrap();
    let declaration = key.declaration();
    let own = declaration.key.clone().unwrap();
    let facts = AgentFacts { signed: Some(Box::new(declaration)), ..AgentFacts::default() };
    let started = Event::new(Type::AgentStarted, Outcome::Allow, clock::now());
    audit.record(Event { agent: Some(facts), ..started }, AuditMode::Strict).await.unwrap();
    let (handle, mut task) =
        Checkpoints::prepare(&audit, (&boot(), SOURCE), key, None, CancellationToken::new(), |_, _| {})
            .unwrap();
    let origin = format!("{SOURCE}/{}", audit.chain());
    task.signer.certificate = vault.map(|vault| certificate(vault, &origin, &own, since));
    let mut running = JoinSet::new();
    running.spawn(task.run());
    for number in 0..events {
        audit.record(read_event(number), AuditMode::Buffered).await.unwrap();
    }
    if events as u64 >= EVENTS {
        let there = async {
            while !lines(dir).iter().any(|line| {
                line.contains(&format!("{}-", audit.chain())) && line.contains("audit.checkpoint")
            }) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), there)
            .await
            .expect("a checkpoint after a thousand events");
    }
    let stopped = Event::new(Type::AgentStopped, Outcome::Allow, clock::now());
    audit.record(stopped, AuditMode::Strict).await.unwrap();
    handle.last().await;
    running.join_all().await;
    audit.close().await.unwrap();
}

fn lines(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    export(&[Input::Path(dir.to_owned())], &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

fn judged(lines: &[String], terms: Terms) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    verify(&[Input::Path(file)], terms).unwrap()
}

fn trusting(vault: &SigningKey) -> Terms {
    Terms { keys: vec![vault.public()], ..Terms::default() }
}

/// Writes the whole record anew, as one who has all the agent's rights could: numbers, hashes, and checkpoints signed with
/// `key`.
fn forge(lines: &[String], key: Option<&SigningKey>, mut change: impl FnMut(&mut Value)) -> Vec<String> {
    let mut forged: Vec<String> = Vec::new();
    let (mut chain, mut first, mut tree, mut heads) = (String::new(), 0, Vec::new(), Vec::new());
    for line in lines {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let uid = event["chain"]["uid"].as_str().unwrap().to_owned();
        let last = forged.last().map(|line| hex(&sha256(line.as_bytes())));
        if uid != chain {
            if event["type"] == "audit.recovered.v1" {
                event["agent"]["last_hash"] = json!(last.unwrap());
            }
            (chain, first, tree, heads) = (uid, forged.len(), vec![Tree::new()], vec![[0; 32]]);
        } else {
            event["chain"]["prev"] = json!(last.unwrap());
        }
        change(&mut event);
        if let (Some(key), Some(signed)) = (key, event.pointer_mut("/agent/signed")) {
            signed["key"] = json!(spell_key(&key.public()));
            if let Some(text) = signed.get("note").and_then(Value::as_str) {
                let mut checkpoint = Checkpoint::of(&Note::parse(text).unwrap()).unwrap();
                let size = usize::try_from(checkpoint.size).unwrap();
                (checkpoint.root, checkpoint.head) = (Tree::root(&tree[size]), heads[size]);
                let (text, origin) = (checkpoint.text(), checkpoint.origin.clone());
                let signature = key.sign(text.as_bytes());
                signed["note"] =
                    json!(Note::new(text).signed(&origin, &key.public(), &signature).to_string());
            }
        }
        let line = serde_json::to_string(&event).unwrap();
        let mut next = tree[forged.len() - first].clone();
        next.push(line.as_bytes());
        tree.push(next);
        heads.push(sha256(line.as_bytes()));
        forged.push(line);
    }
    forged
}

fn rewrite_a_read(event: &mut Value) {
    if let Some(path) = event.pointer_mut("/resource/path").filter(|path| **path == "secret/3") {
        *path = json!("secret/innocent");
    }
}

#[tokio::test]
async fn a_chain_is_signed_to_its_end_by_a_key_of_its_own_and_says_that_nobody_certified_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("audit");
    agent(&dir, 1_500, None).await;
    agent(&dir, 3, None).await;
    let report = verify(&[Input::Path(dir.clone())], Terms::default()).unwrap();
    assert_eq!(report.verdict, Verdict::Good, "{report:#?}");
    for chain in &report.chains {
        assert_eq!((chain.voucher, chain.signed_up_to), (Voucher::OwnKey, chain.last - 1), "{report:#?}");
    }
    let last = lines(&dir).pop().unwrap();
    assert!(last.ends_with(r#""type":"audit.checkpoint.v1"}"#), "{last}");
    // The forging of the tests below makes of a good record the same record.
    assert!(forge(&lines(&dir), None, |_| {}) == lines(&dir));
}

#[tokio::test]
async fn ten_seconds_after_an_event_a_checkpoint_covers_it_and_an_idle_agent_writes_no_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("audit");
    let key = Key::new(&boot(), clock::now()).unwrap();
    let audit = Audit::open(&settings(&dir), |_| {}).unwrap();
    let (handle, task) =
        Checkpoints::prepare(&audit, (&boot(), SOURCE), key, None, CancellationToken::new(), |_, _| {})
            .unwrap();
    let mut running = JoinSet::new();
    audit.record(read_event(0), AuditMode::Strict).await.unwrap();
    running.spawn(task.run());
    let checkpoints = || lines(&dir).iter().filter(|line| line.contains("audit.checkpoint")).count();
    // Time passes by itself from here on, whenever all is idle.
    tokio::time::pause();
    while checkpoints() == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(checkpoints(), 1);
    tokio::time::resume();
    handle.last().await;
    running.join_all().await;
    assert_eq!(checkpoints(), 1, "nothing came since");
    audit.close().await.unwrap();
}

/// A13 among others: what a forger with every right on the machine can and cannot do.
#[tokio::test]
async fn what_was_signed_cannot_be_rewritten_without_the_key_that_vault_certified_for_that_chain() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, vault) = (folder.path().join("audit"), SigningKey::generate().unwrap());
    agent(&dir, 20, Some(&vault)).await;
    agent(&dir, 20, Some(&vault)).await;
    let good = lines(&dir);
    let check = |what: &str, lines: &[String], terms: Terms, expected: Verdict| {
        let report = judged(lines, terms);
        assert_eq!(report.verdict, expected, "{what}: {report:#?}");
        report
    };
    let report = check("untouched", &good, trusting(&vault), Verdict::Good);
    assert!(report.chains.iter().all(|chain| chain.voucher == Voucher::CertifiedKey), "{report:#?}");
    let report = check("no key given", &good, Terms::default(), Verdict::Good);
    assert_eq!(report.chains[0].voucher, Voucher::UncheckedCertificate);

    // Retention deletes the oldest: the tree cannot be made, and the last event of a checkpoint still binds those before it.
    let report = check("without the oldest events", &good[7..], trusting(&vault), Verdict::Good);
    assert_eq!(report.chains[0].voucher, Voucher::CertifiedKey);
    let forged = forge(&good, None, rewrite_a_read);
    check("the same, one of them rewritten", &forged[2..], Terms::default(), Verdict::Altered);

    let wrong = SigningKey::generate().unwrap();
    check("the wrong key of Vault's", &good, trusting(&wrong), Verdict::Altered);

    let forged = forge(&good, None, rewrite_a_read);
    let report = check("rewritten, the old signatures kept", &forged, Terms::default(), Verdict::Altered);
    let first = &report.findings[0];
    assert!(first.expected.is_some() && first.found.is_some() && first.seq.is_some(), "{first:?}");

    let forged = forge(&good, Some(&wrong), rewrite_a_read);
    check("signed anew, the certificates kept", &forged, Terms::default(), Verdict::Altered);
    let uncertified = |event: &mut Value| {
        rewrite_a_read(event);
        if let Some(signed) = event.pointer_mut("/agent/signed") {
            signed.as_object_mut().unwrap().remove("cert");
        }
    };
    let forged = forge(&good, Some(&wrong), uncertified);
    check("one key for two chains", &forged, Terms::default(), Verdict::Altered);
    let one = good.iter().position(|line| line.contains("audit.recovered")).unwrap();
    let forged = forge(&good[..one], Some(&wrong), uncertified);
    // Nobody vouches for any of these keys, and the report says so; with Vault's key they count as unsigned.
    check("one chain, no certificate, nobody asks", &forged, Terms::default(), Verdict::Good);
    let strict = Terms { max_unsigned: 0, ..trusting(&vault) };
    check("one chain, no certificate", &forged, strict.clone(), Verdict::UnsignedTail);
    check("untouched, nothing may be unsigned", &good, strict.clone(), Verdict::Good);

    let stripped = |event: &mut Value| {
        rewrite_a_read(event);
        if let Some(agent) = event.get_mut("agent") {
            agent.as_object_mut().unwrap().remove("signed");
        }
    };
    let forged: Vec<String> = forge(&good[..one], None, stripped);
    let forged: Vec<String> = forged.into_iter().filter(|line| !line.contains("audit.checkpoint")).collect();
    check("no signature at all", &forged, strict, Verdict::UnsignedTail);
    let cut: Vec<String> =
        good[..one].iter().filter(|line| !line.contains("audit.checkpoint")).cloned().collect();
    check("declared, and none there", &cut, Terms::default(), Verdict::Altered);
}

#[tokio::test]
async fn an_unsigned_tail_is_counted_and_a_long_one_has_its_own_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("audit");
    let key = Key::new(&boot(), clock::now()).unwrap();
    let audit = Audit::open(&settings(&dir), |_| {}).unwrap();
    let stopping = CancellationToken::new();
    stopping.cancel();
    let (handle, task) =
        Checkpoints::prepare(&audit, (&boot(), SOURCE), key, None, stopping, |_, _| {}).unwrap();
    let mut running = JoinSet::new();
    running.spawn(task.run());
    for number in 0..14 {
        audit.record(read_event(number), AuditMode::Strict).await.unwrap();
        if number == 4 {
            handle.now().await;
        }
    }
    // Killed before its last checkpoint.
    audit.close().await.unwrap();
    drop(handle);
    running.join_all().await;
    let lines = lines(&dir);
    let judge = |max_unsigned| judged(&lines, Terms { max_unsigned, ..Terms::default() });
    let report = judge(9);
    assert_eq!(
        (report.verdict, report.chains[0].signed_up_to, report.chains[0].last),
        (Verdict::Good, 5, 15)
    );
    let report = judge(8);
    assert_eq!((report.verdict, report.findings[0].seq), (Verdict::UnsignedTail, Some(6)));
}

fn anchored(lines: &[String], which: usize) -> Anchor {
    let notes = lines.iter().filter_map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["agent"]["signed"]["note"].as_str().map(str::to_owned)
    });
    let note = notes.collect::<Vec<_>>().swap_remove(which);
    Anchor::of(&json!({"data": {"data": {"note": note}}})).unwrap()
}

/// A12, the verifier's part: what is cut off is missed by whoever has the anchor.
#[tokio::test]
async fn events_that_are_cut_off_are_missed_by_the_anchor() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("audit");
    agent(&dir, 20, None).await;
    agent(&dir, 20, None).await;
    let lines = lines(&dir);
    let second = lines.iter().position(|line| line.contains("audit.recovered")).unwrap();
    let check = |lines: &[String], which, expected| {
        let report =
            judged(lines, Terms { anchor: Some(anchored(&self::lines(&dir), which)), ..Terms::default() });
        assert_eq!(report.verdict, expected, "{report:#?}");
        report
    };
    check(&lines, 0, Verdict::Good);
    check(&lines, 1, Verdict::Good);
    let report = check(&lines[..lines.len() - 6], 1, Verdict::Truncated);
    let last = report.chains[1].last;
    assert_eq!(report.findings[0].seq, Some(last + 1));
    check(&lines[..second], 1, Verdict::Truncated);
    check(&lines[second..], 0, Verdict::Good);
    let forged = forge(&lines, Some(&SigningKey::generate().unwrap()), rewrite_a_read);
    check(&forged, 0, Verdict::Altered);
    let nothing = judged(&[], Terms { anchor: Some(anchored(&lines, 1)), ..Terms::default() });
    assert_eq!(nothing.verdict, Verdict::Truncated);
}

#[tokio::test]
async fn the_journal_is_compared_with_an_anchor_of_an_earlier_start() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("audit");
    agent(&dir, 20, None).await;
    agent(&dir, 20, None).await;
    let lines = lines(&dir);
    let (first, second) = (anchored(&lines, 0), anchored(&lines, 1));
    let own = ChainId::parse(b"7ZZZZZZZZZZZZZZZZZZZZZZZZZ").unwrap();
    let wanted = |anchor: &Anchor, seq| crate::audit::chain::Position { chain: anchor.chain, seq };
    let local = |position| anchor::local(&dir, own, position).unwrap();
    for anchor in [&first, &second] {
        let size = anchor.checkpoint.size;
        assert_eq!(local(wanted(anchor, size)), anchor::Local::Holds(anchor.checkpoint.head));
        assert_eq!(local(wanted(anchor, size + 500)), anchor::Local::UpTo(size + 1));
    }
    assert_eq!(anchor::local(&dir, first.chain, wanted(&first, 1)).unwrap(), anchor::Local::Empty);
    let unknown = |chain: &str| crate::audit::chain::Position {
        chain: ChainId::parse(chain.as_bytes()).unwrap(),
        seq: 7,
    };
    assert_eq!(local(unknown("00000000000000000000000001")), anchor::Local::TooOld);
    assert_eq!(local(unknown("7ZZZZZZZZZZZZZZZZZZZZZZZZY")), anchor::Local::Gone);
}

#[test]
fn keys_are_read_as_vault_prints_them_and_as_pem() {
    let key = SigningKey::generate().unwrap().public();
    let plain = spell_key(&key);
    let pem = format!("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA{plain}\n-----END PUBLIC KEY-----\n");
    assert_eq!(public_keys(&plain), Some(vec![key]));
    assert_eq!(public_keys(&format!("{plain}\n\n{pem}")), Some(vec![key, key]));
    for bad in ["", "hello", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", &plain[..40]] {
        assert_eq!(public_keys(bad), None, "{bad}");
    }
}
