//! Refusals that come too fast to be written one by one: equal ones are counted, and the exact count is written each second,
//! or up to ten seconds later where many differ, so that no workload can fill the journal with what it is refused.
//!
//! Pure. What is allowed is never counted together. Does not write: the journal's thread asks which refusals to write, and when
//! counts are due.

use super::event::{Agg, Event, Outcome, Reason, Type};
use crate::name::{SecretName, WorkloadName};
use std::{collections::HashMap, time::Duration};

/// Equal refusals written at once, before any is counted.
const BURST: u32 = 50;
/// A further one is written after each of these.
const EACH: Duration = Duration::from_millis(100);
/// All those of a workload together, beside the first of each kind: as many are written at once as three kinds have.
const BURST_OF_ALL: u32 = 3 * BURST;
/// How long counts may wait to be written, for each [`TOGETHER`] of them,
const REPORT: Duration = Duration::from_secs(1);
/// which are written at once,
const TOGETHER: u32 = 8;
/// and at most.
const LATEST: Duration = Duration::from_secs(10);
/// Who was refused what: as many are told apart for one workload. Beyond them only what was refused and why is.
const KEYS: usize = 64;

/// Two refusals with the same key differ in nothing but their time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: Type,
    reason: Option<Reason>,
    actor: Option<(u32, u32, Option<i32>, Option<u64>)>,
    secret: Option<SecretName>,
}

/// The refusals of one key.
struct Stream {
    /// When [`BURST`] of them could be written at once again.
    full_at: Duration,
    /// The last one written.
    written: Option<u64>,
    counted: Option<Counted>,
}

/// What is owed to the record.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    event: Event,
    agg: Agg,
}

#[derive(Default)]
struct Refused {
    /// When [`BURST_OF_ALL`] of all could be written at once again.
    full_at: Duration,
    streams: HashMap<Key, Stream>,
    /// Beyond [`KEYS`]; as many as there are kinds and reasons at most.
    others: HashMap<Key, Stream>,
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written, and [`Floods::written`] is told.
    Write,
    /// It is counted; an equal one is on record under this number.
    Counted(u64),
}

/// The refusals of all workloads.
#[derive(Default)]
pub(super) struct Floods {
    workloads: HashMap<Option<WorkloadName>, Refused>,
    /// Since when counts are owed, and how many.
    since: Option<Duration>,
    owed: u32,
}

impl Floods {
    /// What to do with `event` at `now`, which does not go back.
    pub(super) fn admit(&mut self, event: &Event, now: Duration) -> Verdict {
        // What is counted already is not counted again.
        if event.outcome != Outcome::Deny || event.agg.is_some() {
            return Verdict::Write;
        }
        let refused = self.workloads.entry(event.workload.clone()).or_default();
        let mut full_at = refused.full_at;
        let stream = refused.stream(event, now);
        let fits = stream.take(now);
        // Nothing of the kind is on record yet: this one must be.
        let Some(seq) = stream.written else { return Verdict::Write };
        if fits && take(&mut full_at, BURST_OF_ALL, now) {
            refused.full_at = full_at;
            return Verdict::Write;
        }
        if stream.counted.is_none() {
            self.owed = self.owed.saturating_add(1);
        }
        stream.count(event);
        self.since.get_or_insert(now);
        Verdict::Counted(seq)
    }

    /// `event` stands in the journal's buffer as number `seq`.
    pub(super) fn written(&mut self, event: &Event, seq: u64) {
        if event.outcome == Outcome::Deny
            && let Some(stream) =
                self.workloads.get_mut(&event.workload).and_then(|refused| refused.find(event))
        {
            stream.written = Some(seq);
        }
    }

    /// The numbers after `seq` were taken back, and will be other events'.
    pub(super) fn taken_back(&mut self, seq: u64) {
        let streams = self
            .workloads
            .values_mut()
            .flat_map(|Refused { streams, others, .. }| streams.values_mut().chain(others.values_mut()));
        streams.for_each(|stream| stream.written = stream.written.filter(|own| *own <= seq));
    }

    /// When counts are due, in the time of `admit`.
    pub(super) fn due(&self) -> Option<Duration> {
        let rounds = self.owed.div_ceil(TOGETHER).max(1);
        self.since.map(|since| since + REPORT.saturating_mul(rounds).min(LATEST))
    }

    /// Takes all counts, and forgets the streams that have dried up.
    pub(super) fn take(&mut self, now: Duration) -> Vec<Counted> {
        (self.since, self.owed) = (None, 0);
        let mut owed = Vec::new();
        self.workloads.retain(|_, Refused { full_at, streams, others }| {
            for streams in [&mut *streams, &mut *others] {
                streams.retain(|_, stream| {
                    owed.extend(stream.counted.take());
                    stream.full_at > now
                });
            }
            !(streams.is_empty() && others.is_empty() && *full_at <= now)
        });
        owed
    }

