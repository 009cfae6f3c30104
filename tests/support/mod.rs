//! What several test binaries need: a way to the in-memory Vault without a network, and a keeper around it.
//!
//! Fakes the outside only: everything of ours that runs here is the real thing.

pub(crate) mod bench;
pub(crate) mod deaths;
pub(crate) mod other;

pub(crate) use bench::Bench;
