//! The sinks' common life: what a courier does with a receiver that fails, slows down, refuses or half takes a batch.

use super::{
    batch::Item,
    courier::{Courier, Standing},
    dead::DeadLetters,
    fact::{Fact, What},
    outlet::{Code, Failure, Outlet, Pace, Verdict},
};
use crate::{
    audit::{
        canonical::{self, Frame},
        chain::{Chain, ChainId, Position},
        event::{Event, Outcome, Type},
        pen::Paths,
        pins::Pins,
    },
    clock::Timestamp,
    crypto::sha256,
    name::SinkName,
};
use std::{
    collections::VecDeque,
    fs,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The events of one chain, as a journal would have them.
pub(super) fn chained(events: impl IntoIterator<Item = Event>) -> Vec<Item> {
    let mut chain = Chain::new(ChainId::new(1_469_918_176_385, [7; 10]));
    let mut items = Vec::new();
    for event in events {
        let mut native = Vec::new();
        let frame = Frame {
            source: "urn:claviger:prod/payments/api-7c9d",
            pod: None,
            paths: Paths::Clear,
            time: event.time,
            recorded: event.time,
            mono: Duration::from_millis(5),
            chain: &chain,
        };
        canonical::render(&mut native, &event, &frame);
        chain = chain.with(sha256(&native));
        items.push(Item { place: Position { chain: chain.last.chain, seq: chain.last.seq }, native });
    }
    items
}

/// `count` reads.
pub(super) fn items(count: usize) -> Vec<Item> {
    let time = Timestamp::from_second(1_700_000_000).unwrap();
    chained((0..count).map(|_| Event::new(Type::SecretRead, Outcome::Allow, time)))
}

/// Hands `items` over once.
pub(super) async fn send(outlet: &mut dyn Outlet, items: &[Item]) -> Verdict {
    outlet.send(items).await
}

/// A receiver that answers by a script, then takes everything; it keeps what it took, and when it was asked.
#[derive(Clone, Default)]
struct Double(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    answers: VecDeque<Verdict>,
    /// Events with these numbers are refused, alone or in a batch.
    poison: Vec<u64>,
    taken: Vec<u64>,
    asked: Vec<Instant>,
}

impl Outlet for Double {
    fn send<'a>(&'a mut self, items: &'a [Item]) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        let mut script = self.0.lock().unwrap();
        script.asked.push(Instant::now());
        let numbers: Vec<u64> = items.iter().map(|item| item.place.seq).collect();
        let verdict = match script.answers.pop_front() {
            Some(verdict) => verdict,
            None if numbers.iter().any(|seq| script.poison.contains(seq)) => {
                Verdict::Refused(Code::Status(400))
            }
            None => Verdict::Delivered,
        };
        if verdict == Verdict::Delivered {
            script.taken.extend(numbers);
        }
        Box::pin(std::future::ready(verdict))
    }

    fn pace(&self) -> Pace {
        Pace::REMOTE
    }
}

struct Bench {
    dir: tempfile::TempDir,
    double: Double,
    facts: Arc<Mutex<Vec<What>>>,
    courier: Courier,
}

impl Bench {
    fn new() -> Self {
        let (dir, double) = (tempfile::tempdir().unwrap(), Double::default());
        let name = SinkName::new("siem").unwrap();
        let facts: Arc<Mutex<Vec<What>>> = Arc::default();
        let told = Arc::clone(&facts);
        let pins = Arc::new(Pins::open(dir.path(), &[]).unwrap());
        let courier = Courier {
            dead: DeadLetters::new(dir.path(), &name, 8 << 20, pins),
            name,
            outlet: Box::new(double.clone()),
            tell: Arc::new(move |fact: Fact| told.lock().unwrap().push(fact.what)),
            stop: CancellationToken::new(),
            standing: Standing::Up,
            missed: Vec::new(),
        };
        Self { dir, double, facts, courier }
    }

    fn answers(&self, answers: impl IntoIterator<Item = Verdict>) {
        self.double.0.lock().unwrap().answers.extend(answers);
    }

    /// What was reported, the times left out.
    fn facts(&self) -> Vec<What> {
        let facts = std::mem::take(&mut *self.facts.lock().unwrap());
        facts.into_iter().filter(|fact| !matches!(fact, What::Delivered { .. })).collect()
    }

    fn taken(&self) -> Vec<u64> {
        self.double.0.lock().unwrap().taken.clone()
    }

