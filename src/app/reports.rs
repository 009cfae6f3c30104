//! Reports on keys and permissions on a schedule: by the agent's own journal and by what Vault says, as events and as numbers.
//!
//! Does not judge: `report` does. What other pods used is in it where they leave their ledgers in Vault (`report.merge`).

use super::{
    exposure::Looker,
    grants::Asker,
    kept::{Identities, Kept},
    keys::subject,
    ledgers::Folder,
};
use crate::{
    audit::{
        Audit,
        event::{Event, Found, Outcome, ReportRef, Type},
        verify::{Input, export},
    },
    clock::{self, Timestamp},
    config::Config,
    policy::rule::AuditMode,
    report::{
        self, Merge, Report, Terms,
        finding::{Finding, Id, Severity},
        judge,
    },
    telemetry::{findings::FindingGauge, metrics::Metrics},
    usage::reader::Reader,
    vault::{Vault, session::State},
};
use arc_swap::ArcSwap;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, interval_at},
};

/// The first report of a start comes after this long, or sooner: an agent that is restarted each day would never make one.
const FIRST: Duration = Duration::from_secs(600);
/// Findings of one report that are events; of more, their count is in the report's own.
const MOST: usize = 1_000;

/// What the last report found. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<Mutex<Vec<FindingGauge>>>);

impl Board {
    pub(super) fn read(&self) -> Vec<FindingGauge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, gauges: Vec<FindingGauge>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }
}

/// What a report needs beside the config.
#[derive(Clone)]
struct Shared {
    audit: Audit,
    vault: Vault,
    identities: Arc<ArcSwap<Identities>>,
    metrics: Metrics,
    board: Board,
    looker: Looker,
}

/// The task that makes reports, if the config asks for it.
pub(super) struct Reports {
    shared: Shared,
    tasks: JoinSet<()>,
}

impl Reports {
    /// Starts it.
    pub(super) fn start(
        config: &Config,
        audit: &Audit,
        (kept, vault, metrics): (&Kept, &Vault, &Metrics),
        looker: Looker,
    ) -> Self {
        let shared = Shared {
            audit: audit.clone(),
            vault: vault.clone(),
            identities: kept.identities(),
            metrics: metrics.clone(),
            board: Board::default(),
            looker,
        };
        let mut reports = Self { shared, tasks: JoinSet::new() };
        reports.take_over(config);
        reports
    }

    /// Makes reports of this config from now on.
    pub(super) fn take_over(&mut self, config: &Config) {
        self.tasks.abort_all();
        while self.tasks.try_join_next().is_some() {}
        self.shared.looker.set(config.report.as_ref().and_then(|report| report.exposure.as_ref()));
        let Some(settings) = config.report.clone() else { return self.shared.board.set(Vec::new()) };
        let (shared, config) = (self.shared.clone(), config.clone());
        self.tasks.spawn(async move {
            let mut turns = interval_at(Instant::now() + settings.every.min(FIRST), settings.every);
            loop {
                turns.tick().await;
                shared.report(&config, &settings).await;
            }
        });
    }

    /// What the last one found.
    pub(super) fn board(&self) -> Board {
        self.shared.board.clone()
    }

    /// No more reports.
    pub(super) async fn finish(&mut self) {
        self.tasks.shutdown().await;
    }
}

impl Shared {
    async fn report(&self, config: &Config, settings: &report::Settings) {
        if let Some(exposure) = &settings.exposure {
            for event in self.looker.look(exposure).await {
                if !self.record(event).await {
                    return;
                }
            }
        }
        let dir = config.audit.journal.dir.clone();
        let Ok(Some(mut reader)) = spawn_blocking(move || record(&dir)).await else { return };
        let terms = Terms { now: clock::now(), period: settings.since };
        if let Some(merge) = &settings.merge
            && !self.merge(merge, &mut reader, terms.since()).await
        {
            return;
        }
        let (record, _) = reader.finish();
        let subject = subject(config);
        let mut granted = Vec::new();
        for (name, identity) in self.identities.load_full().iter() {
            let session = match &*identity.state.borrow() {
                State::Live(session) => session.clone(),
                State::Starting | State::Down(_) => continue,
            };
            granted.push(Asker::new(&self.vault, &session).own(name, &subject, &record).await);
        }
        let judged = spawn_blocking(move || judge(&subject, &record, &granted, terms)).await;
        if let Ok(report) = judged {
            self.board.set(gauges(&report));
            self.tell(&report).await;
        }
    }

