//! The report as events of OCSF 1.9, class 2008 (IAM Analysis Finding): one a line. Pure.

use super::Report;
use crate::{
    crypto::{hex, sha256},
    report::finding::{Finding, Severity},
};
use serde_json::{Value, json};

pub(super) fn render(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{}\n", event(report, finding))).collect()
}

fn event(report: &Report, finding: &Finding) -> Value {
    let uid = hex(&sha256(format!("{} {}", finding.id, finding.about).as_bytes()));
    let (severity, word) = match finding.severity {
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    };
    json!({
        "activity_id": 1, "category_uid": 2, "class_uid": 2008, "type_uid": 200_801,
        "time": report.now.as_millisecond(), "severity_id": severity, "severity": word, "status_id": 1,
        "message": format!("{} {}: {}", finding.id, finding.id.title(), finding.about),
        "metadata": {
            "version": "1.9.0", "uid": uid, "log_name": "report",
            "product": {"name": "claviger", "vendor_name": "claviger", "version": env!("CARGO_PKG_VERSION")},
        },
        "finding_info": {
            "uid": uid, "title": finding.id.title(), "desc": finding.evidence.join("; "), "types": [finding.id.to_string()],
            "created_time": report.now.as_millisecond(), "last_seen_time": finding.last.unwrap_or(report.now).as_millisecond(),
        },
        "permission_analysis_results": [{
            "policy": {"name": finding.about}, "unused_privileges_count": finding.unused.unwrap_or(0),
        }],
        "remediation": {"desc": finding.fix.text},
    })
}
