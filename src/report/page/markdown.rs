//! The report as Markdown (CommonMark with tables). Pure.

use super::{Policy, Report, basis, day, proof};
use crate::report::finding::{Finding, Severity};
use std::fmt::Write as _;

pub(super) fn render(report: &Report) -> String {
    let mut text = format!("# Keys and permissions\n\n{}\n\n", escaped(&basis(report)));
    summary(&mut text, report);
    for finding in &report.findings {
        one(&mut text, finding);
    }
    tables(&mut text, report);
    policies(&mut text, &report.policies);
    if !report.unjudged.is_empty() {
        text.push_str("## Not judged\n\n");
        for unjudged in &report.unjudged {
            let _ = writeln!(text, "- {} {}: {}", unjudged.id, unjudged.id.title(), escaped(&unjudged.why));
        }
    }
    text
}

fn summary(text: &mut String, report: &Report) {
    if report.findings.is_empty() {
        text.push_str("**No findings.**\n\n");
        return;
    }
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let all = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low];
    let parts: Vec<String> = all
        .into_iter()
        .filter(|severity| count(*severity) > 0)
        .map(|severity| format!("{} {}", count(severity), severity.word()))
        .collect();
    let _ = writeln!(text, "**{} findings: {}.**\n", report.findings.len(), parts.join(", "));
}

fn one(text: &mut String, finding: &Finding) {
    let (id, severity) = (finding.id, finding.severity.word());
    let _ = writeln!(
        text,
        "## {id} {} ({severity})\n\n`{}`: {}\n",
        id.title(),
        finding.about.replace('`', "'"),
        id.meaning()
    );
    for evidence in &finding.evidence {
        let _ = writeln!(text, "- {}", escaped(evidence));
    }
    let _ = writeln!(text, "\n{}\n", escaped(&finding.fix.text));
    if let Some((language, code)) = &finding.fix.code {
        let _ = writeln!(text, "```{language}\n{}\n```\n", code.trim_end());
    }
}

fn tables(text: &mut String, report: &Report) {
    let time = |time: Option<crate::clock::Timestamp>| time.map_or("never".to_owned(), day);
    if !report.keys.is_empty() {
        text.push_str("## Secrets\n\n| secret | newest version since | last used |\n| --- | --- | --- |\n");
        for key in &report.keys {
            let made = key.made.map_or("unknown".to_owned(), day);
            let how = if key.made.is_some() && !key.exact { " or before" } else { "" };
            let _ = writeln!(text, "| {} | {made}{how} | {} |", key.name, time(key.last));
        }
        text.push('\n');
    }
    if !report.rules.is_empty() {
        text.push_str("## Rules\n\n| rule | granted | used | last used |\n| --- | --- | --- | --- |\n");
        for rule in &report.rules {
            let (name, last) = (format!("{}.{}", rule.workload, rule.rule), time(rule.last));
            let _ = writeln!(text, "| {name} | {} | {} | {last} |", rule.granted, rule.used);
        }
        text.push('\n');
    }
}

fn policies(text: &mut String, policies: &[Policy]) {
    for policy in policies {
        let _ = writeln!(text, "## The least policy of {}\n\n{}\n", policy.identity, proof(policy));
        if policy.denied.is_empty() {
            let _ = writeln!(text, "```hcl\n{}\n```\n", policy.hcl.trim_end());
        }
    }
}

/// Nothing in a path can become a link, a tag or a table.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
