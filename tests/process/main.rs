//! The binary as it is installed: signals, crashes, full disks, changed files, other users, exit codes.
//!
//! Needs no server but the in-memory Vault; what needs root says so and is skipped without it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by a panic"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "a missing member of a JSON value is null, and null fails the comparison"
)]

#[path = "../support/receivers.rs"]
mod receivers;
#[path = "../support/process.rs"]
mod support;

mod clock;
mod config;
mod control_group;
mod run;
mod kill;
mod disk;
mod exposure;
mod modes;
mod reload;
mod report;
mod sockets;
mod secrecy;
mod shares;
mod sandbox;
mod attestor;
mod health;
mod commands;
mod sinks;
mod handoff;
mod audit;
mod own;
mod trust;

/// Says past the harness's capture why this test is skipped: it looks like a passed one otherwise.
fn skip(why: &str) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = std::io::stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes());
}

/// Whether a test that cannot run must fail.
#[expect(clippy::disallowed_methods, reason = "the test run's own switch, not a setting of claviger")]
fn require_live() -> bool {
    std::env::var("REQUIRE_LIVE").as_deref() == Ok("1")
}
