//! How much of the journal each workload holds that the required sinks have not taken: none may hold more than half, so that
//! one that reads without end leaves the others room while a receiver is away.
//!
//! Pure. Counts bytes of events; what is counted and when is for the journal's thread to say. Without a required sink nothing is
//! held, and with one workload there is nobody to keep room for: then nothing is counted.

use super::{
    Settings,
    chain::Position,
    event::{Agg, Event, Outcome, Type},
    pins::Hold,
    sink::Need,
};
use crate::{clock::Timestamp, name::WorkloadName};
use std::{collections::BTreeMap, time::Duration};

/// Events that are let go together.
const TOGETHER: u32 = 1_024;
/// How long the count of what was dropped may wait to be written.
const REPORT: Duration = Duration::from_secs(1);

/// Bytes by workload.
pub(super) type Weights = BTreeMap<WorkloadName, u64>;

/// What each workload holds.
#[derive(Default)]
pub(super) struct Shares {
    /// Bytes of one workload; `None`: nothing is counted.
    limit: Option<u64>,
    held: Weights,
    /// Events that are not known to be on disk: number, whose, bytes.
    fresh: Vec<(u64, WorkloadName, u64)>,
    /// Events on disk, by the last of each stretch.
    stretches: BTreeMap<Position, Stretch>,
    /// Events that nobody waited for and that found no room, and since when that is owed to the record.
    dropped: Option<(Agg, Duration)>,
    /// Who was refused since it last had room.
    refused: Vec<WorkloadName>,
}

#[derive(Default)]
struct Stretch {
    events: u32,
    held: Weights,
}

/// That an event has no room in its workload's share.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The first one since the workload had room.
    First(WorkloadName),
    /// One of many.
    Again,
}

