//! The journal as its callers see it: many at once, hanging up, closing.

use super::{
    event::{Outcome, Type},
    *,
};
use crate::{
    clock,
    name::{SecretName, SinkName, WorkloadName},
};
use std::{
    collections::BTreeMap,
    future::poll_fn,
    io::Write,
    pin::pin,
    sync::{Condvar, Mutex, atomic::AtomicBool},
    task::Poll,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(super) fn settings(dir: &Path) -> Settings {
    Settings {
        mode: AuditMode::Strict,
        journal: Journal {
            dir: dir.to_owned(),
            max_size: 8 * 1024 * 1024,
            segment: 1024 * 1024,
            retain: Duration::ZERO,
        },
        sinks: Vec::new(),
        workloads: 1,
        source: "urn:claviger:test".into(),
        pod: None,
        hash_paths: false,
        fingerprint_key: None,
        checkpoints: None,
        handoff: None,
    }
}

fn open(dir: &Path) -> Audit {
    Audit::open(&settings(dir), |_| {}).unwrap()
}

fn event(name: &str) -> Event {
    let mut event = Event::new(Type::SecretRead, Outcome::Allow, clock::now());
    event.resource = Some(event::Resource { field: Some(name.to_owned()), ..Default::default() });
    event
}

fn events(dir: &Path) -> Vec<(u64, String)> {
    journal::read(dir).unwrap().map(|(seq, bytes)| (seq, String::from_utf8(bytes).unwrap())).collect()
}

#[tokio::test]
async fn a_receipt_means_that_the_event_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    for mode in [AuditMode::Strict, AuditMode::Buffered] {
        let receipt = audit.record(event(mode.word()), mode).await.unwrap();
        let (seq, line) = events(dir.path()).pop().unwrap();
        assert_eq!(seq, receipt.seq());
        assert!(line.contains(&receipt.id()) && line.contains(mode.word()));
    }
    audit.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_at_once_keep_each_ones_order() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let audit = audit.clone();
        tasks.spawn(async move {
            let mode = if task % 4 == 0 { AuditMode::Buffered } else { AuditMode::Strict };
            let mut last = 0;
            for n in 0..50 {
                let receipt = audit.record(event(&format!("{task:02}/{n:02}")), mode).await.unwrap();
                assert!(receipt.seq() > last);
                last = receipt.seq();
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    audit.close().await.unwrap();
    let events = events(dir.path());
    assert_eq!(events.len(), 64 * 50);
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    for (place, (seq, line)) in events.iter().enumerate() {
        assert_eq!(*seq, place as u64 + 1);
        let (_, rest) = line.split_once(r#""field":""#).unwrap();
        let (task, n) = rest.split_once('"').unwrap().0.split_once('/').unwrap();
        let next = next.entry(task.to_owned()).or_default();
        assert_eq!(n.parse::<u32>().unwrap(), *next);
        *next += 1;
    }
}

#[tokio::test]
async fn an_event_whose_client_hung_up_is_committed_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    let mut tasks = JoinSet::new();
    for n in 0..200 {
        let audit = audit.clone();
        tasks.spawn(async move {
            if n % 3 == 0 {
                audit.record(event("stays"), AuditMode::Strict).await.unwrap();
            } else {
                let mut recording = pin!(audit.record(event("leaves"), AuditMode::Strict));
                poll_fn(|context| {
                    assert!(recording.as_mut().poll(context).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    audit.close().await.unwrap();
    assert_eq!(events(dir.path()).len(), 200);
}

#[tokio::test]
async fn a_waiter_that_is_never_polled_again_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    let mut stuck = Vec::new();
    for n in 0..20 {
        let audit = audit.clone();
        let mut recording =
            Box::pin(async move { audit.record(event(&format!("{n}")), AuditMode::Strict).await });
        poll_fn(|context| {
            let _ = recording.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        stuck.push(recording);
    }
    let waited = stuck.pop().unwrap();
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_buffered_event_is_synced_though_nobody_asks() {
    let dir = tempfile::tempdir().unwrap();
    let (told, hears) = std::sync::mpsc::channel();
    let observe = move |took| told.send(took).unwrap_or_default();
    let audit = Audit::open(&settings(dir.path()), observe).unwrap();
    audit.flush().await.unwrap();
    let before = audit.stats().commits();
    let receipt = audit.record(event("soon"), AuditMode::Buffered).await.unwrap();
    let tail = Arc::clone(&audit.0.tail);
    let wait = move || {
        let mut seen = tail.end();
        if seen.position.seq < receipt.seq {
            tail.wait(seen, Some(Duration::from_secs(30)));
            seen = tail.end();
        }
        seen.position.seq
    };
    assert_eq!(tokio::task::spawn_blocking(wait).await.unwrap(), receipt.seq);
    assert_eq!(audit.stats().commits(), before + 1);
    drop(hears);
}

#[tokio::test]
async fn closing_seals_and_later_events_hear_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    let other = audit.clone();
    audit.record(event("last"), AuditMode::Buffered).await.unwrap();
    audit.close().await.unwrap();
    assert!(matches!(other.record(event("late"), AuditMode::Strict).await, Err(Error::Closed)));
    assert!(matches!(other.flush().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_second_agent_cannot_use_the_same_journal() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    assert!(matches!(Audit::open(&settings(dir.path()), |_| {}), Err(Error::Directory { .. })));
}

#[tokio::test]
async fn settings_change_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    assert_eq!(audit.mode(), AuditMode::Strict);
    let mut changed = settings(dir.path());
    (changed.mode, changed.hash_paths) = (AuditMode::Buffered, true);
    audit.apply(&changed);
    assert_eq!(audit.mode(), AuditMode::Buffered);
    let mut event = event("x");
    event.resource = Some(event::Resource { path: Some("kv/clear".into()), ..Default::default() });
    audit.record(event, audit.mode()).await.unwrap();
    assert!(!events(dir.path())[0].1.contains("kv/clear"));
    assert!(audit.writable() && audit.stats().journal_bytes() > 0);
}

/// What a killed process leaves: the files as they are at some moment.
fn image(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_agent_is_killed_every_answered_event_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    let answered = Arc::new(Mutex::new(Vec::new()));
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    for task in 0..8 {
        let (audit, answered, stop) = (audit.clone(), Arc::clone(&answered), stop.clone());
        let mode = if task % 2 == 0 { AuditMode::Strict } else { AuditMode::Buffered };
        tasks.spawn(async move {
            // No more than the journal holds: on a slow machine the oldest ones would give way before the last image.
            for _ in 0..1500 {
                if stop.is_cancelled() {
                    return;
                }
                let receipt = audit.record(event("x"), mode).await.unwrap();
                answered.lock().unwrap().push(receipt.id());
            }
        });
    }
    for _ in 0..10 {
        let sure: Vec<String> = answered.lock().unwrap().clone();
        let image = image(dir.path());
        let next = open(image.path());
        next.record(event("next"), AuditMode::Strict).await.unwrap();
        next.close().await.unwrap();
        let lines: Vec<String> = events(image.path()).into_iter().map(|(_, line)| line).collect();
        let ids: std::collections::BTreeSet<String> = lines.iter().map(|line| id_of(line)).collect();
        assert_eq!(ids.len(), lines.len());
        assert!(sure.iter().all(|id| ids.contains(id)));
        assert!(lines.iter().all(|line| !line.contains("audit.gap")));
    }
    stop.cancel();
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}

fn id_of(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value["id"].as_str().unwrap().to_owned()
}

/// A disk that is full on command.
struct Full(Arc<AtomicBool>);

impl Disk for Full {
    fn allocate(&self, file: &File, size: u64) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.set_len(size)
    }
}

async fn until_writable(audit: &Audit) {
    let writable = async {
        while !audit.writable() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), writable).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_answers_unavailable_and_recovers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let disk = Box::new(Full(Arc::clone(&full)));
    let audit = Audit::open_on(disk, &settings(dir.path()), Box::new(|_| {})).unwrap();
    let refused = audit.record(event("refused"), AuditMode::Strict).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }) && refused.retry_after().is_some());
    assert!(!audit.writable());
    full.store(false, Ordering::Relaxed);
    // Nobody records anything: readiness must come back by itself.
    until_writable(&audit).await;
    audit.record(event("taken"), AuditMode::Strict).await.unwrap();
    assert_eq!(events(dir.path()).len(), 1);
}

#[tokio::test]
async fn by_best_effort_a_full_disk_refuses_nothing_and_the_exact_count_of_what_it_lost_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let disk = Box::new(Full(Arc::clone(&full)));
    let audit = Audit::open_on(disk, &settings(dir.path()), Box::new(|_| {})).unwrap();
    let count = loose::MOST + 1_000;
    for n in 0..count {
        let receipt = audit.record(event(&format!("{n}")), AuditMode::BestEffort).await.unwrap();
        assert_eq!((receipt.kept(), receipt.seq()), (Kept::Queued, 0));
    }
    assert!(audit.record(event("strict"), AuditMode::Strict).await.is_err());
    full.store(false, Ordering::Relaxed);
    until_writable(&audit).await;
    audit.close().await.unwrap();
    let lines: Vec<serde_json::Value> =
        events(dir.path()).iter().map(|(_, line)| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["reason"]), (&"audit.gap.v1".into(), &"dropped".into()));
    let (lost, fields) =
        (lines[0]["agg"]["count"].as_u64().unwrap(), lines.iter().map(|line| &line["resource"]["field"]));
    // The oldest went, the others are there in their order.
    let kept: Vec<String> =
        fields.skip(1).map(|field| field.as_str().unwrap_or("no field").to_owned()).collect();
    assert_eq!((lost, kept.len()), (1_000, loose::MOST));
    assert!(kept.iter().map(|n| n.parse::<usize>().unwrap()).eq(1_000..count));
    let report =
        verify::verify(&[verify::Input::Path(dir.path().to_owned())], verify::Terms::default()).unwrap();
    assert_eq!(report.verdict, verify::Verdict::DeclaredGaps, "{report:#?}");
}

#[tokio::test]
async fn a_flood_of_refusals_on_a_full_disk_leaves_room_for_the_agents_own_events() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let disk = Box::new(Full(Arc::clone(&full)));
    let audit = Audit::open_on(disk, &settings(dir.path()), Box::new(|_| {})).unwrap();
    full.store(true, Ordering::Relaxed);
    // What is on the disk for them is used up by reads.
    while audit.record(event("read"), AuditMode::Buffered).await.is_ok() {}
    let refused = events(dir.path()).len();
    for n in 0..20_000 {
        let refusal = Event {
            outcome: Outcome::Deny,
            reason: Some(event::Reason::NoRule),
            workload: Some(WorkloadName::new("job").unwrap()),
            ..event("key")
        };
        let secret = SecretName::new(&format!("secret-{}", n % 100)).unwrap();
        let resource = Some(event::Resource { secret: Some(secret), ..Default::default() });
        audit.record(Event { resource, ..refusal }, AuditMode::Buffered).await.unwrap();
    }
    assert!(events(dir.path()).len() < refused + 1_000, "{}", events(dir.path()).len() - refused);
    let renewed = Event::new(Type::AuthRenew, Outcome::Allow, clock::now());
    audit.record(renewed, AuditMode::Strict).await.unwrap();
    assert!(audit.record(event("read"), AuditMode::Strict).await.is_err());
    // Nor does it push out what is there once there is room: all reads still are.
    full.store(false, Ordering::Relaxed);
    until_writable(&audit).await;
    audit.record(event("last"), AuditMode::Strict).await.unwrap();
    assert_eq!(events(dir.path())[0].0, 1);
}

#[tokio::test]
async fn by_best_effort_events_reach_the_disk_by_themselves_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    for n in 0..3_000 {
        audit.record(event(&format!("{n}")), AuditMode::BestEffort).await.unwrap();
    }
    let all = async {
        while events(dir.path()).len() < 3_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
    let found = events(dir.path());
    assert!(found.iter().enumerate().all(|(n, (_, line))| line.contains(&format!(r#""field":"{n}""#))));
    audit.clone().close().await.unwrap();
    assert!(matches!(audit.record(event("late"), AuditMode::BestEffort).await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_disclosure_by_strict_remote_waits_for_a_required_receiver_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    let siem = SinkName::new("siem").unwrap();
    settings.sinks = remote::tests::required(&["siem"]);
    let audit = Audit::open(&settings, |_| {}).unwrap();
    let refusal = Event { outcome: Outcome::Deny, ..event("key") };
    assert_eq!(audit.record(refusal, AuditMode::StrictRemote).await.unwrap().seq(), 1);
    let read = audit.record(event("key"), AuditMode::StrictRemote);
    let (read, ()) = tokio::join!(read, async {
        audit.flush().await.unwrap();
        // It is on disk, and not yet answered for.
        assert_eq!(events(dir.path()).len(), 2);
        audit.0.remote.acknowledge(&siem, 2, std::iter::empty());
    });
    assert_eq!(read.unwrap().seq(), 2);
    let late = audit.record(event("key"), AuditMode::StrictRemote).await.unwrap_err();
    assert!(matches!(late, Error::Unacknowledged) && late.retry_after().is_some());
    assert_eq!(events(dir.path()).len(), 3);
}

/// An output that a test can read, stop and break.
#[derive(Clone, Default)]
struct Screen(Arc<(Mutex<Shown>, Condvar)>);

#[derive(Default)]
struct Shown {
    bytes: Vec<u8>,
    stalled: bool,
    failures: usize,
}

impl Screen {
    fn lines(&self) -> Vec<String> {
        let shown = self.0.0.lock().unwrap();
        String::from_utf8(shown.bytes.clone()).unwrap().lines().map(str::to_owned).collect()
    }

    fn stall(&self, stalled: bool) {
        self.0.0.lock().unwrap().stalled = stalled;
        self.0.1.notify_all();
    }

    async fn wait_for(&self, count: usize) {
        let (screen, limit) = (self.clone(), Duration::from_secs(30));
        let wait = move || {
            let shown = screen.0.0.lock().unwrap();
            let few = |shown: &mut Shown| shown.bytes.iter().filter(|b| **b == b'\n').count() < count;
            assert!(!screen.0.1.wait_timeout_while(shown, limit, few).unwrap().1.timed_out());
        };
        tokio::task::spawn_blocking(wait).await.unwrap();
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shown = self.0.0.lock().unwrap();
        while shown.stalled {
            shown = self.0.1.wait(shown).unwrap();
        }
        if shown.failures > 0 {
            shown.failures -= 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Never all of it, as a pipe may.
        let count = bytes.len().min(700);
        shown.bytes.extend_from_slice(&bytes[..count]);
        self.0.1.notify_all();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn print(audit: &Audit, screen: &Screen, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let name = crate::name::SinkName::new("console").unwrap();
    let screen = screen.clone();
    let make = move || -> io::Result<Box<dyn sink::outlet::Outlet>> {
        Ok(Box::new(sink::stdout::Stdout::new(Box::new(screen.clone()), sink::Format::Native)))
    };
    let control = sink::runner::Control::until(stop.clone());
    let tell = Arc::new(|_: sink::Fact| ());
    tasks.spawn(sink::runner::run(audit.source(), name, Box::new(make), tell, control.into()));
}

#[tokio::test]
async fn standard_output_shows_exactly_the_journalled_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (screen, stop, mut tasks) = (Screen::default(), CancellationToken::new(), JoinSet::new());
    let audit = open(dir.path());
    audit.record(event("before"), AuditMode::Strict).await.unwrap();
    print(&audit, &screen, &stop, &mut tasks);
    for n in 0..300 {
        let mode = if n % 2 == 0 { AuditMode::Strict } else { AuditMode::Buffered };
        audit.record(event(&format!("{n}")), mode).await.unwrap();
    }
    audit.close().await.unwrap();
    tasks.join_next().await.unwrap().unwrap();
    let journalled: Vec<String> = events(dir.path()).into_iter().map(|(_, line)| line).collect();
    assert_eq!(screen.lines(), journalled);
    assert_eq!(journalled.len(), 301);
}

#[tokio::test]
async fn standard_output_goes_on_after_a_restart_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let screen = Screen::default();
    for round in 0..3 {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let audit = open(dir.path());
        print(&audit, &screen, &stop, &mut tasks);
        audit.record(event("seen"), AuditMode::Strict).await.unwrap();
        screen.wait_for(if round == 0 { 1 } else { round * 3 + 2 - 1 }).await;
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
        // Recorded while nobody prints.
        audit.record(event("unseen"), AuditMode::Strict).await.unwrap();
        audit.close().await.unwrap();
    }
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let audit = open(dir.path());
    print(&audit, &screen, &stop, &mut tasks);
    audit.close().await.unwrap();
    tasks.join_next().await.unwrap().unwrap();
    let journalled: Vec<String> = events(dir.path()).into_iter().map(|(_, line)| line).collect();
    assert_eq!(screen.lines(), journalled);
}

#[tokio::test]
async fn a_stalled_output_holds_up_no_event_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let (screen, stop, mut tasks) = (Screen::default(), CancellationToken::new(), JoinSet::new());
    screen.stall(true);
    let audit = open(dir.path());
    print(&audit, &screen, &stop, &mut tasks);
    for n in 0..100 {
        audit.record(event(&format!("{n}")), AuditMode::Strict).await.unwrap();
    }
    assert!(screen.0.0.try_lock().is_ok_and(|shown| shown.bytes.is_empty()));
    screen.0.0.lock().unwrap().failures = 1;
    screen.stall(false);
    screen.wait_for(100).await;
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(screen.lines().len(), 100);
}

#[tokio::test]
async fn an_output_that_is_stuck_does_not_stop_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (screen, stop, mut tasks) = (Screen::default(), CancellationToken::new(), JoinSet::new());
    screen.stall(true);
    let audit = open(dir.path());
    print(&audit, &screen, &stop, &mut tasks);
    audit.record(event("x"), AuditMode::Strict).await.unwrap();
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
    audit.close().await.unwrap();
    screen.stall(false);
}

#[tokio::test]
async fn a_flood_of_refusals_is_on_record_to_the_last_one_and_takes_little_room() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    let refusal = || {
        let mut event = Event { outcome: Outcome::Deny, ..event("key") };
        event.reason = Some(event::Reason::NoRule);
        event
    };
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..5000 {
        ids.insert(audit.record(refusal(), AuditMode::Strict).await.unwrap().id());
    }
    audit.record(event("allowed"), AuditMode::Strict).await.unwrap();
    // What is counted by then is written at the end.
    audit.close().await.unwrap();
    let lines: Vec<serde_json::Value> =
        events(dir.path()).iter().map(|(_, line)| serde_json::from_str(line).unwrap()).collect();
    let refused: Vec<_> = lines.iter().filter(|line| line["outcome"] == "deny").collect();
    let counted: u64 = refused.iter().map(|line| line["agg"]["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!(counted, 5000);
    assert!(refused.len() < 1000, "{}", refused.len());
    // Each refusal was answered with the id of one that is on record, and is equal to it.
    assert!(ids.iter().all(|id| lines.iter().any(|line| line["id"] == **id && line["reason"] == "no_rule")));
    assert_eq!(lines.iter().filter(|line| line["outcome"] == "allow").count(), 1);
}
