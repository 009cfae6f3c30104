//! `workloads.N.rules`: what a workload may ask for.
//!
//! Pure. The parts of a rule that are not built yet are read for their shape and refused.

use super::super::reader::{Leaf, Map};
use super::{Context, audit, forwards};
use crate::{
    listener::Limits,
    name::{NotAName, RuleName, SecretName},
    peer::{level::Level, process::Support},
    policy::{
        forward::ForwardRule,
        rule::{AuditMode, Rule},
    },
};
use std::collections::BTreeSet;

pub(super) fn read(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    mode: AuditMode,
    limits: Option<&Limits>,
    level: Option<Level>,
) -> Option<(Vec<Rule>, Vec<ForwardRule>)> {
    let mut names = BTreeSet::new();
    let leaves = leaf.list()?;
    let read: Vec<Option<(Rule, Subject)>> =
        leaves.iter().map(|leaf| rule(leaf, context, mode, limits, level, &mut names)).collect();
    let (mut rules, mut parts) = (Vec::new(), Vec::new());
    for (leaf, read) in leaves.iter().zip(read) {
        match read? {
            (rule, Subject::Secrets(secrets)) => rules.push(Rule { secrets, ..rule }),
            (rule, Subject::Vault(part)) => parts.push((leaf, rule, part)),
        }
    }
    let forward = |(leaf, rule, part): (_, _, forwards::Part)| part.of(leaf, rule, &rules, context);
    let forwards: Vec<Option<ForwardRule>> = parts.into_iter().map(forward).collect();
    Some((rules, forwards.into_iter().collect::<Option<_>>()?))
}

/// What a rule is about.
enum Subject {
    Secrets(Vec<SecretName>),
    Vault(forwards::Part),
}

fn rule(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    mode: AuditMode,
    limits: Option<&Limits>,
    level: Option<Level>,
    names: &mut BTreeSet<RuleName>,
) -> Option<(Rule, Subject)> {
    let mut map = leaf.map()?;
    let name = map.need("name", "what events call this rule", |leaf| {
        let name = leaf.name(RuleName::new)?;
        if !names.insert(name.clone()) {
            leaf.problem(format!("\"{name}\" is used twice"), "names are unique in a workload");
            return None;
        }
        Some(name)
    });
    let subject = subject(&mut map, context, level);
    let audit = map.given("audit", |leaf| {
        let asked = audit::mode(leaf)?;
        if asked < mode {
            leaf.problem(
                format!("{} is weaker than audit.mode, which is {}", asked.word(), mode.word()),
                "a rule can only ask for more: remove it",
            );
            return None;
        }
        Some(asked)
    });
    let rate = map.given("requests_per_second", |leaf| {
        let rate: u32 = leaf.whole(1..=1_000_000)?;
        if limits.is_some_and(|limits| rate > limits.requests_per_second) {
            leaf.warn(
                "more than the workload's limits.requests_per_second",
                "the smaller of the two counts: lower it",
            );
        }
        Some(rate)
    });
    unbuilt(&mut map, context);
    map.finish();
    let rule = Rule { name: name?, secrets: Vec::new(), audit: audit?, requests_per_second: rate? };
    Some((rule, subject?))
}

/// What the rule is about: one of `secrets`, `vault` and `upstream`.
fn subject(map: &mut Map<'_>, context: &Context<'_>, level: Option<Level>) -> Option<Subject> {
    let secrets = map.find("secrets");
    let vault = map.find("vault");
    let upstream = map.find("upstream");
    let read = secrets.as_ref().map(|leaf| {
        let names = leaf.each(|leaf| {
            let name = leaf.refers(&context.secrets, SecretName::new)?;
            if let Some(level) = level.filter(|level| *level < Level::Process)
                && context.own.contains(name.as_str())
            {
                no_process(leaf, &name, level, &context.environment.process);
                return None;
            }
            Some(name)
        })?;
        if names.is_empty() {
            leaf.problem("an empty list", "name at least one secret, or remove the rule");
            return None;
        }
        Some(names)
    });
    let forwards = vault.as_ref().map(|leaf| forwards::read(leaf, context));
    if let Some(leaf) = &upstream {
        leaf.not_built("rules with `upstream`");
        let _ = leaf.refers(&context.upstreams, any_name);
        let _ = map.given("methods", |leaf| leaf.each(Leaf::text));
        let _ = map.given("paths", |leaf| leaf.each(Leaf::text));
        let _ = map.find("query");
    }
    match [&secrets, &vault, &upstream].into_iter().flatten().count() {
        0 => map.leaf().problem("a rule without a subject", "write secrets: [NAME]"),
        1 => {}
        _ => map
            .leaf()
            .problem("a rule with more than one of secrets, vault and upstream", "make a rule of each"),
    }
    // None of what is not built becomes a rule; its problem was written down.
    match (read, forwards) {
        (Some(secrets), _) => secrets.map(Subject::Secrets),
        (None, forwards) => forwards?.map(Subject::Vault),
    }
}

/// A token for each process, where the peer's level names no process.
fn no_process(leaf: &Leaf<'_>, name: &SecretName, level: Level, support: &Support) {
    let right = match support {
        Support::Lacking(what) => format!(
            "run on Linux 6.9 or later, since this kernel lacks {what}, or remove per_process: one token then serves the \
             workload"
        ),
        _ => "write level: process in the workload's peer, or remove per_process: one token then serves the workload"
            .to_owned(),
    };
    leaf.problem(format!("{name} is a token for each process, and level {level} names no process"), &right);
}

fn unbuilt(map: &mut Map<'_>, context: &Context<'_>) {
    if let Some(leaf) = map.find("approval") {
        leaf.not_built("approvals");
        let _ = leaf.refers(&context.approvals, any_name);
    }
    if let Some(leaf) = map.find("calls_per_day") {
        leaf.not_built("calls_per_day");
        let _ = leaf.whole(1..=u64::MAX);
    }
    if let Some(leaf) = map.find("also_readable")
        && leaf.flag() == Some(true)
    {
        leaf.not_built("also_readable");
    }
}

/// The name of a thing that has no type yet.
fn any_name(text: &str) -> Result<(), NotAName> {
    SecretName::new(text).map(|_| ())
}
