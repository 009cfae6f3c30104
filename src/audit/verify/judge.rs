//! Takes lines in the order of the input, keeps where each chain stands, and compares the chains at the end.
//!
//! Pure. Reads no file: what a file itself tells (checksums, padding) it is told by `input`.

use super::{
    Terms,
    chain::{Repeats, State, Step},
    fact::{self, Continued, Declared},
    input::Sees,
    line::Line,
    report::{Finding, Verdict},
    signed::Against,
    wrong::Wrong,
};
use crate::{
    audit::chain::{Chain, ChainId, Position},
    crypto::{hex, sha256},
};
use std::collections::BTreeMap;

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
    pub(super) chains: BTreeMap<ChainId, State>,
    /// The chain of the last line.
    current: Option<ChainId>,
    /// Chains whose repeats are remembered, the newest last.
    open: Vec<ChainId>,
    pub(super) declared: BTreeMap<ChainId, Vec<Declared>>,
    /// Chains that agents took over from others, how far, and who says so.
    pub(super) adopted: BTreeMap<ChainId, (Continued, ChainId)>,
    pub(super) findings: Vec<Finding>,
    pub(super) worst: BTreeMap<ChainId, Verdict>,
    pub(super) verdict: Verdict,
    pub(super) more: u64,
    pub(super) notes: Vec<String>,
    pub(super) from: Repeats,
    wrong: Vec<Wrong>,
    pub(super) terms: Terms,
}

impl Judge {
    /// A judge who goes by `terms` and has seen nothing.
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            chains: BTreeMap::new(),
            current: None,
            open: Vec::new(),
            declared: BTreeMap::new(),
            adopted: BTreeMap::new(),
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
            state.signing.event(seq, bytes, hash);
            if self.terms.anchor.as_ref().is_some_and(|anchor| anchor.is_at(chain, seq)) {
                state.anchored = Some(hash);
            }
            self.next(&line, chain, seq, &mut wrong);
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
    fn next(&mut self, line: &Line<'_>, chain: ChainId, seq: u64, wrong: &mut Vec<Wrong>) {
        match line.kind {
            b"agent.started.v1" => {
                self.with(chain, |state| state.signing.declare(fact::signed(line.agent)));
            }
            b"audit.checkpoint.v1" => {
                let Some(state) = self.chains.get_mut(&chain) else { return };
                let origin = format!("{}/{chain}", String::from_utf8_lossy(&state.source));
                let (first_time, keys) = (state.first_time.as_slice(), self.terms.keys.as_slice());
                let against = Against { seq, origin: &origin, first_time, keys };
                wrong.extend(state.signing.checkpoint(fact::signed(line.agent), &against).err());
            }
            b"audit.gap.v1" => match fact::declared(line.agent, line.reason, chain) {
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
            b"audit.recovered.v1" => match fact::continued(line.agent) {
                Some(continued) if seq == 1 => self.with(chain, |state| state.continues = Some(continued)),
                // Its agent took over what another one left.
                Some(continued) if continued.chain < chain => {
                    let known = self.adopted.entry(continued.chain).or_insert((continued, chain));
                    if known.0.seq < continued.seq {
                        *known = (continued, chain);
                    }
                    self.with(chain, |state| state.is_stopped = false);
                }
                Some(continued) => {
                    let what = format!("it takes over {}, which is no earlier chain", continued.chain);
                    self.add(Verdict::Altered, Some(chain), Some(seq), what, None);
                }
                None => self.add(
                    Verdict::Altered,
                    Some(chain),
                    Some(seq),
                    "it does not say which chain it continues".into(),
                    None,
                ),
            },
            b"agent.stopped.v1" => self.with(chain, |state| state.is_stopped = true),
            _ => self.with(chain, |state| state.is_stopped = false),
        }
    }

    pub(super) fn with(&mut self, chain: ChainId, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.chains.get_mut(&chain) {
            change(state);
        }
    }

    pub(super) fn add(
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
