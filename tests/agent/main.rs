//! The whole agent in process: the Vault side under a paused clock, the socket side over a real socket.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/kv2.rs"]
mod kv2_promises;

mod bootstrap;
mod fingerprint;
mod identity;
mod issue;
mod keeper;
mod kv2;
mod kubernetes;
mod own;
mod quarantine;
mod credential;
mod drift;
mod rotation;
mod suspend;
mod budget;
