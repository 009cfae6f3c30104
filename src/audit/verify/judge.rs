//! Takes lines in the order of the input, keeps where each chain stands, and compares the chains at the end.
//!
//! Pure. Reads no file: what a file itself tells (checksums, padding) it is told by `input`.

use super::{
    chain::{Repeats, State, Step, Wrong},
    fact::{self, Continued, Declared},
    input::Sees,
    line::Line,
    report::{Chain as Summary, Ending, Finding, Gap, Report, Verdict},
};
use crate::{
    audit::chain::{Chain, ChainId, Position},
    crypto::{hex, sha256},
};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// Findings that are kept one by one.
const FINDINGS: usize = 1_000;
/// Chains whose lines may still repeat.
const OPEN_CHAINS: usize = 8;
/// Chains in all: each start of an agent makes one.
const CHAINS: usize = 100_000;
/// Gaps of one chain that an agent may declare.
const DECLARED: usize = 10_000;

/// What was seen so far.
pub(super) struct Judge {
    chains: BTreeMap<ChainId, State>,
    /// The chain of the last line.
    current: Option<ChainId>,
    /// Chains whose repeats are remembered, the newest last.
    open: Vec<ChainId>,
    declared: BTreeMap<ChainId, Vec<Declared>>,
    findings: Vec<Finding>,
    worst: BTreeMap<ChainId, Verdict>,
    verdict: Verdict,
    more: u64,
    notes: Vec<String>,
    from: Repeats,
    wrong: Vec<Wrong>,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            chains: BTreeMap::new(),
            current: None,
            open: Vec::new(),
            declared: BTreeMap::new(),
            findings: Vec::new(),
            worst: BTreeMap::new(),
            verdict: Verdict::Good,
            more: 0,
            notes: Vec::new(),
            from: Repeats::Refused,
            wrong: Vec::new(),
        }
    }
}

impl Sees for Judge {
    fn lines_begin(&mut self) {
        self.from = Repeats::Allowed;
    }

    fn segment_begins(&mut self, before: &Chain) {
        self.from = Repeats::Refused;
        let chain = before.last.chain;
        self.current = Some(chain);
        match self.chains.get_mut(&chain) {
            Some(state) if state.last == before.last.seq => {
                if let Some(hash) = state.hash.filter(|hash| *hash != before.hash) {
                    let what = "its segment's header names another hash before it";
                    let hashes = (hex(&before.hash), hex(&hash));
                    self.add(Verdict::Altered, Some(chain), Some(before.next()), what.into(), Some(hashes));
                }
            }
            Some(state) if state.last < before.last.seq => {
                state.hole(state.last.saturating_add(1)..=before.last.seq);
                state.hash = Some(before.hash);
            }
            Some(_) => {}
            None => {
                if before.last.seq == 0 && before.hash != [0; 32] {
                    let what = "its segment's header names a hash before the first event";
                    self.add(Verdict::Altered, Some(chain), Some(1), what.into(), None);
                }
                self.chains.insert(chain, State::new(before, Some(before.hash), b""));
            }
        }
    }

    fn line(&mut self, bytes: &[u8], place: Option<Position>) {
        let hash = sha256(bytes);
        let read = Line::read(bytes).ok().and_then(|line| {
            let chain = ChainId::parse(line.chain)?;
            Some((line, chain, number(line.seq)?))
        });
        let Some((line, chain, seq)) = read else {
            return self.unreadable(hash, place);
        };
        if self.chains.len() >= CHAINS && !self.chains.contains_key(&chain) {
            let what = format!("more than {CHAINS} chains: this one is not looked at");
            return self.add(Verdict::Altered, Some(chain), Some(seq), what, None);
        }
        if !is_id(line.id, line.chain, line.seq) {
            let what = "its id is not its chain and its number".into();
            self.add(Verdict::Altered, Some(chain), Some(seq), what, None);
        }
        if let Some(place) = place.filter(|place| *place != Position { chain, seq }) {
            let what = format!("in its place stands event {seq} of {chain}");
            self.add(Verdict::Altered, Some(place.chain), Some(place.seq), what, None);
        }
        if self.current != Some(chain) {
            self.turn_to(chain);
        }
        let before = Chain { last: Position { chain, seq: seq.saturating_sub(1) }, hash: [0; 32] };
        let known = (seq == 1).then_some([0; 32]);
        let state = self.chains.entry(chain).or_insert_with(|| State::new(&before, known, line.source));
        if state.source.is_empty() {
            state.source = line.source.to_owned();
        }
        let mut wrong = std::mem::take(&mut self.wrong);
        if state.take(&line, seq, hash, self.from, &mut wrong) == Step::Next {
            self.next(&line, chain, seq);
        }
        for Wrong { seq, what, hashes } in wrong.drain(..) {
            self.add(Verdict::Altered, Some(chain), Some(seq), what.into(), hashes);
        }
        self.wrong = wrong;
    }

    fn damaged(&mut self, place: Position, what: &str) {
        self.add(Verdict::Altered, Some(place.chain), Some(place.seq), what.into(), None);
    }

