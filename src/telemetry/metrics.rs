//! What is counted and measured, and the text that `/metrics` gives of it.
//!
//! Labels come from closed sets of words and from names of the config: no lease id, no path, no secret, nothing that a peer
//! can make up. What runs out is computed at the moment of the scrape, so nothing has to keep it up to date.

pub(super) use super::labels::add;

use super::{
    approvals::{self, Approvals},
    findings::FindingGauge,
    forwarded::{self, Forwarded},
    rotations::{RotationGauge, Rotations},
    upstreams::Upstreams,
};
use crate::name::{ApprovalName, IdentityName, RuleName, SecretName, SinkName, WorkloadName};
use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// The `Content-Type` of [`Metrics::scrape`]: Prometheus' text format 0.0.4.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Everything that is counted. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) counted: Arc<Counted>,
    registry: Arc<Registry>,
}

/// One answered request. The words come from the closed sets of the modules that decide them.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Whose socket it came in by.
    pub workload: &'a WorkloadName,
    /// `allow`, `deny` or `error`.
    pub outcome: &'static str,
    /// Why not, if not.
    pub reason: Option<&'static str>,
    /// Which rule matched, if one did.
    pub rule: Option<&'a RuleName>,
    /// How surely the peer was known, if it was known at all.
    pub level: Option<&'static str>,
    /// From the request's arrival until its event was on disk; `None` for what made no event.
    pub took: Option<Duration>,
}

/// What is true at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Each identity, and how long its token still lives; `None` without a token, or for one that never ends.
    pub tokens: Vec<(IdentityName, Option<Duration>)>,
    /// Each secret that is kept.
    pub secrets: Vec<SecretGauge>,
    /// Each secret that is a token for each process, and how many processes have one.
    pub processes: Vec<(SecretName, u64)>,
    /// Each workload, and what it has of Vault's API.
    pub forwarded: Vec<(WorkloadName, Forwarded)>,
    /// Open connections of each workload.
    pub connections: Vec<(WorkloadName, u64)>,
    /// How often each workload's socket was removed or replaced and bound again, since the start.
    pub rebinds: Vec<(WorkloadName, u64)>,
    /// By how much Vault's clock is ahead of ours.
    pub skew_ms: i64,
    /// Size of the journal on disk.
    pub journal_bytes: u64,
    /// Fsyncs of the journal that failed, since the start.
    pub fsync_errors: u64,
    /// Events that were lost to damage, as `audit.gap` says, since the start.
    pub gap_events: u64,
    /// Since the oldest event in the journal happened; `None` while there is none.
    pub journal_oldest: Option<Duration>,
    /// Since the newest checkpoint, or since they began; `None` where none are made.
    pub checkpoint_age: Option<Duration>,
    /// Each sink, and how many events of the journal it has not delivered.
    pub sink_lags: Vec<(SinkName, u64)>,
    /// Each approval, and how many requests wait for it.
    pub approvals: Vec<(ApprovalName, u64)>,
    /// Each thing that is rotated.
    pub rotations: Vec<RotationGauge>,
    /// What the last report on keys and permissions found.
    pub findings: Vec<FindingGauge>,
}

