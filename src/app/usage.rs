//! Puts the ledger of use on record: what changed every ten minutes, everything once a day and at the end.
//!
//! Does not count: the journal does, as it records. Has the reports that are made of it, where the config asks for them.

use super::{exposure::Looker, kept::Kept, ledgers::Ledgers, reports::Reports};
use crate::{
    audit::{
        Audit,
        event::{Event, Outcome, Type},
    },
    clock,
    config::Config,
    policy::rule::AuditMode,
    telemetry::metrics::Metrics,
    vault::Vault,
};
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{Instant, interval_at},
};

/// Between two snapshots.
const EVERY: Duration = Duration::from_secs(600);
/// As many of them until everything is told again, since the journal lets go of what is old.
const WHOLE: u32 = 144;

/// The task that makes snapshots, and the one that makes reports.
pub(super) struct Usage {
    pub(super) reports: Reports,
    pub(super) ledgers: Ledgers,
    audit: Audit,
    metrics: Metrics,
    tasks: JoinSet<()>,
}

impl Usage {
    /// Starts it; the rules of `config` are noted.
    pub(super) fn start(
        config: &Config,
        audit: &Audit,
        (kept, vault, metrics): (&Kept, &Vault, &Metrics),
        looker: Looker,
    ) -> Self {
        let reports = Reports::start(config, audit, (kept, vault, metrics), looker);
        let ledgers = Ledgers::start(config, audit, (kept, vault));
        let (audit, metrics) = (audit.clone(), metrics.clone());
        let mut usage =
            Self { reports, ledgers, audit: audit.clone(), metrics: metrics.clone(), tasks: JoinSet::new() };
        usage.grant(config);
        usage.tasks.spawn(async move {
            let mut turns = interval_at(Instant::now() + EVERY, EVERY);
            for turn in 1_u32.. {
                turns.tick().await;
                if turn.is_multiple_of(WHOLE) {
                    audit.ledger().retell();
                }
                tell(&audit, &metrics).await;
            }
        });
        usage
    }

    /// Goes by a new config from now on.
    pub(super) fn take_over(&mut self, config: &Config) {
        self.grant(config);
        self.reports.take_over(config);
        self.ledgers.take_over(config);
    }

    /// Notes the rules: from now on they are there to be used.
    fn grant(&self, config: &Config) {
        let now = clock::now();
        for workload in &config.workloads {
            for rule in workload.policy.all() {
                self.audit.ledger().grant(workload.policy.workload.as_str(), rule.name.as_str(), now);
            }
        }
    }

    /// The last snapshot, of everything: what was told before may be gone from the journal when it is read.
    pub(super) async fn finish(&mut self) {
        self.tasks.shutdown().await;
        self.audit.ledger().retell();
        tell(&self.audit, &self.metrics).await;
    }
}

/// Puts on record what no snapshot tells yet.
async fn tell(audit: &Audit, metrics: &Metrics) {
    while let Some(part) = audit.ledger().part() {
        let event = Event {
            usage: Some(Box::new(part)),
            ..Event::new(Type::UsageSnapshot, Outcome::Allow, clock::now())
        };
        let (kind, outcome) = (event.kind.word(), event.outcome.word());
        // Never weaker than the disk: the room that is held back is for these.
        match audit.record(event, audit.mode().clamp(AuditMode::Buffered, AuditMode::Strict)).await {
            Ok(_) => metrics.audit_recorded(kind, outcome),
            Err(error) => {
                tracing::warn!(%error, "what was used is not on record; it is told again");
                return audit.ledger().retell();
            }
        }
    }
}