    /// What other pods left in Vault; no, if it cannot be had: a report that takes what they use for unused would mislead.
    async fn merge(&self, merge: &Merge, reader: &mut Reader, since: Timestamp) -> bool {
        let identity = self.identities.load().get(&merge.identity).cloned();
        let Some(State::Live(session)) = identity.map(|identity| identity.state.borrow().clone()) else {
            return false;
        };
        let folder = Folder::new(&self.vault, &session, merge);
        match folder.read(reader, since).await {
            Ok(read) => {
                if read.unread > 0 {
                    tracing::warn!(
                        unread = read.unread,
                        "more ledgers of use are in Vault than a report reads"
                    );
                }
                folder.tidy(read).await;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "no report on keys and permissions: the ledgers of other pods");
                false
            }
        }
    }

    /// Whether it is on record.
    async fn record(&self, event: Event) -> bool {
        let (kind, outcome) = (event.kind.word(), event.outcome.word());
        let mode = self.audit.mode().clamp(AuditMode::Buffered, AuditMode::Strict);
        match self.audit.record(event, mode).await {
            Ok(_) => {
                self.metrics.audit_recorded(kind, outcome);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a report is not on record; the next one will be");
                false
            }
        }
    }

    async fn tell(&self, report: &Report) {
        let events = report.findings.iter().take(MOST).map(|finding| finding_event(report, finding));
        for event in events.chain([report_event(report)]) {
            if !self.record(event).await {
                return;
            }
        }
        tracing::info!(findings = report.findings.len(), "keys and permissions are reported on");
    }
}

/// What the journal says; `None` where it cannot be read, which is what readiness tells.
fn record(dir: &Path) -> Option<Reader> {
    let mut reader = Reader::default();
    match export(&[Input::Path(dir.to_owned())], &mut reader) {
        Ok(_) => Some(reader),
        Err(error) => {
            tracing::warn!(%error, "no report on keys and permissions");
            None
        }
    }
}

fn gauges(report: &Report) -> Vec<FindingGauge> {
    let open = |id: Id| report.findings.iter().filter(|finding| finding.id == id).count();
    let gauge = |id: &Id| FindingGauge {
        id: id.to_string(),
        severity: id.severity().word(),
        open: u32::try_from(open(*id)).unwrap_or(u32::MAX),
    };
    Id::ALL.iter().map(gauge).collect()
}

fn event(kind: Type, about: ReportRef) -> Event {
    Event { report: Some(Box::new(about)), ..Event::new(kind, Outcome::Allow, clock::now()) }
}

fn finding_event(report: &Report, finding: &Finding) -> Event {
    let Finding { id, severity, about, evidence, fix, last, unused } = finding;
    let found = Found {
        id: id.to_string(),
        severity: severity.word(),
        title: id.title(),
        about: about.clone(),
        evidence: evidence.clone(),
        fix: fix.text.clone(),
        last: *last,
        unused: unused.map(|count| count as u64),
    };
    let about =
        ReportRef { since: report.since, found: Some(found), counts: Vec::new(), unjudged: Vec::new() };
    event(Type::ReportFinding, about)
}

fn report_event(report: &Report) -> Event {
    // In the order of the words.
    let all = [Severity::Critical, Severity::High, Severity::Low, Severity::Medium];
    let count =
        |severity| report.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
    let mut unjudged: Vec<String> = report.unjudged.iter().map(|one| one.id.to_string()).collect();
    unjudged.dedup();
    let about = ReportRef {
        since: report.since,
        found: None,
        counts: all.into_iter().map(|severity| (severity.word(), count(severity))).collect(),
        unjudged,
    };
    event(Type::ReportGenerated, about)
}