    fn cut(&mut self, what: &str) {
        let next = self.current.and_then(|chain| Some((chain, self.chains.get(&chain)?.last)));
        let seq = next.map(|(_, last)| last.saturating_add(1));
        self.add(Verdict::Truncated, self.current, seq, what.into(), None);
    }

    fn note(&mut self, text: String) {
        if self.notes.len() < FINDINGS {
            self.notes.push(text);
        }
    }
}

impl Judge {
    fn unreadable(&mut self, hash: crate::crypto::Hash, place: Option<Position>) {
        let what = "a line that is no event in canonical JSON (RFC 8785)";
        let current = self.current.and_then(|chain| Some((chain, self.chains.get_mut(&chain)?)));
        let (chain, seq) = match (place, current) {
            (place, Some((chain, state))) if place.is_none_or(|place| place.chain == chain) => {
                state.cannot_read(hash);
                (Some(chain), Some(state.last.saturating_add(1)))
            }
            (Some(place), _) => (Some(place.chain), Some(place.seq)),
            (None, _) => (None, None),
        };
        self.add(Verdict::Altered, chain, seq, what.into(), None);
    }

    fn turn_to(&mut self, chain: ChainId) {
        self.current = Some(chain);
        if self.from == Repeats::Allowed && !self.open.contains(&chain) {
            self.open.push(chain);
            if self.open.len() > OPEN_CHAINS {
                let oldest = self.open.remove(0);
                if let Some(state) = self.chains.get_mut(&oldest) {
                    state.forget();
                }
            }
        }
    }

    /// What the journal's own events say.
    fn next(&mut self, line: &Line<'_>, chain: ChainId, seq: u64) {
        match line.kind {
            b"audit.gap.v1" => match fact::declared(line.agent, line.reason) {
                Some(declared) => {
                    let list = self.declared.entry(declared.chain).or_default();
                    if list.len() < DECLARED {
                        list.push(declared);
                    }
                }
                None => self.add(
                    Verdict::DeclaredGaps,
                    Some(chain),
                    Some(seq),
                    "the agent says that events were lost".into(),
                    None,
                ),
            },
            b"audit.recovered.v1" if seq == 1 => match fact::continued(line.agent) {
                Some(continued) => self.with(chain, |state| state.continues = Some(continued)),
                None => self.add(
                    Verdict::Altered,
                    Some(chain),
                    Some(seq),
                    "it does not say which chain it continues".into(),
                    None,
                ),
            },
            b"agent.stopped.v1" => self.with(chain, |state| state.is_stopped = true),
            b"audit.checkpoint.v1" => {}
            _ => self.with(chain, |state| state.is_stopped = false),
        }
    }

    fn with(&mut self, chain: ChainId, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.chains.get_mut(&chain) {
            change(state);
        }
    }

    fn add(
        &mut self,
        verdict: Verdict,
        chain: Option<ChainId>,
        seq: Option<u64>,
        what: String,
        hashes: Option<(String, String)>,
    ) {
        self.verdict = self.verdict.max(verdict);
        if let Some(chain) = chain {
            let worst = self.worst.entry(chain).or_insert(verdict);
            *worst = (*worst).max(verdict);
        }
        if self.findings.len() >= FINDINGS {
            self.more = self.more.saturating_add(1);
            return;
        }
        let (expected, found) = hashes.unzip();
        let chain = chain.map(|chain| chain.to_string());
        self.findings.push(Finding { verdict, chain, seq, what, expected, found });
    }

