//! Every way to tamper with a record, and what the judge says of it.

use super::*;
use crate::{
    audit::{
        Audit, Journal, Settings,
        event::{Event, Outcome, Resource, Type},
    },
    clock,
    crypto::{hex, sha256},
    policy::rule::AuditMode,
};
use proptest::prelude::{ProptestConfig, any, proptest};
use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

fn settings(dir: &Path) -> Settings {
    Settings {
        mode: AuditMode::Strict,
        journal: Journal {
            dir: dir.to_owned(),
            max_size: 8 * 1024 * 1024,
            segment: 64 * 1024,
            retain: Duration::ZERO,
        },
        sinks: Vec::new(),
        workloads: 1,
        source: "urn:claviger:host/claviger".into(),
        pod: None,
        hash_paths: false,
        fingerprint_key: None,
        checkpoints: None,
        handoff: None,
    }
}

fn read_event(number: usize) -> Event {
    let mut event = Event::new(Type::SecretRead, Outcome::Allow, clock::now());
    let path = Some(format!("secret/payments/{number}"));
    event.resource = Some(Resource { path, field: Some("api \"key\"".into()), ..Resource::default() });
    event
}

/// How an agent ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Stop,
    Kill,
}

/// A journal that agents wrote one after the other, each so many events.
struct Written {
    folder: tempfile::TempDir,
}