impl Shares {
    /// By `settings`, with nothing counted yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let mut shares = Self::default();
        shares.apply(settings);
        shares
    }

    /// Takes over what may change while running. Where counting begins, what is in the journal already is not counted.
    pub(super) fn apply(&mut self, settings: &Settings) {
        let is_needed = settings.sinks.iter().any(|sink| sink.required == Need::Required);
        // A tenth is the agent's own.
        let room = settings.journal.max_size.saturating_sub(settings.journal.max_size / 10);
        self.limit = (is_needed && settings.workloads > 1).then_some(room / 2);
        if self.limit.is_none() {
            *self = Self { dropped: self.dropped.take(), ..Self::default() };
        }
    }

    /// Whether anything is counted.
    pub(super) fn is_counting(&self) -> bool {
        self.limit.is_some()
    }

    /// Whether `event` would go beyond its workload's half. Refusals, which are counted together, and the agent's own events
    /// always have room.
    pub(super) fn refuse(&mut self, event: &Event) -> Option<Full> {
        let limit = self.limit?;
        let workload = event.workload.as_ref().filter(|_| is_asked_for(event))?;
        if self.held.get(workload).is_none_or(|held| *held < limit) {
            return None;
        }
        if self.refused.contains(workload) {
            return Some(Full::Again);
        }
        self.refused.push(workload.clone());
        Some(Full::First(workload.clone()))
    }

    /// `event` stands in the journal's buffer as number `seq`.
    pub(super) fn took(&mut self, event: &Event, seq: u64, bytes: usize) {
        if let (Some(_), Some(workload)) = (self.limit, &event.workload) {
            self.add(workload, bytes as u64);
            self.fresh.push((seq, workload.clone(), bytes as u64));
        }
    }

    /// Everything up to `end` is on disk.
    pub(super) fn synced(&mut self, end: Position) {
        let count = self.fresh.partition_point(|(seq, ..)| *seq <= end.seq);
        if count == 0 {
            return;
        }
        let is_open = |(place, stretch): (&Position, &Stretch)| {
            (place.chain == end.chain && stretch.events < TOGETHER).then_some(*place)
        };
        let open = self.stretches.last_key_value().and_then(is_open);
        let mut stretch = open.and_then(|place| self.stretches.remove(&place)).unwrap_or_default();
        for (_, workload, bytes) in self.fresh.drain(..count) {
            let held = stretch.held.entry(workload).or_default();
            *held = held.saturating_add(bytes);
            stretch.events = stretch.events.saturating_add(1);
        }
        self.stretches.insert(end, stretch);
    }

    /// The numbers after `seq` were taken back, and will be other events'.
    pub(super) fn taken_back(&mut self, seq: u64) {
        let count = self.fresh.partition_point(|(number, ..)| *number <= seq);
        for (_, workload, bytes) in self.fresh.split_off(count) {
            self.free(&workload, bytes);
        }
    }

    /// Events up to `end` of an earlier chain are in the journal.
    pub(super) fn found(&mut self, end: Position, held: Weights) {
        if self.limit.is_some() && !self.stretches.contains_key(&end) {
            held.iter().for_each(|(workload, bytes)| self.add(workload, *bytes));
            self.stretches.insert(end, Stretch { events: TOGETHER, held });
        }
    }

    /// What the required sinks do not need any more is nobody's.
    pub(super) fn let_go(&mut self, hold: Hold) {
        let is_free = |place: &Position| match hold {
            Hold::Nothing => true,
            Hold::Everything => false,
            Hold::Behind(reached) => *place <= reached,
        };
        while let Some(first) = self.stretches.first_entry().filter(|first| is_free(first.key())) {
            for (workload, bytes) in first.remove().held {
                self.free(&workload, bytes);
            }
        }
        let (held, limit) = (&self.held, self.limit.unwrap_or(u64::MAX));
        self.refused.retain(|workload| held.get(workload).is_some_and(|held| *held >= limit));
    }

    /// An event of `time`, that nobody waited for, found no room at `now`.
    pub(super) fn drop_one(&mut self, time: Timestamp, now: Duration) {
        let one = Agg { count: 1, first: time, last: time };
        match &mut self.dropped {
            Some((agg, _)) => agg.join(&one),
            none => *none = Some((one, now)),
        }
    }

    /// When what was dropped is to be put on record, in the time of `drop_one`.
    pub(super) fn due(&self) -> Option<Duration> {
        self.dropped.map(|(_, since)| since.saturating_add(REPORT))
    }

    /// Takes the account of what was dropped.
    pub(super) fn take_dropped(&mut self) -> Option<Agg> {
        self.dropped.take().map(|(agg, _)| agg)
    }

    fn add(&mut self, workload: &WorkloadName, bytes: u64) {
        match self.held.get_mut(workload) {
            Some(held) => *held = held.saturating_add(bytes),
            None => drop(self.held.insert(workload.clone(), bytes)),
        }
    }

    fn free(&mut self, workload: &WorkloadName, bytes: u64) {
        if let Some(held) = self.held.get_mut(workload) {
            *held = held.saturating_sub(bytes);
        }
    }
}

