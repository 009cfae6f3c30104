//! Alerts and dashboard: they ask for nothing that the agent does not measure.

use crate::helm::{CHART, root};
use std::{collections::BTreeSet, fs};

/// The words of a text that could be names of our metrics.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("claviger_") || word.starts_with("audit_")).collect()
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_is_one_of_the_agent() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let source = read("src/telemetry/metrics.rs");
    let registered: BTreeSet<&str> = metrics(&source);
    for file in ["files/rules.yaml", "files/dashboard.json"] {
        let text = read(&format!("{CHART}/{file}"));
        let found = metrics(&text);
        assert!(found.len() > 8, "{file}: {found:?}");
        for name in found {
            let base =
                ["_total", "_bucket", "_info"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(registered.contains(base), "{file} asks for {name}, which the agent does not have");
        }
    }
}

#[test]
fn every_alert_has_a_severity_and_a_sentence_for_whoever_is_woken() {
    let rules = crate::helm::yaml(&fs::read_to_string(root().join(CHART).join("files/rules.yaml")).unwrap());
    for rule in rules.as_array().unwrap() {
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
        assert!(rule["annotations"]["summary"].as_str().unwrap().contains("{{ $labels.pod }}"), "{rule}");
    }
}
