//! What an event says of a report on keys and permissions, and of one thing that it found. Pure.
//!
//! Does not judge: `report` does.

use super::pen::Pen;
use crate::clock::Timestamp;

/// A report, or one finding of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRef {
    /// From when on use counted.
    pub since: Timestamp,
    /// What was found; `None` in the event of the report itself.
    pub found: Option<Found>,
    /// In the event of the report itself: how many findings of each severity, in the order of the words.
    pub counts: Vec<(&'static str, u64)>,
    /// In the event of the report itself: findings that could not be looked for.
    pub unjudged: Vec<String>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `KA001`.
    pub id: String,
    /// `low`, `medium`, `high`, `critical`.
    pub severity: &'static str,
    /// What it is, in few words.
    pub title: &'static str,
    /// What it is about.
    pub about: String,
    /// What shows it.
    pub evidence: Vec<String>,
    /// What mends it, in words.
    pub fix: String,
    /// When it was last used.
    pub last: Option<Timestamp>,
    /// How many privileges nobody uses.
    pub unused: Option<u64>,
}

impl ReportRef {
    /// OpenTelemetry's number of the finding's severity.
    pub(super) fn severity(&self) -> Option<u64> {
        self.found.as_ref().map(|found| match found.severity {
            "critical" => 21,
            "high" => 17,
            "medium" => 13,
            _ => 9,
        })
    }
}

pub(super) fn write_report(pen: &mut Pen<'_>, report: &ReportRef) {
    let ReportRef { since, found, counts, unjudged } = report;
    if let Some(found) = found {
        pen.text("about", Some(&found.about));
    }
    pen.object("counts", Some(counts).filter(|counts| !counts.is_empty()), |pen, counts| {
        for (severity, count) in counts {
            pen.number(severity, Some(*count));
        }
    });
    if let Some(Found { id, severity, title, about: _, evidence, fix, last, unused }) = found {
        pen.list("evidence", evidence);
        pen.text("fix", Some(fix));
        pen.quoted("id", id);
        if let Some(last) = last {
            pen.quoted("last_used", format_args!("{last:.0}"));
        }
        pen.quoted("severity", severity);
        pen.quoted("since", format_args!("{since:.0}"));
        pen.quoted("title", title);
        pen.number("unused", *unused);
    } else {
        pen.quoted("since", format_args!("{since:.0}"));
        pen.list("unjudged", unjudged);
    }
}
