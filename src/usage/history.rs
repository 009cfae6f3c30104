//! The ledgers of many agents and many starts as one, from their snapshots and their events. Pure.
//!
//! Sinks deliver at least once, and a journal and a copy of it may both be read: an event counts once. Within a chain the
//! order of the record is assumed; where it is not kept, counts may differ by some, never first and last.

use super::{
    Entry,
    book::Book,
    exposed::Exposures,
    glass::{Glass, Standing},
    line::Line,
    shared::Shared,
    told::{Capability, Rotated, Told},
};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Skipped slots of one rotation that are remembered, the newest.
const SKIPS: usize = 32;
/// Openings of break glass that are remembered: somebody could make up as many as they like.
const MARKS: usize = 1_000;

/// Everything that was read so far.
#[derive(Debug, Default)]
pub struct History {
    chains: BTreeMap<String, Chain>,
    /// Of starts whose record is not here: their rows, and which they are.
    others: (Book, BTreeSet<String>),
    marks: Marks,
    sources: BTreeSet<String>,
    events: u64,
    span: Option<(Timestamp, Timestamp)>,
}

/// One start of one agent.
#[derive(Debug, Default)]
struct Chain {
    /// Stretches of numbers that were read: the first of each, and the last.
    read: BTreeMap<u64, u64>,
    /// By its events.
    seen: Book,
    /// By its snapshots.
    told: Book,
    /// By its events after the newest snapshot.
    after: Book,
    upto: u64,
    overflow: u64,
}

/// What else the record says that a report judges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// Of each rotation, by its name.
    pub rotations: BTreeMap<String, RotationMarks>,
    /// Approvals by break glass: the id, and how it stands.
    pub glass: BTreeMap<String, Glass>,
    /// Rules for emergencies, by workload and rule: `job/fire`.
    pub behind_glass: BTreeMap<String, Standing>,
    /// Values that were seen where they must not be, and where nobody could look.
    pub exposures: Exposures,
    /// When each identity first logged in.
    pub logins: BTreeMap<String, Timestamp>,
}

/// What the record says of one rotation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RotationMarks {
    /// The last promotion.
    pub promoted: Option<Timestamp>,
    /// Which slots were skipped, and when; the newest.
    pub skips: BTreeMap<String, Timestamp>,
    /// When it last began to wait for a person.
    pub orphaned: Option<Timestamp>,
    /// When a run last began, or was promoted.
    pub moved: Option<Timestamp>,
    /// Ends of a grace: when, and which version it was that nobody should read since.
    pub ended: Option<(Timestamp, u64)>,
}

/// What the record says, once all of it was read.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Every use, of all agents together.
    pub entries: Vec<Entry>,
    /// What else matters.
    pub marks: Marks,
    /// The agents.
    pub sources: BTreeSet<String>,
    /// How many starts of them.
    pub chains: usize,
    /// How many events were read.
    pub events: u64,
    /// Uses that no ledger had room for.
    pub overflow: u64,
    /// The first and the last moment that the record speaks of.
    pub span: Option<(Timestamp, Timestamp)>,
}

impl History {
    /// Takes one line of the record. No, if it is no event; one that was read before is nothing new.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let Some(line) = Line::read(bytes) else { return false };
        let (uid, seq) = line.place();
        let chain = match self.chains.get_mut(uid) {
            Some(chain) => chain,
            None => self.chains.entry(uid.to_owned()).or_default(),
        };
        if !chain.is_new(seq) {
            return true;
        }
        chain.take(&line, seq);
        if let Some(source) = &line.source
            && !self.sources.contains(source.as_ref())
        {
            self.sources.insert(source.clone().into_owned());
        }
        self.events = self.events.saturating_add(1);
        let (time, span) = (line.time(), self.span);
        self.span = Some(span.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
        self.marks.take(&line.told(), time);
        true
    }