    /// Gives back counts that could not be written.
    pub(super) fn restore(&mut self, owed: Vec<Counted>, now: Duration) {
        for Counted { event, agg } in owed {
            let refused = self.workloads.entry(event.workload.clone()).or_default();
            let counted = &mut refused.stream(&event, now).counted;
            match counted {
                Some(counted) => counted.agg.join(&agg),
                None => {
                    *counted = Some(Counted { event, agg });
                    self.owed = self.owed.saturating_add(1);
                }
            }
            self.since = Some(now);
        }
    }
}

impl Counted {
    /// The event that says how many there were.
    pub(super) fn event(&self) -> Event {
        Event { agg: Some(self.agg), time: self.agg.last, latency: None, ..self.event.clone() }
    }
}

impl Refused {
    fn find(&mut self, event: &Event) -> Option<&mut Stream> {
        let key = Key::of(event);
        match self.streams.get_mut(&key) {
            Some(stream) => Some(stream),
            None => self.others.get_mut(&key.of_anybody()),
        }
    }

    fn stream(&mut self, event: &Event, now: Duration) -> &mut Stream {
        let key = Key::of(event);
        let new = || Stream { full_at: now, written: None, counted: None };
        if self.streams.len() < KEYS || self.streams.contains_key(&key) {
            self.streams.entry(key).or_insert_with(new)
        } else {
            self.others.entry(key.of_anybody()).or_insert_with(new)
        }
    }
}

impl Key {
    fn of_anybody(self) -> Self {
        Self { actor: None, secret: None, ..self }
    }

    fn of(event: &Event) -> Self {
        let actor = event.actor.as_ref();
        Self {
            kind: event.kind,
            reason: event.reason,
            actor: actor.map(|actor| (actor.uid, actor.gid, actor.pid, actor.pidfd_ino)),
            secret: event.resource.as_ref().and_then(|resource| resource.secret.clone()),
        }
    }
}

impl Stream {
    fn take(&mut self, now: Duration) -> bool {
        take(&mut self.full_at, BURST, now)
    }

    fn count(&mut self, event: &Event) {
        let one = Agg { count: 1, first: event.time, last: event.time };
        let counted = match &mut self.counted {
            Some(counted) => counted,
            none => return *none = Some(Counted { event: event.clone(), agg: one }),
        };
        counted.agg.join(&one);
        // What differs is left out: this one event speaks of all.
        if counted.event.actor != event.actor {
            counted.event.actor = None;
        }
        if counted.event.resource != event.resource {
            counted.event.resource = None;
        }
        if counted.event.trace != event.trace {
            counted.event.trace = None;
        }
    }
}

