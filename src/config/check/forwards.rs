//! `vault` in a rule: which part of Vault's own API a workload may use.
//!
//! Pure. Refuses what no rule can allow, so that nobody believes that it is allowed.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, seconds};
use crate::{
    name::IdentityName,
    policy::{
        child::ChildTerms,
        forward::{Cache, Control, ForwardRule, Operation, is_never},
        pattern::Pattern,
        rule::Rule,
    },
};
use std::{collections::BTreeSet, time::Duration};

const MIB: u64 = 1024 * 1024;

const METHODS: [(&str, Operation); 7] = [
    ("GET", Operation::Read),
    ("HEAD", Operation::Read),
    ("LIST", Operation::List),
    ("POST", Operation::Write),
    ("PUT", Operation::Write),
    ("PATCH", Operation::Patch),
    ("DELETE", Operation::Delete),
];

/// Such a rule without what all rules have.
pub(super) struct Part {
    identity: Option<IdentityName>,
    paths: Vec<Pattern>,
    operations: Vec<Operation>,
    namespace: Option<String>,
    tokens: Option<ChildTerms>,
    cache: Cache,
    controls: Vec<Control>,
    max_request: u64,
    wrap: Option<Duration>,
}

impl Part {
    /// Whether its answers may be wrapped.
    pub(super) fn is_wrapped(&self) -> bool {
        self.wrap.is_some()
    }

    /// Whether its answers may be given again.
    pub(super) fn is_cached(&self) -> bool {
        self.cache != Cache::Off
    }

    /// How long the child tokens may live that it allows, if it allows any.
    pub(super) fn child_ttl(&self) -> Option<Duration> {
        self.tokens.as_ref().map(|terms| terms.ttl)
    }

    /// The whole of it. An identity that is not named is the only one of the config, or of the secrets that the workload may read.
    pub(super) fn of(
        self,
        leaf: &Leaf<'_>,
        rule: Rule,
        others: &[Rule],
        context: &Context<'_>,
    ) -> Option<ForwardRule> {
        let Self { identity, paths, operations, namespace, tokens, cache, controls, max_request, wrap } =
            self;
        let identity = match identity {
            Some(identity) => identity,
            None => only(leaf, others, context)?,
        };
        Some(ForwardRule {
            rule,
            identity,
            paths,
            operations,
            namespace,
            tokens,
            cache,
            controls,
            max_request,
            wrap,
        })
    }
}

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Part> {
    let mut map = leaf.map()?;
    let identity = map.given("identity", |leaf| leaf.refers(&context.identities, IdentityName::new));
    let tokens = map.find("tokens");
    let read = |leaf: &Leaf<'_>| some(leaf, leaf.each(pattern)?);
    let words = [("cache-clear", Control::Clear), ("metrics", Control::Metrics)];
    let controls = map.find("control");
    let paths = match (&tokens, &controls) {
        // It may be about these alone.
        (Some(_), _) | (_, Some(_)) => map.or("paths", Vec::new(), read),
        (None, None) => map.need("paths", "[\"secret/data/reports/+\"]", read),
    };
    let methods =
        map.or("methods", vec![Operation::Read], |leaf| some(leaf, leaf.each(|leaf| leaf.word(&METHODS))?));
    let namespace = map.given("namespace", |leaf| {
        let text = leaf.text()?;
        let trimmed = text.trim_matches('/');
        if trimmed.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            leaf.problem("no namespace", "write its whole path, as in platform/team");
            return None;
        }
        Some(trimmed.to_owned())
    });
    let cache = cache(&mut map);
    // Vault's own limit of a request, by default.
    let max_request = map.or("max_request", 32 * MIB, |leaf| leaf.size(1..=64 * 1024 * MIB));
    let wrap = map.given("wrap", |leaf| {
        if cache.is_some_and(|cache| cache != Cache::Off) {
            leaf.problem("wrap beside cache: what is wrapped is for one taker", "remove one of them");
            return None;
        }
        leaf.duration(seconds(1, DAY))
    });
    let controls = match &controls {
        Some(leaf) => leaf.each(|leaf| leaf.word(&words)).and_then(|words| some(leaf, words)),
        None => Some(Vec::new()),
    };
    map.finish();
    let tokens = match &tokens {
        Some(leaf) => Some(terms(leaf)?),
        None => None,
    };
    let usual = context.namespace.map(|text| text.trim_matches('/').to_owned());
    let namespace = namespace?.or(usual).filter(|text| !text.is_empty());
    Some(Part {
        identity: identity?,
        paths: paths?,
        operations: methods?,
        namespace,
        tokens,
        cache: cache?,
        controls: controls?,
        max_request: max_request?,
        wrap: wrap?,
    })
}

