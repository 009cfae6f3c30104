//! A stand-in for the journal while that is being built: events in memory, and it can be told to fail.
//!
//! Writes nothing to disk. Replaced whole by the journal; nothing outside the tests names this file.

use super::event::Event;
use crate::policy::rule::AuditMode;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Takes events.
#[derive(Clone, Debug)]
pub struct Audit {
    mode: AuditMode,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    events: Vec<Event>,
    broken: bool,
}

/// Proof that an event is kept.
#[derive(Debug)]
pub struct Receipt {
    seq: u64,
}

/// The event could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot be written")]
pub struct Error;

impl Error {
    /// When it is worth asking again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(1)
    }
}

impl Receipt {
    /// The event's number.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> String {
        format!("stub-{:020}", self.seq)
    }
}

impl Audit {
    /// Keeps events in memory.
    #[must_use]
    pub fn in_memory(mode: AuditMode) -> Self {
        Self { mode, kept: Arc::default() }
    }

    /// The mode where a rule asks for nothing stronger.
    #[must_use]
    pub fn mode(&self) -> AuditMode {
        self.mode
    }

    /// Keeps one event.
    ///
    /// # Errors
    /// [`Error`] when told to fail.
    pub async fn record(&self, event: Event, _mode: AuditMode) -> Result<Receipt, Error> {
        tokio::task::yield_now().await;
        let mut kept = self.kept.lock().map_err(|_| Error)?;
        if kept.broken {
            return Err(Error);
        }
        kept.events.push(event);
        Ok(Receipt { seq: u64::try_from(kept.events.len()).unwrap_or(u64::MAX) })
    }

    /// From now on every record fails.
    pub fn break_down(&self) {
        if let Ok(mut kept) = self.kept.lock() {
            kept.broken = true;
        }
    }

    /// What was kept so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.kept.lock().map(|kept| kept.events.clone()).unwrap_or_default()
    }
}
