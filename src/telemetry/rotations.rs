//! What is counted and measured of rotations.
//!
//! Labels are names of the config and words of closed sets.

use super::metrics::{Metrics, add};
use crate::name::RotationName;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::time::Duration;

/// What is counted.
#[derive(Debug)]
pub struct Rotations {
    promoted: Family<Rotation, Counter>,
    failures: Family<Failure, Counter>,
    skipped: Family<Skip, Counter>,
    transitions: Family<Rotation, Counter>,
    drift: Family<Rotation, Counter>,
    stale: Family<Rotation, Counter>,
    gaps: Gaps,
    phases: Family<Phase, Histogram, fn() -> Histogram>,
}

type Gaps = Family<Rotation, Histogram, fn() -> Histogram>;

/// 10 ms to 32 days: from a step on a local system to a grace.
fn phase() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 4.0, 15))
}

/// 10 ms to 41 s: a local database, to a Vault that is away.
fn gap() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 13))
}

impl Default for Rotations {
    fn default() -> Self {
        Self {
            promoted: Family::default(),
            failures: Family::default(),
            skipped: Family::default(),
            transitions: Family::default(),
            drift: Family::default(),
            stale: Family::default(),
            phases: Family::new_with_constructor(phase as fn() -> Histogram),
            gaps: Family::new_with_constructor(gap as fn() -> Histogram),
        }
    }
}

