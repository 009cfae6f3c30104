//! A report as somebody or something reads it. Pure.

mod html;
mod json;
mod markdown;
mod ocsf;
mod plot;
mod sarif;

use super::{Policy, Report};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people, and for pull requests.
    Markdown,
    /// For programs: everything.
    Json,
    /// SARIF 2.1.0, for what shows findings beside code.
    Sarif,
    /// OCSF 1.9, class 2008: one event a line.
    Ocsf,
    /// The policies alone, for `vault policy write`.
    Hcl,
    /// One page that needs nothing else.
    Html,
}

impl Format {
    /// The word of the command line, and what it means.
    pub const WORDS: &[(&str, Self)] = &[
        ("md", Self::Markdown),
        ("json", Self::Json),
        ("sarif", Self::Sarif),
        ("ocsf", Self::Ocsf),
        ("hcl", Self::Hcl),
        ("html", Self::Html),
    ];

    /// The whole text.
    #[must_use]
    pub fn render(self, report: &Report) -> String {
        match self {
            Self::Markdown => markdown::render(report),
            Self::Json => json::render(report),
            Self::Sarif => sarif::render(report),
            Self::Ocsf => ocsf::render(report),
            Self::Hcl => hcl(report),
            Self::Html => html::render(report),
        }
    }
}

/// Each policy with the proof that it suffices; one that does not is not shown.
fn hcl(report: &Report) -> String {
    let one = |policy: &Policy| {
        let proof = proof(policy);
        let text = if policy.denied.is_empty() { policy.hcl.as_str() } else { "" };
        format!("# {proof}\n{text}")
    };
    report.policies.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// What trying a policy showed.
fn proof(policy: &Policy) -> String {
    let (denied, requests) = (policy.denied.len(), policy.requests);
    let mut text = format!("{denied} of {requests} recorded requests would be denied.");
    if denied > 0 {
        text.push_str(" So the policy is not shown. Denied: ");
        text.push_str(&policy.denied.join(", "));
    }
    text
}

/// Minutes are enough for people.
fn minute(time: crate::clock::Timestamp) -> String {
    let text = day(time);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().to_owned();
    format!("{} {} UTC", part(0..10), part(11..16))
}

/// Seconds are enough for programs.
fn day(time: crate::clock::Timestamp) -> String {
    format!("{time:.0}")
}

/// What the report is made from, in one sentence.
fn basis(report: &Report) -> String {
    let (chains, events) = report.read;
    let agents = report.sources.len();
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let span = report
        .span
        .map_or("nothing".to_owned(), |(first, last)| format!("{} to {}", minute(first), minute(last)));
    let mut text = format!(
        "Made {} for the use since {}, of config {}; the record: {} in {} of {}, which speak of {span}.",
        minute(report.now),
        minute(report.since),
        report.revision,
        count(usize::try_from(events).unwrap_or(usize::MAX), "event"),
        count(chains, "start"),
        count(agents, "agent"),
    );
    if let Some((processes, files)) = report.looked {
        let processes = usize::try_from(processes).unwrap_or(usize::MAX);
        text.push_str(&format!(
            " Values were looked for in {} and {}.",
            if processes == 1 { "1 process".to_owned() } else { format!("{processes} processes") },
            count(usize::try_from(files).unwrap_or(usize::MAX), "file"),
        ));
    }
    if report.overflow > 0 {
        text.push_str(&format!(
            " {} uses found no room in a ledger: what is called unused may have been used.",
            report.overflow
        ));
    }
    text
}
