//! What sinks have not delivered when the agent ends: counted, and handed over in Vault if the config asks for it.
//!
//! Does not read the journal or call Vault itself: `audit::handoff` does.

use super::kept::Kept;
use crate::{
    audit::{
        self, Audit,
        handoff::{Given, Handoff, Held},
        sink::{Lags, Settings, counted},
    },
    vault::Vault,
};
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout, timeout_at},
};

/// How long sinks may take to deliver what was just recorded before it counts as undelivered.
const SETTLE: Duration = Duration::from_millis(200);
/// How often their lag is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// How long the sinks wait at the start for what earlier agents handed over.
const TAKE_WITHIN: Duration = Duration::from_secs(10);

/// The handoff from earlier agents, and to the next one.
pub(super) struct Running {
    audit: Audit,
    vault: Vault,
    held: Held,
    /// While it runs, the sinks wait.
    taking: JoinSet<()>,
    forgetting: JoinSet<()>,
}

impl Running {
    /// Begins to take over what earlier agents of the workload handed over, if `settings` say where.
    pub(super) fn start(settings: &audit::Settings, audit: &Audit, (kept, vault): (&Kept, &Vault)) -> Self {
        let mut running = Self {
            audit: audit.clone(),
            vault: vault.clone(),
            held: Held::default(),
            taking: JoinSet::new(),
            forgetting: JoinSet::new(),
        };
        if let Some(handoff) = running.handoff(settings, kept) {
            let sinks = settings.sinks.clone();
            running.taking.spawn(async move {
                match timeout(TAKE_WITHIN, handoff.take(&sinks)).await {
                    Ok(Ok(0)) => {}
                    Ok(Ok(events)) => tracing::info!(events, "audit events of earlier agents are taken over"),
                    Ok(Err(error)) => {
                        tracing::warn!(error = %chain(&error), "what earlier agents handed over stays in Vault");
                    }
                    Err(_) => tracing::warn!("what earlier agents handed over waits in Vault for the next start"),
                }
            });
        }
        running
    }

    /// Whether the sinks may not begin yet.
    pub(super) fn is_taking(&self) -> bool {
        !self.taking.is_empty()
    }

    /// Waits until the sinks may begin; for ever if they did.
    pub(super) async fn taken(&mut self) {
        if self.taking.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    /// The sinks begin: what they have of it is deleted in Vault.
    pub(super) fn forget(&mut self, settings: &audit::Settings, kept: &Kept) {
        self.taking.abort_all();
        if let Some(handoff) = self.handoff(settings, kept) {
            let sinks = settings.sinks.clone();
            self.forgetting.spawn(async move { handoff.forget(&sinks).await });
        }
    }

    /// Hands over what the sinks do not have, before `until`; the tokens must still live.
    pub(super) async fn give(
        &mut self,
        settings: &audit::Settings,
        kept: &Kept,
        lags: &Lags,
        until: Instant,
    ) {
        self.forgetting.shutdown().await;
        let Some(handoff) = self.handoff(settings, kept) else { return };
        if undelivered(lags, &settings.sinks).await == 0 {
            return;
        }
        let mut given = Given::default();
        let ended = timeout_at(until, handoff.give(&settings.sinks, &mut given)).await;
        let Given { events, parts } = given;
        match ended {
            Ok(Ok(())) => tracing::info!(events, parts, "undelivered audit events are handed over in Vault"),
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::error!(
                    error,
                    events,
                    parts,
                    "only the first undelivered audit events are handed over"
                );
            }
            Err(_) => tracing::error!(events, parts, "no time to hand over all undelivered audit events"),
        }
    }

    fn handoff(&self, settings: &audit::Settings, kept: &Kept) -> Option<Handoff> {
        let wanted = settings.handoff.as_ref()?;
        let way = (self.vault.clone(), kept.identity(&wanted.identity)?);
        Some(Handoff::new(&self.audit, wanted, &settings.source, self.held.clone(), way))
    }
}

fn chain(error: &audit::handoff::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// How many events the slowest of the `sinks` that count has not delivered; waits a moment for none.
pub(super) async fn undelivered(lags: &Lags, sinks: &[Settings]) -> u64 {
    let count = || {
        let lags = lags.read();
        let counted = counted(sinks);
        lags.iter().filter(|(name, _)| counted.contains(name)).map(|(_, lag)| *lag).max().unwrap_or(0)
    };
    let all = async {
        let mut looks = interval(LOOK);
        while count() > 0 {
            looks.tick().await;
        }
    };
    if timeout(SETTLE, all).await.is_ok() { 0 } else { count() }
}
