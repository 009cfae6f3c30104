//! claviger on a real Kubernetes: logins that the API server's TokenReview decides, the chart's admission, pods on a real node.
//! Without the lab's Kubernetes each test is skipped with its reason, or fails when `REQUIRE_LIVE=1`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod accounts;
mod admission;
mod bench;
mod chart;
mod coordination;
mod guard;
mod logins;
mod peers;
mod pods;
mod proxy;
mod replicas;
#[path = "../live/rig.rs"]
#[expect(dead_code, reason = "shared with the tests on Vault alone, which use more of it")]
mod rig;
mod runs;
mod upkeep;
