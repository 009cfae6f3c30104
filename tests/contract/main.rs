//! The contract: the same assertions on devvault and on the real Vault 1.21.1, so that the double cannot drift.
//! Each is one function in a module per subject; [`contract!`] makes two tests of it, `…::double::NAME` and `…::real::NAME`.
//! The real server is the lab's: without it the second is skipped with its reason, or fails when `REQUIRE_LIVE=1`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

/// Makes two tests of each function: one on the double, one on the real server.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod double {
            $(#[tokio::test] async fn $name() { super::$name(&crate::bench::Bench::double().await).await; })*
        }
        mod real {
            $(#[test] fn $name() {
                if let Some(bench) = crate::bench::Bench::real() { crate::bench::run(super::$name(&bench)); }
            })*
        }
    };
}

mod bench;
mod errors;
mod kv;
mod leases;
mod logins;
mod policies;
mod server;
mod tokens;
mod wrapping;
