//! The report as SARIF 2.1.0 (OASIS), which code hosts show beside the config. Pure.

use super::Report;
use crate::{
    crypto::{hex, sha256},
    report::finding::{Finding, Id, Severity},
};
use serde_json::{Value, json};

pub(super) fn render(report: &Report) -> String {
    let rules: Vec<Value> = Id::ALL.iter().copied().map(rule).collect();
    let results: Vec<Value> = report.findings.iter().map(result).collect();
    let notes: Vec<Value> = report
        .unjudged
        .iter()
        .map(|one| json!({"level": "note", "message": {"text": format!("not judged: {}", one.why)}, "associatedRule": {"id": one.id.to_string()}}))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "claviger", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "invocations": [{"executionSuccessful": true, "toolExecutionNotifications": notes}],
            "results": results,
        }],
    });
    format!("{log}\n")
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "note",
    }
}

/// What GitHub sorts by: 0 to 10.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.0",
        Severity::Low => "2.0",
    }
}

fn rule(id: Id) -> Value {
    json!({
        "id": id.to_string(), "name": id.slug(), "shortDescription": {"text": id.title()},
        "fullDescription": {"text": id.meaning()}, "defaultConfiguration": {"level": level(id.severity())},
        "properties": {"security-severity": score(id.severity()), "tags": ["security"]},
    })
}

fn result(finding: &Finding) -> Value {
    let text = format!("{}: {}. {}", finding.about, finding.evidence.join("; "), finding.fix.text);
    // The same finding has the same name next time, whatever its evidence.
    let name = hex(&sha256(format!("{} {}", finding.id, finding.about).as_bytes()));
    json!({
        "ruleId": finding.id.to_string(), "level": level(finding.severity), "message": {"text": text},
        "locations": [{"logicalLocations": [{"fullyQualifiedName": finding.about}]}],
        "partialFingerprints": {"claviger/v1": name},
        "properties": {"severity": finding.severity.word(), "fix": finding.fix.code.as_ref().map(|(_, code)| code)},
    })
}
