//! Checkpoints: every now and then somebody signs how far the journal has come, so that what was signed cannot be rewritten.
//!
//! ```text
//! journal -> follow (tree, on a thread) -> task (when) -> signer (boot key, or Vault) -> event audit.checkpoint
//!                                                                                     -> anchor (KV 2, check-and-set)
//! ```
//!
//! No request waits for any of it, and a Vault that is away only makes the unsigned tail longer.

mod anchor;
mod anchored;
mod follow;
mod remote;
mod signer;
mod task;
pub mod text;

pub use anchor::Anchor;
pub(super) use remote::Remote;
pub use signer::Key;
pub use task::{Checkpoints, Task};

use crate::name::IdentityName;
use std::time::Duration;

/// So many events make a checkpoint due.
const EVENTS: u64 = 1_000;
/// So long after the first unsigned event one is due.
const AFTER: Duration = Duration::from_secs(10);
/// Between two writes of the anchor, at least.
const ANCHOR_EVERY: Duration = Duration::from_secs(60);
/// Before what failed is tried again.
const REST: Duration = Duration::from_secs(10);

/// Who signs, and where it is anchored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who signs checkpoints.
    pub signer: Signer,
    /// The key in transit that signs, or certifies the boot key. Always there with [`Signer::Transit`].
    pub key: Option<TransitKey>,
    /// Where the newest checkpoint is kept in Vault.
    pub anchor: Option<Place>,
    /// Whose token the calls to Vault use. Always there with a key or an anchor.
    pub identity: Option<IdentityName>,
}

/// Who signs checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// A key of this process, made at its start and never written anywhere.
    Boot,
    /// Vault, each of them.
    Transit,
}

/// An Ed25519 key in a transit engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    /// Where the engine is mounted.
    pub mount: String,
    /// The key's name.
    pub name: String,
}

/// A value in a KV 2 engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where the engine is mounted.
    pub mount: String,
    /// Below it; the agent's own part is added: `PATH/HOST/claviger`.
    pub path: String,
}

impl Signer {
    /// The word of the config and the events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Transit => "transit",
        }
    }
}

impl Place {
    /// Where the agent with `source` keeps its own.
    pub(super) fn of(&self, source: &str) -> String {
        let own = source.strip_prefix("urn:claviger:").unwrap_or(source);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_/.".contains(c) { c } else { '_' };
        let own: String = own.chars().map(plain).collect();
        let parts = own.split('/').filter(|part| !part.is_empty() && !part.starts_with('.'));
        [self.path.as_str()].into_iter().chain(parts).collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
mod tests;
