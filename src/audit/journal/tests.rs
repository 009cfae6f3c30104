//! The journal alone: every way a disk can fail, without threads.

use super::*;
use crate::audit::Journal as Sizes;
use crate::crypto::hex;
use crate::policy::rule::AuditMode;
use proptest::prelude::{any, prop, proptest};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::Mutex,
};

/// A disk that fails on command.
#[derive(Clone, Default)]
struct FaultyDisk(Arc<Mutex<Faults>>);

#[derive(Default)]
struct Faults {
    /// Syncs that still succeed before `failing_syncs` fail.
    good_syncs: usize,
    failing_syncs: usize,
    full: bool,
    failing_writes: usize,
    failing_truncates: bool,
}

impl FaultyDisk {
    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Disk for FaultyDisk {
    fn allocate(&self, file: &File, size: u64) -> io::Result<()> {
        if self.0.lock().unwrap().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk::RealDisk.allocate(file, size)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut faults = self.0.lock().unwrap();
        if faults.failing_writes > 0 {
            faults.failing_writes -= 1;
            // Half of it arrives.
            file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, offset)
    }

    /// What a test reads back needs no real disk.
    fn sync_dir(&self, _: &std::path::Path) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        let mut faults = self.0.lock().unwrap();
        if faults.failing_syncs > 0 {
            if faults.good_syncs == 0 {
                faults.failing_syncs -= 1;
                return Err(io::Error::from_raw_os_error(5));
            }
            faults.good_syncs -= 1;
        }
        Ok(())
    }

    fn truncate(&self, file: &File, size: u64) -> io::Result<()> {
        if self.0.lock().unwrap().failing_truncates {
            return Err(io::Error::from_raw_os_error(5));
        }
        file.set_len(size)
    }
}

struct Bench {
    dir: tempfile::TempDir,
    disk: FaultyDisk,
    stats: Arc<Stats>,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), disk: FaultyDisk::default(), stats: Arc::default() }
    }

    fn settings(&self) -> Settings {
        Settings {
            mode: AuditMode::Strict,
            journal: Sizes {
                dir: self.dir.path().to_owned(),
                max_size: 1024 * 1024,
                segment: 64 * 1024,
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

    fn open(&self) -> Journal {
        Journal::open(Box::new(self.disk.clone()), &self.settings(), Arc::clone(&self.stats)).unwrap()
    }

    fn segments(&self) -> Vec<std::path::PathBuf> {
        let names = walk::list(self.dir.path()).unwrap();
        names.iter().map(|name| self.dir.path().join(name.file())).collect()
    }

    fn bad(&self) -> usize {
        let files = fs::read_dir(self.dir.path()).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "bad")).count()
    }

    /// All events, each chain checked: numbers without a gap, each naming the hash before it.
    fn whole_chains(&self) -> Vec<String> {
        let lines = lines(self.dir.path());
        let mut before: Option<(String, u64, String)> = None;
        for line in &lines {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let chain = value["chain"]["uid"].as_str().unwrap().to_owned();
            let seq: u64 = value["seq"].as_str().unwrap().parse().unwrap();
            if let Some((_, last, hash)) = before.filter(|before| before.0 == chain) {
                assert_eq!(seq, last + 1, "{line}");
                assert_eq!(value["chain"]["prev"], hash, "{line}");
            }
            before = Some((chain, seq, hex(&sha256(line.as_bytes()))));
        }
        lines
    }
}

fn lines(dir: &std::path::Path) -> Vec<String> {
    read(dir).unwrap().map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect()
}

fn disclosure(n: usize) -> Event {
    let mut event = Event::new(Type::SecretRead, Outcome::Allow, clock::now());
    event.resource =
        Some(crate::audit::event::Resource { path: Some(format!("kv/number-{n}")), ..Default::default() });
    event
}

fn own() -> Event {
    Event::new(Type::AuthRenew, Outcome::Allow, clock::now())
}

