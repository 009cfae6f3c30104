//! How many findings the last report has, for metrics.
//!
//! Nothing is there before the first report; then each finding that there can be has its number, 0 too.

use super::metrics::add;
use prometheus_client::{encoding::EncodeLabelSet, registry::Registry};

/// How many findings of one kind are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingGauge {
    /// `KA001`.
    pub id: String,
    /// `low`, `medium`, `high`, `critical`.
    pub severity: &'static str,
    /// How many.
    pub open: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finding {
    id: String,
    severity: &'static str,
}

impl FindingGauge {
    pub(super) fn register(all: &[Self], registry: &mut Registry) {
        let of = |gauge: &Self| Finding { id: gauge.id.clone(), severity: gauge.severity };
        let open = all.iter().map(|gauge| (of(gauge), f64::from(gauge.open)));
        add(registry, "key_findings", "Findings of the last report on keys and permissions", open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{Gauges, Metrics};

    #[test]
    fn a_finding_is_counted_under_its_id_and_severity_and_nothing_is_before_the_first_report() {
        let gauge = FindingGauge { id: "KA016".into(), severity: "high", open: 2 };
        let text = Metrics::new().scrape(&Gauges { findings: vec![gauge], ..Gauges::default() });
        let expected = r#"key_findings{id="KA016",severity="high"} 2.0"#;
        assert!(text.lines().any(|line| line == expected), "{text}");
        assert!(!Metrics::new().scrape(&Gauges::default()).contains("KA0"));
    }
}
