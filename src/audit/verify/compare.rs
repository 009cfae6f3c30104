//! The end of the judgement: chains against one another, against what agents declared, signed and anchored.
//!
//! Pure.

use super::{
    fact::{Continued, Declared},
    input::Sees as _,
    judge::Judge,
    report::{Chain as Summary, Ending, Gap, Report, Verdict},
    signed::Voucher,
};
use crate::{
    audit::{chain::ChainId, verify::chain::Repeats},
    crypto::{PublicKey, hex},
};
use std::{collections::BTreeMap, ops::RangeInclusive};

impl Judge {
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
            if let Some((said, by)) = self.adopted.get(&chain).copied() {
                self.compare_adopted(chain, said, by, &mut endings);
                continue;
            }
            let Some(source) = self.chains.get(&chain).map(|state| state.source.clone()) else { continue };
            let last = before.insert(source, chain);
            self.compare(chain, last, &mut endings);
        }
        self.signatures();
        self.anchored();
        self.rolled_back();
        let summaries = self.summaries(&endings);
        let Self { findings, more, notes, verdict, .. } = self;
        Report { chains: summaries, findings, more, notes, verdict }
    }

    fn summaries(&mut self, endings: &BTreeMap<ChainId, Ending>) -> Vec<Summary> {
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
                voucher: state.signing.voucher.unwrap_or(Voucher::Nobody),
                signed_up_to: state.signing.up_to,
                verdict: self.worst.get(&chain).copied().unwrap_or(Verdict::Good),
            });
        }
        summaries
    }

    /// Unsigned tails, signatures that should be there, and keys in two places.
    fn signatures(&mut self) {
        let mut owners: BTreeMap<PublicKey, ChainId> = BTreeMap::new();
        let mut found = Vec::new();
        for (chain, state) in self.chains.iter().rev() {
            let signing = &state.signing;
            let declared = signing.declared.iter().flatten().next();
            // With a trusted key every chain needs a signature that counts.
            let is_due = declared.is_some() || signing.checkpoints > 0 || !self.terms.keys.is_empty();
            let unsigned = signing.unsigned(state.first, state.last);
            if is_due && unsigned > self.terms.max_unsigned {
                let what = format!("{unsigned} events from here on are not signed");
                found.push((Verdict::UnsignedTail, *chain, signing.up_to.saturating_add(1), what));
            }
            let is_boot = declared.is_some_and(|declared| declared.by == "boot");
            if is_boot && signing.checkpoints == 0 && state.is_stopped && !self.refuses(*chain) {
                let what = "its agent declares checkpoints, ended in order, and there is none".to_owned();
                found.push((Verdict::Altered, *chain, state.last, what));
            }
            let key = signing.key.filter(|_| signing.is_by_boot());
            if let Some(owner) = key.and_then(|key| owners.insert(key, *chain)) {
                let what = format!("its checkpoints are signed with the key of {owner}");
                found.push((Verdict::Altered, *chain, state.first, what));
            }
        }
        for (verdict, chain, seq, what) in found {
            self.add(verdict, Some(chain), Some(seq), what, None);
        }
    }

    /// Whether an agent says, in this chain or about it, that it does not sign because the journal was rolled back.
    fn refuses(&self, chain: ChainId) -> bool {
        let said = |declared: &Declared| declared.by == chain && declared.reason == "rolled_back";
        self.declared.values().flatten().any(said)
    }

    /// What is anchored against what is here.
    fn anchored(&mut self) {
        let Some(anchor) = self.terms.anchor.clone() else { return };
        let (chain, size) = (anchor.chain, anchor.checkpoint.size);
        let Some(state) = self.chains.get(&chain) else {
            let what = format!("event {size} of it is anchored, and nothing of it is here");
            if self.chains.keys().next().is_some_and(|oldest| chain < *oldest) {
                return self.note(format!("{chain}: {what}: all that is here is newer"));
            }
            return self.add(Verdict::Truncated, Some(chain), None, what, None);
        };
        let own = state.signing.own_key();
        let is_signed = own.iter().chain(&self.terms.keys).any(|key| anchor.note.is_signed_by(key));
        // Vault's keys are rotated: without --pubkey there is none that an anchor of its own could be checked by.
        let has_key = if state.signing.is_by_vault() { !self.terms.keys.is_empty() } else { own.is_some() };
        let (last, found) = (state.last, state.anchored);
        if has_key && !is_signed {
            let what = "the anchor is signed by another key than its chain".to_owned();
            self.add(Verdict::Altered, Some(chain), Some(size), what, None);
        } else if last < size {
            self.cut_off(chain, last.saturating_add(1)..=size);
        } else if let Some(found) = found.filter(|found| *found != anchor.checkpoint.head) {
            let hashes = Some((hex(&anchor.checkpoint.head), hex(&found)));
            self.add(Verdict::Altered, Some(chain), Some(size), "it is not what was anchored".into(), hashes);
        }
    }

    /// What agents found missing against the anchor when they started.
    fn rolled_back(&mut self) {
        let is_here = |declared: &&Declared| self.chains.contains_key(&declared.chain);
        let elsewhere: Vec<String> = self
            .declared
            .values()
            .flatten()
            .filter(|declared| !is_here(declared))
            .map(|Declared { chain, from, to, reason, by }| {
                format!("{by} says that events {from} to {to} of {chain} were lost ({reason}); that chain is not here")
            })
            .collect();
        elsewhere.into_iter().for_each(|text| self.note(text));
        let said = self.declared.values().flatten();
        let found: Vec<_> = said
            .filter(|declared| declared.reason == "rolled_back")
            .filter(|declared| self.chains.get(&declared.chain).is_some_and(|state| state.last < declared.to))
            .cloned()
            .collect();
        for Declared { chain, from, to, by, .. } in found {
            let what = format!(
                "events up to {to} were anchored in Vault and are missing: {by} found it at its start"
            );
            self.add(Verdict::Truncated, Some(chain), Some(from), what, None);
        }
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

    /// What was taken over from another agent: it belongs to no row of starts here, and goes as far as `by` says, or farther
    /// where its own agent's record is here too.
    fn compare_adopted(
        &mut self,
        chain: ChainId,
        said: Continued,
        by: ChainId,
        endings: &mut BTreeMap<ChainId, Ending>,
    ) {
        let Some(state) = self.chains.get(&chain) else { return };
        let (first, last, before) = (state.first, state.last, state.continues);
        if last <= said.seq {
            endings.insert(chain, Ending::SealedBySuccessor);
            self.end(by, said);
        }
        match before {
            Some(before) if self.chains.contains_key(&before.chain) => self.end(chain, before),
            Some(before) => self.note(format!("{chain} continues {}, which is not here", before.chain)),
            None if first > 1 => {
                self.note(format!(
                    "{chain} begins with event {first}: {by} took over what was not delivered"
                ));
            }
            None => {}
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