/// `cache`, and with `kv` how long.
fn cache(map: &mut Map<'_>) -> Option<Cache> {
    const USUAL: Duration = Duration::from_secs(60);
    let words = [("off", Cache::Off), ("leases", Cache::Leases), ("kv", Cache::Kv(USUAL))];
    let cache = map.or("cache", Cache::Off, |leaf| leaf.word(&words));
    let time = map.given("cache_for", |leaf| {
        if cache.is_some_and(|cache| !matches!(cache, Cache::Kv(_))) {
            leaf.problem("a time for what is not held by time", "write cache: kv, or remove it");
            return None;
        }
        leaf.duration(seconds(1, 3600))
    });
    Some(match (cache?, time?) {
        (Cache::Kv(_), Some(time)) => Cache::Kv(time),
        (cache, _) => cache,
    })
}

/// `tokens`: what child tokens may be, at most.
fn terms(leaf: &Leaf<'_>) -> Option<ChildTerms> {
    let mut map = leaf.map()?;
    let policies = map.need("policies", "[ci-read]", |leaf| {
        let policies = leaf.each(|leaf| {
            let policy = leaf.text()?.trim().to_lowercase();
            if policy == "root" || policy.is_empty() {
                leaf.problem("a policy that no child token can have", "name the policies that it needs");
                return None;
            }
            Some(policy)
        })?;
        some(leaf, policies)
    });
    let ttl = map.or("ttl", Duration::from_secs(900), |leaf| leaf.duration(seconds(1, 365 * DAY)));
    let uses = map.or("uses", 0, |leaf| leaf.whole(0..=u32::MAX));
    let role = map.given("role", |leaf| {
        let role = leaf.text()?;
        // It is the last segment of the path that makes the token.
        if role.is_empty() || role.contains('/') || role == "." || role == ".." {
            leaf.problem("not the name of a token role", "write the role of auth/token/roles/ROLE");
            return None;
        }
        Some(role)
    });
    map.finish();
    Some(ChildTerms { policies: policies?, ttl: ttl?, uses: uses?, role: role? })
}

fn only(leaf: &Leaf<'_>, others: &[Rule], context: &Context<'_>) -> Option<IdentityName> {
    let secrets = others.iter().flat_map(|rule| &rule.secrets);
    let of_secrets: BTreeSet<&str> =
        secrets.filter_map(|secret| context.identity_of.get(secret.as_str()).copied()).collect();
    let name = match (context.only_identity, of_secrets.first()) {
        (Some(name), _) => name,
        (None, Some(name)) if of_secrets.len() == 1 => name,
        _ => {
            leaf.problem(
                "a rule with vault whose identity is not clear",
                "write identity: NAME in its vault",
            );
            return None;
        }
    };
    context.identities.uses(name);
    // A name that is none is a problem of its own.
    IdentityName::new(name).ok()
}

fn some<T>(leaf: &Leaf<'_>, list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() {
        leaf.problem("an empty list", "name at least one");
        return None;
    }
    Some(list)
}

fn pattern(leaf: &Leaf<'_>) -> Option<Pattern> {
    let text = leaf.text()?;
    let pattern = match Pattern::parse(&text) {
        Ok(pattern) => pattern,
        Err(malformed) => {
            leaf.problem(
                format!("no pattern: {malformed}"),
                "write it without /v1/ in front, + for one segment, * as the last one for any rest",
            );
            return None;
        }
    };
    if text.starts_with("v1/") {
        leaf.problem("a path with v1/ in front", "leave v1/ out");
        return None;
    }
    if ["*", "+"].contains(&text.split('/').next().unwrap_or_default()) {
        leaf.problem("a pattern that names no mount", "begin with the mount, as in secret/data/*");
        return None;
    }
    if text == "auth/token/create" || text.starts_with("auth/token/create/") {
        leaf.problem(
            "child tokens, without what they may be",
            "write tokens: {policies: [NAME], ttl: 15m} beside paths, and remove it here",
        );
        return None;
    }
    if is_never(text.trim_end_matches("/*")) && !is_partly_open(&text) {
        leaf.problem(
            "a path that is never sent on, since what is there could give out a token",
            "remove it; what a client asks about its own token is answered without a rule for it",
        );
        return None;
    }
    Some(pattern)
}

/// Folders of which some paths may be allowed.
fn is_partly_open(text: &str) -> bool {
    ["sys/*", "sys/internal/*", "sys/internal/ui/*"].contains(&text)
}
