//! The ledgers of many agents and many starts as one, from their snapshots and their events. Pure.
//!
//! Sinks deliver at least once, and a journal and a copy of it may both be read: an event counts once. Within a chain the
//! order of the record is assumed; where it is not kept, counts may differ by some, never first and last.

use super::{Entry, book::Book, line::Line};
use crate::clock::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that was read so far.
#[derive(Debug, Default)]
pub struct History {
    chains: BTreeMap<String, Chain>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Of each rotation, by its name.
    pub rotations: BTreeMap<String, RotationMarks>,
    /// Approvals by break glass: the id, and how it stands.
    pub glass: BTreeMap<String, Glass>,
    /// Where an exposed value was found.
    pub exposed: BTreeSet<String>,
    /// When each identity first logged in.
    pub logins: BTreeMap<String, Timestamp>,
}

/// What the record says of one rotation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotationMarks {
    /// The last promotion.
    pub promoted: Option<Timestamp>,
    /// Slots that were skipped since.
    pub skipped: u64,
    /// Whether it waits for a person.
    pub orphaned: Option<Timestamp>,
    /// Ends of a grace: when, and which version it was that nobody should read since.
    pub ended: Option<(Timestamp, u64)>,
}

/// One approval by break glass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glass {
    /// When.
    pub at: Timestamp,
    /// Whose request it was.
    pub workload: Option<String>,
    /// By which rule.
    pub rule: Option<String>,
    /// Where it is written down.
    pub ticket: Option<String>,
    /// What was taken by it.
    pub touched: BTreeMap<String, Touched>,
    /// Whether it is known to have ended.
    pub ended: Option<Timestamp>,
}

/// One secret that was taken in an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// When last.
    pub at: Timestamp,
    /// The newest version of it that was.
    pub version: Option<u64>,
    /// Whether a newer one was seen since.
    pub is_replaced: bool,
}

impl Glass {
    fn touch(&mut self, secret: &str, version: Option<u64>, at: Timestamp) {
        let touched =
            self.touched.entry(secret.to_owned()).or_insert(Touched { at, version, is_replaced: false });
        touched.at = touched.at.max(at);
        touched.version = touched.version.max(version);
        touched.is_replaced = false;
    }

    /// A newer version was seen than those that were taken.
    fn replace(&mut self, secret: &str, version: Option<u64>, at: Timestamp) {
        if let Some(touched) = self.touched.get_mut(secret) {
            touched.is_replaced |= at > touched.at && touched.version.is_some() && version > touched.version;
        }
    }
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
        self.marks.take(&line);
        true
    }

    /// All of it together.
    #[must_use]
    pub fn finish(self) -> Record {
        let (mut all, mut overflow) = (BTreeMap::new(), 0_u64);
        let chains = self.chains.len();
        for chain in self.chains.into_values() {
            overflow = overflow.saturating_add(chain.overflow.max(chain.seen.overflow));
            for entry in chain.finish() {
                all.entry(identity(&entry)).and_modify(|one| join(one, &entry)).or_insert(entry);
            }
        }
        let entries: Vec<Entry> = all.into_values().collect();
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

type Identity = [Option<String>; 8];

fn identity(entry: &Entry) -> (Identity, super::Capability, Option<u64>) {
    let Entry { workload, rule, secret, upstream, path, field, fingerprint, .. } = entry.clone();
    (
        [Some(workload), rule, secret, upstream, path, field, fingerprint, None],
        entry.capability,
        entry.version,
    )
}

fn join(one: &mut Entry, other: &Entry) {
    (one.first, one.last) = (one.first.min(other.first), one.last.max(other.last));
    one.allow = one.allow.saturating_add(other.allow);
    one.deny = one.deny.saturating_add(other.deny);
    one.stale = one.stale.saturating_add(other.stale);
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
    fn take(&mut self, line: &Line<'_>) {
        let (kind, time) = (line.kind.trim_end_matches(".v1"), line.time());
        match kind {
            "auth.login" => {
                if let Some(identity) = &line.identity {
                    let first = self.logins.entry(identity.clone().into_owned()).or_insert(time);
                    *first = time.min(*first);
                }
            }
            "exposure.found" => {
                self.exposed.insert(line.path().or(line.workload()).unwrap_or("unknown").to_owned());
            }
            _ => {}
        }
        if let Some(rotation) = line.rotation() {
            self.rotations.entry(rotation.cred.clone().into_owned()).or_default().take(
                kind,
                rotation.from_v,
                time,
            );
        }
        if let Some(approval) = line.approval() {
            let (workload, rule) = (line.workload().map(str::to_owned), line.rule().map(str::to_owned));
            match kind {
                // One that was refused has no id.
                "approval.break_glass" if !approval.id.is_empty() => {
                    let ticket = approval.ticket.as_deref().map(str::to_owned);
                    let touched = BTreeMap::new();
                    let glass = Glass { at: time, workload, rule, ticket, touched, ended: None };
                    self.glass.insert(approval.id.clone().into_owned(), glass);
                }
                "approval.expired" | "approval.refused" => {
                    if let Some(glass) = self.glass.get_mut(approval.id.as_ref()) {
                        glass.ended = Some(time);
                    }
                }
                _ => {}
            }
        }
        let Some((secret, version)) = line.secret().filter(|_| !self.glass.is_empty()) else { return };
        let by = line.approval().map(|approval| approval.id.as_ref()).unwrap_or_default();
        for (id, glass) in &mut self.glass {
            if id == by { glass.touch(secret, version, time) } else { glass.replace(secret, version, time) }
        }
    }
}

impl RotationMarks {
    fn take(&mut self, kind: &str, from: Option<u64>, time: Timestamp) {
        match kind {
            "rotation.promoted" if self.promoted.is_none_or(|promoted| promoted <= time) => {
                (self.promoted, self.skipped, self.orphaned) = (Some(time), 0, None);
            }
            "rotation.skipped" if self.promoted.is_none_or(|promoted| promoted < time) => {
                self.skipped = self.skipped.saturating_add(1);
            }
            "rotation.orphaned" if self.promoted.is_none_or(|promoted| promoted < time) => {
                self.orphaned = Some(time)
            }
            "rotation.started" => self.orphaned = None,
            "rotation.grace_ended" | "rotation.revoked" => {
                if let Some(from) = from
                    && self.ended.is_none_or(|(_, known)| known < from)
                {
                    self.ended = Some((time, from));
                }
            }
            _ => {}
        }
    }
}
