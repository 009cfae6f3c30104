//! The credentials themselves, by versions and fingerprints: KA006 to KA010, KA017. Pure.
//!
//! No value is seen: two are the same where their keyed hashes are.

use super::{Facts, Findings, grouped, some};
use crate::{
    clock::Timestamp,
    report::{
        finding::{Finding, Fix, Id},
        subject::{Rotation, Secret},
    },
    usage::{Entry, history::RotationMarks},
};
use std::{collections::BTreeSet, time::Duration};

/// How old a credential may be.
const OLDEST: Duration = Duration::from_secs(90 * 24 * 3600);
/// Skipped slots in a row that are a finding.
const SKIPPED: usize = 2;
/// Shown of a list.
const SHOWN: usize = 12;

pub(super) fn judge(facts: &Facts<'_>, findings: &mut Findings) {
    for secret in facts.subject.secrets.iter().filter(|secret| secret.kind == "kv") {
        over_age(facts, secret, findings);
        weak(facts, secret, findings);
    }
    for rotation in &facts.subject.rotations {
        let marks = facts.record.marks.rotations.get(&rotation.name).cloned().unwrap_or_default();
        not_rotated(facts, rotation, &marks, findings);
        stale(facts, rotation, &marks, findings);
        if let Some(why) = &rotation.weak {
            let fix = Fix::text("Let it make values of 32 characters or more.").code("yaml", "length: 32");
            let about = format!("rotations.{}", rotation.name);
            findings.add(Finding::new(Id::WEAK_VALUE, about, vec![why.clone()], fix));
        }
        if let Some(policy) = &rotation.made_by {
            let why = format!(
                "rotations.{}: the password policy {policy} makes its values, and is not read",
                rotation.name
            );
            findings.cannot(Id::WEAK_VALUE, why);
        }
    }
    fingerprints(facts, findings);
}

fn days(facts: &Facts<'_>, since: Timestamp) -> i64 {
    facts.now.duration_since(since).as_hours() / 24
}

fn over_age(facts: &Facts<'_>, secret: &Secret, findings: &mut Findings) {
    let about = format!("secrets.{}", secret.name);
    let Some((made, exact)) = facts.made(secret) else {
        return findings
            .cannot(Id::OVER_AGE, format!("{about}: neither Vault nor the record tells how old it is"));
    };
    let rotations = facts.subject.rotations.iter().filter(|rotation| rotation.serves.contains(&secret.name));
    let most = rotations.filter_map(|rotation| rotation.max_age).min().unwrap_or(OLDEST);
    if facts.now.duration_since(made) <= jiff::SignedDuration::try_from(most).unwrap_or_default() {
        return;
    }
    let how = if exact { "by Vault's metadata" } else { "at least: the record goes no further back" };
    let most = most.as_secs() / (24 * 3600);
    let evidence = vec![format!(
        "its newest version is {} days old, {how}; {most} days are the most",
        days(facts, made)
    )];
    let path = secret.path.as_deref().unwrap_or_default();
    let field = secret.field.as_deref().unwrap_or("value");
    let stanza = format!(
        "rotations:\n  {}: {{identity: rotator, kind: generate, path: {path}, field: {field}, length: 40,\n    \
         schedule: {{cron: \"0 3 1 * *\", tz: UTC, window: 2h}}, grace: 24h, journal: {{mount: kv, path: rotation}}}}",
        secret.name
    );
    let fix = Fix::text("Rotate it, by hand where its issuer makes it, and else on a schedule.")
        .code("yaml", stanza);
    let last = facts.uses(&secret.name).map(|entry| entry.last).max();
    findings.add(Finding { last, ..Finding::new(Id::OVER_AGE, about, evidence, fix) });
}

fn not_rotated(facts: &Facts<'_>, rotation: &Rotation, marks: &RotationMarks, findings: &mut Findings) {
    let about = format!("rotations.{}", rotation.name);
    let mut evidence = Vec::new();
    if let Some(orphaned) = marks.waits() {
        evidence.push(format!("it waits for a person since {orphaned:.0}"));
    }
    let skipped = marks.skipped();
    if skipped >= SKIPPED {
        evidence.push(format!("{skipped} slots were skipped since its last success"));
    }
    if marks.promoted.is_none() && evidence.is_empty() {
        if !facts.is_covered() {
            return findings.cannot(
                Id::NOT_ROTATED,
                format!("{about}: no success on record, which begins within the period"),
            );
        }
        evidence.push("no success on record".to_owned());
    }
    if evidence.is_empty() {
        return;
    }
    let fix = Fix::text("See what holds it up, and let it run.");
    let fix = match &rotation.journal {
        Some(journal) => {
            evidence.push(format!("its journal: {journal}"));
            fix.code(
                "sh",
                format!(
                    "claviger rotation status {0} --config CONFIG\nclaviger rotation unorphan {0} --config CONFIG",
                    rotation.name
                ),
            )
        }
        None => fix.code(
            "sh",
            format!("vault read {}\n# and what the agent's log says of {}", rotation.path, rotation.name),
        ),
    };
    findings.add(Finding { last: marks.promoted, ..Finding::new(Id::NOT_ROTATED, about, evidence, fix) });
}

