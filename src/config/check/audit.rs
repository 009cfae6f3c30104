//! `audit`: the journal and where events go on to.
//!
//! Pure. Does not look at the directory.

use super::super::reader::Leaf;
use super::{
    Context, DAY,
    place::{place_in, transit_key},
    seconds,
};
use crate::{
    audit::{Journal, Settings, handoff},
    name::IdentityName,
    policy::rule::AuditMode,
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
    let handoff = map.given("handoff", |leaf| handoff(leaf, context));
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
        // Whoever reads the workloads knows.
        workloads: 0,
        source,
        pod: None,
        hash_paths: hash_paths?,
        fingerprint_key: fingerprint_key?,
        checkpoints: checkpoints?,
        handoff: handoff?,
    })
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

/// `{mount, path, identity}`, in a KV 2 engine.
fn handoff(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<handoff::Settings> {
    let mut map = leaf.map()?;
    let place = place_in(&mut map, "claviger/handoff");
    let identity =
        map.need("identity", "one of identities", |leaf| leaf.refers(&context.identities, IdentityName::new));
    map.finish();
    Some(handoff::Settings { place: place?, identity: identity? })
}
