//! The report as SARIF 2.1.0 (OASIS), which code hosts show beside the config. Pure.

use super::Report;
use crate::report::File;
use crate::{
    crypto::{hex, sha256},
    report::finding::{Finding, Id, Severity},
};
use serde_json::{Value, json};

pub(super) fn render(report: &Report) -> String {
    let rules: Vec<Value> = Id::ALL.iter().copied().map(rule).collect();
    let results: Vec<Value> =
        report.findings.iter().map(|finding| result(finding, report.file.as_ref())).collect();
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
        "fullDescription": {"text": id.meaning()}, "help": {"text": id.meaning()}, "defaultConfiguration": {"level": level(id.severity())},
        "properties": {"security-severity": score(id.severity()), "tags": ["security"]},
    })
}

fn result(finding: &Finding, file: Option<&File>) -> Value {
    let text = format!("{}: {}. {}", finding.about, finding.evidence.join("; "), finding.fix.text);
    // The same finding has the same name next time, whatever its evidence.
    let name = hex(&sha256(format!("{} {}", finding.id, finding.about).as_bytes()));
    let mut location = json!({"logicalLocations": [{"fullyQualifiedName": finding.about}]});
    if let (Some(File { path, text }), Some(location)) = (file, location.as_object_mut()) {
        let region = json!({"startLine": line(text, &finding.about)});
        let place = json!({"artifactLocation": {"uri": uri(path)}, "region": region});
        location.insert("physicalLocation".to_owned(), place);
    }
    json!({
        "ruleId": finding.id.to_string(), "ruleIndex": Id::ALL.iter().position(|id| *id == finding.id), "level": level(finding.severity), "message": {"text": text},
        "locations": [location],
        "partialFingerprints": {"claviger/v1": name},
        "properties": {"severity": finding.severity.word(), "fix": finding.fix.code.as_ref().map(|(_, code)| code)},
    })
}

/// A path as a reference (RFC 3986): relative to the working folder, or of a file.
fn uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        if is_plain(byte) {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            uri.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    uri
}

/// The line of the config that says most of `about`: each of its names is looked for from where the one before it stands; 1 where
/// not even the first does.
fn line(text: &str, about: &str) -> usize {
    let about = about.split([' ', ':']).next().unwrap_or_default();
    let (mut found, mut lines) = (1_usize, text.lines().enumerate());
    for name in about.split('.').filter(|name| *name != "rules") {
        let named = |line: &str| {
            let line = line.trim_start().trim_start_matches("- ");
            let key = line.split([':', ',', '}']).next().unwrap_or_default().trim_matches(['"', '{', ' ']);
            key == name || line.contains(&format!("name: {name}")) || line.contains(&format!("{{{name}:"))
        };
        // A section written on one line has its names on that line.
        let here = text
            .lines()
            .nth(found.saturating_sub(1))
            .is_some_and(|line| line.contains(&format!("{name}: {{")));
        match lines.find(|(_, line)| named(line)) {
            Some((at, _)) => found = at.saturating_add(1),
            None if here => {}
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "vault: {}\nsecrets:\n  stripe: {kind: kv}\n  mail:\n    kind: kv\nworkloads:\n  job:\n    rules:\n    - {name: keys}\n    - name: tree\naudit: {}\n";

    #[track_caller]
    fn check(about: &str, expected: usize) {
        assert_eq!(line(CONFIG, about), expected, "{about}");
    }

    #[test]
    fn a_finding_stands_beside_the_line_that_it_is_about() {
        check("secrets.stripe", 3);
        check("secrets.mail", 4);
        check("workloads.job.rules.keys", 9);
        check("workloads.job.rules.tree", 10);
        check("workloads.job: secret/a", 7);
        check("audit", 11);
        check("secret/a, secret/b", 1);
        check("secrets.gone", 2);
    }

    #[test]
    fn a_path_is_a_reference_that_others_can_read() {
        assert_eq!(uri("./deploy/config.yaml"), "deploy/config.yaml");
        assert_eq!(uri("/etc/claviger/a b.yaml"), "file:///etc/claviger/a%20b.yaml");
    }
}