fn commit(journal: &mut Journal, events: &[Event]) -> Result<(), Fault> {
    journal.begin();
    for event in events {
        journal.append(event)?;
    }
    journal.settle()
}

/// Until the pause after a failure is over.
fn wake(journal: &mut Journal) {
    if let Some((_, until)) = &mut journal.down {
        *until = Duration::ZERO;
    }
    journal.refresh();
}

fn flip(path: &std::path::Path, what: &str) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(what.len()).position(|window| window == what.as_bytes()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

#[test]
fn the_chain_is_unbroken_across_segments() {
    let bench = Bench::new();
    let mut journal = bench.open();
    for n in 0..1_000 {
        commit(&mut journal, &[disclosure(n)]).unwrap();
    }
    journal.close().unwrap();
    assert!(bench.segments().len() > 3);
    assert_eq!(bench.whole_chains().len(), 1_000);
}

#[test]
fn the_oldest_segments_give_way_at_the_largest_size_and_not_before() {
    let bench = Bench::new();
    let mut journal = bench.open();
    let mut committed = 0;
    while bench.stats.journal_bytes() < 1024 * 1024 - 70 * 1024 {
        commit(&mut journal, &[disclosure(committed)]).unwrap();
        committed += 1;
    }
    assert_eq!(bench.whole_chains().len(), committed);
    for n in 0..2_000 {
        commit(&mut journal, &[disclosure(n)]).unwrap();
        assert!(bench.stats.journal_bytes() <= 1024 * 1024);
    }
    let on_disk: u64 =
        fs::read_dir(bench.dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk <= 1024 * 1024, "{on_disk}");
    assert!(bench.whole_chains().len() > 1_000);
}

#[test]
fn a_reader_that_was_overtaken_goes_on_and_counts_what_it_missed() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(0), disclosure(1)]).unwrap();
    let limit = || Some(crate::audit::chain::Position { chain: journal.chain(), seq: journal.synced() });
    let mut walk = walk::Walk::new(bench.dir.path(), None);
    assert!(walk.next(&walk::list(bench.dir.path()).unwrap(), limit()).unwrap().is_some());
    let last = walk.last();
    for _ in 0..40 {
        commit(&mut journal, &(0..100).map(disclosure).collect::<Vec<_>>()).unwrap();
    }
    let limit = crate::audit::chain::Position { chain: journal.chain(), seq: journal.synced() - 7 };
    let names = walk::list(bench.dir.path()).unwrap();
    let mut walk = walk::Walk::new(bench.dir.path(), last);
    let mut count = 0;
    while walk.next(&names, Some(limit)).unwrap().is_some() {
        count += 1;
    }
    assert_eq!(walk.last(), Some(limit));
    let missed = walk.take_skipped();
    assert!(missed > 0);
    assert_eq!(1 + missed + count, limit.seq);
}

#[test]
fn a_batch_larger_than_a_segment_is_whole() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &(0..700).map(disclosure).collect::<Vec<_>>()).unwrap();
    assert_eq!(bench.whole_chains().len(), 700);
}

#[test]
fn a_sync_that_fails_once_loses_nothing() {
    for good in 0..4 {
        let bench = Bench::new();
        let mut journal = bench.open();
        commit(&mut journal, &[disclosure(0), disclosure(1)]).unwrap();
        bench.disk.set(|faults| (faults.good_syncs, faults.failing_syncs) = (good, 1));
        for n in 2..9 {
            commit(&mut journal, &[disclosure(n), own()]).unwrap();
        }
        assert_eq!(bench.whole_chains().len(), 16);
        assert_eq!(bench.stats.fsync_errors(), 1);
        assert_eq!(journal.synced(), 16);
    }
}

#[test]
fn a_segment_that_never_reached_the_disk_is_set_aside() {
    let bench = Bench::new();
    let mut journal = bench.open();
    bench.disk.set(|faults| faults.failing_syncs = 1);
    commit(&mut journal, &[disclosure(0)]).unwrap();
    assert_eq!((bench.bad(), bench.whole_chains().len()), (1, 1));
}