    fn dead(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.dir.path().join("dlq-siem.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn failed(after: Option<u64>) -> Verdict {
    let after = after.map(Duration::from_secs);
    Verdict::Failed(Failure { code: Code::Status(503), why: "busy".into(), after })
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_fails_is_asked_for_ever_with_waits_that_grow_to_half_a_minute() {
    let mut bench = Bench::new();
    bench.answers((0..200).map(|_| failed(None)));
    assert_eq!(bench.courier.deliver(&items(3)).await, 3);
    assert_eq!(bench.taken(), [1, 2, 3]);
    let asked = bench.double.0.lock().unwrap().asked.clone();
    let waits: Vec<Duration> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits.len(), 200);
    assert!(waits[0] <= Duration::from_millis(251) && waits[1] <= Duration::from_millis(501));
    assert!(waits.iter().all(|wait| !wait.is_zero() && *wait <= Duration::from_millis(30_001)));
    assert!(waits.iter().any(|wait| *wait > Duration::from_secs(15)));
    let facts = bench.facts();
    assert_eq!(facts.iter().filter(|fact| matches!(fact, What::Failed(_))).count(), 200);
    let changes: Vec<_> = facts.into_iter().filter(|fact| !matches!(fact, What::Failed(_))).collect();
    assert_eq!(changes, [What::Down(Code::Status(503)), What::Up]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_says_when_to_come_again_is_obeyed_within_reason() {
    let mut bench = Bench::new();
    bench.answers([failed(Some(120)), failed(Some(1_000_000))]);
    bench.courier.deliver(&items(1)).await;
    let asked = bench.double.0.lock().unwrap().asked.clone();
    assert!((119..=121).contains(&(asked[1] - asked[0]).as_secs()));
    assert!((299..=301).contains(&(asked[2] - asked[1]).as_secs()));
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_no_event() {
    let mut bench = Bench::new();
    bench.answers([failed(None)]);
    bench.courier.deliver(&items(1)).await;
    assert_eq!(bench.facts(), [What::Failed(Code::Status(503))]);
}

/// A9 of the fault cases.
#[tokio::test(start_paused = true)]
async fn a_poison_event_is_found_by_halving_and_the_others_arrive_in_order() {
    let mut bench = Bench::new();
    bench.double.0.lock().unwrap().poison = vec![37];
    let events = items(100);
    assert_eq!(bench.courier.deliver(&events).await, 100);
    assert_eq!(bench.taken(), (1..=100).filter(|seq| *seq != 37).collect::<Vec<u64>>());
    // 100 is halved seven times at most; each level asks twice.
    assert!(bench.double.0.lock().unwrap().asked.len() <= 15);
    let dead = bench.dead();
    assert_eq!((dead.len(), &dead[0]["reason"]), (1, &"400".into()));
    assert_eq!(dead[0]["event"]["id"], events[36].id());
    assert!(bench.facts().contains(&What::Dead { events: 1, of: None, code: Code::Status(400) }));
}

/// A10 of the fault cases.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_half_taken_is_kept_whole_and_not_sent_again() {
    let mut bench = Bench::new();
    bench.answers([Verdict::Partly(3)]);
    assert_eq!(bench.courier.deliver(&items(100)).await, 100);
    assert_eq!(bench.double.0.lock().unwrap().asked.len(), 1);
    let dead = bench.dead();
    assert_eq!((dead.len(), &dead[0]["reason"]), (100, &"indeterminate(3/100)".into()));
    assert_eq!(bench.facts(), [What::Dead { events: 3, of: Some(100), code: Code::Word("partial") }]);
    assert_eq!(bench.courier.deliver(&items(2)).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_tries_and_says_how_far_it_came() {
    let mut bench = Bench::new();
    // The first half is taken, the second one never.
    bench.answers([Verdict::Refused(Code::Status(413)), Verdict::Delivered]);
    bench.answers((0..10_000).map(|_| failed(None)));
    let stop = bench.courier.stop.clone();
    let events = items(10);
    let (done, ()) = tokio::join!(bench.courier.deliver(&events), async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        stop.cancel();
    });
    assert_eq!((done, bench.taken()), (5, vec![1, 2, 3, 4, 5]));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_bounded_and_count_as_the_journals() {
    let bench = Bench::new();
    let dir = bench.dir.path();
    let pins = Arc::new(Pins::open(dir, &[]).unwrap());
    // Two halves of 64 KiB.
    let dead = DeadLetters::new(dir, &SinkName::new("siem").unwrap(), 1 << 20, Arc::clone(&pins));
    for _ in 0..20 {
        dead.keep(&items(100), "400").unwrap();
        assert!(pins.dead_bytes() <= 128 * 1024);
    }
    let sizes =
        ["dlq-siem.jsonl", "dlq-siem.jsonl.1"].map(|name| fs::metadata(dir.join(name)).unwrap().len());
    assert_eq!(pins.dead_bytes(), sizes.iter().sum::<u64>());
}
