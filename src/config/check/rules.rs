//! `workloads.N.rules`: what a workload may ask for.
//!
//! Pure.

use super::super::reader::{Leaf, Map};
use super::{
    Context, audit,
    calls::{self, Calls},
    forwards, glass, group,
};
use crate::{
    approval, broker,
    keeper::{self, Kind},
    listener::Limits,
    name::{ApprovalName, RuleName, SecretName},
    peer::{level::Level, process::Support},
    policy::{
        forward::{ForwardRule, Operation},
        pattern::Path,
        rule::{AuditMode, Rule},
        upstream::CallRule,
    },
};
use std::collections::BTreeSet;

/// What the rules of one workload are read by.
pub(super) struct Around<'a> {
    pub(super) mode: AuditMode,
    pub(super) limits: Option<&'a Limits>,
    pub(super) level: Option<Level>,
    pub(super) secrets: Option<&'a [keeper::Settings]>,
    pub(super) upstreams: Option<&'a [broker::Settings]>,
    pub(super) approvals: Option<&'a [approval::Settings]>,
}

/// The rules of one workload, by what they are about, each in the order of the config.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) rules: Vec<Rule>,
    pub(super) forwards: Vec<ForwardRule>,
    pub(super) calls: Vec<CallRule>,
}

/// What a rule is about.
enum Subject {
    Secrets(Vec<SecretName>),
    Vault(forwards::Part),
    Calls(Calls),
}

/// All of them.
pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>, around: &Around<'_>) -> Option<Rules> {
    let mut names = BTreeSet::new();
    let leaves = leaf.list()?;
    let read: Vec<Option<(Rule, Subject)>> =
        leaves.iter().map(|leaf| rule(leaf, context, around, &mut names)).collect();
    let (mut rules, mut parts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for (leaf, read) in leaves.iter().zip(read) {
        match read? {
            (rule, Subject::Secrets(secrets)) => rules.push(Rule { secrets, ..rule }),
            (rule, Subject::Vault(part)) => parts.push((leaf, rule, part)),
            (rule, Subject::Calls(of)) => calls.push((leaf, rule, of)),
        }
    }
    let forward = |(leaf, rule, part): (_, _, forwards::Part)| part.of(leaf, rule, &rules, context);
    let forwards: Vec<Option<ForwardRule>> = parts.into_iter().map(forward).collect();
    let forwards: Vec<ForwardRule> = forwards.into_iter().collect::<Option<_>>()?;
    bypassed(leaf, (&rules, &forwards), around);
    for (leaf, rule, of) in calls.iter().filter(|(_, _, of)| !of.also_readable) {
        for secret in of.secrets() {
            readable(leaf, (rule, secret), (&rules, &forwards), around);
        }
    }
    let calls = calls.into_iter().map(|(_, rule, of): (_, _, Calls)| of.of(rule)).collect();
    Some(Rules { rules, forwards, calls })
}

/// Who may read a key need not use it without holding it.
fn readable(
    leaf: &Leaf<'_>,
    (rule, secret): (&Rule, &SecretName),
    (rules, forwards): (&[Rule], &[ForwardRule]),
    around: &Around<'_>,
) {
    let gives = gives(secret, (rules, forwards), around, |_| true);
    if let Some(other) = gives {
        leaf.problem(
            format!(
                "{} uses the secret {secret}, which the rule {} lets this workload read",
                rule.name, other.name
            ),
            "take it out of that rule, or write also_readable: true here if that is meant",
        );
    }
}

/// A rule by which the workload reads `secret`, among those that count.
fn gives<'a>(
    secret: &SecretName,
    (rules, forwards): (&'a [Rule], &'a [ForwardRule]),
    around: &Around<'_>,
    counts: impl Fn(&Rule) -> bool,
) -> Option<&'a Rule> {
    let settings = around.secrets.and_then(|secrets| secrets.iter().find(|found| found.name == *secret));
    let places = settings.map(places).unwrap_or_default();
    let reads = |forward: &&ForwardRule| {
        counts(&forward.rule)
            && forward
                .operations
                .iter()
                .any(|operation| matches!(operation, Operation::Read | Operation::Write))
            && places.iter().any(|place| forward.paths.iter().any(|pattern| pattern.matches(place)))
    };
    let gives = rules.iter().find(|other| counts(other) && other.secrets.contains(secret));
    gives.or_else(|| forwards.iter().find(reads).map(|forward| &forward.rule))
}