/// Whether the workload can bring about as many of these as it likes.
fn is_asked_for(event: &Event) -> bool {
    // What follows an intent is never refused: the intent is on record, and something was done.
    let is_last = [Type::VaultResult, Type::UpstreamResult].contains(&event.kind);
    let also =
        [Type::SecretAcked, Type::SecretDenied, Type::VaultIntent, Type::VaultDenied, Type::UpstreamDenied];
    let also = also.into_iter().chain([Type::SecretWatchOpened, Type::SecretWatchTold]);
    let is_other = also.into_iter().any(|kind| kind == event.kind) && event.outcome != Outcome::Deny;
    (event.discloses() && !is_last) || is_other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{chain::ChainId, event::Reason, remote::tests::required};

    fn settings(workloads: usize, sinks: &[&str]) -> Settings {
        let dir = std::path::Path::new("/nonexistent");
        let mut settings = Settings { workloads, ..crate::audit::tests::settings(dir) };
        (settings.journal.max_size, settings.sinks) = (1_000, required(sinks));
        settings
    }

    fn read(workload: &str) -> Event {
        let mut event = Event::new(Type::SecretRead, Outcome::Allow, crate::clock::now());
        event.workload = Some(WorkloadName::new(workload).unwrap());
        event
    }

    fn at(chain: u8, seq: u64) -> Position {
        Position { chain: ChainId::new(u64::from(chain), [chain; 10]), seq }
    }

    #[test]
    fn who_holds_half_is_refused_until_the_required_sinks_have_some_of_it_and_others_are_not() {
        let mut shares = Shares::new(&settings(2, &["siem"]));
        for seq in 1..=9 {
            assert_eq!(shares.refuse(&read("a")), None);
            shares.took(&read("a"), seq, 50);
        }
        let name = WorkloadName::new("a").unwrap();
        assert_eq!(shares.refuse(&read("a")), Some(Full::First(name.clone())));
        assert_eq!(shares.refuse(&read("a")), Some(Full::Again));
        assert_eq!(shares.refuse(&read("b")), None);
        // What is not the workload's to bring about without end, and what the agent says itself.
        let denied = Event { outcome: Outcome::Deny, kind: Type::SecretDenied, ..read("a") };
        let undelivered = Event { outcome: Outcome::Error, reason: Some(Reason::Undelivered), ..read("a") };
        let own = Event { workload: None, ..read("a") };
        // Its intent is on record.
        let results = [Type::UpstreamResult, Type::VaultResult].map(|kind| Event { kind, ..read("a") });
        for event in [denied, undelivered, own].into_iter().chain(results) {
            assert_eq!(shares.refuse(&event), None, "{event:?}");
        }
        let failed = Event { outcome: Outcome::Error, kind: Type::SecretDenied, ..read("a") };
        let calls = [Type::UpstreamIntent, Type::VaultIntent, Type::VaultCalled];
        let calls = calls.map(|kind| Event { kind, ..read("a") });
        for event in std::iter::once(failed).chain(calls) {
            assert_eq!(shares.refuse(&event), Some(Full::Again), "{event:?}");
        }
        shares.synced(at(2, 4));
        shares.synced(at(2, 9));
        shares.let_go(Hold::Everything);
        shares.let_go(Hold::Behind(at(2, 8)));
        assert_eq!(shares.refuse(&read("a")), Some(Full::Again), "let go together");
        shares.let_go(Hold::Behind(at(2, 9)));
        assert_eq!(shares.refuse(&read("a")), None);
        shares.took(&read("a"), 10, 450);
        assert_eq!(shares.refuse(&read("a")), Some(Full::First(name)), "said anew");
        shares.taken_back(9);
        assert_eq!(shares.refuse(&read("a")), None);
    }

    #[test]
    fn what_an_earlier_start_left_undelivered_counts_and_is_let_go_first() {
        let mut shares = Shares::new(&settings(2, &["siem"]));
        let held = Weights::from([(WorkloadName::new("a").unwrap(), 450)]);
        shares.found(at(1, 7), held.clone());
        shares.found(at(1, 7), held);
        assert!(shares.refuse(&read("a")).is_some() && shares.refuse(&read("b")).is_none());
        shares.took(&read("b"), 1, 50);
        shares.synced(at(2, 1));
        shares.let_go(Hold::Behind(at(2, 0)));
        assert_eq!(shares.refuse(&read("a")), None);
        assert_eq!(shares.held[&WorkloadName::new("b").unwrap()], 50);
        assert_eq!(shares.held[&WorkloadName::new("a").unwrap()], 0, "counted once");
    }

    #[test]
    fn with_one_workload_or_no_required_sink_nobody_is_refused() {
        for settings in [settings(1, &["siem"]), settings(2, &[])] {
            let mut shares = Shares::new(&settings);
            shares.took(&read("a"), 1, 10_000);
            assert_eq!(shares.refuse(&read("a")), None);
        }
        let mut shares = Shares::new(&settings(2, &["siem"]));
        shares.took(&read("a"), 1, 10_000);
        shares.apply(&settings(1, &["siem"]));
        assert_eq!(shares.refuse(&read("a")), None);
    }
}
