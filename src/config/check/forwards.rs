//! `vault` in a rule: which part of Vault's own API a workload may use.
//!
//! Pure. Refuses what no rule can allow, so that nobody believes that it is allowed.

use super::super::reader::Leaf;
use super::Context;
use crate::{
    name::IdentityName,
    policy::{
        forward::{ForwardRule, Operation, is_never},
        pattern::Pattern,
        rule::Rule,
    },
};
use std::collections::BTreeSet;

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
}

impl Part {
    /// The whole of it. An identity that is not named is the only one of the config, or of the secrets that the workload may read.
    pub(super) fn of(
        self,
        leaf: &Leaf<'_>,
        rule: Rule,
        others: &[Rule],
        context: &Context<'_>,
    ) -> Option<ForwardRule> {
        let Self { identity, paths, operations, namespace } = self;
        let identity = match identity {
            Some(identity) => identity,
            None => only(leaf, others, context)?,
        };
        Some(ForwardRule { rule, identity, paths, operations, namespace })
    }
}

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Part> {
    let mut map = leaf.map()?;
    let identity = map.given("identity", |leaf| leaf.refers(&context.identities, IdentityName::new));
    let paths = map.need("paths", "[\"secret/data/reports/+\"]", |leaf| some(leaf, leaf.each(pattern)?));
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
    if let Some(leaf) = map.find("cache")
        && leaf.word(&[("off", false), ("leases", true), ("kv", true)]) == Some(true)
    {
        leaf.not_built("cache");
    }
    map.finish();
    let usual = context.namespace.map(|text| text.trim_matches('/').to_owned());
    let namespace = namespace?.or(usual).filter(|text| !text.is_empty());
    Some(Part { identity: identity?, paths: paths?, operations: methods?, namespace })
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
