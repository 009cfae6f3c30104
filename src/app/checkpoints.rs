//! Checkpoints of the journal, wired to the identity whose token they use.
//!
//! Does not sign or decide when: `audit::checkpoint` does.

use super::kept::Kept;
use crate::{
    audit::{
        self, Audit,
        checkpoint::{self, Key},
        event::Signed,
    },
    clock::Timestamp,
    telemetry::metrics::Metrics,
    vault::Vault,
};
use anyhow::Context;
use std::time::Duration;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long the end waits for a checkpoint: the journal must be closed whatever becomes of it.
const LAST: Duration = Duration::from_millis(500);

/// Who signs, before the journal is open.
pub(super) struct Planned(Option<Key>);

/// The running task, if the config asks for one.
pub(super) struct Running {
    handle: Option<checkpoint::Checkpoints>,
    tasks: JoinSet<()>,
}

impl Planned {
    /// `since` is before the journal's first event of this start.
    pub(super) fn new(settings: &audit::Settings, since: Timestamp) -> anyhow::Result<Self> {
        let key = settings.checkpoints.as_ref().map(|settings| Key::new(settings, since));
        Ok(Self(key.transpose().context("making the key that signs checkpoints")?))
    }

    /// What `agent.started` says of it.
    pub(super) fn declaration(&self) -> Option<Box<Signed>> {
        self.0.as_ref().map(|key| Box::new(key.declaration()))
    }

    /// Starts it. `stop` is cancelled when the agent begins to stop.
    pub(super) fn start(
        self,
        settings: &audit::Settings,
        audit: &Audit,
        (kept, vault, metrics): (&Kept, &Vault, &Metrics),
        stop: CancellationToken,
    ) -> anyhow::Result<Running> {
        let mut running = Running { handle: None, tasks: JoinSet::new() };
        let (Some(key), Some(checkpoints)) = (self.0, &settings.checkpoints) else { return Ok(running) };
        let identity = checkpoints.identity.as_ref().and_then(|name| kept.identity(name));
        let vault = identity.map(|identity| (vault.clone(), identity));
        let metrics = metrics.clone();
        let observe = move |kind: audit::event::Type, outcome: audit::event::Outcome| {
            metrics.audit_recorded(kind.word(), outcome.word());
        };
        let source = settings.source.as_str();
        let prepared =
            checkpoint::Checkpoints::prepare(audit, (checkpoints, source), key, vault, stop, observe);
        let (handle, task) = prepared.context("starting the checkpoints")?;
        running.tasks.spawn(task.run());
        running.handle = Some(handle);
        Ok(running)
    }
}

impl Running {
    /// A checkpoint while the identity's token still lives.
    pub(super) async fn before_revocation(&self) {
        if let Some(handle) = &self.handle {
            let _ = timeout(LAST, handle.now()).await;
        }
    }

    /// The last checkpoint, of all events there are; the task ends.
    pub(super) async fn last(&mut self) {
        if let Some(handle) = self.handle.take() {
            let _ = timeout(LAST, handle.last()).await;
        }
        self.tasks.shutdown().await;
    }
}