/// Takes one of `burst`, of which one comes back after each [`EACH`]; they are all back at `full_at`.
fn take(full_at: &mut Duration, burst: u32, now: Duration) -> bool {
    let after = (*full_at).max(now) + EACH;
    let fits = after <= now + EACH * burst;
    if fits {
        *full_at = after;
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::event::Resource,
        clock::{self, Timestamp},
    };

    fn refusal(workload: &str, secret: &str) -> Event {
        let mut event = Event::new(Type::SecretDenied, Outcome::Deny, Timestamp::UNIX_EPOCH);
        event.reason = Some(Reason::NoRule);
        event.workload = Some(WorkloadName::new(workload).unwrap());
        event.resource =
            Some(Resource { secret: Some(SecretName::new(secret).unwrap()), ..Resource::default() });
        event
    }

    /// Sends `event` at each of these milliseconds; gives how many were written.
    fn send(floods: &mut Floods, event: &Event, at: impl IntoIterator<Item = u64>, seq: &mut u64) -> usize {
        let mut written = 0;
        for ms in at {
            let at = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_millis(ms.try_into().unwrap());
            let event = Event { time: at, ..event.clone() };
            match floods.admit(&event, Duration::from_millis(ms)) {
                Verdict::Write => {
                    (*seq, written) = (*seq + 1, written + 1);
                    floods.written(&event, *seq);
                }
                Verdict::Counted(own) => assert!(own <= *seq),
            }
        }
        written
    }

    fn counts(owed: &[Counted]) -> Vec<(u64, String)> {
        let mut counts: Vec<_> = owed
            .iter()
            .map(|owed| {
                let event = owed.event();
                let secret = event.resource.and_then(|resource| resource.secret);
                (
                    event.agg.unwrap().count,
                    secret.map_or_else(|| event.reason.unwrap().word().to_owned(), |name| name.to_string()),
                )
            })
            .collect();
        counts.sort();
        counts
    }

    #[test]
    fn fifty_at_once_and_ten_a_second_are_written_and_the_rest_is_counted_exactly() {
        let (mut floods, mut seq) = (Floods::default(), 0);
        let event = refusal("job", "stripe");
        assert_eq!(send(&mut floods, &event, std::iter::repeat_n(0, 1000), &mut seq), 50);
        assert_eq!(floods.due(), Some(REPORT));
        assert_eq!(send(&mut floods, &event, (0..1000).map(|n| 1 + n), &mut seq), 10);
        let owed = floods.take(REPORT);
        assert_eq!(counts(&owed), [(950 + 990, "stripe".into())]);
        let agg = owed[0].event().agg.unwrap();
        assert_eq!(
            (clock::rfc3339(agg.first), agg.last > agg.first),
            (clock::rfc3339(Timestamp::UNIX_EPOCH), true)
        );
        assert_eq!((floods.due(), floods.take(REPORT).len()), (None, 0));
    }

    #[test]
    fn what_differs_is_told_apart_up_to_64_kinds_and_then_by_its_reason_only() {
        let (mut floods, mut seq) = (Floods::default(), 0);
        for n in 0..70 {
            let name = format!("secret-{n:02}");
            let written = send(&mut floods, &refusal("job", &name), std::iter::repeat_n(0, 60), &mut seq);
            // Three kinds have their burst, and of each later kind the first is written.
            let expected = match n {
                0..=2 => 50,
                3 => 4,
                4..=64 => 1,
                _ => 0,
            };
            assert_eq!(written, expected, "{name}");
        }
        // Many counts wait longer, so that they do not become a flood themselves.
        assert_eq!(floods.due(), Some(9 * REPORT));
        // Another workload is not hurt by it.
        assert_eq!(send(&mut floods, &refusal("other", "stripe"), [0], &mut seq), 1);
        let owed = counts(&floods.take(REPORT));
        assert_eq!(owed.len(), 65);
        assert!(
            owed.contains(&(10, "secret-00".into())) && owed.contains(&(6 * 60 - 1, "no_rule".into())),
            "{owed:?}"
        );
    }

    #[test]
    fn whatever_a_workload_is_refused_takes_little_of_the_journal() {
        let (mut floods, mut seq, mut written, mut counted) = (Floods::default(), 0, 0, 0);
        // A minute of 64 kinds, each ten times a second.
        for ms in (0..60_000).step_by(100) {
            let now = Duration::from_millis(ms);
            if floods.due().is_some_and(|due| due <= now) {
                counted += floods.take(now).len();
            }
            for n in 0..64 {
                written += send(&mut floods, &refusal("job", &format!("secret-{n}")), [ms], &mut seq);
            }
        }
        // 10 a second and the burst, and 8 counts a second; and the first of each kind after its count.
        assert!(written + counted <= 60 * (10 + 8) + 150 + 64 * 8, "{written} {counted}");
    }

    #[test]
    fn nothing_is_counted_that_has_nothing_on_record_that_is_allowed_or_that_is_a_count() {
        let mut floods = Floods::default();
        let event = refusal("job", "stripe");
        for _ in 0..200 {
            assert_eq!(floods.admit(&event, Duration::ZERO), Verdict::Write, "the journal is full, say");
        }
        floods.written(&event, 7);
        assert_eq!(floods.admit(&event, Duration::ZERO), Verdict::Counted(7));
        floods.taken_back(6);
        assert_eq!(floods.admit(&event, Duration::ZERO), Verdict::Write);
        let agg = Agg { count: 7, first: event.time, last: event.time };
        let counted = Event { agg: Some(agg), ..event.clone() };
        let allowed = Event { outcome: Outcome::Allow, ..event };
        for event in [counted, allowed] {
            assert!((0..200).all(|_| floods.admit(&event, Duration::ZERO) == Verdict::Write));
        }
    }

    #[test]
    fn what_was_counted_elsewhere_is_written_as_it_is() {
        let (mut floods, now) = (Floods::default(), Duration::ZERO);
        let agg = Agg { count: 7, first: Timestamp::UNIX_EPOCH, last: Timestamp::UNIX_EPOCH };
        let counted = Event { agg: Some(agg), ..refusal("a", "x") };
        for _ in 0..1000 {
            floods.admit(&refusal("a", "x"), now);
            assert_eq!(floods.admit(&counted, now), Verdict::Write);
        }
    }

    #[test]
    fn counts_that_could_not_be_written_are_not_lost() {
        let (mut floods, mut seq) = (Floods::default(), 0);
        let event = refusal("job", "stripe");
        send(&mut floods, &event, std::iter::repeat_n(0, 60), &mut seq);
        let owed = floods.take(REPORT);
        floods.restore(owed, REPORT);
        assert_eq!(floods.due(), Some(2 * REPORT));
        send(&mut floods, &event, [0], &mut seq);
        assert_eq!(counts(&floods.take(2 * REPORT)), [(11, "stripe".into())]);
        // Once it has dried up it is forgotten, and begins anew.
        assert_eq!(floods.take(100 * REPORT).len(), 0);
        assert!(floods.workloads.is_empty());
    }
}
