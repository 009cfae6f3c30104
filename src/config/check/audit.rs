//! `audit`: the journal and where events go on to.
//!
//! Pure. Does not look at the directory.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, seconds};
use crate::{
    audit::{Journal, Settings},
    policy::rule::AuditMode,
    vault::endpoint::TransitKey,
};
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// The config's words for when a read may be answered, for `audit.mode` and for a rule's `audit`.
pub(super) fn mode(leaf: &Leaf<'_>) -> Option<AuditMode> {
    leaf.word(&[
        ("strict", AuditMode::Strict),
        ("buffered", AuditMode::Buffered),
        ("best-effort", AuditMode::BestEffort),
        ("strict-remote", AuditMode::StrictRemote),
    ])
}

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let mode = map.or("mode", AuditMode::Strict, mode);
    let journal = map.need("journal", "{dir: /var/lib/claviger/audit}", journal);
    let dir = journal.as_ref().map(|journal| journal.dir.as_path());
    let sinks = map.or("sinks", Vec::new(), |leaf| super::sinks::read(leaf, dir));
    let hash_paths = map.or("hash_paths", false, Leaf::flag);
    let fingerprint_key = map.given("fingerprint_key", transit_key);
    let checkpoints = map.given("checkpoints", |leaf| super::checkpoints::read(leaf, context));
    unbuilt(&mut map);
    map.finish();
    let sinks = match sinks? {
        none if none.is_empty() => super::sinks::default()?,
        some => some,
    };
    let source = context.environment.source.clone();
    Some(Settings {
        mode: mode?,
        journal: journal?,
        sinks,
        source,
        pod: None,
        hash_paths: hash_paths?,
        fingerprint_key: fingerprint_key?,
        checkpoints: checkpoints?,
    })
}

/// `MOUNT/KEY`; the mount may have more than one segment.
fn transit_key(leaf: &Leaf<'_>) -> Option<TransitKey> {
    let path = super::vault_path(leaf)?;
    let (mount, name) = path.rsplit_once('/')?;
    Some(TransitKey { mount: mount.to_owned(), name: name.to_owned() })
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
}
