//! Vault's own API through the built program, on the real HashiCorp Vault: existing clients, and everything that must never come back.
//! Without the server each test is skipped with its reason, or fails when `REQUIRE_LIVE=1`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bridge;
mod cache;
mod clients;
mod failover;
mod leases;
mod passing;
#[expect(dead_code, reason = "the suite `live` uses all of it")]
#[path = "../live/rig.rs"]
mod rig;
mod scene;
mod snapshots;
mod streams;
mod taker;
mod theft;
mod tokens;
mod tricks;
mod upkeep;
mod uploads;
