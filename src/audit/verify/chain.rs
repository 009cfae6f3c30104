//! One chain as the judge has it so far: where it stands, what is missing, what repeats.
//!
//! Pure. Knows nothing of other chains: the judge compares them.

use super::{fact::Continued, line::Line, signed::Signing, wrong::Wrong};
use crate::{
    audit::chain::Chain,
    crypto::{Hash, hex},
};
use std::{collections::VecDeque, ops::RangeInclusive};

/// How far back a line may repeat: a sink repeats a second of lines after a crash at most.
const REPEATS: usize = 65_536;
/// Holes of one chain that are kept apart.
const HOLES: usize = 10_000;

/// A chain so far.
pub(super) struct State {
    pub(super) source: Vec<u8>,
    pub(super) first: u64,
    pub(super) last: u64,
    /// The hash of the last event; `None` where it is not known.
    pub(super) hash: Option<Hash>,
    pub(super) events: u64,
    pub(super) repeats: u64,
    pub(super) first_time: Vec<u8>,
    pub(super) last_time: Vec<u8>,
    pub(super) holes: Vec<RangeInclusive<u64>>,
    /// What its first event says of the chain before.
    pub(super) continues: Option<Continued>,
    pub(super) is_stopped: bool,
    pub(super) signing: Signing,
    /// The hash of the event that is anchored, if it is of this chain and here.
    pub(super) anchored: Option<Hash>,
    /// The hash of a line behind the last event that could not be read.
    unread: Option<Hash>,
    recent: VecDeque<Hash>,
}

/// What became of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is the next event that there is.
    Next,
    /// It was there already.
    Repeat,
}

/// Whether lines may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// What a sink printed: at least once.
    Allowed,
    /// A journal has each event once.
    Refused,
}

impl State {
    /// A chain whose first event is the one behind `before`.
    pub(super) fn new(before: &Chain, hash: Option<Hash>, source: &[u8]) -> Self {
        Self {
            source: source.to_owned(),
            first: before.next(),
            last: before.last.seq,
            hash,
            events: 0,
            repeats: 0,
            first_time: Vec::new(),
            last_time: Vec::new(),
            holes: Vec::new(),
            continues: None,
            is_stopped: false,
            signing: Signing::default(),
            anchored: None,
            unread: None,
            recent: VecDeque::new(),
        }
    }

    /// A line that is no event came where the next one should be.
    pub(super) fn cannot_read(&mut self, hash: Hash) {
        self.unread.get_or_insert(hash);
    }

    /// Takes the event `seq` whose bytes have `hash`; everything that is wrong with it goes to `wrong`.
    pub(super) fn take(
        &mut self,
        line: &Line<'_>,
        seq: u64,
        hash: Hash,
        repeats: Repeats,
        wrong: &mut Vec<Wrong>,
    ) -> Step {
        let next = self.last.saturating_add(1);
        if seq < next {
            self.again(seq, &hash, repeats, wrong);
            return Step::Repeat;
        }
        if let Some(unread) = self.unread.take().filter(|_| seq == next.saturating_add(1)) {
            // It stands where the event before this one belongs.
            (self.last, self.hash) = (next, Some(unread));
            self.remember(unread);
        } else if seq > next {
            self.hole(next..=seq.saturating_sub(1));
        }
        self.link(line, wrong);
        if line.source != self.source {
            wrong.push(Wrong::at(seq, "its source is not the source of its chain"));
        }
        if line.time.len() != TIME || line.time < self.last_time.as_slice() {
            wrong.push(Wrong::at(seq, "its time is before the time of the event before it"));
        }
        self.last_time.clear();
        self.last_time.extend_from_slice(line.time);
        if self.events == 0 {
            self.first_time = self.last_time.clone();
        }
        (self.last, self.hash, self.events) = (seq, Some(hash), self.events.saturating_add(1));
        if repeats == Repeats::Allowed {
            self.remember(hash);
        }
        Step::Next
    }

    /// Forgets what repeats are compared with.
    pub(super) fn forget(&mut self) {
        self.recent = VecDeque::new();
    }

    /// Events `range` are not there.
    pub(super) fn hole(&mut self, range: RangeInclusive<u64>) {
        self.last = *range.end();
        self.hash = None;
        self.recent.clear();
        let is_full = self.holes.len() >= HOLES;
        match self.holes.last_mut().filter(|_| is_full) {
            Some(last) => *last = *last.start()..=*range.end(),
            None => self.holes.push(range),
        }
    }

    fn link(&self, line: &Line<'_>, wrong: &mut Vec<Wrong>) {
        let Some(hash) = self.hash else { return };
        if spells(line.prev, &hash) {
            return;
        }
        let what = if self.last == 0 {
            "the first event names a hash before it"
        } else {
            "it is not what the next event says it was"
        };
        let hashes = Some((String::from_utf8_lossy(line.prev).into_owned(), hex(&hash)));
        wrong.push(Wrong { seq: self.last.max(1), what, hashes });
    }

    fn again(&mut self, seq: u64, hash: &Hash, repeats: Repeats, wrong: &mut Vec<Wrong>) {
        self.repeats = self.repeats.saturating_add(1);
        let back = usize::try_from(self.last.saturating_sub(seq)).unwrap_or(usize::MAX);
        let at = self.recent.len().checked_sub(back.saturating_add(1));
        match at.and_then(|at| self.recent.get(at)) {
            _ if repeats == Repeats::Refused => {
                wrong.push(Wrong::at(seq, "it comes after events with higher numbers"));
            }
            Some(before) if before == hash => {}
            Some(before) => {
                let hashes = Some((hex(before), hex(hash)));
                wrong.push(Wrong { seq, what: "there are two different events of this number", hashes });
            }
            None => wrong.push(Wrong::at(
                seq,
                "it comes too late: out of order, or a repeat that reaches back more than 65,536 events",
            )),
        }
    }

    fn remember(&mut self, hash: Hash) {
        if self.recent.len() == REPEATS {
            self.recent.pop_front();
        }
        self.recent.push_back(hash);
    }
}

/// Bytes of `2026-11-23T21:44:00.123456Z`; of this length, times sort as their bytes do.
const TIME: usize = 27;

/// Whether `text` is the lower-case hex of `hash`.
fn spells(text: &[u8], hash: &Hash) -> bool {
    let digit = |n: u8| if n < 10 { b'0'.wrapping_add(n) } else { b'a'.wrapping_add(n).wrapping_sub(10) };
    let (pairs, rest) = text.as_chunks::<2>();
    rest.is_empty()
        && pairs.len() == hash.len()
        && pairs.iter().zip(hash).all(|(pair, byte)| *pair == [digit(byte >> 4), digit(byte & 15)])
}
