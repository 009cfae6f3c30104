//! The undelivered tail of the journal, handed to the next agent of the workload through Vault's KV 2 engine.
//!
//! ```text
//! at exit:   journal behind the slowest sink that counts -> parts -> PATH/HOST/claviger/CHAIN/PART, each by check-and-set 0
//! at start:  every part below PATH -> segments of the old chain in our journal -> sinks -> the part is deleted
//! ```
//!
//! Parts hold events as they were journalled, so their chain can still be verified. At least once: a part goes only when the
//! sinks have it. Does not decide how long it may take: `app` does.

mod give;
mod part;
mod take;

pub use give::Given;

use super::{
    Audit,
    chain::Position,
    checkpoint::{self, Remote},
    sink::{self, counted, cursor::Cursor},
};
use crate::{
    name::IdentityName,
    vault::{Vault, error::Error as VaultError, kv2::Place, session::Identity},
};
use std::{
    io,
    sync::{Arc, Mutex},
};

/// Where the tail is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The engine, and the path that all agents of the workload share.
    pub place: Place,
    /// Whose token the calls to Vault use.
    pub identity: IdentityName,
}

/// Why a handoff broke off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Vault refused, or did not answer.
    #[error("the handoff in Vault")]
    Vault {
        /// What it said.
        #[source]
        source: VaultError,
    },
    /// The journal cannot be read or written.
    #[error("the journal, for a handoff")]
    Journal {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl From<VaultError> for Error {
    fn from(source: VaultError) -> Self {
        Self::Vault { source }
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Journal { source }
    }
}

/// The way from this agent to the next, or from the one before.
#[derive(Clone)]
pub struct Handoff {
    audit: Audit,
    remote: Remote,
    /// What all agents of the workload share.
    shared: Place,
    /// Below it, what is this agent's own.
    own: Place,
    held: Held,
}

/// Parts in Vault whose events are in our journal. Clones are the same.
#[derive(Clone, Default)]
pub struct Held(Arc<Mutex<Vec<HeldPart>>>);

/// One of them.
struct HeldPart {
    place: Place,
    /// From before the first event to the last one, of each run of its events.
    runs: Vec<(Position, Position)>,
}

impl Handoff {
    /// A handoff of the journal of `audit`, whose events name `source`.
    #[must_use]
    pub fn new(
        audit: &Audit,
        settings: &Settings,
        source: &str,
        held: Held,
        (vault, identity): (Vault, Identity),
    ) -> Self {
        Self {
            audit: audit.clone(),
            remote: Remote::new(vault, identity),
            shared: settings.place.clone(),
            own: checkpoint::own(&settings.place, source),
            held,
        }
    }

    /// The last event that all sinks that count are known to have, on disk.
    fn delivered(&self, sinks: &[sink::Settings]) -> io::Result<Option<Position>> {
        let mut slowest: Option<Option<Position>> = None;
        for name in counted(sinks) {
            let saved = Cursor::open(&self.audit.0.dir, &name)?.saved();
            slowest = Some(slowest.map_or(saved, |before| before.min(saved)));
        }
        Ok(slowest.flatten())
    }
}
