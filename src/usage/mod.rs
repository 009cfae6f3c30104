//! The ledger of use: what each workload did with which permission, first and last, and how often.
//!
//! Counts beside the audit, and is no part of it: what it knows it says in `usage.snapshot` events. Does not judge: `report` does.

mod book;
pub mod exposed;
pub mod glass;
pub mod history;
pub mod line;
mod pages;
pub mod reader;
pub mod shared;
mod texts;
pub mod told;

use crate::clock::Timestamp;
use book::Book;
use history::Marks;
use shared::Whole;
use std::sync::{Mutex, MutexGuard, PoisonError};
use told::{Capability, End, Told, Use};

/// Rows that one ledger has at most; a quarter of them for what was only ever refused. Uses that find no room are counted.
pub const MOST: usize = 10_000;

/// One row: one use of one permission, as often as it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub workload: String,
    /// By which rule; `None` of what no rule allowed.
    pub rule: Option<String>,
    /// Of which secret.
    pub secret: Option<String>,
    /// Of which upstream.
    pub upstream: Option<String>,
    /// Where in Vault; hashed where the events' paths are.
    pub path: Option<String>,
    /// In which engine, where Vault said it.
    pub mount: Option<String>,
    /// Which field.
    pub field: Option<String>,
    /// Of a kv secret.
    pub version: Option<u64>,
    /// Of a kv secret.
    pub fingerprint: Option<String>,
    /// What was done.
    pub capability: Capability,
    /// The first time; of a rule that was never used, since when it stands in the config, as far as is known.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// How often it was allowed.
    pub allow: u64,
    /// How often of that a person had said yes to it.
    pub approved: u64,
    /// The first time that a person had said yes.
    pub asked: Option<Timestamp>,
    /// The last time that something was had and nobody had said yes.
    pub unasked: Option<Timestamp>,
    /// How often it was refused.
    pub deny: u64,
    /// The program that was refused, by the first eight bytes of its hash; `None` where none was, or it is not known.
    pub exe: Option<u64>,
    /// How often an old value was given.
    pub stale: u64,
    /// The weakest level of a peer that was allowed.
    pub level: Option<&'static str>,
}

impl Entry {
    /// How often something was had.
    #[must_use]
    pub fn had(&self) -> u64 {
        self.allow.saturating_add(self.stale)
    }
}

/// A part of a snapshot: rows, each with its counts since the agent started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The number of the last event that is counted in it.
    pub upto: u64,
    /// Uses that found no room.
    pub overflow: u64,
    /// At least one.
    pub entries: Vec<Entry>,
}

/// The ledger of one agent, written by the journal's thread and read by whoever makes snapshots.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Counting>);

#[derive(Debug, Default)]
struct Counting {
    book: Book,
    marks: Marks,
    upto: u64,
}

impl Ledger {
    /// Counts what the event `seq` tells, at `at`. Nobody else holds the lock for long; what is known already costs no allocation.
    pub fn note(&self, told: &Told<'_>, seq: u64, at: Timestamp) {
        let mut counting = self.lock();
        counting.upto = counting.upto.max(seq);
        if let Some(one) = told.of_use() {
            counting.book.add(&one, at);
        }
        counting.marks.take(told, at);
    }

    /// All of it, as it is now.
    #[must_use]
    pub fn whole(&self) -> Whole {
        let counting = self.lock();
        let entries = counting.book.entries().collect();
        Whole {
            upto: counting.upto,
            overflow: counting.book.overflow,
            entries,
            marks: counting.marks.clone(),
        }
    }

    /// Notes that `rule` stands in the config of `workload` at `at`.
    pub fn grant(&self, workload: &str, rule: &str, at: Timestamp) {
        self.lock().book.add(
            &Use {
                workload,
                rule: Some(rule),
                secret: None,
                upstream: None,
                path: None,
                mount: None,
                field: None,
                version: None,
                fingerprint: None,
                capability: Capability::Read,
                end: End::Granted,
                level: None,
                exe: None,
                is_approved: false,
                count: 0,
            },
            at,
        );
    }

    /// The next part of a snapshot: rows that no part has as they are. `None` once all are told.
    pub fn part(&self) -> Option<Part> {
        let mut counting = self.lock();
        let entries = counting.book.take();
        let (upto, overflow) = (counting.upto, counting.book.overflow);
        (!entries.is_empty()).then_some(Part { upto, overflow, entries })
    }

    /// The next snapshot tells everything: what was told is not on record, or too old.
    pub fn retell(&self) {
        self.lock().book.retell();
    }

    /// How many rows there are, and how many uses found no room.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        let counting = self.lock();
        (counting.book.len(), counting.book.overflow)
    }

    fn lock(&self) -> MutexGuard<'_, Counting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
