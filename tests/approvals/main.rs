//! A person's yes through the built program, on the real HashiCorp Vault: persons with logins of their own, and everything that is no yes.
//! Without the server each test is skipped with its reason, or fails when `REQUIRE_LIVE=1`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod calls;
mod faults;
mod glass;
mod persons;
mod refusals;
mod reviews;
#[expect(dead_code, reason = "the suite `live` uses all of it")]
#[path = "../live/rig.rs"]
mod rig;
mod rotations;
mod scene;
mod tidy;
#[expect(dead_code, reason = "the suite `broker` uses all of it")]
#[path = "../broker/server.rs"]
mod server;
mod service;
mod webhook;