#[test]
fn a_tail_that_cannot_be_cut_is_not_read_twice() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(0)]).unwrap();
    bench.disk.set(|faults| (faults.failing_syncs, faults.failing_truncates) = (1, true));
    commit(&mut journal, &[disclosure(1)]).unwrap();
    commit(&mut journal, &[disclosure(2)]).unwrap();
    assert_eq!(bench.whole_chains().len(), 3);
}

#[test]
fn an_event_that_was_refused_leaves_no_number_behind() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(0)]).unwrap();
    bench.disk.set(|faults| faults.failing_syncs = 4);
    commit(&mut journal, &[disclosure(1)]).unwrap_err();
    assert!(!journal.is_writable());
    commit(&mut journal, &[disclosure(2)]).unwrap_err();
    bench.disk.set(|faults| faults.failing_syncs = 0);
    wake(&mut journal);
    assert!(journal.is_writable());
    commit(&mut journal, &[disclosure(3)]).unwrap();
    let lines = bench.whole_chains();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains("number-3"));
}

#[test]
fn what_was_acknowledged_after_the_write_outlives_a_failing_disk() {
    let bench = Bench::new();
    let mut journal = bench.open();
    journal.begin();
    journal.append(&disclosure(0)).unwrap();
    journal.write().unwrap();
    journal.keep();
    bench.disk.set(|faults| faults.failing_syncs = 8);
    commit(&mut journal, &[disclosure(1)]).unwrap_err();
    wake(&mut journal);
    bench.disk.set(|faults| faults.failing_syncs = 0);
    wake(&mut journal);
    commit(&mut journal, &[disclosure(2)]).unwrap();
    let lines = bench.whole_chains();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("number-0") && lines[1].contains("number-2"));
}

#[test]
fn half_a_write_is_written_again() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(0)]).unwrap();
    bench.disk.set(|faults| faults.failing_writes = 1);
    commit(&mut journal, &[disclosure(1), disclosure(2)]).unwrap();
    assert_eq!(bench.whole_chains().len(), 3);
}

