//! `audit`: the journal and where events go on to.
//!
//! Pure. Does not look at the directory.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, seconds};
use crate::{
    audit::{Journal, Settings},
    policy::rule::AuditMode,
};
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// The config's words for when a read may be answered, for `audit.mode` and for a rule's `audit`.
pub(super) fn mode(leaf: &Leaf<'_>) -> Option<AuditMode> {
    let mode = leaf.word(&[
        ("strict", Some(AuditMode::Strict)),
        ("buffered", Some(AuditMode::Buffered)),
        ("strict-remote", None),
        ("best-effort", None),
    ])?;
    if mode.is_none() {
        leaf.not_built("audit modes other than strict and buffered");
    }
    mode
}

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let mode = map.or("mode", AuditMode::Strict, mode);
    let journal = map.need("journal", "{dir: /var/lib/claviger/audit}", journal);
    let dir = journal.as_ref().map(|journal| journal.dir.as_path());
    let sinks = map.or("sinks", Vec::new(), |leaf| super::sinks::read(leaf, dir));
    let hash_paths = map.or("hash_paths", false, Leaf::flag);
    let checkpoints = map.given("checkpoints", |leaf| super::checkpoints::read(leaf, context));
    unbuilt(&mut map);
    map.finish();
    let sinks = match sinks? {
        none if none.is_empty() => super::sinks::default()?,
        some => some,
    };
    let source = context.environment.source.clone();
    let (mode, hash_paths, checkpoints) = (mode?, hash_paths?, checkpoints?);
    Some(Settings { mode, journal: journal?, sinks, source, hash_paths, checkpoints })
}

fn journal(leaf: &Leaf<'_>) -> Option<Journal> {
    let mut map = leaf.map()?;
    let dir = map.need("dir", "/var/lib/claviger/audit", Leaf::path);
    let max_size = map.or("max_size", 64 * MIB, |leaf| leaf.size(8 * MIB..=1024 * 1024 * MIB));
    let segment = map.or("segment", 4 * MIB, |leaf| {
        let segment = leaf.size(MIB..=64 * MIB)?;
        if max_size.is_some_and(|max_size| segment * 2 > max_size) {
            leaf.problem(
                "a segment of more than half of max_size",
                "let at least two segments fit into max_size",
            );
            return None;
        }
        Some(segment)
    });
    let retain = map.or("retain", Duration::ZERO, |leaf| leaf.duration(seconds(0, 3650 * DAY)));
    map.finish();
    Some(Journal { dir: dir?, max_size: max_size?, segment: segment?, retain: retain? })
}

fn unbuilt(map: &mut Map<'_>) {
    if let Some(leaf) = map.find("handoff") {
        leaf.not_built("audit.handoff");
        let _ = super::unbuilt::store(&leaf);
    }
    if let Some(leaf) = map.find("fingerprint_key") {
        leaf.not_built("audit.fingerprint_key");
        let _ = super::vault_path(&leaf);
    }
}
