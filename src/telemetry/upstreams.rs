//! What is counted and measured of calls of other APIs.
//!
//! Labels are names of the config and words of closed sets. What was refused before it was sent is among the requests.

use super::metrics::Metrics;
use crate::name::{RuleName, UpstreamName};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::time::Duration;

/// What is counted. A call that was tried twice counts twice.
#[derive(Debug)]
pub struct Upstreams {
    calls: Family<Ending, Counter>,
    in_flight: Family<Call, Gauge>,
    first_byte: Family<Call, Histogram>,
    masked: Family<Call, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    upstream: UpstreamName,
    rule: RuleName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    upstream: UpstreamName,
    rule: RuleName,
    outcome: &'static str,
    reason: Option<&'static str>,
}

impl Metrics {
    /// What is counted of calls of other APIs.
    #[must_use]
    pub fn upstreams(&self) -> &Upstreams {
        &self.counted.upstreams
    }
}

impl Default for Upstreams {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            in_flight: Family::default(),
            // 1 ms to 65 s: from an API next door to a model that thinks.
            first_byte: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 9))),
            masked: Family::default(),
        }
    }
}

impl Upstreams {
    /// One call is about to be sent.
    pub fn began(&self, upstream: &UpstreamName, rule: &RuleName) {
        self.in_flight.get_or_create(&call(upstream, rule)).inc();
    }

    /// The head of its answer came.
    pub fn heard(&self, upstream: &UpstreamName, rule: &RuleName, after: Duration) {
        self.first_byte.get_or_create(&call(upstream, rule)).observe(after.as_secs_f64());
    }

    /// It ended: outcome and reason, and how often the key was masked in its answer.
    pub fn ended(
        &self,
        upstream: &UpstreamName,
        rule: &RuleName,
        (outcome, reason): (&'static str, Option<&'static str>),
        masked: u64,
    ) {
        let of = call(upstream, rule);
        self.in_flight.get_or_create(&of).dec();
        self.masked.get_or_create(&of).inc_by(masked);
        let Call { upstream, rule } = of;
        self.calls.get_or_create(&Ending { upstream, rule, outcome, reason }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("claviger_upstream_calls", "Calls that were sent and ended", self.calls.clone());
        registry.register("claviger_upstream_in_flight", "Calls without an end yet", self.in_flight.clone());
        registry.register(
            "claviger_upstream_first_byte_seconds",
            "From a call's intent on disk to its answer's head",
            self.first_byte.clone(),
        );
        registry.register(
            "claviger_upstream_masked",
            "Times that a key was masked in an answer",
            self.masked.clone(),
        );
    }
}

fn call(upstream: &UpstreamName, rule: &RuleName) -> Call {
    Call { upstream: upstream.clone(), rule: rule.clone() }
}

#[cfg(test)]
mod tests {
    use super::{super::metrics::Gauges, *};

    #[test]
    fn every_name_is_the_one_that_dashboards_use() {
        let metrics = Metrics::new();
        let (upstream, rule) = (UpstreamName::new("stripe").unwrap(), RuleName::new("charges").unwrap());
        let calls = metrics.upstreams();
        for _ in 0..3 {
            calls.began(&upstream, &rule);
        }
        calls.heard(&upstream, &rule, Duration::from_millis(3));
        calls.ended(&upstream, &rule, ("allow", None), 2);
        calls.ended(&upstream, &rule, ("error", Some("client_gone")), 0);
        let text = metrics.scrape(&Gauges::default());
        for expected in [
            r#"claviger_upstream_calls_total{upstream="stripe",rule="charges",outcome="allow",reason=""} 1"#,
            r#"claviger_upstream_calls_total{upstream="stripe",rule="charges",outcome="error",reason="client_gone"} 1"#,
            r#"claviger_upstream_in_flight{upstream="stripe",rule="charges"} 1"#,
            r#"claviger_upstream_first_byte_seconds_bucket{upstream="stripe",rule="charges",le="0.004"} 1"#,
            r#"claviger_upstream_first_byte_seconds_bucket{upstream="stripe",rule="charges",le="0.001"} 0"#,
            r#"claviger_upstream_masked_total{upstream="stripe",rule="charges"} 2"#,
        ] {
            assert!(text.lines().any(|line| line == expected), "no `{expected}` in\n{text}");
        }
    }
}