#[test]
fn a_full_disk_refuses_disclosures_and_keeps_room_for_the_agent() {
    let bench = Bench::new();
    let mut journal = bench.open();
    bench.disk.set(|faults| faults.full = true);
    let mut disclosed = 0;
    while commit(&mut journal, &[disclosure(disclosed)]).is_ok() {
        disclosed += 1;
        assert!(disclosed < 10_000);
    }
    assert!(!journal.is_writable());
    for _ in 0..100 {
        commit(&mut journal, &[own()]).unwrap();
        let refused = commit(&mut journal, &[disclosure(0)]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    }
    bench.disk.set(|faults| faults.full = false);
    wake(&mut journal);
    assert!(journal.is_writable());
    commit(&mut journal, &[disclosure(disclosed)]).unwrap();
    assert_eq!(bench.whole_chains().len(), disclosed + 101);
}

#[test]
fn a_disk_that_is_full_at_the_start_is_no_reason_to_end() {
    let bench = Bench::new();
    bench.disk.set(|faults| faults.full = true);
    let mut journal = bench.open();
    assert!(!journal.is_writable());
    commit(&mut journal, &[own()]).unwrap_err();
    bench.disk.set(|faults| faults.full = false);
    wake(&mut journal);
    commit(&mut journal, &[disclosure(0)]).unwrap();
    assert_eq!(bench.whole_chains().len(), 1);
}

#[test]
fn a_journal_that_was_closed_is_recovered_as_such() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[own(), own()]).unwrap();
    journal.close().unwrap();
    drop(journal);
    let mut journal = bench.open();
    while journal.check_one() {}
    let lines = bench.whole_chains();
    assert_eq!(lines.len(), 3);
    let value: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!(
        (value["type"].as_str(), value["outcome"].as_str()),
        (Some("audit.recovered.v1"), Some("allow"))
    );
    assert_eq!(value["agent"]["last_seq"], "00000000000000000002");
    assert_eq!(value["agent"]["last_hash"], hex(&sha256(lines[1].as_bytes())));
    assert_eq!(bench.bad(), 0);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_nothing_before_it_is_lost() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(0), disclosure(1)]).unwrap();
    let whole = fs::read(&bench.segments()[0]).unwrap();
    let name = bench.segments()[0].file_name().unwrap().to_owned();
    let torn_from = whole.iter().rposition(|b| *b != 0).unwrap() + 1;
    commit(&mut journal, &[disclosure(2)]).unwrap();
    let longer = fs::read(&bench.segments()[0]).unwrap();
    let torn_to = longer.iter().rposition(|b| *b != 0).unwrap() + 1;
    drop(journal);
    for end in torn_from..torn_to {
        let crashed = Bench::new();
        let mut image = longer.clone();
        image[end..].fill(0);
        fs::write(crashed.dir.path().join(&name), image).unwrap();
        let mut journal = crashed.open();
        while journal.check_one() {}
        let lines = crashed.whole_chains();
        assert_eq!(lines.len(), 3, "cut at {end}");
        assert!(lines[1].contains("number-1") && lines[2].contains("audit.recovered.v1"), "cut at {end}");
        assert!(
            lines[2].contains(r#""last_seq":"00000000000000000002""#)
                && lines[2].contains(r#""reason":"crash""#)
        );
        assert_eq!((crashed.bad(), crashed.stats.gap_events()), (0, 0), "cut at {end}");
        assert_eq!(fs::metadata(crashed.dir.path().join(&name)).unwrap().len(), torn_from as u64);
    }
}

#[test]
fn a_crash_before_the_first_record_leaves_nothing_to_recover() {
    let bench = Bench::new();
    drop(bench.open());
    let mut journal = bench.open();
    commit(&mut journal, &[own()]).unwrap();
    assert_eq!((bench.segments().len(), bench.whole_chains().len()), (1, 1));
}

/// Three events, one of them damaged, found by the next start.
fn damaged(what: &str) -> (Bench, Vec<String>) {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(1), disclosure(2), disclosure(3)]).unwrap();
    journal.close().unwrap();
    drop(journal);
    flip(&bench.segments()[0], what);
    let mut journal = bench.open();
    while journal.check_one() {}
    journal.close().unwrap();
    drop(journal);
    // Found once: another start says nothing of it.
    let mut journal = bench.open();
    while journal.check_one() {}
    let lines = lines(bench.dir.path());
    (bench, lines)
}

#[test]
fn a_damaged_event_is_set_aside_and_the_rest_is_kept() {
    for (damaged_event, kept) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
        let (bench, lines) = damaged(&format!("number-{damaged_event}"));
        let text = lines.join("\n");
        for event in kept {
            assert!(text.contains(&format!("number-{event}")), "{damaged_event}: {text}");
        }
        let gaps: Vec<_> = lines.iter().filter(|line| line.contains("audit.gap.v1")).collect();
        assert_eq!(gaps.len(), 1, "{damaged_event}: {text}");
        let value: serde_json::Value = serde_json::from_str(gaps[0]).unwrap();
        let seq = format!("{damaged_event:020}");
        assert_eq!(
            (value["agent"]["from"].as_str(), value["agent"]["to"].as_str()),
            (Some(&*seq), Some(&*seq))
        );
        assert_eq!(value["reason"], "journal_damaged");
        assert_eq!((bench.bad(), bench.stats.gap_events()), (1, 1));
    }
}

#[test]
fn a_damaged_header_loses_no_event() {
    let (bench, lines) = damaged("clavigrJ");
    for event in 1..4 {
        assert!(lines.iter().any(|line| line.contains(&format!("number-{event}"))), "{lines:?}");
    }
    assert_eq!((bench.bad(), bench.stats.gap_events()), (1, 0));
}

