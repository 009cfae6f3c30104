//! `approvals`, and the kinds of `rotations` that are not built yet. Each entry is refused by name, and its shape is read all the
//! same, so that a slip of the finger in it is found today.
//!
//! Pure. What they mean is for the parts that will build them.

use super::super::reader::{Leaf, Map};
use super::{DAY, seconds};
use crate::name::{NotAName, SecretName};

pub(super) fn read(root: &mut Map<'_>) {
    section(root, "approvals", approval);
}

/// A place in a KV engine: `{mount, path}`.
pub(super) fn store(leaf: &Leaf<'_>) -> Option<()> {
    let mut map = leaf.map()?;
    let _ = map.need("mount", "kv", Leaf::text);
    let _ = map.need("path", "where in it", Leaf::text);
    map.finish();
    Some(())
}

fn section(root: &mut Map<'_>, key: &'static str, read: impl Fn(&mut Map<'_>) -> Option<()>) {
    let Some(entries) = root.find(key).and_then(|leaf| leaf.named(any_name)) else { return };
    for (_, leaf) in entries {
        leaf.not_built(key);
        if let Some(mut map) = leaf.map()
            && read(&mut map).is_some()
        {
            map.finish();
        }
    }
}

fn any_name(text: &str) -> Result<(), NotAName> {
    SecretName::new(text).map(|_| ())
}

fn texts(leaf: &Leaf<'_>) -> Option<Vec<String>> {
    leaf.each(Leaf::text)
}

fn long(leaf: &Leaf<'_>) -> Option<std::time::Duration> {
    leaf.duration(seconds(0, 3650 * DAY))
}

fn approval(map: &mut Map<'_>) -> Option<()> {
    #[derive(Clone, Copy)]
    enum Kind {
        Signed,
        Webhook,
        ControlGroup,
    }
    let kind = map.need("kind", "signed, webhook or control_group", |leaf| {
        leaf.word(&[
            ("signed", Kind::Signed),
            ("webhook", Kind::Webhook),
            ("control_group", Kind::ControlGroup),
        ])
    });
    let _ = map.given("quorum", |leaf| leaf.whole::<u32>(1..=100));
    let _ = map.given("exclude", texts);
    for key in ["ttl", "valid_for", "hold"] {
        let _ = map.given(key, long);
    }
    let _ = map.given("uses", |leaf| leaf.whole::<u32>(1..=u32::MAX));
    let _ = map.given("pending_max", |leaf| leaf.whole::<u32>(1..=100_000));
    let _ = map.given("observe", Leaf::flag);
    let _ = map.need("store", "{mount: kv, path: approvals}", store);
    match kind? {
        Kind::Signed => {
            let _ = map.need("approvers", "{lead: {entity_id: …}}", |leaf| {
                for (_, leaf) in leaf.named(any_name)? {
                    let Some(mut map) = leaf.map() else { continue };
                    let _ = map.given("entity_id", Leaf::text);
                    let _ = map.given("ssh_key", Leaf::text);
                    map.finish();
                }
                Some(())
            });
            let _ = map.given("transit", Leaf::text);
        }
        Kind::Webhook => {
            for key in ["url", "key", "status_url"] {
                let _ = map.given(key, Leaf::text);
            }
        }
        Kind::ControlGroup => {}
    }
    Some(())
}

/// What a rotation of a kind that is not built has beside the keys of all kinds.
pub(super) fn rotation(map: &mut Map<'_>) {
    for key in ["propagation_wait", "hold", "hold_max", "quarantine", "grace_min", "lead_time"] {
        let _ = map.given(key, long);
    }
    // The target's keys differ by kind, and are not settled.
    for key in [
        "target",
        "driver",
        "path",
        "field",
        "length",
        "policy",
        "wrap",
        "secret_id_file",
        "max_retry_cycles",
        "secret",
    ] {
        let _ = map.find(key);
    }
}