/// One secret at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct SecretGauge {
    /// Which.
    pub name: SecretName,
    /// Since Vault confirmed the newest value; `None` while nothing valid is in hand, which is what `ready` says.
    pub age: Option<Duration>,
    /// How long its lease still lives; `None` for what has no end.
    pub left: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Counted {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<Workload, Histogram>,
    token_renewals: Family<IdentityOutcome, Counter>,
    logins: Family<IdentityOutcome, Counter>,
    lease_renewals: Family<SecretOutcome, Counter>,
    reloads: Family<Outcome, Counter>,
    audit_events: Family<EventLabels, Counter>,
    audit_denied: Family<Reason, Counter>,
    audit_commit: Histogram,
    sink_delivery: Family<Sink, Histogram>,
    sink_errors: Family<SinkCode, Counter>,
    dead_letters: Counter,
    pub(super) rotations: Rotations,
    pub(super) approvals: Approvals,
    pub(super) upstreams: Upstreams,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let counted = Counted {
            requests: Family::default(),
            // 50 us to 13 s: from a value in hand to a value that Vault had to be asked for.
            request_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_05, 4.0, 10))
            }),
            token_renewals: Family::default(),
            logins: Family::default(),
            lease_renewals: Family::default(),
            reloads: Family::default(),
            audit_events: Family::default(),
            audit_denied: Family::default(),
            // 100 us to 1.6 s: one fdatasync, on a good disk to a dying one.
            audit_commit: Histogram::new(exponential_buckets(0.000_1, 2.0, 15)),
            // 100 us to 26 s: a line on a pipe, to a receiver that is given up.
            sink_delivery: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_1, 4.0, 10))
            }),
            sink_errors: Family::default(),
            dead_letters: Counter::default(),
            rotations: Rotations::default(),
            approvals: Approvals::default(),
            upstreams: Upstreams::default(),
        };
        let registry = Arc::new(register(&counted));
        Self { counted: Arc::new(counted), registry }
    }

    /// Counts and times one answered request.
    pub fn request(&self, request: &Request<'_>) {
        let Request { workload, outcome, reason, rule, level, took } = *request;
        let labels =
            RequestLabels { workload: workload.clone(), outcome, reason, rule: rule.cloned(), level };
        self.counted.requests.get_or_create(&labels).inc();
        let labels = Workload { workload: workload.clone() };
        if let Some(took) = took {
            self.counted.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// Counts one attempt to renew a token.
    pub fn token_renewed(&self, identity: &IdentityName, outcome: &'static str) {
        let labels = IdentityOutcome { identity: identity.clone(), outcome };
        self.counted.token_renewals.get_or_create(&labels).inc();
    }

    /// Counts one attempt to log in.
    pub fn logged_in(&self, identity: &IdentityName, outcome: &'static str) {
        self.counted.logins.get_or_create(&IdentityOutcome { identity: identity.clone(), outcome }).inc();
    }

    /// Counts one attempt to renew a lease.
    pub fn lease_renewed(&self, secret: &SecretName, outcome: &'static str) {
        self.counted.lease_renewals.get_or_create(&SecretOutcome { secret: secret.clone(), outcome }).inc();
    }

    /// Counts one reading of a changed config: `loaded` or `rejected`.
    pub fn config_reloaded(&self, outcome: &'static str) {
        self.counted.reloads.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts one event that is on disk, by the word of its type.
    pub fn audit_recorded(&self, kind: &'static str, outcome: &'static str) {
        self.counted.audit_events.get_or_create(&EventLabels { r#type: kind, outcome }).inc();
    }

    /// Counts one request that was refused because its event could not be put on disk.
    pub fn audit_denied(&self, reason: &'static str) {
        self.counted.audit_denied.get_or_create(&Reason { reason }).inc();
    }

    /// Times one commit of a group of events.
    pub fn audit_committed(&self, took: Duration) {
        self.counted.audit_commit.observe(took.as_secs_f64());
    }

    /// Times one delivery of events to a sink's receiver.
    pub fn sink_delivered(&self, sink: &SinkName, took: Duration) {
        self.counted.sink_delivery.get_or_create(&Sink { sink: sink.clone() }).observe(took.as_secs_f64());
    }

    /// Counts one delivery that failed: an HTTP status, or a word of a closed set.
    pub fn sink_failed(&self, sink: &SinkName, code: &str) {
        let labels = SinkCode { sink: sink.clone(), code: code.to_owned() };
        self.counted.sink_errors.get_or_create(&labels).inc();
    }

    /// Counts events that a receiver refused for good.
    pub fn dead_letters(&self, events: u64) {
        self.counted.dead_letters.inc_by(events);
    }

    /// Everything as text, of type [`CONTENT_TYPE`].
    #[must_use]
    pub fn scrape(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        // Writing to a String fails only when a label refuses to be written, and ours do not.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        let _ = prometheus_text::encode(&mut text, &register_gauges(gauges));
        text
    }
}

fn register(counted: &Counted) -> Registry {
    let Counted {
        requests,
        request_seconds,
        token_renewals,
        logins,
        lease_renewals,
        reloads,
        audit_events,
        audit_denied,
        audit_commit,
        sink_delivery,
        sink_errors,
        dead_letters,
        rotations,
        approvals,
        upstreams,
    } = counted;
    let mut registry = Registry::default();
    let build = Build { version: env!("CARGO_PKG_VERSION"), tls: crate::telemetry::TLS };
    // The encoder adds `_info` and `_total` to these names, and a full stop to the texts.
    registry.register("claviger_build", "What runs", Info::new(build));
    registry.register("claviger_requests", "Answered requests", requests.clone());
    registry.register("claviger_request_seconds", "From arrival to answer", request_seconds.clone());
    registry.register("claviger_token_renewals", "Attempts to renew a token", token_renewals.clone());
    registry.register("claviger_logins", "Attempts to log in to Vault", logins.clone());
    registry.register("claviger_lease_renewals", "Attempts to renew a lease", lease_renewals.clone());
    registry.register("claviger_config_reloads", "Readings of a changed config", reloads.clone());
    registry.register("audit_events", "Events on disk", audit_events.clone());
    registry.register("audit_denied_requests", "Requests refused for want of an event", audit_denied.clone());
    registry.register("audit_commit_seconds", "One write and fdatasync of a group", audit_commit.clone());
    registry.register("audit_sink_delivery_seconds", "One delivery of a batch", sink_delivery.clone());
    registry.register("audit_sink_errors", "Deliveries that failed", sink_errors.clone());
    registry.register("audit_dlq", "Events that a receiver refused for good", dead_letters.clone());
    rotations.register(&mut registry);
    approvals.register(&mut registry);
    upstreams.register(&mut registry);
    registry
}

fn register_gauges(gauges: &Gauges) -> Registry {
    let Gauges {
        tokens,
        secrets,
        processes,
        forwarded,
        connections,
        rebinds,
        skew_ms,
        // Of the journal.
        journal_bytes: _,
        fsync_errors: _,
        gap_events: _,
        journal_oldest: _,
        checkpoint_age: _,
        sink_lags: _,
        rotations,
        findings,
        approvals,
    } = gauges;
    let mut registry = Registry::default();
    let left = tokens
        .iter()
        .filter_map(|(name, left)| Some((Token { identity: name.clone() }, (*left)?.as_secs_f64())));
    add(&mut registry, "claviger_token_seconds_left", "Until the token ends", left);
    let secret = |name: &SecretName| Secret { secret: name.clone() };
    let left = secrets.iter().filter_map(|s| Some((secret(&s.name), s.left?.as_secs_f64())));
    add(&mut registry, "claviger_lease_seconds_left", "Until the lease ends", left);
    let age = secrets.iter().filter_map(|s| Some((secret(&s.name), s.age?.as_secs_f64())));
    add(&mut registry, "claviger_secret_age_seconds", "Since Vault confirmed the value", age);
    let ready = secrets.iter().map(|s| (secret(&s.name), if s.age.is_some() { 1.0 } else { 0.0 }));
    add(&mut registry, "claviger_secret_ready", "1 while a valid value is in hand", ready);
    let own = processes.iter().map(|(name, count)| (secret(name), *count as f64));
    add(&mut registry, "claviger_process_tokens", "Processes that have a token of their own", own);
    forwarded::register(&mut registry, forwarded);
    let open = Family::<Workload, Gauge<u64, AtomicU64>>::default();
    for (workload, count) in connections {
        open.get_or_create(&Workload { workload: workload.clone() }).set(*count);
    }
    registry.register("claviger_connections", "Open connections", open);
    let bound = Family::<Workload, Counter>::default();
    for (workload, count) in rebinds {
        bound.get_or_create(&Workload { workload: workload.clone() }).inc_by(*count);
    }
    registry.register("claviger_socket_rebinds", "Times that the socket was lost and bound again", bound);
    let skew = Gauge::<f64, AtomicU64>::default();
    let sign = if *skew_ms < 0 { -1.0 } else { 1.0 };
    skew.set(Duration::from_millis(skew_ms.unsigned_abs()).as_secs_f64().copysign(sign));
    registry.register("claviger_vault_clock_skew_seconds", "How far Vault's clock is ahead of ours", skew);
    register_journal(&mut registry, gauges);
    RotationGauge::register(rotations, &mut registry);
    FindingGauge::register(findings, &mut registry);
    approvals::register_pending(approvals, &mut registry);
    registry
}

fn register_journal(registry: &mut Registry, gauges: &Gauges) {
    let Gauges { journal_bytes, fsync_errors, gap_events, journal_oldest, checkpoint_age, sink_lags, .. } =
        gauges;
    let journal = Gauge::<u64, AtomicU64>::default();
    journal.set(*journal_bytes);
    registry.register("audit_journal_bytes", "Size of the journal on disk", journal);
    let alone = |age: &Option<Duration>| age.map(|age| (Vec::<(String, String)>::new(), age.as_secs_f64()));
    let oldest = alone(journal_oldest).into_iter();
    add(registry, "audit_journal_oldest_seconds", "Since the oldest event in the journal", oldest);
    let signed = alone(checkpoint_age).into_iter();
    add(registry, "audit_checkpoint_age_seconds", "Since the newest checkpoint of the journal", signed);
    let lags = Family::<Sink, Gauge<u64, AtomicU64>>::default();
    for (sink, lag) in sink_lags {
        lags.get_or_create(&Sink { sink: sink.clone() }).set(*lag);
    }
    registry.register("audit_sink_lag_events", "Events in the journal that the sink has not delivered", lags);
    let fsync_errors = ConstCounter::new(*fsync_errors);
    registry.register("audit_fsync_errors", "Failed fsyncs of the journal", fsync_errors);
    registry.register(
        "audit_gap_events",
        "Events lost to damage of the journal",
        ConstCounter::new(*gap_events),
    );
}

macro_rules! labels {
    ($($name:ident { $($field:ident: $of:ty),* $(,)? })*) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: $of),* }
    )*};
}