#[test]
fn a_reader_passes_over_damage_and_counts_it() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(1), disclosure(2), disclosure(3)]).unwrap();
    flip(&bench.segments()[0], "number-2");
    let mut reader = read(bench.dir.path()).unwrap();
    assert_eq!(reader.by_ref().map(|(seq, _)| seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(reader.skipped(), 1);
}

#[test]
fn a_removed_segment_is_noticed_at_the_next_commit() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(1), disclosure(2)]).unwrap();
    fs::remove_file(&bench.segments()[0]).unwrap();
    commit(&mut journal, &[disclosure(3)]).unwrap();
    assert!(journal.has_notes());
    journal.refresh();
    let lines = bench.whole_chains();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("number-3"));
    let value: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(
        (value["type"].as_str(), value["reason"].as_str()),
        (Some("audit.gap.v1"), Some("journal_replaced"))
    );
    assert_eq!(value["agent"]["to"], "00000000000000000002");
    assert_eq!(bench.stats.gap_events(), 2);
}

#[test]
fn a_segment_replaced_by_another_file_is_noticed_too() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(1)]).unwrap();
    let path = &bench.segments()[0];
    fs::rename(path, path.with_extension("old")).unwrap();
    fs::write(path, "something else").unwrap();
    commit(&mut journal, &[disclosure(2)]).unwrap();
    journal.refresh();
    assert!(lines(bench.dir.path()).iter().any(|line| line.contains("number-2")));
    assert_eq!(bench.stats.gap_events(), 1);
}

#[test]
fn a_removed_directory_is_made_again() {
    let bench = Bench::new();
    let mut journal = bench.open();
    commit(&mut journal, &[disclosure(1)]).unwrap();
    fs::remove_dir_all(bench.dir.path()).unwrap();
    commit(&mut journal, &[disclosure(2)]).unwrap();
    assert!(bench.whole_chains()[0].contains("number-2"));
}

