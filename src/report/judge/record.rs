//! The record itself, and what it says of people: KA012 to KA015. Pure.

use super::{Facts, Findings, each_rule, grouped, some};
use crate::{
    clock::Timestamp,
    report::{
        finding::{Finding, Fix, Id},
        subject::{Rotation, Workload},
    },
    usage::{Entry, glass::Glass},
};

/// Refusals of one thing in a day that are a finding.
const RETRIED: u64 = 20;
const DAY: i64 = 24 * 3600;
/// Shown of a list.
const SHOWN: usize = 12;

pub(super) fn judge(facts: &Facts<'_>, findings: &mut Findings) {
    audit(facts, findings);
    retried(facts, findings);
    for workload in &facts.subject.workloads {
        unattributed(facts, workload, findings);
    }
    glass(facts, findings);
    disabled(facts, findings);
}

/// Rules for emergencies that nobody can use when the next one comes, since the last was not reviewed.
fn disabled(facts: &Facts<'_>, findings: &mut Findings) {
    for (rule, standing) in &facts.record.marks.behind_glass {
        let Some(since) = standing.is_disabled_since() else { continue };
        let why = standing.why.as_deref().unwrap_or("unknown");
        let evidence = vec![format!(
            "it disabled itself {since:.0}, since an emergency was not reviewed ({why}), and no event says that it holds again"
        )];
        let name = rule.rsplit('/').next().unwrap_or_default();
        let fix = Fix::text("Look at what was taken; then have persons say that the rule may hold again.")
            .code("sh", format!("claviger break-glass {name} --enable --reason … --ticket …"));
        let about = format!("workloads.{}", rule.replace('/', ".rules."));
        findings.add(Finding { last: Some(since), ..Finding::new(Id::GLASS, about, evidence, fix) });
    }
}

fn audit(facts: &Facts<'_>, findings: &mut Findings) {
    let audit = &facts.subject.audit;
    let mut evidence = Vec::new();
    let mut patch = Vec::new();
    if !audit.strict {
        evidence.push(format!("audit.mode is {}: a power cut or a full disk can lose events", audit.mode));
        patch.push("  mode: strict");
    }
    if !audit.remote {
        evidence
            .push("no sink is on another machine: who breaks into this one has the whole record".to_owned());
        patch.push("  sinks: {siem: {kind: http, url: \"https://siem.internal/claviger\", required: true}}");
    }
    if !audit.signed {
        evidence.push(
            "no checkpoints are signed: who has the agent's rights can write the record anew".to_owned(),
        );
        patch.push("  checkpoints: {signer: boot, identity: IDENTITY, key: transit/claviger, anchor: {mount: kv, path: audit}}");
    }
    if evidence.is_empty() {
        return;
    }
    let fix = Fix::text("Let events leave the machine, signed, before the value does.")
        .code("yaml", format!("audit:\n{}", patch.join("\n")));
    findings.add(Finding::new(Id::WEAK_AUDIT, "audit", evidence, fix));
}

fn retried(facts: &Facts<'_>, findings: &mut Findings) {
    let denied = facts.record.entries.iter().filter(|entry| entry.deny > 0 && entry.last >= facts.since);
    let what = |entry: &Entry| {
        entry.path.clone().or_else(|| entry.secret.clone()).or_else(|| entry.upstream.clone())
    };
    let by = grouped(denied, |entry| {
        let what = what(entry).unwrap_or_else(|| "a name that cannot be".to_owned());
        Some((entry.workload.as_str(), what, entry.capability, entry.exe))
    });
    for ((workload, what, capability, exe), entries) in by {
        let count: u64 = entries.iter().map(|entry| entry.deny).fold(0, u64::saturating_add);
        let first = entries.iter().map(|entry| entry.first).min().unwrap_or(facts.now);
        let last = entries.iter().map(|entry| entry.last).max().unwrap_or(facts.now);
        let days = u64::try_from(span(first, last)).unwrap_or(1);
        if count / days < RETRIED {
            continue;
        }
        let by = exe.map(|exe| format!(", asked by the program whose SHA-256 begins with {exe:016x}"));
        let evidence = vec![format!(
            "{} of {what} was refused {count} times from {first:.0} to {last:.0}{}",
            capability.word(),
            by.unwrap_or_default()
        )];
        let fix = Fix::text("If the workload needs it, write a rule; if nobody knows why it asks, find out.")
            .code(
                "yaml",
                format!(
                    "# in workloads.{workload}.rules, if it is meant\n- {{name: NAME, secrets: [SECRET]}}"
                ),
            );
        let finding = Finding::new(Id::RETRIED, format!("workloads.{workload}: {what}"), evidence, fix);
        findings.add(Finding { last: Some(last), ..finding });
    }
}

/// Days, from one on.
fn span(first: Timestamp, last: Timestamp) -> i64 {
    last.as_second().saturating_sub(first.as_second()).div_euclid(DAY).saturating_add(1)
}