    /// Takes a part of the ledger of one start of an agent, as it left it in Vault: after the record was taken, of which that start may
    /// be a part. Of the starts that are none there is but one book, however many they are.
    pub fn join(&mut self, part: &Shared) {
        match self.chains.get_mut(&part.chain) {
            Some(chain) => {
                chain.overflow = chain.overflow.max(part.overflow);
                if part.upto > chain.upto {
                    (chain.upto, chain.after) = (part.upto, Book::default());
                }
                part.entries().iter().for_each(|entry| chain.told.catch_up(entry));
            }
            None => {
                let is_first = self.others.1.insert(part.chain.clone());
                let (others, overflow) = (&mut self.others.0, if is_first { part.overflow } else { 0 });
                others.overflow = others.overflow.saturating_add(overflow);
                part.entries().iter().for_each(|entry| others.join(entry));
            }
        }
        if let Some(marks) = &part.marks {
            self.marks.join(marks);
        }
        self.sources.insert(part.source.clone());
        let (at, span) = (part.at, self.span);
        self.span = Some(span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
    }

    /// All of it together.
    #[must_use]
    pub fn finish(self) -> Record {
        let (others, names) = self.others;
        let chains = self.chains.len().saturating_add(names.len());
        let mut overflow = others.overflow;
        let mut all: Vec<Entry> = others.entries().collect();
        for chain in self.chains.into_values() {
            overflow = overflow.saturating_add(chain.overflow.max(chain.seen.overflow));
            all.extend(chain.finish());
        }
        let entries = together(all);
        let told = entries.iter().map(|entry| entry.first).min();
        let span = self.span.map(|(first, last)| (told.map_or(first, |told| told.min(first)), last));
        Record {
            entries,
            marks: self.marks,
            sources: self.sources,
            chains,
            events: self.events,
            overflow,
            span,
        }
    }
}

/// Each use once, in the order of what it is of.
fn together(mut all: Vec<Entry>) -> Vec<Entry> {
    fn what(entry: &Entry) -> impl Ord + '_ {
        let Entry { workload, rule, secret, upstream, path, field, fingerprint, .. } = entry;
        let texts = [rule, secret, upstream, path, field, fingerprint].map(Option::as_deref);
        (workload.as_str(), texts, entry.capability, entry.version, entry.exe)
    }
    all.sort_by(|one, other| what(one).cmp(&what(other)));
    // Gives what it took into the one before it.
    all.dedup_by(|other, one| {
        let is_same = what(one) == what(other);
        if is_same {
            join(one, other);
        }
        is_same
    });
    all
}

fn join(one: &mut Entry, other: &Entry) {
    (one.first, one.last) = (one.first.min(other.first), one.last.max(other.last));
    one.allow = one.allow.saturating_add(other.allow);
    one.deny = one.deny.saturating_add(other.deny);
    one.stale = one.stale.saturating_add(other.stale);
    one.approved = one.approved.saturating_add(other.approved);
    one.asked = one.asked.into_iter().chain(other.asked).min();
    one.unasked = one.unasked.max(other.unasked);
    one.mount = one.mount.take().or_else(|| other.mount.clone());
    let place = |level: Option<&str>| super::told::LEVELS.iter().position(|one| Some(*one) == level);
    one.level = match (place(one.level), place(other.level)) {
        (Some(own), Some(others)) if others < own => other.level,
        (None, _) => other.level,
        _ => one.level,
    };
}

impl Chain {
    /// Whether the number was not read before; from now on it was.
    fn is_new(&mut self, seq: u64) -> bool {
        let before = self.read.range(..=seq).next_back().map(|(first, last)| (*first, *last));
        match before {
            Some((_, last)) if last >= seq => return false,
            Some((first, last)) if last.checked_add(1) == Some(seq) => drop(self.read.insert(first, seq)),
            _ => drop(self.read.insert(seq, seq)),
        }
        // What begins right behind belongs to the same stretch.
        if let Some(next) = seq.checked_add(1)
            && let Some(last) = self.read.remove(&next)
            && let Some((_, end)) = self.read.range_mut(..=seq).next_back()
        {
            *end = last;
        }
        true
    }

    fn take(&mut self, line: &Line<'_>, seq: u64) {
        if let Some(part) = line.part() {
            self.overflow = self.overflow.max(part.overflow);
            if part.upto > self.upto {
                (self.upto, self.after) = (part.upto, Book::default());
            }
            part.entries.iter().for_each(|entry| self.told.catch_up(entry));
        }
        if let Some(one) = line.told().of_use() {
            self.seen.add(&one, line.time());
            if seq > self.upto {
                self.after.add(&one, line.time());
            }
        }
    }

    /// By the events alone, or by the snapshots and what came after them, whichever knows more.
    fn finish(mut self) -> Vec<Entry> {
        for entry in self.after.entries() {
            self.told.join(&entry);
        }
        for entry in self.seen.entries() {
            self.told.catch_up(&entry);
        }
        self.told.entries().collect()
    }
}

