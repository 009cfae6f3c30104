//! The ledger of one start of one agent as other agents read it: in parts that each fit into one secret of KV 2. Pure.
//!
//! Counts from the start on, so that what is read twice, here or in the record, counts once. Holds no value of a secret.

use super::{Entry, history::Marks, line::Row};
use crate::{
    clock::Timestamp,
    crypto::{hex, sha256},
};
use serde::{Deserialize, Serialize};

/// Bytes of one part as JSON: a quarter of what Vault's own storage takes.
const PART: usize = 256 * 1024;
/// Parts of one start: 10,000 rows of 400 bytes.
pub const PARTS: usize = 16;
/// The form of a part; another one is not read.
const FORM: u32 = 1;

/// One part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shared {
    v: u32,
    /// Which agent.
    pub source: String,
    /// Which start of it.
    pub chain: String,
    /// When it was written.
    pub at: Timestamp,
    /// The number of the last event that is counted in it.
    pub upto: u64,
    /// Uses that found no room.
    #[serde(default)]
    pub overflow: u64,
    /// What else a report goes by; in the first part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<Marks>,
    #[serde(with = "rows")]
    rows: Vec<Entry>,
}

/// A ledger, whole.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    /// The number of the last event that is counted in it.
    pub upto: u64,
    /// Uses that found no room.
    pub overflow: u64,
    /// Every row.
    pub entries: Vec<Entry>,
    /// What else a report goes by.
    pub marks: Marks,
}

/// How paths in Vault are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// As they are.
    Clear,
    /// As `audit.hash_paths` has them in events.
    Hashed,
}

impl Shared {
    /// `whole`, of the start `chain` of the agent `source`, in parts; rows that find no room are counted as such.
    #[must_use]
    pub fn parts(whole: Whole, (source, chain): (&str, &str), at: Timestamp, paths: Paths) -> Vec<Self> {
        let Whole { upto, mut overflow, entries, mut marks } = whole;
        marks.exposures.sign(source);
        let (mut parts, mut rows, mut size) = (Vec::new(), Vec::new(), 0_usize);
        let mut left = 0_u64;
        for mut entry in entries {
            if paths == Paths::Hashed {
                hash(&mut entry);
            }
            let length = serde_json::to_vec(&Row::of(&entry)).map_or(0, |text| text.len());
            if size.saturating_add(length) > PART {
                parts.push(std::mem::take(&mut rows));
                size = 0;
            }
            if parts.len() >= PARTS {
                left = left.saturating_add(entry.had().saturating_add(entry.deny));
                continue;
            }
            size = size.saturating_add(length);
            rows.push(entry);
        }
        if parts.len() < PARTS {
            parts.push(rows);
        }
        overflow = overflow.saturating_add(left);
        let part = |(number, rows): (usize, Vec<Entry>)| Self {
            v: FORM,
            source: source.to_owned(),
            chain: chain.to_owned(),
            at,
            upto,
            overflow,
            marks: (number == 0).then(|| marks.clone()),
            rows,
        };
        parts.into_iter().enumerate().map(part).collect()
    }

    /// What `value` says, if it is a part of a form that is known.
    #[must_use]
    pub fn read(value: serde_json::Value) -> Option<Self> {
        serde_json::from_value::<Self>(value).ok().filter(|part| part.v == FORM)
    }

    /// Its rows.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.rows
    }

    /// The hash of what it says, whenever it is written.
    #[must_use]
    pub fn content(&self) -> [u8; 32] {
        let still = Self { at: Timestamp::UNIX_EPOCH, upto: 0, ..self.clone() };
        sha256(&serde_json::to_vec(&still).unwrap_or_default())
    }
}

mod rows {
    use super::{Entry, Row};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(rows: &[Entry], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(rows.iter().map(Row::of))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<Entry>, D::Error> {
        let rows: Vec<Row<'a>> = Vec::deserialize(from)?;
        Ok(rows.iter().filter_map(Row::entry).collect())
    }
}

fn hash(entry: &mut Entry) {
    entry.mount = None;
    entry.path = entry.path.take().map(|path| format!("sha256:{}", hex(&sha256(path.as_bytes()))));
}
