//! The report as one page that loads nothing: readable in the light, in the dark, on a telephone and on paper. Pure.
//!
//! Nothing in it is a script, and nothing that the record says can become a tag.

use super::{Report, basis, minute, plot, proof};
use crate::{
    clock::Timestamp,
    report::{
        Policy,
        finding::{Finding, Id, Severity},
    },
};
use std::fmt::Write as _;

const STYLE: &str = "\
:root{color-scheme:light;--ink:#1c2430;--soft:#525d6b;--paper:#fff;--box:#f4f6f9;--edge:#d6dce4;--track:#e6eaf0;--good:#2a7553;--bad:#b3372f;\
--plain:#7c8a9c;--critical:#8c1d18;--high:#b3372f;--medium:#825400;--low:#4a5a70;--link:#1f5fa8}\
@media screen and (prefers-color-scheme:dark){:root{color-scheme:dark;--ink:#e6eaf0;--soft:#a3aebd;--paper:#12161c;--box:#1b222b;\
--edge:#323c49;--track:#252e39;--good:#58b38a;--bad:#e8837b;--plain:#8090a5;--critical:#ff9a91;--high:#e8837b;--medium:#e0b04c;--low:#9fb3cc;--link:#8ab8f0}}\
*{box-sizing:border-box}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:56rem;margin:0 auto;padding:1.5rem 1rem 3rem}\
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4rem}h2{font-size:1.25rem;margin:2.4rem 0 .6rem}h3{font-size:1.05rem;margin:0 0 .3rem}\
p{margin:.4rem 0}a{color:var(--link)}.note,.soft,footer{color:var(--soft)}.note,footer{font-size:.9rem}\
.verdict{font-size:1.15rem;font-weight:600;margin:0 0 .6rem}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(4.6rem,1fr));gap:.6rem;list-style:none;padding:0;margin:1.2rem 0 0}\
.tiles li{background:var(--box);border:1px solid var(--edge);border-top:5px solid currentColor;border-radius:4px;padding:.5rem .8rem}\
.tiles b{display:block;font-size:1.7rem;line-height:1.2}.tiles .none{color:var(--soft)}\
svg{display:block;margin-top:.7rem;font:14px system-ui,sans-serif;overflow:visible}svg text{fill:var(--ink)}svg text.value{fill:var(--soft)}\
svg .track{fill:var(--track)}svg .good{fill:var(--good)}svg .bad{fill:var(--bad)}svg .plain{fill:var(--plain)}svg .limit{stroke:var(--ink);stroke-width:2}\
article{background:var(--box);border:1px solid var(--edge);border-left:6px solid var(--low);border-radius:4px;padding:.8rem 1rem;margin:1rem 0;break-inside:avoid}\
article.critical{border-left-color:var(--critical)}article.high{border-left-color:var(--high)}article.medium{border-left-color:var(--medium)}\
article ul{margin:.4rem 0;padding-left:1.2rem}.about{overflow-wrap:anywhere}\
.critical .tag,li.critical{color:var(--critical)}.high .tag,li.high{color:var(--high)}.medium .tag,li.medium{color:var(--medium)}.low .tag,li.low{color:var(--low)}\
.tag{font-weight:600}code,pre{font:.84rem/1.45 ui-monospace,monospace}code{overflow-wrap:anywhere}\
pre{background:var(--paper);border:1px solid var(--edge);border-radius:3px;padding:.6rem;margin:.5rem 0;white-space:pre-wrap;overflow-wrap:anywhere}\
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}caption{text-align:left}\
th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--edge);vertical-align:top}td{overflow-wrap:anywhere}\
.number{text-align:right;font-variant-numeric:tabular-nums}td.time{white-space:nowrap;font-variant-numeric:tabular-nums}\
li{overflow-wrap:anywhere}summary{cursor:pointer}footer{margin-top:3rem;border-top:1px solid var(--edge);padding-top:.6rem}\
@media (max-width:34rem){td.time{white-space:normal}th,td{padding-right:.5rem}}\
@media print{body{max-width:none;padding:0;font-size:10.5pt}h2,h3{break-after:avoid}svg,tr,.tiles{break-inside:avoid}a{color:inherit;text-decoration:none}\
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

/// Lines of a policy that stand open on the page.
const OPEN: usize = 60;

const SEVERITIES: [Severity; 4] = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low];

