//! A line of the record, read back: what it says of use, and what else a report goes by. Pure.
//!
//! Does not check it: `audit verify` does. A line that is no event is none.

use super::{
    Entry, Part,
    told::{Capability, LEVELS, Told},
};
use crate::clock::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;

type Text<'a> = Option<Cow<'a, str>>;

/// One event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Line<'a> {
    /// Its type.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// Which agent it is of.
    #[serde(borrow)]
    pub source: Text<'a>,
    time: Option<Timestamp>,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow)]
    reason: Text<'a>,
    #[serde(borrow)]
    seq: Cow<'a, str>,
    #[serde(borrow)]
    chain: Chain<'a>,
    #[serde(borrow)]
    workload: Text<'a>,
    /// Which login it is about.
    #[serde(borrow)]
    pub identity: Text<'a>,
    #[serde(borrow)]
    actor: Actor<'a>,
    #[serde(borrow)]
    rule: Rule<'a>,
    #[serde(borrow)]
    resource: Resource<'a>,
    #[serde(borrow)]
    upstream: Named<'a>,
    agg: Option<Agg>,
    #[serde(borrow)]
    rotation: Option<Rotation<'a>>,
    #[serde(borrow)]
    approval: Option<Approval<'a>>,
    #[serde(borrow)]
    usage: Option<Usage<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chain<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Actor<'a> {
    #[serde(borrow)]
    level: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    secret: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    mount: Text<'a>,
    #[serde(borrow)]
    operation: Text<'a>,
    #[serde(borrow)]
    path: Text<'a>,
    #[serde(borrow)]
    field: Text<'a>,
    version: Option<u64>,
    #[serde(borrow)]
    fp: Text<'a>,
}

#[derive(Debug, Deserialize)]
struct Agg {
    count: u64,
}

/// What an event says of a rotation.
#[derive(Debug, Deserialize)]
pub struct Rotation<'a> {
    /// The key in `rotations`.
    #[serde(borrow)]
    pub cred: Cow<'a, str>,
    /// The version that consumers read before.
    pub from_v: Option<u64>,
}

/// What an event says of an approval.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Approval<'a> {
    /// Which.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Where an emergency is written down.
    #[serde(borrow)]
    pub ticket: Text<'a>,
}

#[derive(Debug, Deserialize)]
struct Usage<'a> {
    #[serde(borrow)]
    upto: Cow<'a, str>,
    #[serde(default)]
    overflow: u64,
    #[serde(borrow, default)]
    entries: Vec<Row<'a>>,
}

#[derive(Debug, Deserialize)]
struct Row<'a> {
    #[serde(default)]
    allow: u64,
    #[serde(borrow)]
    capability: Cow<'a, str>,
    #[serde(default)]
    deny: u64,
    #[serde(borrow, default)]
    field: Text<'a>,
    first: Timestamp,
    #[serde(borrow, default)]
    fp: Text<'a>,
    last: Timestamp,
    #[serde(borrow, default)]
    level: Text<'a>,
    #[serde(borrow, default)]
    mount: Text<'a>,
    #[serde(borrow, default)]
    path: Text<'a>,
    #[serde(borrow, default)]
    rule: Text<'a>,
    #[serde(borrow, default)]
    secret: Text<'a>,
    #[serde(default)]
    stale: u64,
    #[serde(borrow, default)]
    upstream: Text<'a>,
    #[serde(default)]
    version: Option<u64>,
    #[serde(borrow)]
    workload: Cow<'a, str>,
}

impl<'a> Line<'a> {
    /// What `bytes` say, if they are an event's.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(bytes).ok()?;
        (!line.kind.is_empty() && line.time.is_some() && !line.chain.uid.is_empty()).then_some(line)
    }

    /// Which chain it is of, and its number in it.
    #[must_use]
    pub fn place(&self) -> (&str, u64) {
        (&self.chain.uid, self.seq.parse().unwrap_or(0))
    }

    /// When it happened.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// What it says of use.
    #[must_use]
    pub fn told(&self) -> Told<'_> {
        Told {
            kind: &self.kind,
            outcome: &self.outcome,
            workload: self.workload.as_deref(),
            rule: self.rule.name.as_deref(),
            secret: self.resource.secret.as_deref(),
            upstream: self.upstream.name.as_deref(),
            path: self.resource.path.as_deref(),
            mount: self.resource.mount.as_deref(),
            field: self.resource.field.as_deref(),
            version: self.resource.version,
            fingerprint: self.resource.fp.as_deref(),
            operation: self.resource.operation.as_deref(),
            sort: self.resource.kind.as_deref(),
            level: self.actor.level.as_deref(),
            count: self.agg.as_ref().map(|agg| agg.count),
        }
    }

    /// The part of a snapshot that it has.
    #[must_use]
    pub fn part(&self) -> Option<Part> {
        let usage = self.usage.as_ref()?;
        let upto = usage.upto.parse().ok()?;
        Some(Part {
            upto,
            overflow: usage.overflow,
            entries: usage.entries.iter().filter_map(Row::entry).collect(),
        })
    }

    /// The rotation that it is about.
    #[must_use]
    pub fn rotation(&self) -> Option<&Rotation<'a>> {
        self.rotation.as_ref()
    }

    /// The approval that it is about.
    #[must_use]
    pub fn approval(&self) -> Option<&Approval<'a>> {
        self.approval.as_ref()
    }

    /// Whose socket it came in by.
    #[must_use]
    pub fn workload(&self) -> Option<&str> {
        self.workload.as_deref()
    }

    /// The rule that allowed it.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.rule.name.as_deref()
    }

    /// The secret that it is about, and which version of it.
    #[must_use]
    pub fn secret(&self) -> Option<(&str, Option<u64>)> {
        self.resource.secret.as_deref().map(|secret| (secret, self.resource.version))
    }

    /// Where in Vault it is.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.resource.path.as_deref()
    }

    /// Why not, if not.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl Row<'_> {
    fn entry(&self) -> Option<Entry> {
        let text = |text: &Text<'_>| text.as_deref().map(str::to_owned);
        Some(Entry {
            workload: self.workload.clone().into_owned(),
            rule: text(&self.rule),
            secret: text(&self.secret),
            upstream: text(&self.upstream),
            path: text(&self.path),
            mount: text(&self.mount),
            field: text(&self.field),
            version: self.version,
            fingerprint: text(&self.fp),
            capability: Capability::of(&self.capability)?,
            first: self.first,
            last: self.last,
            allow: self.allow,
            deny: self.deny,
            stale: self.stale,
            level: LEVELS.iter().copied().find(|level| Some(*level) == self.level.as_deref()),
        })
    }
}
