//! The charts, by the real Helm: what they render, what they refuse, and that everything made of them is up to date; and the image.
//! The policies are judged by a real API server in the suite `kube`; here only that it takes what is rendered.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod helm;
mod charts;
mod values;
mod configs;
mod notes;
mod monitors;
mod library;
mod leases;
mod cel;
mod cluster;
mod image;
#[path = "../support/process.rs"]
mod support;

/// Says past the harness's capture why this test is skipped: it looks like a passed one otherwise.
fn skip(why: &str) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = std::io::stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes());
}