pub(super) fn render(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Keys and permissions, {}</title><style>{STYLE}</style></head><body>\n",
        minute(report.now)
    );
    summary(&mut page, report);
    page.push_str("<main>\n");
    kinds(&mut page, report);
    plots(&mut page, report);
    if !report.findings.is_empty() {
        page.push_str("<h2>Findings</h2>\n");
    }
    let mut before: Option<&Finding> = None;
    for finding in &report.findings {
        let is_first = before.is_none_or(|before| before.id != finding.id);
        one(&mut page, finding, is_first, &report.policies);
        before = Some(finding);
    }
    secrets(&mut page, report);
    rules(&mut page, report);
    for (number, one) in report.policies.iter().enumerate() {
        policy(&mut page, one, number);
    }
    if !report.unjudged.is_empty() {
        page.push_str(
            "<h2>Not judged</h2>\n<p class=\"note\">What could not be looked for is not clean.</p>\n<ul>\n",
        );
        for one in &report.unjudged {
            let _ = writeln!(
                page,
                "<li><b>{}</b> {}: {}</li>",
                one.id,
                escaped(one.id.title()),
                escaped(&one.why)
            );
        }
        page.push_str("</ul>\n");
    }
    let _ = writeln!(
        page,
        "</main>\n<footer>Made by claviger {} from the config, the record and what Vault says. No value of a secret is on this page.</footer>\n</body></html>",
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn summary(page: &mut String, report: &Report) {
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let verdict = match report.findings.len() {
        0 => "Nothing was found.".to_owned(),
        1 => "One finding.".to_owned(),
        many => format!("{many} findings."),
    };
    let _ = writeln!(
        page,
        "<header>\n<h1>Keys and permissions</h1>\n<p class=\"verdict\">{verdict}</p>\n<p class=\"note\">{}</p>\n<ul class=\"tiles\">",
        escaped(&basis(report))
    );
    for severity in SEVERITIES {
        let (count, word) = (count(severity), severity.word());
        let class = if count == 0 { "none" } else { word };
        let _ = writeln!(page, "<li class=\"{class}\"><b>{count}</b>{word}</li>");
    }
    page.push_str("</ul>\n</header>\n");
}

/// Which findings there are, and how many of each.
fn kinds(page: &mut String, report: &Report) {
    if report.findings.is_empty() {
        return;
    }
    let head = ["finding", "severity", "how many"];
    begin(page, "Findings by kind", &head);
    let mut ids: Vec<Id> = report.findings.iter().map(|finding| finding.id).collect();
    ids.dedup();
    for id in ids {
        let count = report.findings.iter().filter(|finding| finding.id == id).count();
        let (title, word) = (escaped(id.title()), id.severity().word());
        let _ = writeln!(
            page,
            "<tr class=\"{word}\"><td><a href=\"#{id}\">{id}</a> {title}</td><td class=\"tag\">{word}</td><td class=\"number\">{count}</td></tr>"
        );
    }
    end(page);
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

fn one(page: &mut String, finding: &Finding, is_first: bool, policies: &[Policy]) {
    let (id, word) = (finding.id, finding.severity.word());
    let anchor = if is_first { format!(" id=\"{id}\"") } else { String::new() };
    let _ = writeln!(
        page,
        "<article class=\"{word}\"{anchor}><h3>{id} {} <span class=\"tag\">{word}</span></h3>\n<p class=\"about\"><code>{}</code></p>\n<p>{}</p>\n<ul>",
        escaped(id.title()),
        escaped(&finding.about),
        escaped(id.meaning())
    );
    for evidence in &finding.evidence {
        let _ = writeln!(page, "<li>{}</li>", escaped(evidence));
    }
    page.push_str("</ul>\n");
    if let Some(last) = finding.last {
        let _ = writeln!(page, "<p class=\"note\">Last seen {}.</p>", time(last));
    }
    let _ = writeln!(page, "<p><b>What ends it.</b> {}</p>", escaped(&finding.fix.text));
    if let Some((_, code)) = &finding.fix.code {
        // It stands on the page once.
        let _ = match policies.iter().position(|policy| policy.hcl == *code) {
            Some(number) => {
                writeln!(page, "<p><a href=\"#policy-{number}\">The policy stands below.</a></p>")
            }
            None => writeln!(page, "<pre>{}</pre>", escaped(code)),
        };
    }
    page.push_str("</article>\n");
}

fn time(time: Timestamp) -> String {
    format!("<time datetime=\"{}\">{}</time>", super::day(time), minute(time))
}

/// A table under its heading, as wide as the page or to be scrolled.
fn begin(page: &mut String, heading: &str, columns: &[&str]) {
    let _ = write!(
        page,
        "<h2>{heading}</h2>\n<div class=\"scroll\" role=\"region\" aria-label=\"{heading}\" tabindex=\"0\"><table>\n<thead><tr>"
    );
    for column in columns {
        let class = if ["how many", "granted", "used"].contains(column) { " class=\"number\"" } else { "" };
        let _ = write!(page, "<th scope=\"col\"{class}>{column}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
}

fn end(page: &mut String) {
    page.push_str("</tbody></table></div>\n");
}

fn secrets(page: &mut String, report: &Report) {
    if report.keys.is_empty() {
        return;
    }
    begin(page, "Secrets", &["secret", "newest version since", "last used"]);
    for key in &report.keys {
        let made = key.made.map_or("unknown".to_owned(), time);
        let how = if key.made.is_some() && !key.exact { " or before" } else { "" };
        let last = key.last.map_or("never".to_owned(), time);
        let name = escaped(&key.name);
        let _ = writeln!(
            page,
            "<tr><td>{name}</td><td class=\"time\">{made}{how}</td><td class=\"time\">{last}</td></tr>"
        );
    }
    end(page);
}

fn rules(page: &mut String, report: &Report) {
    if report.rules.is_empty() {
        return;
    }
    begin(page, "Rules", &["rule", "granted", "used", "last used"]);
    for rule in &report.rules {
        let last = rule.last.map_or("never".to_owned(), time);
        let _ = writeln!(
            page,
            "<tr><td>{}.{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"time\">{last}</td></tr>",
            escaped(&rule.workload),
            escaped(&rule.rule),
            rule.granted,
            rule.used
        );
    }
    end(page);
}

fn policy(page: &mut String, policy: &Policy, number: usize) {
    let (identity, proof) = (escaped(&policy.identity), escaped(&proof(policy)));
    let _ = writeln!(page, "<h2 id=\"policy-{number}\">The least policy of {identity}</h2>\n<p>{proof}</p>");
    if !policy.denied.is_empty() {
        return;
    }
    let lines = policy.hcl.lines().count();
    let open = if lines <= OPEN { " open" } else { "" };
    let _ = writeln!(
        page,
        "<details{open}><summary>{lines} lines; claviger report keys --format hcl prints them alone</summary>\n<pre>{}</pre></details>",
        escaped(&policy.hcl)
    );
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The colours of the page by their names, in the light and in the dark.
    fn colours() -> [BTreeMap<&'static str, [f64; 3]>; 2] {
        let of = |text: &'static str| -> BTreeMap<&'static str, [f64; 3]> {
            let all = text.split("--").skip(1).filter_map(|part| part.split_once(":#"));
            let digits = |hex: &str| hex.chars().take_while(char::is_ascii_hexdigit).collect::<String>();
            let channel = |hex: &str, at: usize| {
                let wide =
                    if hex.len() == 3 { hex.chars().flat_map(|c| [c, c]).collect() } else { hex.to_owned() };
                f64::from(u8::from_str_radix(&wide[at..at + 2], 16).unwrap()) / 255.0
            };
            all.map(|(name, rest)| (name, [0, 2, 4].map(|at| channel(&digits(rest), at)))).collect()
        };
        let (light, rest) = STYLE.split_once("@media screen").unwrap();
        [of(light), of(rest.split("}}").next().unwrap())]
    }

    /// WCAG 2.2, "relative luminance" and "contrast ratio".
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let linear = |c: f64| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        let luminance = |c: [f64; 3]| 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// WCAG 2.2, success criteria 1.4.3 (text, 4.5) and 1.4.11 (bars and dots, 3).
    #[test]
    fn every_text_and_every_bar_stands_out_in_the_light_and_in_the_dark() {
        for colours in colours() {
            for ground in ["paper", "box"] {
                for text in ["ink", "soft", "critical", "high", "medium", "low", "link"] {
                    let found = contrast(colours[text], colours[ground]);
                    assert!(found >= 4.5, "{text} on {ground}: {found:.2}");
                }
            }
            for (bar, ground) in [("good", "track"), ("bad", "track"), ("good", "paper"), ("plain", "paper")]
            {
                let found = contrast(colours[bar], colours[ground]);
                assert!(found >= 3.0, "{bar} on {ground}: {found:.2}");
            }
        }
    }

    #[test]
    fn what_is_special_is_text_and_everything_else_stays() {
        assert_eq!(
            escaped("<a href='x'>&\"\u{1}\n\u{e4}"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}\n\u{e4}"
        );
        assert_eq!(escaped(""), "");
        assert_eq!(minute("2026-11-18T11:06:40Z".parse().unwrap()), "2026-11-18 11:06 UTC");
    }
}