labels! {
    Build { version: &'static str, tls: &'static str }
    RequestLabels {
        workload: WorkloadName,
        outcome: &'static str,
        reason: Option<&'static str>,
        rule: Option<RuleName>,
        level: Option<&'static str>,
    }
    IdentityOutcome { identity: IdentityName, outcome: &'static str }
    SecretOutcome { secret: SecretName, outcome: &'static str }
    Outcome { outcome: &'static str }
    Reason { reason: &'static str }
    EventLabels { r#type: &'static str, outcome: &'static str }
    Token { identity: IdentityName }
    Secret { secret: SecretName }
    Workload { workload: WorkloadName }
    Sink { sink: SinkName }
    SinkCode { sink: SinkName, code: String }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metrics: &Metrics, gauges: &Gauges, expected: &[&str]) {
        let text = metrics.scrape(gauges);
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "no `{line}` in\n{text}");
        }
    }

    #[test]
    fn requests_are_counted_by_workload_outcome_and_rule() {
        let metrics = Metrics::new();
        let workload = WorkloadName::new("report-job").unwrap();
        let rule = RuleName::new("database").unwrap();
        let good = Request {
            workload: &workload,
            outcome: "allow",
            reason: None,
            rule: Some(&rule),
            level: Some("user"),
            took: Some(Duration::from_micros(100)),
        };
        metrics.request(&good);
        metrics.request(&good);
        metrics.request(&Request { outcome: "deny", reason: Some("no_rule"), rule: None, ..good });
        check(
            &metrics,
            &Gauges::default(),
            &[
                r#"claviger_requests_total{workload="report-job",outcome="allow",reason="",rule="database",level="user"} 2"#,
                r#"claviger_requests_total{workload="report-job",outcome="deny",reason="no_rule",rule="",level="user"} 1"#,
                r#"claviger_request_seconds_bucket{workload="report-job",le="0.0002"} 3"#,
                r#"claviger_request_seconds_bucket{workload="report-job",le="5e-05"} 0"#,
            ],
        );
    }

    #[test]
    fn what_runs_out_is_said_as_of_the_scrape() {
        let gauges = Gauges {
            tokens: vec![
                (IdentityName::new("reports").unwrap(), Some(Duration::from_millis(1500))),
                (IdentityName::new("root").unwrap(), None),
            ],
            secrets: vec![
                SecretGauge {
                    name: SecretName::new("orders-db").unwrap(),
                    age: Some(Duration::from_secs(7)),
                    left: Some(Duration::from_secs(60)),
                },
                SecretGauge { name: SecretName::new("stripe").unwrap(), age: None, left: None },
            ],
            processes: vec![(SecretName::new("ci-token").unwrap(), 2)],
            forwarded: vec![(
                WorkloadName::new("report-job").unwrap(),
                Forwarded { leases: 3, children: 2, held: (4, 500), hits: (6, 7) },
            )],
            connections: vec![(WorkloadName::new("report-job").unwrap(), 3)],
            rebinds: vec![(WorkloadName::new("report-job").unwrap(), 1)],
            skew_ms: -2500,
            journal_bytes: 4096,
            ..Gauges::default()
        };
        let metrics = Metrics::new();
        check(
            &metrics,
            &gauges,
            &[
                r#"claviger_token_seconds_left{identity="reports"} 1.5"#,
                r#"claviger_lease_seconds_left{secret="orders-db"} 60.0"#,
                r#"claviger_secret_age_seconds{secret="orders-db"} 7.0"#,
                r#"claviger_secret_ready{secret="orders-db"} 1.0"#,
                r#"claviger_secret_ready{secret="stripe"} 0.0"#,
                r#"claviger_process_tokens{secret="ci-token"} 2.0"#,
                r#"claviger_forwarded_leases{workload="report-job"} 3"#,
                r#"claviger_forwarded_tokens{workload="report-job"} 2"#,
                r#"claviger_cache_entries{workload="report-job"} 4"#,
                r#"claviger_cache_bytes{workload="report-job"} 500"#,
                r#"claviger_cache_hits_total{workload="report-job"} 6"#,
                r#"claviger_cache_misses_total{workload="report-job"} 7"#,
                r#"claviger_connections{workload="report-job"} 3"#,
                r#"claviger_socket_rebinds_total{workload="report-job"} 1"#,
                "claviger_vault_clock_skew_seconds -2.5",
                "audit_journal_bytes 4096",
            ],
        );
        assert!(!metrics.scrape(&gauges).contains(r#"identity="root""#));
    }

    #[test]
    fn every_name_is_the_one_that_dashboards_use() {
        let metrics = Metrics::new();
        let (identity, secret) = (IdentityName::new("reports").unwrap(), SecretName::new("stripe").unwrap());
        metrics.token_renewed(&identity, "allow");
        metrics.logged_in(&identity, "error");
        metrics.lease_renewed(&secret, "allow");
        metrics.config_reloaded("rejected");
        metrics.audit_recorded("secret.read.v1", "allow");
        metrics.audit_denied("audit_unavailable");
        metrics.audit_committed(Duration::from_millis(1));
        let sink = SinkName::new("siem").unwrap();
        metrics.sink_delivered(&sink, Duration::from_millis(1));
        metrics.sink_failed(&sink, "503");
        metrics.dead_letters(3);
        let build = format!(
            r#"claviger_build_info{{version="{}",tls="{}"}} 1"#,
            env!("CARGO_PKG_VERSION"),
            crate::telemetry::TLS
        );
        check(
            &metrics,
            &Gauges {
                fsync_errors: 1,
                gap_events: 2,
                journal_oldest: Some(Duration::from_secs(60)),
                checkpoint_age: Some(Duration::from_secs(9)),
                sink_lags: vec![(sink, 7)],
                ..Gauges::default()
            },
            &[
                &build,
                r#"claviger_token_renewals_total{identity="reports",outcome="allow"} 1"#,
                r#"claviger_logins_total{identity="reports",outcome="error"} 1"#,
                r#"claviger_lease_renewals_total{secret="stripe",outcome="allow"} 1"#,
                r#"claviger_config_reloads_total{outcome="rejected"} 1"#,
                r#"audit_events_total{type="secret.read.v1",outcome="allow"} 1"#,
                r#"audit_denied_requests_total{reason="audit_unavailable"} 1"#,
                "audit_commit_seconds_count 1",
                "audit_fsync_errors_total 1",
                "audit_gap_events_total 2",
                "audit_journal_oldest_seconds 60.0",
                "audit_checkpoint_age_seconds 9.0",
                r#"audit_sink_lag_events{sink="siem"} 7"#,
                r#"audit_sink_delivery_seconds_count{sink="siem"} 1"#,
                r#"audit_sink_errors_total{sink="siem",code="503"} 1"#,
                "audit_dlq_total 3",
            ],
        );
    }
}
