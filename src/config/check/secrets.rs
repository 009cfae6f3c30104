//! `secrets`: what is kept fresh.
//!
//! Pure. Does not know whether Vault has it.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, seconds, vault_path};
use crate::{
    keeper::{Kind, LeaseRequest, Settings},
    name::{IdentityName, SecretName},
};
use std::time::Duration;

#[derive(Clone, Copy)]
enum Word {
    Kv,
    Lease,
    Token,
    Certificate,
}

const KINDS: [(&str, Word); 4] =
    [("kv", Word::Kv), ("lease", Word::Lease), ("token", Word::Token), ("certificate", Word::Certificate)];

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Vec<Settings>> {
    let read: Vec<Option<Settings>> =
        leaf.named(SecretName::new)?.into_iter().map(|(name, leaf)| secret(name, &leaf, context)).collect();
    read.into_iter().collect()
}

fn secret(name: SecretName, leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let identity = map.need("identity", "the name of one of identities", |leaf| {
        leaf.refers(&context.identities, IdentityName::new)
    });
    let word = map.need("kind", "kv, lease, token or certificate", |leaf| leaf.word(&KINDS));
    let grace = map.or("grace", Duration::from_secs(60), |leaf| leaf.duration(seconds(0, 30 * DAY)));
    // Which keys are known depends on the kind: without one, none is called unknown.
    let kind = match word? {
        Word::Kv => kv(&mut map),
        Word::Lease => lease(&mut map),
        Word::Token => token(&mut map),
        Word::Certificate => certificate(&mut map),
    };
    map.finish();
    Some(Settings { name, identity: identity?, kind: kind?, grace: grace? })
}

fn kv(map: &mut Map<'_>) -> Option<Kind> {
    let path = map.need("path", "MOUNT/PATH, as in secret/payments/stripe", |leaf| {
        let path = vault_path(leaf)?;
        if path.split('/').nth(1) == Some("data") {
            leaf.warn(
                "the path's second segment is data",
                "leave it out, unless a folder has that name: how the engine is asked is found out by itself",
            );
        }
        Some(path)
    });
    let field = map.given("field", Leaf::text);
    let refresh = map.or("refresh", Duration::from_secs(60), |leaf| leaf.duration(seconds(1, 30 * DAY)));
    let max_stale = map.or("max_stale", Duration::from_secs(600), |leaf| {
        let max_stale = leaf.duration(seconds(1, 365 * DAY))?;
        if refresh.is_some_and(|refresh| max_stale < refresh) {
            leaf.warn(
                "max_stale is shorter than refresh: the value ends before it is looked at again",
                "make it at least twice refresh",
            );
        }
        Some(max_stale)
    });
    let version = map.given("version", |leaf| leaf.whole(1..=u64::MAX));
    Some(Kind::Kv { path: path?, field: field?, refresh: refresh?, max_stale: max_stale?, version: version? })
}

fn lease(map: &mut Map<'_>) -> Option<Kind> {
    #[derive(Clone, Copy)]
    enum Verb {
        Get,
        Post,
    }
    let path = map.need("path", "database/creds/app", vault_path);
    let params = map.given("params", params);
    let verb = map.given("method", |leaf| {
        let verb = leaf.word(&[("GET", Verb::Get), ("POST", Verb::Post)])?;
        if matches!((verb, &params), (Verb::Get, Some(Some(params))) if !params.is_empty()) {
            leaf.problem("GET with params: a plain read takes none", "write POST, or remove params");
            return None;
        }
        Some(verb)
    });
    let request = match (params?, verb?) {
        (Some(params), Some(Verb::Post)) => LeaseRequest::Post(params),
        (Some(params), None) if !params.is_empty() => LeaseRequest::Post(params),
        (None, Some(Verb::Post)) => LeaseRequest::Post(serde_json::Map::new()),
        _ => LeaseRequest::Get,
    };
    Some(Kind::Lease { path: path?, request })
}

fn token(map: &mut Map<'_>) -> Option<Kind> {
    let policies = map.need("policies", "[ci-read]", |leaf| {
        let policies = leaf.each(Leaf::text)?;
        if policies.is_empty() {
            leaf.problem("an empty list", "write at least one policy");
            return None;
        }
        Some(policies)
    });
    // Renewal begins at two thirds, and Vault counts whole seconds: less would be a loop of logins.
    let ttl = map.or("ttl", Duration::from_secs(900), |leaf| leaf.duration(seconds(30, 365 * DAY)));
    let uses = map.or("uses", 0, |leaf| leaf.whole(0..=u32::MAX));
    let role = map.given("role", |leaf| {
        let role = leaf.text()?;
        // It is the last segment of the path that makes the token.
        if role.contains('/') || role == "." || role == ".." {
            leaf.problem("not the name of a token role", "write the role of auth/token/roles/ROLE");
            return None;
        }
        Some(role)
    });
    // Whether whoever may ask for it is known as a process is for `rules`.
    let per_process = map.or("per_process", false, Leaf::flag);
    let no_default_policy = map.or("no_default_policy", true, Leaf::flag);
    Some(Kind::Token {
        policies: policies?,
        ttl: ttl?,
        uses: uses?,
        role: role?,
        per_process: per_process?,
        no_default_policy: no_default_policy?,
    })
}

fn certificate(map: &mut Map<'_>) -> Option<Kind> {
    let path = map.need("path", "pki/issue/web", vault_path);
    let params = map.given("params", params);
    let renew_at = map.or("renew_at", 0.66, |leaf| leaf.share(0.1..=0.95));
    Some(Kind::Certificate { path: path?, params: params?.unwrap_or_default(), renew_at: renew_at? })
}

fn params(leaf: &Leaf<'_>) -> Option<serde_json::Map<String, serde_json::Value>> {
    // Asked first, for the words: any JSON would do for `json`.
    leaf.map()?;
    match leaf.json()? {
        serde_json::Value::Object(params) => Some(params),
        _ => None,
    }
}
