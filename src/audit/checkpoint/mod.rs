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

use crate::{
    name::IdentityName,
    vault::{endpoint::TransitKey, kv2::Place},
};
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
    /// The key in transit, of type ed25519, that signs, or certifies the boot key. Always there with [`Signer::Transit`].
    pub key: Option<TransitKey>,
    /// Below which each agent keeps its newest checkpoint in Vault: `PATH/HOST/claviger`.
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

/// Where the agent with `source` keeps its own below `place`: `PATH/HOST/claviger`.
pub(super) fn own(place: &Place, source: &str) -> Place {
    let own = source.strip_prefix("urn:claviger:").unwrap_or(source);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_/.".contains(c) { c } else { '_' };
    let own: String = own.chars().map(plain).collect();
    let parts = own.split('/').filter(|part| !part.is_empty() && !part.starts_with('.'));
    parts.fold(place.clone(), |place, part| place.below(part))
}

#[cfg(test)]
mod tests;
