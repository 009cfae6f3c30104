//! Rows of use: what was done, first and last, and how often. Pure.
//!
//! Bounded: what finds no room is counted. Holds no value of a secret.

use super::{
    Entry,
    pages::{Index, Pages},
    texts::{Id, LONGEST, Texts},
    told::{Capability, End, LEVELS, Use},
};
use crate::clock::Timestamp;
use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroI64,
};

/// Rows that what was refused may take: a workload can make up as many names as it likes.
const REFUSED: usize = super::MOST / 4;
/// Bytes of one part of a snapshot, as text: a line of the journal has 16,000 at most.
const PART: usize = 14_000;
/// Bytes of one entry beside its texts.
const FIXED: usize = 400;

/// What is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    workload: Id,
    rule: Id,
    secret: Id,
    upstream: Id,
    path: Id,
    field: Id,
    fingerprint: Id,
    capability: Capability,
    version: Option<u64>,
    exe: Option<u64>,
}

/// What is known of it.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Seconds since 1970.
    first: i64,
    last: i64,
    allow: u64,
    deny: u64,
    stale: u64,
    approved: u64,
    /// The first by a person's yes, and the last without one.
    asked: Option<NonZeroI64>,
    unasked: Option<NonZeroI64>,
    mount: Id,
    /// The weakest level of a peer that was allowed; 255: none was.
    level: u8,
    /// Whether no snapshot has it as it is.
    changed: bool,
}

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Book {
    texts: Texts,
    rows: Pages<(Key, Row)>,
    index: Index,
    hasher: RandomState,
    refused: usize,
    pub(super) overflow: u64,
}

const UNKNOWN: u8 = u8::MAX;

impl Row {
    fn new(at: i64) -> Self {
        Self {
            first: at,
            last: at,
            allow: 0,
            deny: 0,
            stale: 0,
            approved: 0,
            asked: None,
            unasked: None,
            mount: 0,
            level: UNKNOWN,
            changed: true,
        }
    }

    fn is_refused(&self) -> bool {
        self.allow == 0 && self.stale == 0 && self.deny > 0
    }

    fn count(&mut self, end: End, times: u64) {
        let sum = match end {
            End::Allow => &mut self.allow,
            End::Deny => &mut self.deny,
            End::Stale => &mut self.stale,
            End::Granted => return,
        };
        *sum = sum.saturating_add(times);
    }
}

impl Book {
    /// Counts `one`, at `at`. What is known already costs no allocation.
    pub(super) fn add(&mut self, one: &Use<'_>, at: Timestamp) {
        let at = at.as_second();
        let changed = self.change(one, at, |row| {
            if one.end == End::Granted {
                row.changed |= at < row.first;
                row.first = row.first.min(at);
                return;
            }
            (row.first, row.last) = (row.first.min(at), row.last.max(at));
            row.count(one.end, one.count);
            let now = NonZeroI64::new(at);
            if one.is_approved {
                row.approved = row.approved.saturating_add(one.count);
                row.asked = earlier(row.asked, now);
            } else if one.end != End::Deny {
                row.unasked = row.unasked.max(now);
            }
            row.changed = true;
            if let Some(level) = one.level.filter(|_| one.end != End::Deny) {
                row.level = row.level.min(level);
            }
        });
        if !changed {
            self.overflow = self.overflow.saturating_add(one.count);
        }
    }

    /// Changes the row of what `one` is about, a new one if there is none. No, if there is no room for one.
    fn change(&mut self, one: &Use<'_>, at: i64, change: impl FnOnce(&mut Row)) -> bool {
        let place = match self.find(one) {
            Some(place) => place,
            None => match self.begin(one, at) {
                Some(place) => place,
                None => return false,
            },
        };
        let mount = if one.mount.is_some() { self.texts.keep(one.mount) } else { 0 };
        let Some((_, row)) = self.rows.get_mut(place) else { return false };
        let was = row.is_refused();
        change(row);
        row.mount = if mount == 0 { row.mount } else { mount };
        match (was, row.is_refused()) {
            (false, true) => self.refused = self.refused.saturating_add(1),
            (true, false) => self.refused = self.refused.saturating_sub(1),
            _ => {}
        }
        true
    }

    /// The place of the row of what `one` is about.
    fn find(&self, one: &Use<'_>) -> Option<usize> {
        let key = self.key(one)?;
        let is_it = |place| self.rows.get(at(place)).is_some_and(|(found, _)| *found == key);
        self.index.find(self.hasher.hash_one(key), is_it).map(at)
    }

    fn key(&self, one: &Use<'_>) -> Option<Key> {
        let find = |text| self.texts.find(text);
        Some(Key {
            workload: find(Some(one.workload))?,
            rule: find(one.rule)?,
            secret: find(one.secret)?,
            upstream: find(one.upstream)?,
            path: find(one.path)?,
            field: find(one.field)?,
            fingerprint: find(one.fingerprint)?,
            capability: one.capability,
            version: one.version,
            exe: one.exe,
        })
    }

