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
        usage.tasks.spawn(repeat(audit, metrics));
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

/// Snapshots for as long as the agent runs.
async fn repeat(audit: Audit, metrics: Metrics) {
    let mut turns = interval_at(Instant::now() + EVERY, EVERY);
    for turn in 1_u32.. {
        turns.tick().await;
        if turn.is_multiple_of(WHOLE) {
            audit.ledger().retell();
        }
        tell(&audit, &metrics).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Journal, Settings, event::RuleRef, journal},
        name::{RuleName, WorkloadName},
    };
    use tokio::time::sleep;

    fn settings(dir: &std::path::Path) -> Settings {
        Settings {
            mode: AuditMode::Buffered,
            journal: Journal {
                dir: dir.to_owned(),
                max_size: 8 * 1024 * 1024,
                segment: 1024 * 1024,
                retain: Duration::ZERO,
            },
            sinks: Vec::new(),
            workloads: 1,
            source: "urn:claviger:test".into(),
            pod: None,
            hash_paths: false,
            fingerprint_key: None,
            checkpoints: None,
            handoff: None,
        }
    }

    /// Waits for so many snapshots: time stands still while somebody is busy.
    async fn wait_for(dir: &std::path::Path, snapshots: usize) {
        loop {
            let texts = journal::read(dir).unwrap().map(|(_, bytes)| String::from_utf8(bytes).unwrap());
            let found = texts.filter(|text| text.contains("usage.snapshot.v1")).count();
            assert!(found <= snapshots, "{found} snapshots");
            if found == snapshots {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_is_on_record_every_ten_minutes_if_anything_was_and_whole_once_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(&settings(dir.path()), |_| {}).unwrap();
        let mut event = Event::new(Type::SecretRead, Outcome::Allow, clock::now());
        event.workload = Some(WorkloadName::new("job").unwrap());
        let name = RuleName::new("keys").unwrap();
        event.rule = Some(RuleRef { name, revision: "sha256:77ab".into(), mode: AuditMode::Buffered });
        audit.record(event.clone(), AuditMode::Buffered).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(repeat(audit.clone(), Metrics::new()));
        tokio::task::yield_now().await;
        sleep(EVERY - Duration::from_secs(1)).await;
        wait_for(dir.path(), 0).await;
        sleep(Duration::from_secs(2)).await;
        wait_for(dir.path(), 1).await;
        // Nothing was used since.
        sleep(EVERY * 3).await;
        wait_for(dir.path(), 1).await;
        audit.record(event, AuditMode::Buffered).await.unwrap();
        sleep(EVERY).await;
        wait_for(dir.path(), 2).await;
        sleep(EVERY * WHOLE).await;
        wait_for(dir.path(), 3).await;
    }
}
