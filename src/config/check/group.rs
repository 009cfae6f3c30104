//! Approvals of kind `control_group`, by which Vault itself asks, and what they fit.
//!
//! Pure. Who may say yes, and how many must, is in Vault's policy: what would say it here too is refused by name.

use super::super::{
    file::{Node, Raw},
    reader::{Leaf, Map, under},
};
use super::{
    Context, DAY,
    forwards::Part,
    milliseconds,
    place::{place, transit_key},
    seconds, webhook,
};
use crate::{
    approval::{Settings, group::Group},
    name::{ApprovalName, IdentityName},
    policy::rule::Rule,
};
use std::{collections::BTreeSet, time::Duration};

/// The word of the config.
pub(super) const KIND: &str = "control_group";

/// What other kinds have, and why this one has not.
const OTHERS: [(&str, &str); 7] = [
    ("approvers", "remove it: who may say yes is in the control_group of the identity's policy in Vault"),
    ("quorum", "remove it: how many must say yes is in the control_group of the identity's policy in Vault"),
    ("transit", "remove it: nothing is signed; the key that seals what waits is transit_key: MOUNT/KEY"),
    ("uses", "remove it: Vault does what it was asked for once"),
    ("observe", "remove it: Vault asks whatever the config says"),
    ("key", "remove it: a yes is said in Vault alone"),
    ("status_url", "remove it: a yes is said in Vault alone"),
];

/// The approvals of this kind, whatever else is wrong with them.
pub(super) fn named(root: &Node) -> BTreeSet<&str> {
    let Some(Raw::Map(approvals)) = under(root, "approvals").map(|node| &node.raw) else {
        return BTreeSet::new();
    };
    let is_one =
        |node| matches!(under(node, "kind").map(|node| &node.raw), Some(Raw::Text(text)) if text == KIND);
    approvals.iter().filter(|entry| is_one(&entry.node)).map(|entry| entry.key.as_str()).collect()
}

/// The rest of one.
pub(super) fn read(name: ApprovalName, mut map: Map<'_>, context: &Context<'_>) -> Option<Settings> {
    let mut fits = true;
    for (key, right) in OTHERS {
        if let Some(leaf) = map.find(key) {
            leaf.problem(format!("{key} in an approval of kind {KIND}"), right);
            fits = false;
        }
    }
    let identity = map.given("identity", |leaf| leaf.refers(&context.identities, IdentityName::new));
    let store = map.need("store", "{mount: kv, path: approvals}", |leaf| place(leaf, "approvals"));
    let transit_key = map.given("transit_key", transit_key);
    let exclude = map.or("exclude", Vec::new(), |leaf| leaf.each(Leaf::text));
    let ttl = map.or("ttl", Duration::from_secs(15 * 60), |leaf| leaf.duration(seconds(1, 7 * DAY)));
    let valid_for = map.or("valid_for", Duration::from_secs(10 * 60), |leaf| leaf.duration(seconds(1, DAY)));
    let hold = map.or("hold", Duration::ZERO, |leaf| leaf.duration(milliseconds(0, 300_000)));
    let pending_max = map.or("pending_max", 32, |leaf| leaf.whole::<u32>(1..=1_000));
    let webhook = match map.find("url") {
        Some(_) => webhook::read(&mut map).map(Some),
        None => Some(None),
    };
    map.finish();
    if !fits {
        return None;
    }
    Some(Settings {
        name,
        identity: identity?,
        store: store?,
        approvers: Vec::new(),
        transit: String::new(),
        quorum: 0,
        exclude: exclude?,
        ttl: ttl?,
        valid_for: valid_for?,
        uses: 1,
        hold: hold?,
        pending_max: usize::try_from(pending_max?).ok()?,
        observe: false,
        webhook: webhook?,
        group: Some(Group { transit_key: transit_key? }),
    })
}

/// Whether a rule that names one may: `part` is what it says of Vault's API, if it is about that.
pub(super) fn fits(leaf: &Leaf<'_>, rule: &Rule, part: Option<&Part>, context: &Context<'_>) -> Option<()> {
    let name = rule.approval.as_ref().filter(|name| context.groups.contains(name.as_str()));
    let Some(name) = name else { return Some(()) };
    let (found, right) = match part {
        None => (
            "of a rule without vault: what claviger keeps is read for all who may have it, and Vault would ask about that read alone",
            "make it a rule with vault, or name an approval of kind signed or webhook",
        ),
        Some(part) if part.is_cached() => {
            ("beside cache: what persons allowed once may not be given again", "remove cache from the rule")
        }
        Some(part) if part.is_wrapped() => {
            ("beside wrap: Vault answers with a wrapping token of its own", "remove wrap from the rule")
        }
        Some(part) if part.child_ttl().is_some() => (
            "beside tokens: no child token is made behind a wrapping token",
            "make a rule of its own for tokens, or name an approval of kind signed or webhook",
        ),
        Some(_) => return Some(()),
    };
    leaf.problem(format!("the approval {name} of kind {KIND} {found}"), right);
    None
}

/// Whether a rotation may name one.
pub(super) fn of_rotation(leaf: &Leaf<'_>, settings: &Settings) -> Option<()> {
    if settings.group.is_none() {
        return Some(());
    }
    leaf.problem(
        format!("the approval {} of kind {KIND}, which no rotation can wait for: it makes many requests, and Vault would ask about each", settings.name),
        "name an approval of kind signed or webhook",
    );
    None
}

/// Whether a review of an emergency may name one.
pub(super) fn of_review(leaf: &Leaf<'_>, settings: &Settings) -> Option<()> {
    if settings.group.is_none() {
        return Some(());
    }
    leaf.problem(
        format!(
            "the approval {} of kind {KIND}, which no review can wait for: there is no request to Vault that it would ask about",
            settings.name
        ),
        "name an approval of kind signed or webhook",
    );
    None
}
