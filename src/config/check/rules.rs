//! `workloads.N.rules`: what a workload may ask for.
//!
//! Pure. The parts of a rule that are not built yet are read for their shape and refused.

use super::super::reader::{Leaf, Map};
use super::{
    Context, audit,
    calls::{self, Calls},
};
use crate::{
    broker,
    listener::Limits,
    name::{NotAName, RuleName, SecretName},
    peer::{level::Level, process::Support},
    policy::{
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
    pub(super) upstreams: Option<&'a [broker::Settings]>,
}

/// What a rule is about.
enum Subject {
    Secrets(Vec<SecretName>),
    Calls(Calls),
}

/// Rules for secrets, and rules for calls.
pub(super) fn read(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    around: &Around<'_>,
) -> Option<(Vec<Rule>, Vec<CallRule>)> {
    let mut names = BTreeSet::new();
    let leaves = leaf.list()?;
    let read: Vec<Option<(Rule, Option<Calls>)>> =
        leaves.iter().map(|leaf| rule(leaf, context, around, &mut names)).collect();
    readable(&leaves, &read);
    let (mut rules, mut calls) = (Vec::new(), Vec::new());
    for read in read {
        match read? {
            (rule, None) => rules.push(rule),
            (rule, Some(of)) => calls.push(of.of(rule)),
        }
    }
    Some((rules, calls))
}

/// Who may read a key need not use it without holding it.
fn readable(leaves: &[Leaf<'_>], read: &[Option<(Rule, Option<Calls>)>]) {
    for (leaf, (rule, calls)) in
        leaves.iter().zip(read).filter_map(|(leaf, read)| Some((leaf, read.as_ref()?)))
    {
        let Some(calls) = calls.as_ref().filter(|calls| !calls.also_readable) else { continue };
        let reads = |(other, _): &&(Rule, Option<Calls>)| other.secrets.contains(calls.secret());
        if let Some((other, _)) = read.iter().flatten().find(reads) {
            leaf.problem(
                format!(
                    "{} uses the secret {}, which the rule {} lets this workload read",
                    rule.name,
                    calls.secret(),
                    other.name
                ),
                "take it out of that rule, or write also_readable: true here if that is meant",
            );
        }
    }
}

fn rule(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    around: &Around<'_>,
    names: &mut BTreeSet<RuleName>,
) -> Option<(Rule, Option<Calls>)> {
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
    unbuilt(&mut map, context);
    map.finish();
    let (secrets, calls) = match subject? {
        Subject::Secrets(secrets) => (secrets, None),
        Subject::Calls(calls) => (Vec::new(), Some(calls)),
    };
    Some((Rule { name: name?, secrets, audit: audit?, requests_per_second: rate? }, calls))
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
    if let Some(leaf) = &vault {
        leaf.not_built("rules with `vault`");
        paths_of_vault(leaf);
    }
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
    // None of what is not built becomes a rule; its problem was written down.
    read.map(|read| read.map(Subject::Secrets)).or(calls.map(|calls| calls.map(Subject::Calls)))?
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

fn paths_of_vault(leaf: &Leaf<'_>) {
    let Some(mut map) = leaf.map() else { return };
    let _ = map.need("paths", "[\"secret/data/reports/+\"]", |leaf| leaf.each(Leaf::text));
    let _ = map.given("methods", |leaf| {
        leaf.each(|leaf| {
            leaf.word(&["GET", "LIST", "POST", "PUT", "PATCH", "DELETE", "HEAD"].map(|method| (method, ())))
        })
    });
    let _ = map.given("namespace", Leaf::text);
    let _ = map.find("cache");
    map.finish();
}

fn unbuilt(map: &mut Map<'_>, context: &Context<'_>) {
    if let Some(leaf) = map.find("approval") {
        leaf.not_built("approvals");
        let _ = leaf.refers(&context.approvals, any_name);
    }
}

/// The name of a thing that has no type yet.
fn any_name(text: &str) -> Result<(), NotAName> {
    SecretName::new(text).map(|_| ())
}
