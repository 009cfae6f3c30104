//! A key used without being held: the built program between a client on its sockets and HTTPS servers of the tests' own, which
//! answer byte for byte what a test wants. Vault is the in-memory one, but for what only the real one shows.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../support/process.rs"]
mod support;

mod answers;
mod canary;
mod certificate;
mod clients;
mod decode;
#[cfg(feature = "http2")]
mod http2;
mod keys;
mod limits;
mod live;
mod record;
mod requests;
mod rig;
mod server;
#[cfg(feature = "sigv4")]
mod sigv4;
mod tls;

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