    /// Compares the chains with one another, and says what came of it all.
    pub(super) fn finish(mut self) -> Report {
        self.chains.retain(|_, state| state.events > 0);
        for (chain, holes) in self.chains.iter().map(|(c, s)| (*c, s.holes.clone())).collect::<Vec<_>>() {
            holes.into_iter().for_each(|hole| self.missing(chain, &hole, Verdict::Altered));
        }
        let mut endings = BTreeMap::new();
        let mut before: BTreeMap<Vec<u8>, ChainId> = BTreeMap::new();
        let chains: Vec<ChainId> = self.chains.keys().copied().collect();
        for chain in chains {
            let Some(source) = self.chains.get(&chain).map(|state| state.source.clone()) else { continue };
            let last = before.insert(source, chain);
            self.compare(chain, last, &mut endings);
        }
        let mut summaries = Vec::new();
        for (chain, state) in std::mem::take(&mut self.chains) {
            let gap = |hole: &RangeInclusive<u64>| Gap {
                from: *hole.start(),
                to: *hole.end(),
                declared: self.declaration(chain, hole),
            };
            let gaps = state.holes.iter().map(gap).collect();
            let ending = match endings.get(&chain) {
                None if state.is_stopped => Ending::Stopped,
                Some(Ending::SealedBySuccessor) if state.is_stopped => Ending::Stopped,
                None => Ending::Open,
                Some(ending) => *ending,
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            summaries.push(Summary {
                uid: chain.to_string(),
                source: text(&state.source),
                first: state.first,
                last: state.last,
                events: state.events,
                repeats: state.repeats,
                first_time: text(&state.first_time),
                last_time: text(&state.last_time),
                gaps,
                ending,
                verdict: self.worst.get(&chain).copied().unwrap_or(Verdict::Good),
            });
        }
        let Self { findings, more, notes, verdict, .. } = self;
        Report { chains: summaries, findings, more, notes, verdict }
    }

    /// What the first event of `chain` says of the chain `before` it.
    fn compare(&mut self, chain: ChainId, before: Option<ChainId>, endings: &mut BTreeMap<ChainId, Ending>) {
        let Some(state) = self.chains.get(&chain) else { return };
        let (continues, first) = (state.continues, state.first);
        match (continues, before) {
            (Some(said), Some(before)) if said.chain == before => {
                endings.insert(before, Ending::SealedBySuccessor);
                self.end(chain, said);
            }
            (Some(said), Some(before)) if said.chain > before => {
                let what = format!("it is missing, up to event {}: {chain} continues it", said.seq);
                self.add(Verdict::Truncated, Some(said.chain), None, what, None);
            }
            (Some(said), Some(before)) => {
                let what = format!("it continues {}, and says nothing of {before}", said.chain);
                self.add(Verdict::Altered, Some(chain), Some(1), what, None);
            }
            (Some(said), None) => {
                self.note(format!("{chain} continues {}, which is not here", said.chain));
            }
            (None, Some(_)) if first > 1 => {
                self.cut_off(chain, 1..=first.saturating_sub(1));
            }
            (None, Some(before)) if self.from == Repeats::Allowed => {
                endings.insert(before, Ending::Unknown);
                self.note(format!("{chain} began in an empty journal: nothing says how {before} ended"));
            }
            (None, Some(before)) => {
                let what = format!("it does not say how {before} ended");
                self.add(Verdict::Altered, Some(chain), Some(1), what, None);
            }
            (None, None) if first > 1 => {
                self.note(format!("{chain} begins with event {first}: older ones are not here"));
            }
            (None, None) => {}
        }
    }

    /// Whether the chain that `chain` continues ended as it says.
    fn end(&mut self, chain: ChainId, said: Continued) {
        let Some(state) = self.chains.get(&said.chain) else { return };
        let (last, hash) = (state.last, state.hash);
        if last < said.seq {
            self.cut_off(said.chain, last.saturating_add(1)..=said.seq);
        } else if last > said.seq {
            let what = format!("{chain} says that its chain ended with event {}", said.seq);
            let seq = Some(said.seq.saturating_add(1));
            self.add(Verdict::Altered, Some(said.chain), seq, what, None);
        } else if let Some(hash) = hash.filter(|hash| *hash != said.hash) {
            let what = format!("it is not what {chain} says it was");
            let hashes = Some((hex(&said.hash), hex(&hash)));
            self.add(Verdict::Altered, Some(said.chain), Some(last), what, hashes);
        }
    }

    /// Events at the beginning or the end of `chain` are missing.
    fn cut_off(&mut self, chain: ChainId, hole: RangeInclusive<u64>) {
        self.missing(chain, &hole, Verdict::Truncated);
        self.with(chain, |state| state.holes.push(hole));
    }

    fn missing(&mut self, chain: ChainId, hole: &RangeInclusive<u64>, undeclared: Verdict) {
        let (from, to) = (*hole.start(), *hole.end());
        let missing = if from == to {
            format!("event {from} is missing")
        } else {
            format!("events {from} to {to} are missing")
        };
        let (verdict, what) = match self.declaration(chain, hole) {
            None => (undeclared, missing),
            // The agent found bytes changed: it cannot tell a bad disk from a hand.
            Some(reason) if reason == "journal_damaged" => {
                (Verdict::Altered, format!("{missing}: the agent found them changed on disk"))
            }
            Some(reason) => (Verdict::DeclaredGaps, format!("{missing}: the agent says so ({reason})")),
        };
        self.add(verdict, Some(chain), Some(from), what, None);
    }

    /// Why the whole of `hole` is missing, in the word of the agent.
    fn declaration(&self, chain: ChainId, hole: &RangeInclusive<u64>) -> Option<String> {
        let all = self.declared.get(&chain)?;
        let mut next = *hole.start();
        let mut reason = None;
        loop {
            let here = |declared: &&Declared| (declared.from..=declared.to).contains(&next);
            let declared = all.iter().find(here)?;
            if reason.is_none() || declared.reason == "journal_damaged" {
                reason = Some(declared.reason.clone());
            }
            if declared.to >= *hole.end() {
                return reason;
            }
            next = declared.to.saturating_add(1);
        }
    }
}

/// Twenty digits.
fn number(text: &[u8]) -> Option<u64> {
    if text.len() != 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn is_id(id: &[u8], chain: &[u8], seq: &[u8]) -> bool {
    id.strip_prefix(chain).and_then(|rest| rest.strip_prefix(b"-")) == Some(seq)
}