fn unattributed(facts: &Facts<'_>, workload: &Workload, findings: &mut Findings) {
    let had = facts.record.entries.iter().filter(|entry| entry.workload == workload.name && entry.had() > 0);
    let had: Vec<&Entry> = had.filter(|entry| entry.last >= facts.since).collect();
    let count: u64 = had.iter().map(|entry| entry.had()).fold(0, u64::saturating_add);
    if count == 0 {
        return;
    }
    let mut evidence = Vec::new();
    if workload.uids.is_empty() {
        evidence.push(format!("{count} reads, and any user may connect"));
    }
    let others = facts.subject.workloads.iter().filter(|other| other.name != workload.name);
    let sharing = others.filter(|other| other.uids.iter().any(|uid| workload.uids.contains(uid)));
    let sharing: Vec<String> = sharing.map(|other| other.name.clone()).collect();
    if !sharing.is_empty() {
        evidence
            .push(format!("{count} reads, and its user is also that of {}", some(sharing, SHOWN).join(", ")));
    }
    if had.iter().any(|entry| entry.level == Some("reach")) {
        evidence.push("some reads are of peers that only reached the socket (level reach)".to_owned());
    }
    if evidence.is_empty() {
        return;
    }
    let fix = Fix::text("Give the workload a user of its own, and a level that names the process.")
        .code("yaml", "peer: {uid: UID, gid: GID, level: process}");
    findings.add(Finding::new(Id::UNATTRIBUTED, format!("workloads.{}", workload.name), evidence, fix));
}

/// What was taken in an emergency, and is what it was.
fn unrotated(facts: &Facts<'_>, glass: &Glass) -> Vec<String> {
    let rotations = &facts.record.marks.rotations;
    let is_rotated = |taken: &String, at: Timestamp| {
        let changes =
            |rotation: &&Rotation| rotation.serves.contains(taken) || rotation.places.contains(taken);
        let serving = facts.subject.rotations.iter().filter(changes);
        let promoted = serving.filter_map(|rotation| rotations.get(&rotation.name)?.promoted);
        promoted.max().is_some_and(|promoted| promoted > at)
    };
    let left = glass
        .touched
        .iter()
        .filter(|(secret, touched)| !touched.is_replaced && !is_rotated(secret, touched.at));
    left.map(|(secret, _)| secret.clone()).collect()
}

fn glass(facts: &Facts<'_>, findings: &mut Findings) {
    for (id, glass) in &facts.record.marks.glass {
        let left = unrotated(facts, glass);
        if glass.ended.is_some() && left.is_empty() {
            continue;
        }
        let rule = glass.rule.as_deref().unwrap_or("unknown");
        let workload = glass.workload.as_deref().unwrap_or("unknown");
        let mut evidence = Vec::new();
        if glass.ended.is_none() {
            evidence.push(format!(
                "opened {:.0} under the rule {rule}, and no event says that it ended",
                glass.at
            ));
        }
        if !left.is_empty() {
            let ticket = glass.ticket.as_deref().unwrap_or("none");
            let left = some(left, SHOWN).join(", ");
            evidence.push(format!(
                "taken {:.0} by the rule {rule} (ticket {ticket}) and not rotated since: {left}",
                glass.at
            ));
        }
        let fix =
            Fix::text("Look at what was read since, and rotate it: claviger rotation now NAME --reason …");
        let finding = Finding::new(Id::GLASS, format!("workloads.{workload}: approval {id}"), evidence, fix);
        findings.add(Finding { last: Some(glass.at), ..finding });
    }
    bypass(facts, findings);
}

/// What was had under a rule without a person's yes, after it had asked for one.
fn bypass(facts: &Facts<'_>, findings: &mut Findings) {
    for (workload, rule) in each_rule(facts).filter(|(_, rule)| rule.is_asked) {
        let rows = || facts.rows(workload, &rule.name);
        let asked = rows().filter_map(|entry| entry.asked).min();
        let unasked = rows().filter_map(|entry| entry.unasked).max();
        let about = format!("workloads.{workload}.rules.{}", rule.name);
        match (asked, unasked) {
            (Some(asked), Some(unasked)) if unasked > asked => {
                let evidence = vec![format!(
                    "something was had without anybody's yes on {unasked:.0}, and the rule has asked for one since {asked:.0}"
                )];
                let fix = Fix::text(
                    "Look at what was read then, and by which config (rule.rev of the events); rotate it if nobody had switched approvals off on purpose.",
                )
                .code("sh", format!("claviger audit export | jq 'select(.rule.name == \"{}\" and .approval.id == null)'", rule.name));
                findings
                    .add(Finding { last: Some(unasked), ..Finding::new(Id::GLASS, about, evidence, fix) });
            }
            (None, Some(_)) => findings.cannot(
                Id::GLASS,
                format!("{about}: no yes is on record, so since when it asks for one is not known"),
            ),
            _ => {}
        }
    }
    findings.cannot(Id::GLASS, "what was read of Vault past the agent stands in Vault's own audit log alone");
}
