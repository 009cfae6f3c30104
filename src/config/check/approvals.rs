//! `approvals`: who must say yes, and how they are asked.
//!
//! Pure. Whether Vault has the store and the keys is found out when running.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, group, milliseconds, mount, place::place, seconds, webhook};
use crate::{
    approval::{
        Settings, TAKEN,
        signed::{Approver, Key},
        ssh,
        webhook::{SERVICE, Webhook},
    },
    crypto::PublicKey,
    name::{ApprovalName, IdentityName},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{collections::BTreeSet, time::Duration};

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Vec<Settings>> {
    let entries = leaf.named(ApprovalName::new)?;
    let read: Vec<Option<Settings>> =
        entries.into_iter().map(|(name, leaf)| approval(name, &leaf, context)).collect();
    read.into_iter().collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Signed,
    Webhook,
    ControlGroup,
}

fn approval(name: ApprovalName, leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let kind = map.need("kind", "signed", |leaf| {
        leaf.word(&[("signed", Kind::Signed), ("webhook", Kind::Webhook), (group::KIND, Kind::ControlGroup)])
    });
    if kind == Some(Kind::ControlGroup) {
        return group::read(name, map, context);
    }
    if kind.is_none() {
        for key in ["url", "key", "status_url", "approvers", "transit", "transit_key"] {
            let _ = map.find(key);
        }
    }
    let (approvers, webhook) = match kind {
        Some(Kind::Signed) => (map.need("approvers", "{lead: {entity_id: …}}", approvers), Some(None)),
        Some(Kind::Webhook) => told(&mut map),
        _ => (Some(Vec::new()), Some(None)),
    };
    let transit = map.or("transit", "transit".to_owned(), mount);
    let identity = map.given("identity", |leaf| leaf.refers(&context.identities, IdentityName::new));
    let store = map.need("store", "{mount: kv, path: approvals}", |leaf| place(leaf, "approvals"));
    let quorum = map.or("quorum", 1, |leaf| leaf.whole::<u32>(1..=100));
    let exclude = map.or("exclude", Vec::new(), |leaf| leaf.each(Leaf::text));
    let ttl = map.or("ttl", Duration::from_secs(15 * 60), |leaf| leaf.duration(seconds(1, 7 * DAY)));
    let valid_for = map.or("valid_for", Duration::from_secs(10 * 60), |leaf| leaf.duration(seconds(1, DAY)));
    let uses = map.or("uses", 1, |leaf| leaf.whole::<u32>(1..=1_000_000));
    let hold = map.or("hold", Duration::ZERO, |leaf| leaf.duration(milliseconds(0, 300_000)));
    let pending_max = map.or("pending_max", 32, |leaf| leaf.whole::<u32>(1..=1_000));
    let observe = map.or("observe", false, Leaf::flag);
    map.finish();
    kind?;
    let (approvers, exclude) = (approvers?, exclude?);
    enough(leaf, &approvers, &exclude, quorum?);
    Some(Settings {
        name,
        identity: identity?,
        store: store?,
        approvers,
        transit: transit?,
        quorum: usize::try_from(quorum?).ok()?,
        exclude,
        ttl: ttl?,
        valid_for: valid_for?,
        uses: uses?,
        hold: hold?,
        pending_max: usize::try_from(pending_max?).ok()?,
        observe: observe?,
        webhook: webhook?,
        group: None,
    })
}

/// Who may say yes, and the service that is told: it may be one of them, by its own key.
fn told(map: &mut Map<'_>) -> (Option<Vec<Approver>>, Option<Option<Webhook>>) {
    let persons = map.given("approvers", approvers);
    let key = map.given("key", webhook::key);
    let webhook = webhook::read(map);
    let all = || {
        let service = key?.map(|key| Approver { name: SERVICE.to_owned(), key: Key::Service(key) });
        Some(persons?.into_iter().flatten().chain(service).collect::<Vec<_>>())
    };
    let all = all();
    if all.as_ref().is_some_and(Vec::is_empty) {
        map.leaf().problem(
            "nobody who may say yes",
            "write key: the Ed25519 key that the service signs decisions with, or approvers: {lead: {entity_id: …}}",
        );
        return (None, webhook.map(Some));
    }
    (all, webhook.map(Some))
}

/// Whether as many may say yes as must.
fn enough(leaf: &Leaf<'_>, approvers: &[Approver], exclude: &[String], quorum: u32) {
    let is_excluded = |approver: &&Approver| {
        approver.entity().is_some_and(|entity| exclude.iter().any(|excluded| excluded == entity))
    };
    let count = approvers.iter().filter(|approver| !is_excluded(approver)).count();
    if count < usize::try_from(quorum).unwrap_or(usize::MAX) {
        leaf.problem(
            format!("a quorum of {quorum}, and approvers who may say yes: {count}"),
            "name more approvers, or write a smaller quorum",
        );
    }
}

fn approvers(leaf: &Leaf<'_>) -> Option<Vec<Approver>> {
    let entries = leaf.named(ApprovalName::new)?;
    if entries.is_empty() {
        leaf.problem("nobody", "name at least one: {lead: {entity_id: …}}");
        return None;
    }
    let mut seen = BTreeSet::new();
    let read: Vec<Option<Approver>> =
        entries.into_iter().map(|(name, leaf)| approver(name.as_str(), &leaf, &mut seen)).collect();
    read.into_iter().collect()
}

fn approver(name: &str, leaf: &Leaf<'_>, seen: &mut BTreeSet<String>) -> Option<Approver> {
    let mut map = leaf.map()?;
    let entity = map.given("entity_id", entity);
    let ssh_key = map.given("ssh_key", |leaf| {
        let key = ssh::public_key(&leaf.text()?);
        if key.is_none() {
            leaf.problem("no SSH key that is read here", "write a line of a .pub file of type ssh-ed25519");
        }
        key
    });
    let pinned = map.find("public_key");
    let keys = match &pinned {
        Some(leaf) => {
            let leaves = leaf.one_or_many()?;
            let keys: Vec<Option<PublicKey>> = leaves.iter().map(public_key).collect();
            keys.into_iter().collect::<Option<Vec<_>>>()
        }
        None => Some(Vec::new()),
    };
    map.finish();
    let key = match (entity?, ssh_key?) {
        (Some(id), None) => Key::Entity { id, pinned: keys? },
        (None, Some(key)) => {
            if let Some(leaf) = pinned {
                leaf.problem(
                    "public_key beside ssh_key",
                    "remove it: it is for keys in Vault's transit engine",
                );
                return None;
            }
            Key::Ssh(key)
        }
        _ => {
            leaf.problem("not one of entity_id and ssh_key", "write one of the two");
            return None;
        }
    };
    let what = match &key {
        Key::Entity { id, .. } => id.clone(),
        Key::Ssh(key) | Key::Service(key) => ssh::spell(key),
    };
    if !seen.insert(what) {
        leaf.problem("one person under two names", "remove one: nobody says yes twice");
        return None;
    }
    if TAKEN.contains(&name) {
        leaf.problem(format!("the name {name}, which the store has for something else"), "write another");
        return None;
    }
    Some(Approver { name: name.to_owned(), key })
}

/// The id of an entity in Vault: one segment of a path.
fn entity(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !TAKEN.contains(&text.as_str()) {
        return Some(text);
    }
    leaf.problem("no id of an entity", "write what `vault token lookup` calls entity_id");
    None
}

/// The Ed25519 key of a transit key, base64.
fn public_key(leaf: &Leaf<'_>) -> Option<PublicKey> {
    let key = STANDARD.decode(leaf.text()?).ok().and_then(|bytes| bytes.try_into().ok());
    if key.is_none() {
        leaf.problem(
            "no Ed25519 key",
            "write the public_key that `vault read transit/keys/approver-…` shows for the newest version",
        );
    }
    key
}
