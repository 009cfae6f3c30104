//! Rotations of the kinds `follow` and `lease`, which each replica does for itself.
//!
//! Pure. Does not know whether Vault has what is named.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, schedule, seconds, vault_path};
use crate::{
    keeper,
    name::{IdentityName, RotationName, SecretName},
    rotation::{
        local::{Kind, Settings},
        schedule::Schedule,
        trigger::Evidence,
    },
};
use std::time::Duration;

/// The two kinds.
#[derive(Clone, Copy)]
pub(super) enum Word {
    Follow,
    Lease,
}

/// Which of them an entry is.
pub(super) fn word(leaf: &Leaf<'_>) -> Option<Word> {
    let map = if leaf.is_map() { leaf.map()? } else { return None };
    let kind = map.children().find(|(key, _)| *key == "kind").and_then(|(_, leaf)| leaf.peek());
    match kind? {
        "follow" => Some(Word::Follow),
        "lease" => Some(Word::Lease),
        _ => None,
    }
}

pub(super) fn read(
    name: RotationName,
    word: Word,
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    secrets: &[keeper::Settings],
) -> Option<Settings> {
    let mut map = leaf.map()?;
    let _ = map.find("kind");
    let unasked = super::consent::none(&mut map);
    let settings = match word {
        Word::Follow => follow(name, &mut map, context, secrets),
        Word::Lease => lease(name, &mut map, context, secrets),
    };
    map.finish();
    unasked?;
    settings
}

fn follow(
    name: RotationName,
    map: &mut Map<'_>,
    context: &Context<'_>,
    secrets: &[keeper::Settings],
) -> Option<Settings> {
    let identity = map.need("identity", "the name of one of identities", |leaf| {
        leaf.refers(&context.identities, IdentityName::new)
    });
    let path = map.need("path", "database/static-creds/app", vault_path);
    let evidence = map.given("evidence", evidence);
    let schedule = map.given("schedule", schedule::read);
    let path = path?;
    let known = || {
        let field = |field: &str| Some(Evidence { path: path.clone(), field: field.to_owned() });
        match path.split_once('/')?.1 {
            rest if rest.starts_with("static-creds/") || rest.starts_with("static-cred/") => {
                field("last_vault_rotation")
            }
            rest if rest.starts_with("keys/") => field("latest_version"),
            _ => None,
        }
    };
    let Some(evidence) = evidence?.or_else(known) else {
        map.leaf().problem(
            "nothing says whether Vault has rotated",
            "write evidence: {path: secret/metadata/app, field: current_version}, of what changes with it",
        );
        return None;
    };
    let serves = secrets.iter().filter(|secret| of(secret) == Some(&path)).map(|secret| secret.name.clone());
    let schedule = schedule?.map(Box::new);
    let kind = Kind::Follow { evidence, schedule };
    Some(Settings { name, identity: identity?, kind, serves: serves.collect(), path })
}

fn of(secret: &keeper::Settings) -> Option<&String> {
    match &secret.kind {
        keeper::Kind::Kv { path, .. } | keeper::Kind::Lease { path, .. } => Some(path),
        _ => None,
    }
}

fn lease(
    name: RotationName,
    map: &mut Map<'_>,
    context: &Context<'_>,
    secrets: &[keeper::Settings],
) -> Option<Settings> {
    let secret = map.need("secret", "the name of one of secrets, of kind lease", |leaf| {
        let named = leaf.refers(&context.secrets, SecretName::new)?;
        let found = secrets.iter().find(|secret| secret.name == named)?;
        if !matches!(found.kind, keeper::Kind::Lease { .. }) {
            leaf.problem("a secret of another kind than lease", "name a secret with kind: lease");
            return None;
        }
        Some(found)
    });
    let schedule = when(map);
    let (secret, schedule) = (secret?, schedule?);
    Some(Settings {
        name,
        identity: secret.identity.clone(),
        kind: Kind::Lease(Box::new(schedule)),
        path: of(secret).cloned().unwrap_or_default(),
        serves: vec![secret.name.clone()],
    })
}

/// When it is done, where no group and no window is shared with other replicas.
pub(super) fn when(map: &mut Map<'_>) -> Option<Schedule> {
    let rest = (Duration::from_secs(60), seconds(1, 365 * DAY));
    let schedule = schedule::whole(map, "{every: 12h}", rest)?;
    schedule::spacing(map.leaf(), Some(&schedule));
    Some(schedule)
}

/// Where it is seen that Vault has rotated: `{path, field}`.
pub(super) fn evidence(leaf: &Leaf<'_>) -> Option<Evidence> {
    let mut map = leaf.map()?;
    let path = map.need("path", "database/static-creds/app", vault_path);
    let field = map.need("field", "last_vault_rotation", Leaf::text);
    map.finish();
    Some(Evidence { path: path?, field: field? })
}
