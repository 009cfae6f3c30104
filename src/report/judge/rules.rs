//! Rules against use: KA001, KA002, KA003. Pure.
//!
//! A rule is judged once it is known to be older than the period, and only by a record that reaches as far back.

use super::{Facts, Findings, each_rule, some};
use crate::{
    report::{
        acl::{is_pattern, matches},
        finding::{Finding, Fix, Id},
        subject::{Forward, Rule},
    },
    usage::{Entry, told::Capability},
};
use std::collections::BTreeSet;

/// As many used paths are few enough to be written out.
const FEW: usize = 10;

pub(super) fn judge(facts: &Facts<'_>, findings: &mut Findings) {
    for (workload, rule) in each_rule(facts).filter(|(_, rule)| !rule.is_for_emergencies) {
        let about = format!("workloads.{workload}.rules.{}", rule.name);
        if !facts.is_old(workload, &rule.name) {
            let known = facts.known(workload, &rule.name);
            let known = known
                .map_or("no record names it".to_owned(), |known| format!("it is known since {known:.0}"));
            for id in [Id::UNUSED_RULE, Id::UNUSED_CAPABILITY, Id::WIDE_WILDCARD] {
                findings.cannot(
                    id,
                    format!("{about}: {known}, which is less than the period of {} days", facts.days),
                );
            }
            continue;
        }
        let used: Vec<&Entry> = facts.used(workload, &rule.name).collect();
        if used.is_empty() {
            findings.add(unused(facts, workload, rule, about));
        } else if let Some(forward) = &rule.forward {
            capabilities(facts, forward, &used, &about, findings);
            wildcards(facts, forward, &used, &about, findings);
        }
    }
}

fn unused(facts: &Facts<'_>, workload: &str, rule: &Rule, about: String) -> Finding {
    let ever = facts.rows(workload, &rule.name).filter(|entry| entry.had() > 0);
    let last = ever.map(|entry| entry.last).max();
    let known = facts.known(workload, &rule.name).unwrap_or(facts.since);
    let evidence = vec![
        format!("in the config since {known:.0} or before"),
        last.map_or("never used in the record".to_owned(), |last| format!("last used {last:.0}")),
    ];
    let fix = Fix::text(format!("Remove the rule {} from workloads.{workload}.rules.", rule.name));
    let count = rule.forward.as_ref().map_or(rule.secrets.len(), |forward| forward.paths.len());
    Finding { last, unused: Some(count), ..Finding::new(Id::UNUSED_RULE, about, evidence, fix) }
}

/// What HTTP calls it in the config.
fn method(operation: Capability) -> &'static str {
    match operation {
        Capability::Read => "GET",
        Capability::List => "LIST",
        Capability::Write => "POST",
        Capability::Patch => "PATCH",
        Capability::Delete => "DELETE",
    }
}

fn capabilities(facts: &Facts<'_>, forward: &Forward, used: &[&Entry], about: &str, findings: &mut Findings) {
    let done: BTreeSet<Capability> = used.iter().map(|entry| entry.capability).collect();
    let unused: Vec<Capability> =
        forward.operations.iter().copied().filter(|one| !done.contains(one)).collect();
    // Reading is the least that there is.
    if unused.iter().all(|one| *one == Capability::Read) {
        return;
    }
    let words = |list: &mut dyn Iterator<Item = Capability>| list.map(method).collect::<Vec<_>>().join(", ");
    let evidence = vec![
        format!("granted: {}", words(&mut forward.operations.iter().copied())),
        format!("used in {} days: {}", facts.days, words(&mut done.iter().copied())),
    ];
    let fix = Fix::text("Grant the methods that are used.")
        .code("yaml", format!("methods: [{}]", words(&mut done.iter().copied())));
    let last = used.iter().map(|entry| entry.last).max();
    let finding = Finding::new(Id::UNUSED_CAPABILITY, about, evidence, fix);
    findings.add(Finding { last, unused: Some(unused.len()), ..finding });
}

fn wildcards(facts: &Facts<'_>, forward: &Forward, used: &[&Entry], about: &str, findings: &mut Findings) {
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    let mut evidence = Vec::new();
    for pattern in &forward.paths {
        let paths =
            used.iter().filter_map(|entry| entry.path.as_deref()).filter(|path| matches(pattern, path));
        let paths: BTreeSet<&str> = paths.collect();
        if !is_pattern(pattern) || paths.is_empty() || paths.len() > FEW {
            kept.insert(pattern);
            continue;
        }
        let list = some(paths.iter().map(|path| (*path).to_owned()), FEW).join(", ");
        evidence.push(format!("{pattern}: used in {} days: {list}", facts.days));
        kept.extend(paths);
    }
    if evidence.is_empty() {
        return;
    }
    let list = kept.iter().map(|path| format!("\"{path}\"")).collect::<Vec<_>>().join(", ");
    let fix = Fix::text(format!(
        "Write out the paths that are used; the least policy of {} in this report names each of them too.",
        forward.identity
    ))
    .code("yaml", format!("paths: [{list}]"));
    let last = used.iter().map(|entry| entry.last).max();
    findings.add(Finding { last, ..Finding::new(Id::WIDE_WILDCARD, about, evidence, fix) });
}
