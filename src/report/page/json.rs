//! The report as one JSON object, with everything that it says. Pure.

use super::{Policy, Report};
use crate::{clock::Timestamp, report::finding::Finding};
use serde_json::{Value, json};

pub(super) fn render(report: &Report) -> String {
    format!("{}\n", value(report))
}

fn value(report: &Report) -> Value {
    let time = |time: Option<Timestamp>| time.map(super::day);
    let (chains, events) = report.read;
    let policy = |policy: &Policy| {
        let hcl = policy.denied.is_empty().then_some(&policy.hcl);
        json!({"identity": policy.identity, "requests": policy.requests, "denied": policy.denied, "hcl": hcl})
    };
    json!({
        "made": super::day(report.now), "since": super::day(report.since), "revision": report.revision,
        "record": {
            "agents": report.sources, "starts": chains, "events": events, "overflow": report.overflow,
            "from": time(report.span.map(|(first, _)| first)), "to": time(report.span.map(|(_, last)| last)),
        },
        "looked": report.looked.map(|(processes, files)| json!({"processes": processes, "files": files})),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "not_judged": report.unjudged.iter().map(|one| json!({"id": one.id.to_string(), "why": one.why})).collect::<Vec<_>>(),
        "secrets": report.keys.iter().map(|key| json!({
            "name": key.name, "newest_version_since": time(key.made), "exact": key.exact, "last_used": time(key.last),
        })).collect::<Vec<_>>(),
        "rules": report.rules.iter().map(|rule| json!({
            "workload": rule.workload, "rule": rule.rule, "granted": rule.granted, "used": rule.used,
            "last_used": time(rule.last),
        })).collect::<Vec<_>>(),
        "policies": report.policies.iter().map(policy).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    let code = finding.fix.code.as_ref().map(|(language, code)| json!({"language": language, "text": code}));
    json!({
        "id": finding.id.to_string(), "title": finding.id.title(), "severity": finding.severity.word(),
        "about": finding.about, "evidence": finding.evidence, "last_used": finding.last.map(super::day),
        "unused": finding.unused, "fix": {"text": finding.fix.text, "code": code},
    })
}
