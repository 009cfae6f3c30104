//! A line of the record, read back: what it says of use, and what else a report goes by. Pure.
//!
//! Does not check it: `audit verify` does. A line that is no event is none.

use super::{
    Entry, Part, exposed,
    told::{Capability, LEVELS, Rotated, Told},
};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

type Text<'a> = Option<Cow<'a, str>>;

/// One event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
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
    #[serde(borrow)]
    identity: Text<'a>,
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
    #[serde(borrow)]
    exposure: Option<Exposure<'a>>,
}

/// A look for values where they must not be.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Exposure<'a> {
    #[serde(borrow)]
    place: Text<'a>,
    #[serde(borrow)]
    exe: Text<'a>,
    pid: Option<u64>,
    #[serde(borrow)]
    name: Text<'a>,
    number: Option<u64>,
    #[serde(borrow)]
    form: Text<'a>,
    processes: u64,
    files: u64,
    unseen: Vec<String>,
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
    #[serde(borrow)]
    exe_sha256: Text<'a>,
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
    #[serde(borrow)]
    lease_id_hash: Text<'a>,
}

#[derive(Debug, Deserialize)]
struct Agg {
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Rotation<'a> {
    #[serde(borrow)]
    cred: Cow<'a, str>,
    from_v: Option<u64>,
    #[serde(borrow, default)]
    slot: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Approval<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    /// Where an emergency is written down.
    #[serde(borrow)]
    ticket: Text<'a>,
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

/// One row of a ledger, as it is written and read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row<'a> {
    #[serde(default, skip_serializing_if = "is_none")]
    allow: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    approved: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
    #[serde(borrow)]
    capability: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_none")]
    deny: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    exe: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    field: Text<'a>,
    first: Timestamp,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    fp: Text<'a>,
    last: Timestamp,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    level: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    mount: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    rule: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    secret: Text<'a>,
    #[serde(default, skip_serializing_if = "is_none")]
    stale: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unasked: Option<Timestamp>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    upstream: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
            lease: self.resource.lease_id_hash.as_deref(),
            count: self.agg.as_ref().map(|agg| agg.count),
            reason: self.reason.as_deref(),
            identity: self.identity.as_deref(),
            rotation: self.rotation.as_ref().map(|rotation| Rotated {
                name: &rotation.cred,
                from: rotation.from_v,
                slot: rotation.slot.as_deref(),
            }),
            // A request that was refused before it was one has no id.
            approval: self.approval.as_ref().map(|approval| &*approval.id).filter(|id| !id.is_empty()),
            ticket: self.approval.as_ref().and_then(|approval| approval.ticket.as_deref()),
            exe: self.actor.exe_sha256.as_deref().and_then(program),
            source: self.source.as_deref(),
            exposure: self.exposure.as_ref().map(|seen| exposed::Told {
                place: seen.place.as_deref(),
                exe: seen.exe.as_deref(),
                pid: seen.pid,
                name: seen.name.as_deref(),
                number: seen.number,
                form: seen.form.as_deref(),
                processes: seen.processes,
                files: seen.files,
                unseen: &seen.unseen,
            }),
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
}

/// The first eight bytes of a hash.
fn program(hash: &str) -> Option<u64> {
    u64::from_str_radix(hash.get(..16)?, 16).ok()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Row<'_> {
    /// How `entry` is written.
    pub(super) fn of(entry: &Entry) -> Row<'static> {
        let text = |text: &Option<String>| text.clone().map(Cow::Owned);
        Row {
            allow: entry.allow,
            approved: entry.approved,
            asked: entry.asked,
            unasked: entry.unasked,
            capability: Cow::Borrowed(entry.capability.word()),
            deny: entry.deny,
            exe: entry.exe.map(|exe| Cow::Owned(format!("{exe:016x}"))),
            field: text(&entry.field),
            first: entry.first,
            fp: text(&entry.fingerprint),
            last: entry.last,
            level: entry.level.map(Cow::Borrowed),
            mount: text(&entry.mount),
            path: text(&entry.path),
            rule: text(&entry.rule),
            secret: text(&entry.secret),
            stale: entry.stale,
            upstream: text(&entry.upstream),
            version: entry.version,
            workload: Cow::Owned(entry.workload.clone()),
        }
    }

    /// What it says.
    pub(super) fn entry(&self) -> Option<Entry> {
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
            approved: self.approved,
            asked: self.asked,
            unasked: self.unasked,
            deny: self.deny,
            exe: self.exe.as_deref().and_then(program),
            stale: self.stale,
            level: LEVELS.iter().copied().find(|level| Some(*level) == self.level.as_deref()),
        })
    }
}
