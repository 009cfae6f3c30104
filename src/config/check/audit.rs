//! `audit`: the journal and where events go on to.
//!
//! Pure. Does not look at the directory.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, seconds};
use crate::{
    audit::{Journal, Settings, sink},
    name::SinkName,
    policy::rule::AuditMode,
    vault::endpoint::TransitKey,
};
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// The config's words for when a read may be answered, for `audit.mode` and for a rule's `audit`.
pub(super) fn mode(leaf: &Leaf<'_>) -> Option<AuditMode> {
    let mode = leaf.word(&[
        ("strict", Some(AuditMode::Strict)),
        ("buffered", Some(AuditMode::Buffered)),
        ("best-effort", Some(AuditMode::BestEffort)),
        ("strict-remote", None),
    ])?;
    if mode.is_none() {
        leaf.not_built("the audit mode strict-remote");
    }
    mode
}

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let mode = map.or("mode", AuditMode::Strict, mode);
    let journal = map.need("journal", "{dir: /var/lib/claviger/audit}", journal);
    let sinks = map.or("sinks", Vec::new(), sinks);
    let hash_paths = map.or("hash_paths", false, Leaf::flag);
    let fingerprint_key = map.given("fingerprint_key", transit_key);
    unbuilt(&mut map);
    map.finish();
    let sinks = match sinks? {
        none if none.is_empty() => SinkName::new("stdout")
            .ok()
            .map(|name| sink::Settings { name, kind: sink::Kind::Stdout })
            .into_iter()
            .collect(),
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

fn sinks(leaf: &Leaf<'_>) -> Option<Vec<sink::Settings>> {
    let named = leaf.named(SinkName::new)?;
    let mut read: Vec<Option<sink::Settings>> = Vec::new();
    for (name, leaf) in named {
        let sink = sink(name, &leaf);
        if sink.is_some() && read.iter().any(Option::is_some) {
            leaf.problem(
                "a second sink of kind stdout",
                "keep one: both would write the same lines to one place",
            );
        }
        read.push(sink);
    }
    read.into_iter().collect()
}

fn sink(name: SinkName, leaf: &Leaf<'_>) -> Option<sink::Settings> {
    let mut map = leaf.map()?;
    let kind = map.need("kind", "stdout", |leaf| {
        const LATER: Option<sink::Kind> = None;
        let kind = leaf.word(&[
            ("stdout", Some(sink::Kind::Stdout)),
            ("file", LATER),
            ("http", LATER),
            ("otlp", LATER),
            ("syslog", LATER),
            ("splunk", LATER),
        ])?;
        if kind.is_none() {
            leaf.not_built("sinks other than stdout");
        }
        kind
    });
    // The keys of the other kinds are not settled: none of them is called unknown.
    let kind = kind?;
    let format = map.or("format", Some(()), |leaf| {
        let format =
            leaf.word(&[("native", Some(())), ("cloudevents", None), ("ocsf", None), ("ecs", None)])?;
        if format.is_none() {
            leaf.not_built("sink formats other than native");
        }
        Some(format)
    });
    let required = map.or("required", false, |leaf| {
        let required = leaf.flag()?;
        if required {
            leaf.not_built("required sinks");
        }
        Some(required)
    });
    map.finish();
    format.and(required).map(|_| sink::Settings { name, kind })
}

fn unbuilt(map: &mut Map<'_>) {
    if let Some(leaf) = map.find("checkpoints") {
        leaf.not_built("audit.checkpoints");
        if let Some(mut map) = leaf.map() {
            let _ = map.need("signer", "boot", |leaf| leaf.word(&[("boot", ()), ("transit", ())]));
            let _ = map.given("key", Leaf::text);
            let _ = map.given("anchor", super::unbuilt::store);
            map.finish();
        }
    }
    if let Some(leaf) = map.find("handoff") {
        leaf.not_built("audit.handoff");
        let _ = super::unbuilt::store(&leaf);
    }
}