/// What needs a person's yes by one rule is not had without it by another.
fn bypassed(leaf: &Leaf<'_>, (rules, forwards): (&[Rule], &[ForwardRule]), around: &Around<'_>) {
    for rule in rules.iter().filter(|rule| rule.approval.is_some()) {
        for secret in &rule.secrets {
            let passes = |other: &Rule| other.approval.is_none() && other.break_glass.is_none();
            if let Some(other) = gives(secret, (rules, forwards), around, passes) {
                leaf.problem(
                    format!(
                        "{secret} needs a person's yes by the rule {}, and none by the rule {}",
                        rule.name, other.name
                    ),
                    "take it out of one of them, or write the approval in both",
                );
            }
        }
    }
}

/// Where in Vault's API a secret is read. Which of its first segments are the mount of an engine that keeps versions is not known:
/// each may be.
fn places(secret: &keeper::Settings) -> Vec<Path> {
    let path = match &secret.kind {
        Kind::Kv { path, .. } | Kind::Lease { path, .. } | Kind::Certificate { path, .. } => path,
        Kind::Token { .. } => return Vec::new(),
    };
    let with_data = path.match_indices('/').map(|(at, _)| {
        let (mount, rest) = path.split_at(at);
        format!("{mount}/data{rest}")
    });
    std::iter::once(path.clone()).chain(with_data).filter_map(|path| Path::parse(&path).ok()).collect()
}

fn rule(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    around: &Around<'_>,
    names: &mut BTreeSet<RuleName>,
) -> Option<(Rule, Subject)> {
    let Around { mode, limits, level, .. } = *around;
    let mut map = leaf.map()?;
    let name = map.need("name", "what events call this rule", |leaf| {
        let name = leaf.name(RuleName::new)?;
        if !names.insert(name.clone()) {
            leaf.problem(format!("\"{name}\" is used twice"), "names are unique in a workload");
            return None;
        }
        Some(name)
    });
    let subject = subject(&mut map, context, level, around.upstreams);
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
    let approval = map.given("approval", |leaf| leaf.refers(&context.approvals, ApprovalName::new));
    let glass = glass::read(&mut map, context, around.approvals);
    map.finish();
    let rule = Rule {
        name: name?,
        secrets: Vec::new(),
        audit: audit?,
        requests_per_second: rate?,
        approval: approval?,
        break_glass: None,
    };
    let subject = subject?;
    let part = if let Subject::Vault(part) = &subject { Some(part) } else { None };
    group::fits(leaf, &rule, part, context)?;
    let rule = match glass? {
        Some(glass) => {
            let child = match &subject {
                Subject::Vault(part) => part.child_ttl(),
                Subject::Secrets(_) | Subject::Calls(_) => None,
            };
            glass.before(rule, mode, child)?
        }
        None => rule,
    };
    Some((rule, subject))
}

/// What the rule is about: one of `secrets`, `vault` and `upstream`.
fn subject(
    map: &mut Map<'_>,
    context: &Context<'_>,
    level: Option<Level>,
    upstreams: Option<&[broker::Settings]>,
) -> Option<Subject> {
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
    let calls = match &upstream {
        Some(leaf) => Some(calls::read(leaf, map, context, upstreams)),
        None => {
            not_of_calls(map);
            None
        }
    };
    match [&secrets, &vault, &upstream].into_iter().flatten().count() {
        0 => map.leaf().problem("a rule without a subject", "write secrets: [NAME]"),
        1 => {}
        _ => map
            .leaf()
            .problem("a rule with more than one of secrets, vault and upstream", "make a rule of each"),
    }
    // What is wrong becomes no rule; its problem was written down.
    match (read, forwards, calls) {
        (Some(secrets), ..) => secrets.map(Subject::Secrets),
        (None, Some(forwards), _) => forwards.map(Subject::Vault),
        (None, None, calls) => calls?.map(Subject::Calls),
    }
}

/// Keys that say something of calls, where there are none.
fn not_of_calls(map: &mut Map<'_>) {
    for key in ["methods", "paths", "query", "calls_per_day", "also_readable"] {
        if let Some(leaf) = map.find(key) {
            leaf.problem(format!("{key} in a rule without `upstream`"), "write upstream: NAME, or remove it");
        }
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
