//! The built program on the real HashiCorp Vault and the real PostgreSQL: logins, upkeep, values, outages, exit, record.
//! Without the servers each test is skipped with its reason, or fails when `REQUIRE_LIVE=1`. Kubernetes logins need a
//! real Kubernetes and are not here.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../support/kv2.rs"]
mod kv2_promises;

mod acks;
mod adopt;
mod calls;
mod checkpoints;
mod credential;
mod database;
mod drift;
mod exit;
mod fingerprint;
mod group;
mod handoff;
mod keys;
mod kv2;
mod load;
mod local;
mod merged;
mod logins;
mod otlp;
mod outages;
mod own;
mod quarantine;
mod pem;
mod record;
mod rig;
mod recovery;
mod rehearsal;
mod rotation;
mod suspend;
mod syslog;
mod tls;
mod told;
mod upkeep;
mod values;
mod watch;
mod wrap;
