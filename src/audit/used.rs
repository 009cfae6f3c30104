//! What an event tells the ledger of use, and how a part of that ledger stands in an event. Pure.
//!
//! Does not count: `usage` does.

use super::{
    event::Event,
    pen::{Paths, Pen},
};
use crate::usage::{
    Entry, Part,
    told::{Rotated, Told},
};

/// What `event` tells of use: nothing is copied.
pub(super) fn told(event: &Event) -> Told<'_> {
    let resource = event.resource.as_ref();
    let text = |of: fn(&super::event::Resource) -> Option<&str>| resource.and_then(of);
    Told {
        kind: event.kind.word(),
        outcome: event.outcome.word(),
        workload: event.workload.as_ref().map(|name| name.as_str()),
        rule: event.rule.as_ref().map(|rule| rule.name.as_str()),
        secret: text(|it| it.secret.as_ref().map(|name| name.as_str())),
        upstream: event.upstream.as_ref().and_then(|call| call.name.as_ref()).map(|name| name.as_str()),
        path: text(|it| it.path.as_deref()),
        mount: text(|it| it.mount.as_deref()),
        field: text(|it| it.field.as_deref()),
        version: resource.and_then(|it| it.version),
        fingerprint: text(|it| it.fingerprint.as_deref()),
        operation: text(|it| it.operation),
        sort: text(|it| it.kind),
        level: event.actor.as_ref().map(|actor| actor.level.word()),
        count: event.agg.map(|agg| agg.count),
        lease: text(|it| it.lease_id_hash.as_deref()),
        reason: event.reason.map(|reason| reason.word()),
        identity: event.identity.as_ref().map(|name| name.as_str()),
        rotation: event.rotation.as_ref().map(|run| Rotated {
            name: run.name.as_str(),
            from: run.from,
            slot: run.slot.as_deref(),
        }),
        approval: event.approval.as_ref().and_then(|approval| approval.id.as_deref()),
        ticket: event.approval.as_ref().and_then(|approval| approval.ticket.as_deref()),
        exe: event.actor.as_ref().and_then(|actor| actor.exe_sha256.as_ref()).and_then(program),
        source: None,
        exposure: event.exposure.as_deref().map(super::exposed::told),
    }
}

fn program(hash: &crate::crypto::Hash) -> Option<u64> {
    hash.first_chunk().map(|first| u64::from_be_bytes(*first))
}

pub(super) fn write_usage(pen: &mut Pen<'_>, part: &Part, paths: Paths) {
    let Part { upto, overflow, entries } = part;
    pen.objects("entries", entries, |pen, entry| write_entry(pen, entry, paths));
    pen.number("overflow", Some(*overflow).filter(|count| *count > 0));
    pen.seq("upto", Some(*upto));
}

fn write_entry(pen: &mut Pen<'_>, entry: &Entry, paths: Paths) {
    let some = |count: u64| Some(count).filter(|count| *count > 0);
    pen.number("allow", some(entry.allow));
    pen.number("approved", some(entry.approved));
    if let Some(asked) = entry.asked {
        pen.quoted("asked", format_args!("{asked:.0}"));
    }
    pen.quoted("capability", entry.capability.word());
    pen.number("deny", some(entry.deny));
    pen.text("exe", entry.exe.map(|exe| format!("{exe:016x}")).as_deref());
    pen.text("field", entry.field.as_deref());
    pen.quoted("first", format_args!("{:.0}", entry.first));
    pen.text("fp", entry.fingerprint.as_deref());
    pen.quoted("last", format_args!("{:.0}", entry.last));
    pen.text("level", entry.level);
    pen.text("mount", entry.mount.as_deref().filter(|_| paths == Paths::Clear));
    pen.path(entry.path.as_deref(), paths);
    pen.text("rule", entry.rule.as_deref());
    pen.text("secret", entry.secret.as_deref());
    pen.number("stale", some(entry.stale));
    if let Some(unasked) = entry.unasked {
        pen.quoted("unasked", format_args!("{unasked:.0}"));
    }
    pen.text("upstream", entry.upstream.as_deref());
    pen.number("version", entry.version);
    pen.text("workload", Some(&entry.workload));
}