fn stale(facts: &Facts<'_>, rotation: &Rotation, marks: &RotationMarks, findings: &mut Findings) {
    let Some((ended, version)) = marks.ended else { return };
    let is_its = |entry: &&Entry| {
        let secret = entry.secret.as_ref().is_some_and(|secret| rotation.serves.contains(secret));
        secret || entry.path.as_deref() == Some(&rotation.path)
    };
    let late = |entry: &&Entry| {
        entry.had() > 0 && entry.version.is_some_and(|own| own <= version) && entry.last > ended
    };
    let late: Vec<&Entry> = facts.record.entries.iter().filter(is_its).filter(late).collect();
    if late.is_empty() {
        return;
    }
    let consumer = |entry: &&Entry| {
        format!("{} used version {} on {:.0}", entry.workload, entry.version.unwrap_or_default(), entry.last)
    };
    let mut evidence = vec![format!("the grace of version {version} ended {ended:.0}")];
    evidence.extend(some(late.iter().map(consumer), SHOWN));
    let fix = Fix::text(
        "Restart these consumers, or let them wait for the new version (GET /secrets/NAME?wait=60s), and revoke the old one.",
    );
    let last = late.iter().map(|entry| entry.last).max();
    let about = format!("rotations.{}", rotation.name);
    findings.add(Finding { last, ..Finding::new(Id::STALE_VERSION, about, evidence, fix) });
}

/// Whether it says anything of the value.
fn is_keyed(fingerprint: &str) -> bool {
    !matches!(fingerprint, "none" | "unavailable")
}

fn fingerprints(facts: &Facts<'_>, findings: &mut Findings) {
    let had = facts.record.entries.iter().filter(|entry| entry.had() > 0 && entry.last >= facts.since);
    let by = grouped(had, |entry| entry.fingerprint.as_deref().filter(|one| is_keyed(one)));
    if by.is_empty() {
        for id in [Id::SHARED, Id::SAME_VALUE, Id::WEAK_VALUE] {
            findings.cannot(id, "no event has a fingerprint: audit.fingerprint_key makes them");
        }
    }
    for entries in by.values() {
        let workloads: BTreeSet<&str> = entries.iter().map(|entry| entry.workload.as_str()).collect();
        let paths: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.path.as_deref()).collect();
        if workloads.len() < 2 && paths.len() < 2 {
            continue;
        }
        let last = entries.iter().map(|entry| entry.last).max();
        let list =
            |names: &BTreeSet<&str>| some(names.iter().map(|name| (*name).to_owned()), SHOWN).join(", ");
        let about = list(&paths);
        if workloads.len() > 1 {
            let evidence = vec![format!("the same value is used by {}", list(&workloads))];
            let fix = Fix::text("Have a credential of its own made for each workload.")
                .code("yaml", format!("secrets:\n{}", workloads.iter().map(split).collect::<String>()));
            findings.add(Finding { last, ..Finding::new(Id::SHARED, about.clone(), evidence, fix) });
        }
        if paths.len() > 1 {
            let evidence = vec![format!("the same value is at {about}")];
            let others = paths.iter().skip(1).map(|path| format!("vault kv metadata delete {path}\n"));
            let fix =
                Fix::text("Keep it in one place, and let all rules name that one; then delete the others.")
                    .code("sh", others.collect::<String>());
            findings.add(Finding { last, ..Finding::new(Id::SAME_VALUE, about, evidence, fix) });
        }
    }
}

/// A secret for one workload alone.
fn split(workload: &&str) -> String {
    format!("  NAME-{workload}: {{identity: IDENTITY, kind: kv, path: PATH/{workload}, field: FIELD}}\n")
}

fn weak(facts: &Facts<'_>, secret: &Secret, findings: &mut Findings) {
    let mut evidence = Vec::new();
    let newest = facts.uses(&secret.name).filter_map(|entry| entry.version).max();
    let short = |entry: &&Entry| entry.version == newest && entry.fingerprint.as_deref() == Some("none");
    if facts.uses(&secret.name).any(|entry| short(&entry)) {
        evidence.push("its value has less than 16 bytes".to_owned());
    }
    let metadata =
        facts.granted(&secret.identity).and_then(|granted| granted.values.get(secret.path.as_ref()?));
    if metadata.is_none() {
        findings
            .cannot(Id::WEAK_VALUE, format!("secrets.{}: its metadata in Vault were not read", secret.name));
    }
    for key in metadata.iter().flat_map(|metadata| &metadata.suspects) {
        evidence
            .push(format!("its metadata {key} look like a credential: metadata are readable by more people"));
    }
    if evidence.is_empty() {
        return;
    }
    let fix = Fix::text("Have a new value made, long and random, and nowhere but in the secret itself.");
    findings.add(Finding::new(Id::WEAK_VALUE, format!("secrets.{}", secret.name), evidence, fix));
}