impl Written {
    async fn by(agents: &[(usize, End)]) -> Self {
        let written = Self { folder: tempfile::tempdir().unwrap() };
        for (events, end) in agents {
            written.add(*events, *end).await;
        }
        written
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    /// One more start. A kill leaves the files as they are at that moment.
    async fn add(&self, events: usize, end: End) {
        let audit = Audit::open(&settings(&self.dir()), |_| {}).unwrap();
        for number in 0..events {
            audit.record(read_event(number), AuditMode::Buffered).await.unwrap();
        }
        audit.flush().await.unwrap();
        let aside = self.folder.path().join("aside");
        if end == End::Kill {
            copy(&self.dir(), &aside);
        } else {
            let stopped = Event::new(Type::AgentStopped, Outcome::Allow, clock::now());
            audit.record(stopped, AuditMode::Strict).await.unwrap();
        }
        audit.close().await.unwrap();
        if end == End::Kill {
            fs::remove_dir_all(self.dir()).unwrap();
            fs::rename(aside, self.dir()).unwrap();
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
        files.sort();
        files
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        export(&[Input::Path(self.dir())], &mut out).unwrap();
        let lines = out.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n');
        lines.map(<[u8]>::to_vec).collect()
    }

    fn verdict(&self) -> Verdict {
        verify(&[Input::Path(self.dir())], Terms::default()).unwrap().verdict
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn judged(lines: &[Vec<u8>]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    fs::write(&file, lines.join(&b'\n')).unwrap();
    verify(&[Input::Path(file)], Terms::default()).unwrap()
}

/// Whether the event `line` hashes to what the next one says.
fn relink(lines: &mut [Vec<u8>], from: usize) {
    for at in from..lines.len().saturating_sub(1) {
        let hash = hex(&sha256(&lines[at]));
        let text = String::from_utf8(lines[at + 1].clone()).unwrap();
        let (head, rest) = text.split_once("\"prev\":\"").unwrap();
        if rest.starts_with(&"0".repeat(64)) {
            return;
        }
        lines[at + 1] = format!("{head}\"prev\":\"{hash}{}", &rest[64..]).into_bytes();
    }
}

fn replace(line: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(line.clone()).unwrap();
    assert!(text.contains(from), "{text}");
    *line = text.replacen(from, to, 1).into_bytes();
}

/// Events of the first chain are lines 0 to 20, its last is the stop; those of the second 21 to 42, the first names the end
/// of the first chain.
async fn two_chains() -> Vec<Vec<u8>> {
    let lines = Written::by(&[(20, End::Stop), (20, End::Stop)]).await.lines();
    assert_eq!(lines.len(), 43);
    lines
}

async fn check(what: &str, tamper: impl FnOnce(&mut Vec<Vec<u8>>), expected: Verdict, seq: Option<u64>) {
    let mut lines = two_chains().await;
    tamper(&mut lines);
    let report = judged(&lines);
    assert_eq!(report.verdict, expected, "{what}: {report:#?}");
    assert_eq!(report.findings.first().and_then(|finding| finding.seq), seq, "{what}: {report:#?}");
}

#[tokio::test]
async fn a_record_that_nobody_touched_is_good_in_every_form() {
    let written = Written::by(&[(300, End::Stop), (300, End::Kill), (5, End::Kill)]).await;
    assert!(written.segments().len() > 4, "more than one segment a chain");
    let report = verify(&[Input::Path(written.dir())], Terms::default()).unwrap();
    assert_eq!((report.verdict, &report.findings), (Verdict::Good, &Vec::new()));
    let endings: Vec<_> = report.chains.iter().map(|chain| (chain.events, chain.ending)).collect();
    let expected = [(301, Ending::Stopped), (301, Ending::SealedBySuccessor), (6, Ending::Open)];
    assert_eq!(endings, expected);
    // The same as single segments, in any order, and as lines.
    let mut segments: Vec<_> = written.segments().into_iter().map(Input::Path).collect();
    segments.reverse();
    assert_eq!(verify(&segments, Terms::default()).unwrap().chains, report.chains);
    assert_eq!(judged(&written.lines()).chains, report.chains);
}

#[tokio::test]
async fn a_line_that_is_changed_taken_out_moved_or_added_is_found() {
    const ALTERED: Verdict = Verdict::Altered;
    let flip = |lines: &mut Vec<Vec<u8>>| replace(&mut lines[6], "payments/6", "payments/7");
    check("flip", flip, ALTERED, Some(7)).await;
    let flip = |lines: &mut Vec<Vec<u8>>| replace(&mut lines[6], "{\"chain", "{ \"chain");
    check("a space", flip, ALTERED, Some(7)).await;
    let forge = |lines: &mut Vec<Vec<u8>>| {
        replace(&mut lines[6], "payments/6", "payments/7");
        relink(lines, 6);
    };
    check("forged to the end of the chain, which the next one names", forge, ALTERED, Some(21)).await;
    check("drop", |lines| drop(lines.remove(9)), ALTERED, Some(10)).await;
    check("swap", |lines| lines.swap(9, 10), ALTERED, Some(10)).await;
    check("insert", |lines| lines.insert(9, lines[4].clone()), Verdict::Good, None).await;
    let insert = |lines: &mut Vec<Vec<u8>>| {
        let mut more = lines[9].clone();
        replace(&mut more, "payments/9", "payments/0");
        lines.insert(9, more);
    };
    check("two of one number", insert, ALTERED, Some(10)).await;
    check("a foreign line", |lines| lines.insert(9, b"{\"a\":1}".to_vec()), ALTERED, Some(10)).await;
    check("no JSON", |lines| lines.insert(9, b"hello".to_vec()), ALTERED, Some(10)).await;
    let renumber = |lines: &mut Vec<Vec<u8>>| replace(&mut lines[9], "\"seq\":\"0000", "\"seq\":\"1000");
    check("its number is not its id's", renumber, ALTERED, Some(10_000_000_000_000_000_010)).await;
    let earlier = |lines: &mut Vec<Vec<u8>>| replace(&mut lines[42], "\"time\":\"2", "\"time\":\"1");
    check("an earlier time", earlier, ALTERED, Some(22)).await;
    let other = |lines: &mut Vec<Vec<u8>>| replace(&mut lines[42], "claviger:host", "claviger:hosT");
    check("another source", other, ALTERED, Some(22)).await;
}

#[tokio::test]
async fn an_end_a_beginning_or_a_chain_that_is_missing_is_truncation() {
    const TRUNCATED: Verdict = Verdict::Truncated;
    check("the end of the older chain", |lines| drop(lines.drain(16..21)), TRUNCATED, Some(17)).await;
    check("the beginning of the newer chain", |lines| drop(lines.drain(21..24)), TRUNCATED, Some(1)).await;
    check("half a line at the end", |lines| lines[42].truncate(40), TRUNCATED, Some(22)).await;
    // Nothing but an anchor or a signature could tell.
    check("the end of the newest chain", |lines| lines.truncate(40), Verdict::Good, None).await;
    check("the oldest events", |lines| drop(lines.drain(..9)), Verdict::Good, None).await;
    check("the oldest chain", |lines| drop(lines.drain(..21)), Verdict::Good, None).await;

    let mut lines = Written::by(&[(3, End::Stop), (3, End::Kill), (3, End::Stop)]).await.lines();
    lines.drain(4..8);
    let report = judged(&lines);
    assert_eq!(report.verdict, TRUNCATED, "{report:#?}");
    assert!(report.findings[0].what.contains("it is missing, up to event 4"), "{report:#?}");
}

#[tokio::test]
async fn a_segment_that_is_removed_is_missed() {
    for (at, expected) in [(0, Verdict::Good), (1, Verdict::Altered), (2, Verdict::Truncated)] {
        let written = Written::by(&[(300, End::Stop), (1, End::Stop)]).await;
        let segments = written.segments();
        assert_eq!(segments.len(), 4, "three of the first chain");
        fs::remove_file(&segments[at]).unwrap();
        assert_eq!(written.verdict(), expected, "segment {at}");
    }
}

#[tokio::test]
async fn lines_that_a_sink_printed_twice_are_no_fault_and_are_counted() {
    let mut lines = two_chains().await;
    let again: Vec<_> = lines[10..21].to_vec();
    lines.splice(21..21, again);
    let report = judged(&lines);
    assert_eq!((report.verdict, report.chains[0].repeats), (Verdict::Good, 11), "{report:#?}");
    replace(&mut lines[25], "payments", "payment5");
    assert_eq!(judged(&lines).verdict, Verdict::Altered);
}

#[tokio::test]
async fn a_gap_that_the_agent_declared_is_told_from_one_that_it_did_not() {
    let written = Written::by(&[(300, End::Stop)]).await;
    let audit = Audit::open(&settings(&written.dir()), |_| {}).unwrap();
    audit.record(read_event(0), AuditMode::Strict).await.unwrap();
    let active = written.segments().pop().unwrap();
    fs::remove_file(active).unwrap();
    audit.record(read_event(1), AuditMode::Strict).await.unwrap();
    audit.close().await.unwrap();
    let report = verify(&[Input::Path(written.dir())], Terms::default()).unwrap();
    assert_eq!(report.verdict, Verdict::DeclaredGaps, "{report:#?}");
    let gap = &report.chains[1].gaps[0];
    assert_eq!((gap.from, gap.to, gap.declared.as_deref()), (1, 2, Some("journal_replaced")));
}

/// A5: what the agent sets aside stays an alteration, with the number of the first event that is lost.
#[tokio::test]
async fn a_flipped_bit_in_the_middle_of_a_segment_is_found_before_and_after_the_agent_has_set_it_aside() {
    let written = Written::by(&[(300, End::Stop)]).await;
    let file = fs::OpenOptions::new().read(true).write(true).open(&written.segments()[0]).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5_000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 5_000).unwrap();
    let report = verify(&[Input::Path(written.dir())], Terms::default()).unwrap();
    let first = report.findings[0].clone();
    assert_eq!((report.verdict, first.verdict), (Verdict::Altered, Verdict::Altered));
    // The next start finds it.
    let audit = Audit::open(&settings(&written.dir()), |_| {}).unwrap();
    let stats = audit.stats();
    let found = async {
        while stats.gap_events() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.unwrap();
    audit.record(read_event(1), AuditMode::Strict).await.unwrap();
    audit.close().await.unwrap();
    let report = verify(&[Input::Path(written.dir())], Terms::default()).unwrap();
    assert_eq!(report.verdict, Verdict::Altered, "{report:#?}");
    assert_eq!(report.findings[0].seq, first.seq);
    assert!(report.findings[0].what.contains("the agent found"), "{report:#?}");
}

/// A16: the wall clock goes back between two starts.
#[tokio::test]
async fn a_clock_that_went_back_between_two_starts_is_no_fault() {
    let mut lines = two_chains().await;
    for line in &mut lines[21..] {
        for key in ["\"time\":\"20", "\"recorded\":\"20"] {
            replace(line, key, &key.replace("20", "19"));
        }
    }
    relink(&mut lines, 21);
    assert_eq!(judged(&lines).verdict, Verdict::Good);
}

#[tokio::test]
async fn bytes_behind_the_last_event_are_refused_unless_they_are_zeros() {
    let written = Written::by(&[(3, End::Kill)]).await;
    let segment = written.segments().pop().unwrap();
    assert_eq!(written.verdict(), Verdict::Good, "a segment in use ends in zeros");
    let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&[0; 100], length).unwrap();
    assert_eq!(written.verdict(), Verdict::Good, "more zeros say nothing");
    file.write_all_at(&[7], length + 200).unwrap();
    assert_eq!(written.verdict(), Verdict::Altered);
}

#[tokio::test]
async fn a_pipe_is_read_once_from_its_beginning() {
    let (folder, lines) = (tempfile::tempdir().unwrap(), two_chains().await);
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (text, into) = (lines.join(&b'\n'), pipe.clone());
    let writer = std::thread::spawn(move || fs::write(into, text).unwrap());
    let report = verify(&[Input::Path(pipe)], Terms::default()).unwrap();
    writer.join().unwrap();
    assert_eq!((report.verdict, report.events()), (Verdict::Good, 43));
}

#[test]
fn a_directory_without_a_journal_is_an_error_and_not_a_good_record() {
    let folder = tempfile::tempdir().unwrap();
    let empty = verify(&[Input::Path(folder.path().to_owned())], Terms::default());
    assert!(matches!(empty, Err(Unreadable::NoJournal { .. })));
    let missing = verify(&[Input::Path(folder.path().join("no"))], Terms::default());
    assert!(matches!(missing, Err(Unreadable::Read { .. })));
}

/// A journal made once: killed, so that a segment with zeros at its end is there too.
fn sample() -> &'static Written {
    static SAMPLE: std::sync::OnceLock<Written> = std::sync::OnceLock::new();
    SAMPLE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Written::by(&[(100, End::Stop), (100, End::Kill)]))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn no_byte_of_a_journal_can_be_changed_unnoticed(at in any::<proptest::sample::Index>(), change in 1_u8..) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("audit");
        copy(&sample().dir(), &dir);
        let mut segments: Vec<PathBuf> = sample().segments();
        segments.iter_mut().for_each(|path| *path = dir.join(path.file_name().unwrap()));
        let sizes: Vec<usize> =
            segments.iter().map(|path| usize::try_from(fs::metadata(path).unwrap().len()).unwrap()).collect();
        let mut offset = at.index(sizes.iter().sum());
        let mut which = 0;
        while offset >= sizes[which] {
            offset -= sizes[which];
            which += 1;
        }
        let file = fs::OpenOptions::new().read(true).write(true).open(&segments[which]).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset as u64).unwrap();
        file.write_all_at(&[byte[0] ^ change], offset as u64).unwrap();
        let report = verify(&[Input::Path(dir)], Terms::default()).unwrap();
        assert_eq!(report.verdict, Verdict::Altered, "byte {offset} of segment {which}: {report:#?}");
    }

    #[test]
    fn no_byte_of_printed_lines_but_those_of_the_last_one_can_be_changed_unnoticed(
        at in any::<proptest::sample::Index>(), change in 1_u8..,
    ) {
        let mut lines = sample().lines();
        let last = lines.pop().unwrap();
        let mut text = lines.join(&b'\n');
        let at = at.index(text.len());
        text[at] ^= change;
        let report = judged(&[text, last]);
        assert!(report.verdict >= Verdict::Truncated, "byte {at}: {report:#?}");
    }

    #[test]
    fn whatever_bytes_come_the_judge_ends_and_is_not_pleased(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
        let report = judged(&[bytes]);
        assert!(report.verdict >= Verdict::Truncated);
    }
}