#[test]
fn time_never_goes_back_in_a_chain() {
    let bench = Bench::new();
    let mut journal = bench.open();
    let mut past = own();
    past.time = Timestamp::UNIX_EPOCH;
    commit(&mut journal, &[own(), past]).unwrap();
    let times: Vec<String> = bench
        .whole_chains()
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["time"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(times[0] <= times[1], "{times:?}");
}

/// A16.
#[test]
fn a_wall_clock_that_jumps_back_and_forth_moves_no_event_back_and_the_time_since_the_start_goes_on() {
    let bench = Bench::new();
    let booted = clock::since_boot();
    let mut journal = bench.open();
    for hours in [0, -1, 1, -1, 0] {
        clock::shift::BY.set(jiff::SignedDuration::from_hours(hours));
        let event = || Event { time: clock::now(), ..own() };
        commit(&mut journal, &[event(), event()]).unwrap();
    }
    clock::shift::BY.set(jiff::SignedDuration::ZERO);
    journal.close().unwrap();
    let passed = clock::since_boot() - booted;
    let (mut before, mut since_start) = (String::new(), Duration::ZERO);
    for line in bench.whole_chains() {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        let mono = Duration::from_nanos(text("mono_ns").parse().unwrap());
        assert!(text("time") >= before && text("recorded") >= text("time"), "{line}");
        assert!(since_start <= mono && mono <= passed, "{line}");
        (before, since_start) = (text("time"), mono);
    }
    let (input, terms) = (crate::audit::verify::Input::Path(bench.dir.path().to_owned()), Default::default());
    let report = crate::audit::verify::verify(&[input], terms).unwrap();
    assert_eq!(report.verdict, crate::audit::verify::Verdict::Good, "{report:#?}");
}

#[test]
fn a_chain_sorts_behind_an_earlier_one_though_the_clock_went_back() {
    let bench = Bench::new();
    let future = ChainId::new((1 << 48) - 2, [0; 10]);
    let header = segment::header(&Chain::new(future));
    let mut bytes = header.to_vec();
    let start = segment::begin(&mut bytes);
    bytes.extend_from_slice(br#"{"seq":"00000000000000000001"}"#);
    segment::finish(&mut bytes, start);
    fs::write(bench.dir.path().join(Name { chain: future, first: 1 }.file()), bytes).unwrap();
    assert!(bench.open().chain() > future);
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    /// Whatever the disk does, what was acknowledged is there, in order, in an unbroken chain.
    #[test]
    fn no_order_of_faults_loses_an_acknowledged_event(
        steps in prop::collection::vec((0_u8..6, any::<u8>()), 1..60),
    ) {
        let bench = Bench::new();
        let mut journal = bench.open();
        let mut acknowledged = Vec::new();
        for (n, (kind, amount)) in steps.into_iter().enumerate() {
            match kind {
                0 => bench.disk.set(|faults| (faults.good_syncs, faults.failing_syncs) = (usize::from(amount) % 3, usize::from(amount) % 5)),
                1 => bench.disk.set(|faults| faults.full = amount % 2 == 0),
                2 => bench.disk.set(|faults| faults.failing_writes = usize::from(amount) % 3),
                3 => bench.disk.set(|faults| faults.failing_truncates = amount % 2 == 0),
                4 => wake(&mut journal),
                _ => {
                    let events: Vec<_> = (0..usize::from(amount)).map(|k| disclosure(n * 1_000 + k)).collect();
                    let first = journal.chain.next();
                    if commit(&mut journal, &events).is_ok() && !events.is_empty() {
                        acknowledged.extend((0..events.len()).map(|k| (first + k as u64, n * 1_000 + k)));
                    }
                }
            }
        }
        bench.disk.set(|faults| *faults = Faults::default());
        wake(&mut journal);
        journal.close().unwrap();
        let lines = bench.whole_chains();
        for (_, n) in &acknowledged {
            let path = format!("kv/number-{n}\"");
            let found = lines.iter().filter(|line| line.contains(&path)).count();
            let oldest = lines.first().is_some_and(|line| line.contains(r#""seq":"00000000000000000001""#));
            assert!(found == 1 || (found == 0 && !oldest), "event {n} is there {found} times");
        }
    }
}

/// A journal whose sink `siem` is required.
fn pinned(bench: &Bench) -> Settings {
    use crate::audit::sink::{self, settings::Kind};
    let siem = sink::Settings {
        name: crate::name::SinkName::new("siem").unwrap(),
        kind: Kind::Stdout,
        format: sink::Format::Native,
        required: sink::Need::Required,
    };
    Settings { sinks: vec![siem], ..bench.settings() }
}

fn pass(journal: &Journal, chain: ChainId, seq: u64) {
    let place = crate::audit::chain::Position { chain, seq };
    assert!(journal.pins().passed(&crate::name::SinkName::new("siem").unwrap(), place));
}

fn open_pinned(bench: &Bench) -> Journal {
    Journal::open(Box::new(bench.disk.clone()), &pinned(bench), Arc::clone(&bench.stats)).unwrap()
}

#[test]
fn a_required_sink_that_takes_nothing_fills_the_journal_and_loses_nothing() {
    let bench = Bench::new();
    let mut journal = open_pinned(&bench);
    let mut disclosed = 0;
    while commit(&mut journal, &[disclosure(disclosed)]).is_ok() {
        disclosed += 1;
        assert!(disclosed < 10_000 && bench.stats.journal_bytes() <= 1024 * 1024);
    }
    assert!(!journal.is_writable() && disclosed > 1_000);
    // A tenth is held back for the agent itself and for refusals.
    let mut own_events = 0;
    while commit(&mut journal, &[own()]).is_ok() {
        own_events += 1;
        assert!(own_events < 10_000);
    }
    assert!(own_events > 50, "{own_events}");
    assert_eq!(bench.whole_chains().len(), disclosed + own_events);
    // The sink comes further: room again, without anybody's help.
    let (chain, last) = (journal.chain(), journal.synced());
    pass(&journal, chain, last / 2);
    journal.tidy();
    wake(&mut journal);
    assert!(journal.is_writable());
    commit(&mut journal, &[disclosure(0)]).unwrap();
    // What it did not take is still there.
    let first = walk::list(bench.dir.path()).unwrap()[0].first;
    assert!(first > 1 && first <= last / 2 + 1, "{first} of {last}");
}

#[test]
fn what_every_required_sink_has_may_go_before_room_is_needed_unless_it_is_to_be_kept() {
    for (retain, gone) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let bench = Bench::new();
        let mut settings = pinned(&bench);
        settings.journal.retain = retain;
        let mut journal =
            Journal::open(Box::new(bench.disk.clone()), &settings, Arc::clone(&bench.stats)).unwrap();
        for n in 0..500 {
            commit(&mut journal, &[disclosure(n)]).unwrap();
        }
        let before = bench.segments().len();
        assert!(before > 2);
        pass(&journal, journal.chain(), 500);
        journal.tidy();
        assert_eq!(bench.segments().len() == 1, gone);
    }
}

#[test]
fn a_sink_that_is_no_longer_required_holds_nothing() {
    let bench = Bench::new();
    let mut journal = open_pinned(&bench);
    let mut disclosed = 0;
    while commit(&mut journal, &[disclosure(disclosed)]).is_ok() {
        disclosed += 1;
    }
    journal.apply(&bench.settings());
    wake(&mut journal);
    for n in 0..3_000 {
        commit(&mut journal, &[disclosure(n)]).unwrap();
    }
    // And a new one holds everything from now on.
    journal.apply(&pinned(&bench));
    while commit(&mut journal, &[disclosure(0)]).is_ok() {}
    assert!(!journal.is_writable());
}

/// A15 of the fault cases: the place of the sink is on disk before a segment goes, so a crash in between loses nothing.
#[test]
fn a_start_after_a_crash_keeps_what_the_saved_place_does_not_cover() {
    let bench = Bench::new();
    let mut journal = open_pinned(&bench);
    for n in 0..500 {
        commit(&mut journal, &[disclosure(n)]).unwrap();
    }
    let chain = journal.chain();
    drop(journal);
    // The place was saved, and no segment was removed yet.
    fs::write(bench.dir.path().join("cursor-siem"), format!("{chain}-{:020}\n", 250)).unwrap();
    for _ in 0..3 {
        let mut journal = open_pinned(&bench);
        journal.tidy();
        let lines = bench.whole_chains();
        assert!(lines.iter().any(|line| line.contains("kv/number-250\"")), "the next one is there");
        commit(&mut journal, &[own()]).unwrap();
    }
    // A place aside that was never renamed counts for nothing.
    fs::write(bench.dir.path().join("cursor-siem.new"), format!("{chain}-{:020}\n", 499)).unwrap();
    open_pinned(&bench).tidy();
    assert!(bench.whole_chains().iter().any(|line| line.contains("kv/number-250\"")));
}

#[test]
fn the_age_of_the_oldest_event_is_known() {
    let bench = Bench::new();
    assert_eq!(bench.stats.oldest(), None);
    let mut journal = bench.open();
    let old = Event { time: Timestamp::from_second(1_700_000_000).unwrap(), ..own() };
    commit(&mut journal, &[old]).unwrap();
    journal.close().unwrap();
    let mut journal = bench.open();
    commit(&mut journal, &[own()]).unwrap();
    // The journal never lets time go back before its own start.
    let oldest = bench.stats.oldest().unwrap();
    assert!(oldest.abs_diff(u64::try_from(clock::now().as_second()).unwrap()) < 3600, "{oldest}");
}
