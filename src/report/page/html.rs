//! The report as one page that loads nothing: readable in the light, in the dark and on paper. Pure.
//!
//! Nothing in it is a script, and nothing that the record says can become a tag.

use super::{Report, basis, day, plot, proof};
use crate::{
    clock::Timestamp,
    report::finding::{Finding, Severity},
};
use std::fmt::Write as _;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--paper:#fff;--box:#f4f6f9;--edge:#d6dce4;--good:#2f7d5b;--bad:#b3372f;\
--plain:#c3ccd8;--critical:#8c1d18;--high:#b3372f;--medium:#8a5a00;--low:#4a5a70}\
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--paper:#12161c;--box:#1b222b;--edge:#323c49;--good:#58b38a;\
--bad:#e5746c;--plain:#465364;--critical:#ff8a80;--high:#e5746c;--medium:#e0b04c;--low:#9fb3cc}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.2rem}h3{font-size:1.05rem;margin:0 0 .3rem}\
p.note,td.soft{color:var(--soft)}svg{width:100%;height:auto;font:13px system-ui,sans-serif}svg text{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:5px;stroke-linejoin:round}\
svg text.value,svg text.limit{fill:var(--soft)}svg .good{fill:var(--good)}svg .bad{fill:var(--bad)}svg .plain{fill:var(--plain)}\
svg line.limit{stroke:var(--soft);stroke-dasharray:4 3}svg line.track{stroke:var(--edge)}\
article{background:var(--box);border:1px solid var(--edge);border-left:6px solid var(--low);border-radius:4px;padding:.8rem 1rem;margin:1rem 0;break-inside:avoid}\
article.critical{border-left-color:var(--critical)}article.high{border-left-color:var(--high)}article.medium{border-left-color:var(--medium)}\
.tag{font-weight:600}.critical .tag{color:var(--critical)}.high .tag{color:var(--high)}.medium .tag{color:var(--medium)}.low .tag{color:var(--low)}\
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:var(--paper);border:1px solid var(--edge);padding:.6rem;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}\
code{overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--edge)}\
td.number,th.number{text-align:right}\
@media print{body{max-width:none;margin:0;font-size:11pt}h2{break-after:avoid}svg{break-inside:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

pub(super) fn render(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>claviger: keys and permissions, {}</title><style>{STYLE}</style></head><body>\n",
        escaped(&day(report.now))
    );
    let _ =
        writeln!(page, "<h1>Keys and permissions</h1>\n<p class=\"note\">{}</p>", escaped(&basis(report)));
    summary(&mut page, report);
    plots(&mut page, report);
    page.push_str("<h2>Findings</h2>\n");
    if report.findings.is_empty() {
        page.push_str("<p>None.</p>\n");
    }
    report.findings.iter().for_each(|finding| one(&mut page, finding));
    tables(&mut page, report);
    for policy in &report.policies {
        let _ = writeln!(
            page,
            "<h2>The least policy of {}</h2>\n<p>{}</p>",
            escaped(&policy.identity),
            escaped(&proof(policy))
        );
        if policy.denied.is_empty() {
            let _ = writeln!(page, "<pre>{}</pre>", escaped(&policy.hcl));
        }
    }
    if !report.unjudged.is_empty() {
        page.push_str("<h2>Not judged</h2>\n<ul>\n");
        for one in &report.unjudged {
            let _ = writeln!(page, "<li>{} {}: {}</li>", one.id, escaped(one.id.title()), escaped(&one.why));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</body></html>\n");
    page
}

fn summary(page: &mut String, report: &Report) {
    page.push_str("<table><tr><th>severity</th><th class=\"number\">findings</th></tr>\n");
    for severity in [Severity::Critical, Severity::High, Severity::Medium, Severity::Low] {
        let count = report.findings.iter().filter(|finding| finding.severity == severity).count();
        let word = severity.word();
        let _ = writeln!(
            page,
            "<tr class=\"{word}\"><td class=\"tag\">{word}</td><td class=\"number\">{count}</td></tr>"
        );
    }
    page.push_str("</table>\n");
}

fn plots(page: &mut String, report: &Report) {
    if !report.keys.is_empty() {
        let _ = writeln!(page, "<h2>Age of secrets</h2>\n{}", plot::ages(report));
        let _ = writeln!(page, "<h2>Last use of secrets</h2>\n{}", plot::last_use(report));
    }
    if !report.rules.is_empty() {
        let _ = writeln!(page, "<h2>Grants given and grants used</h2>\n{}", plot::grants(report));
    }
}

fn one(page: &mut String, finding: &Finding) {
    let (id, word) = (finding.id, finding.severity.word());
    let _ = writeln!(
        page,
        "<article class=\"{word}\"><h3>{id} {} <span class=\"tag\">{word}</span></h3>\n<p><code>{}</code> {}</p>\n<ul>",
        escaped(id.title()),
        escaped(&finding.about),
        escaped(id.meaning())
    );
    for evidence in &finding.evidence {
        let _ = writeln!(page, "<li>{}</li>", escaped(evidence));
    }
    let _ = writeln!(page, "</ul>\n<p>{}</p>", escaped(&finding.fix.text));
    if let Some((_, code)) = &finding.fix.code {
        let _ = writeln!(page, "<pre>{}</pre>", escaped(code));
    }
    page.push_str("</article>\n");
}

fn tables(page: &mut String, report: &Report) {
    let time = |time: Option<Timestamp>| time.map_or("never".to_owned(), day);
    if !report.keys.is_empty() {
        page.push_str("<h2>Secrets</h2>\n<table><tr><th>secret</th><th>newest version since</th><th>last used</th></tr>\n");
        for key in &report.keys {
            let made = key.made.map_or("unknown".to_owned(), day);
            let how = if key.made.is_some() && !key.exact { " or before" } else { "" };
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td>{made}{how}</td><td>{}</td></tr>",
                escaped(&key.name),
                time(key.last)
            );
        }
        page.push_str("</table>\n");
    }
    if !report.rules.is_empty() {
        page.push_str(
            "<h2>Rules</h2>\n<table><tr><th>rule</th><th class=\"number\">granted</th><th class=\"number\">used</th><th>last used</th></tr>\n",
        );
        for rule in &report.rules {
            let _ = writeln!(
                page,
                "<tr><td>{}.{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
                escaped(&rule.workload),
                escaped(&rule.rule),
                rule.granted,
                rule.used,
                time(rule.last)
            );
        }
        page.push_str("</table>\n");
    }
}

/// `text` where it can be nothing but text.
pub(super) fn escaped(text: &str) -> String {
    let is_special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || (c.is_control() && c != '\n');
    let (mut escaped, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, c)) = rest.find(is_special).and_then(|at| rest.split_at_checked(at)) {
        escaped.push_str(before);
        let mut after = c.chars();
        escaped.push_str(match after.next() {
            Some('&') => "&amp;",
            Some('<') => "&lt;",
            Some('>') => "&gt;",
            Some('"') => "&quot;",
            Some('\'') => "&#39;",
            _ => "\u{fffd}",
        });
        rest = after.as_str();
    }
    escaped.push_str(rest);
    escaped
}