    fn begin(&mut self, one: &Use<'_>, at: i64) -> Option<usize> {
        if self.rows.len() >= super::MOST || (one.end == End::Deny && self.refused >= REFUSED) {
            return None;
        }
        for text in
            [Some(one.workload), one.rule, one.secret, one.upstream, one.path, one.field, one.fingerprint]
        {
            self.texts.keep(text);
        }
        let key = self.key(one)?;
        let place = self.rows.len();
        self.rows.push((key, Row::new(at)));
        self.index.insert(self.hasher.hash_one(key), u32::try_from(place).unwrap_or(u32::MAX));
        Some(place)
    }

    /// Takes over `entry`, whose counts are added to what is there.
    pub(super) fn join(&mut self, entry: &Entry) {
        if !self.put(entry, u64::saturating_add) {
            self.overflow = self.overflow.saturating_add(entry.had().saturating_add(entry.deny));
        }
    }

    /// Takes over `entry`, which counts from the beginning: the larger count is the newer one.
    pub(super) fn catch_up(&mut self, entry: &Entry) {
        self.put(entry, Ord::max);
    }

    fn put(&mut self, entry: &Entry, sum: fn(u64, u64) -> u64) -> bool {
        let (first, last) = (entry.first.as_second(), entry.last.as_second());
        self.change(&entry.one(), first, |row| {
            (row.first, row.last) = (row.first.min(first), row.last.max(last));
            row.allow = sum(row.allow, entry.allow);
            row.deny = sum(row.deny, entry.deny);
            row.stale = sum(row.stale, entry.stale);
            row.approved = sum(row.approved, entry.approved);
            row.asked = earlier(row.asked, entry.asked.and_then(second));
            row.unasked = row.unasked.max(entry.unasked.and_then(second));
            row.level = entry.level_number().map_or(row.level, |level| row.level.min(level));
            row.changed = true;
        })
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Every row.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.rows.iter().map(|(key, row)| self.entry(key, row))
    }

    /// As many rows as fit into one event, of those that no snapshot has as they are.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        let (mut size, mut taken, mut entries) = (0_usize, Vec::new(), Vec::new());
        for (place, (key, row)) in self.rows.iter().enumerate().filter(|(_, (_, row))| row.changed) {
            let entry = self.entry(key, row);
            size = size.saturating_add(FIXED).saturating_add(entry.size());
            if size > PART && !entries.is_empty() {
                break;
            }
            taken.push(place);
            entries.push(entry);
        }
        for place in taken {
            if let Some((_, row)) = self.rows.get_mut(place) {
                row.changed = false;
            }
        }
        entries
    }

    /// The next snapshot has all rows.
    pub(super) fn retell(&mut self) {
        self.rows.iter_mut().for_each(|(_, row)| row.changed = true);
    }

    fn entry(&self, key: &Key, row: &Row) -> Entry {
        let text = |id| self.texts.read(id).map(str::to_owned);
        let time = |second| Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        Entry {
            workload: text(key.workload).unwrap_or_default(),
            rule: text(key.rule),
            secret: text(key.secret),
            upstream: text(key.upstream),
            path: text(key.path),
            mount: text(row.mount),
            field: text(key.field),
            version: key.version,
            fingerprint: text(key.fingerprint),
            capability: key.capability,
            first: time(row.first),
            last: time(row.last),
            allow: row.allow,
            approved: row.approved,
            asked: row.asked.map(|second| time(second.get())),
            unasked: row.unasked.map(|second| time(second.get())),
            deny: row.deny,
            exe: key.exe,
            stale: row.stale,
            level: LEVELS.get(usize::from(row.level)).copied(),
        }
    }
}

fn second(time: Timestamp) -> Option<NonZeroI64> {
    NonZeroI64::new(time.as_second())
}

/// The earlier of two times, one of which may not be.
fn earlier(one: Option<NonZeroI64>, other: Option<NonZeroI64>) -> Option<NonZeroI64> {
    one.into_iter().chain(other).min()
}

fn at(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

impl Entry {
    /// What it is about.
    fn one(&self) -> Use<'_> {
        Use {
            workload: &self.workload,
            rule: self.rule.as_deref(),
            secret: self.secret.as_deref(),
            upstream: self.upstream.as_deref(),
            path: self.path.as_deref(),
            mount: self.mount.as_deref(),
            field: self.field.as_deref(),
            version: self.version,
            fingerprint: self.fingerprint.as_deref(),
            capability: self.capability,
            end: if self.deny > 0 && self.allow == 0 && self.stale == 0 { End::Deny } else { End::Granted },
            level: None,
            exe: self.exe,
            is_approved: false,
            count: 0,
        }
    }

    fn level_number(&self) -> Option<u8> {
        let place = LEVELS.iter().position(|level| Some(*level) == self.level)?;
        u8::try_from(place).ok()
    }

    /// Bytes of its texts in JSON, at most.
    fn size(&self) -> usize {
        let size = |text: &str| {
            let escaped = text.bytes().filter(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\').count();
            text.len().min(LONGEST).saturating_add(escaped.saturating_mul(5))
        };
        let texts = [
            &self.rule,
            &self.secret,
            &self.upstream,
            &self.path,
            &self.mount,
            &self.field,
            &self.fingerprint,
        ];
        let texts = texts.into_iter().flatten().map(|text| size(text));
        texts.sum::<usize>().saturating_add(size(&self.workload))
    }
}