/// How one rotation stands at the moment of a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationGauge {
    /// Which.
    pub name: RotationName,
    /// The word of its phase.
    pub phase: &'static str,
    /// Since its last promotion, else since its journal was made.
    pub age: Duration,
    /// When the next run begins, in seconds since 1970.
    pub next: Option<i64>,
    /// Acks that are missing.
    pub unacked: Option<u32>,
    /// A person lets no run begin.
    pub suspended: bool,
    /// The age that makes a run due.
    pub max_age: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rotation {
    rotation: RotationName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    rotation: RotationName,
    phase: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Skip {
    rotation: RotationName,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    rotation: RotationName,
    phase: &'static str,
}

impl Metrics {
    /// What is counted of rotations.
    #[must_use]
    pub fn rotations(&self) -> &Rotations {
        &self.counted.rotations
    }
}

impl Rotations {
    /// Counts one promotion by this replica, and for how long consumers read before it what no longer worked, if they did.
    pub fn promoted(&self, rotation: &RotationName, gap: Option<Duration>) {
        let labels = Rotation { rotation: rotation.clone() };
        self.promoted.get_or_create(&labels).inc();
        if let Some(gap) = gap {
            self.gaps.get_or_create(&labels).observe(gap.as_secs_f64());
        }
    }

    /// Counts one step that failed.
    pub fn failed(&self, rotation: &RotationName, phase: &'static str, reason: &'static str) {
        self.failures.get_or_create(&Failure { rotation: rotation.clone(), phase, reason }).inc();
    }

    /// Counts one slot without a run.
    pub fn skipped(&self, rotation: &RotationName, reason: &'static str) {
        self.skipped.get_or_create(&Skip { rotation: rotation.clone(), reason }).inc();
    }

    /// Counts one run that this replica took over from another.
    pub fn taken_over(&self, rotation: &RotationName) {
        self.transitions.get_or_create(&Rotation { rotation: rotation.clone() }).inc();
    }

    /// Counts that a system was found not to accept what consumers read.
    pub fn drifted(&self, rotation: &RotationName) {
        self.drift.get_or_create(&Rotation { rotation: rotation.clone() }).inc();
    }

    /// Counts one read that got the value before a promoted one.
    pub fn stale_read(&self, rotation: &RotationName) {
        self.stale.get_or_create(&Rotation { rotation: rotation.clone() }).inc();
    }

    /// How long one phase of a run lasted.
    pub fn passed(&self, rotation: &RotationName, phase: &'static str, took: Duration) {
        let labels = Phase { rotation: rotation.clone(), phase };
        self.phases.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("rotation_promotions", "New values that consumers read", self.promoted.clone());
        registry.register("rotation_failures", "Steps that failed", self.failures.clone());
        registry.register("rotation_skipped", "Slots without a run", self.skipped.clone());
        registry.register(
            "rotation_lease_transitions",
            "Runs taken over from another",
            self.transitions.clone(),
        );
        registry.register(
            "rotation_drift",
            "Times that a system was found not to accept what consumers read",
            self.drift.clone(),
        );
        registry.register(
            "rotation_stale_reads",
            "Reads that got the value before a promoted one",
            self.stale.clone(),
        );
        registry.register(
            "rotation_duration_seconds",
            "How long a phase of a run lasted",
            self.phases.clone(),
        );
        registry.register(
            "rotation_gap_seconds",
            "From the change of the one password of a user to the promotion of its new value",
            self.gaps.clone(),
        );
    }
}

impl RotationGauge {
    pub(super) fn register(all: &[Self], registry: &mut Registry) {
        let of = |gauge: &Self| Rotation { rotation: gauge.name.clone() };
        let phases =
            all.iter().map(|gauge| (Phase { rotation: gauge.name.clone(), phase: gauge.phase }, 1.0));
        add(registry, "rotation_phase", "1 for the phase that a rotation is in", phases);
        let ages = all.iter().map(|gauge| (of(gauge), gauge.age.as_secs_f64()));
        add(registry, "rotation_age_seconds", "Since the last promotion", ages);
        let next = all.iter().filter_map(|gauge| Some((of(gauge), gauge.next? as f64)));
        add(registry, "rotation_next_timestamp", "When the next run begins", next);
        let unacked = all.iter().filter_map(|gauge| Some((of(gauge), f64::from(gauge.unacked?))));
        add(registry, "rotation_unacked_consumers", "Acks that the end of the grace waits for", unacked);
        let most = all.iter().filter_map(|gauge| Some((of(gauge), gauge.max_age?.as_secs_f64())));
        add(registry, "rotation_max_age_seconds", "The age that makes a run due, as the config says", most);
        let suspended = all.iter().map(|gauge| (of(gauge), if gauge.suspended { 1.0 } else { 0.0 }));
        add(registry, "rotation_suspended", "1 while a person lets no run begin", suspended);
        let orphaned = all.iter().map(|gauge| (of(gauge), if gauge.phase == "orphaned" { 1.0 } else { 0.0 }));
        add(registry, "rotation_orphaned", "1 while a rotation waits for a person", orphaned);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::metrics::Gauges, *};

    #[test]
    fn every_name_is_the_one_that_dashboards_use() {
        let metrics = Metrics::new();
        let name = RotationName::new("webhook").unwrap();
        metrics.rotations().promoted(&name, Some(Duration::from_millis(30)));
        metrics.rotations().failed(&name, "pending", "conflict");
        metrics.rotations().skipped(&name, "missed");
        metrics.rotations().taken_over(&name);
        metrics.rotations().drifted(&name);
        metrics.rotations().stale_read(&name);
        metrics.rotations().passed(&name, "pending", Duration::from_millis(30));
        let gauge = RotationGauge {
            name,
            phase: "grace",
            age: Duration::from_secs(60),
            next: Some(1_795_000_000),
            unacked: Some(2),
            suspended: true,
            max_age: Some(Duration::from_secs(3600)),
        };
        let text = metrics.scrape(&Gauges { rotations: vec![gauge], ..Gauges::default() });
        for expected in [
            r#"rotation_promotions_total{rotation="webhook"} 1"#,
            r#"rotation_gap_seconds_count{rotation="webhook"} 1"#,
            r#"rotation_failures_total{rotation="webhook",phase="pending",reason="conflict"} 1"#,
            r#"rotation_skipped_total{rotation="webhook",reason="missed"} 1"#,
            r#"rotation_lease_transitions_total{rotation="webhook"} 1"#,
            r#"rotation_drift_total{rotation="webhook"} 1"#,
            r#"rotation_stale_reads_total{rotation="webhook"} 1"#,
            r#"rotation_duration_seconds_count{rotation="webhook",phase="pending"} 1"#,
            r#"rotation_phase{rotation="webhook",phase="grace"} 1.0"#,
            r#"rotation_age_seconds{rotation="webhook"} 60.0"#,
            r#"rotation_next_timestamp{rotation="webhook"} 1795000000.0"#,
            r#"rotation_unacked_consumers{rotation="webhook"} 2.0"#,
            r#"rotation_suspended{rotation="webhook"} 1.0"#,
            r#"rotation_max_age_seconds{rotation="webhook"} 3600.0"#,
            r#"rotation_orphaned{rotation="webhook"} 0.0"#,
        ] {
            assert!(text.lines().any(|line| line == expected), "no `{expected}` in\n{text}");
        }
    }
}