impl Marks {
    /// Takes what an event tells, at `time`. In which order they come does not matter.
    pub(super) fn take(&mut self, told: &Told<'_>, time: Timestamp) {
        let kind = told.kind.trim_end_matches(".v1");
        match (kind, told.identity) {
            ("auth.login", Some(identity)) => match self.logins.get_mut(identity) {
                Some(first) => *first = time.min(*first),
                None => drop(self.logins.insert(identity.to_owned(), time)),
            },
            ("exposure.found", _) => self.exposures.find(told, time),
            ("exposure.looked", _) => self.exposures.look(told, time),
            _ => {}
        }
        if let Some(rotated) = told.rotation.filter(|_| kind.starts_with("rotation.")) {
            self.rotations.entry(rotated.name.to_owned()).or_default().take(kind, &rotated, time);
        }
        match (kind, told.approval) {
            ("approval.break_glass", Some(id)) if self.glass.len() < MARKS => {
                let text = |text: Option<&str>| text.map(str::to_owned);
                let (workload, rule, ticket) = (text(told.workload), text(told.rule), text(told.ticket));
                let touched = BTreeMap::new();
                let glass = Glass { at: time, workload, rule, ticket, touched, ended: None };
                self.glass.insert(id.to_owned(), glass);
            }
            ("approval.expired" | "approval.refused", Some(id)) => {
                if let Some(glass) = self.glass.get_mut(id) {
                    glass.ended = Some(time);
                }
            }
            _ => {}
        }
        if let (Some(workload), Some(rule), true) =
            (told.workload, told.rule, matches!(kind, "approval.disabled" | "approval.enabled"))
        {
            let is_off = kind == "approval.disabled";
            let why = told.reason.filter(|_| is_off).map(str::to_owned);
            let (off, on) = if is_off { (Some(time), None) } else { (None, Some(time)) };
            let rule = format!("{workload}/{rule}");
            let standing = Standing { disabled: off, why, enabled: on };
            self.behind_glass.entry(rule).or_default().join(&standing);
        }
        if !self.glass.is_empty() {
            self.look_at_glasses(told, time);
        }
    }

    /// What was taken in emergencies, and what was replaced since.
    fn look_at_glasses(&mut self, told: &Told<'_>, time: Timestamp) {
        for (id, glass) in &mut self.glass {
            let is_by_it = told.approval == Some(id);
            match (told.secret, told.path_in_vault()) {
                (Some(secret), _) if is_by_it => glass.touch(secret, told.version, time),
                (Some(secret), _) => glass.replace(secret, told.version, time),
                (None, Some((path, _))) if is_by_it => glass.touch(path, None, time),
                (None, Some((path, Capability::Write | Capability::Patch))) => glass.rewrite(path, time),
                (None, _) => {}
            }
        }
    }

    /// Adds what another ledger has.
    fn join(&mut self, other: &Self) {
        for (name, marks) in &other.rotations {
            self.rotations.entry(name.clone()).or_default().join(marks);
        }
        for (id, glass) in &other.glass {
            let known = self.glass.entry(id.clone()).or_insert_with(|| glass.clone());
            known.join(glass);
        }
        for (rule, standing) in &other.behind_glass {
            self.behind_glass.entry(rule.clone()).or_default().join(standing);
        }
        self.exposures.join(&other.exposures);
        for (identity, first) in &other.logins {
            let known = self.logins.entry(identity.clone()).or_insert(*first);
            *known = (*known).min(*first);
        }
    }
}

impl RotationMarks {
    /// Slots that were skipped since the last success.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skips.values().filter(|at| self.promoted.is_none_or(|promoted| promoted < **at)).count()
    }

    /// Since when it waits for a person, if nothing has moved since.
    #[must_use]
    pub fn waits(&self) -> Option<Timestamp> {
        self.orphaned.filter(|orphaned| self.moved.is_none_or(|moved| moved < *orphaned))
    }

    fn take(&mut self, kind: &str, rotated: &Rotated<'_>, time: Timestamp) {
        match kind {
            "rotation.promoted" => {
                self.promoted = self.promoted.max(Some(time));
                self.moved = self.moved.max(Some(time));
            }
            "rotation.started" => self.moved = self.moved.max(Some(time)),
            "rotation.orphaned" => self.orphaned = self.orphaned.max(Some(time)),
            "rotation.skipped" => {
                let slot = rotated.slot.map_or_else(|| time.to_string(), str::to_owned);
                self.skip(slot, time);
            }
            "rotation.grace_ended" | "rotation.revoked" => {
                if let Some(from) = rotated.from
                    && self.ended.is_none_or(|(_, known)| known < from)
                {
                    self.ended = Some((time, from));
                }
            }
            _ => {}
        }
    }

    /// A slot counts once, however many replicas skipped it.
    fn skip(&mut self, slot: String, time: Timestamp) {
        self.skips.insert(slot, time);
        while self.skips.len() > SKIPS {
            let oldest = self.skips.iter().min_by_key(|(_, at)| **at).map(|(slot, _)| slot.clone());
            oldest.and_then(|slot| self.skips.remove(&slot));
        }
    }

    fn join(&mut self, other: &Self) {
        self.promoted = self.promoted.max(other.promoted);
        self.moved = self.moved.max(other.moved);
        self.orphaned = self.orphaned.max(other.orphaned);
        other.skips.iter().for_each(|(slot, time)| self.skip(slot.clone(), *time));
        if let Some((_, from)) = other.ended
            && self.ended.is_none_or(|(_, known)| known < from)
        {
            self.ended = other.ended;
        }
    }
}
