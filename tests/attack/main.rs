//! What a hostile process beside the agent can try, against the built program: each attack must get no byte of the secret, lose
//! its connection, and stand in the journal with its reason.
//!
//! The numbers are those of the project's list of attacks; at level `program` the attackers are programs
//! that are compiled here; every other attacker is this test binary itself, started again to play a part. Needs root, for other users and namespaces.
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

#[path = "../support/process.rs"]
mod support;

use claviger::peer::process::{self, Support};

mod agent;
mod ancestry;
mod beside;
mod cgroups;
mod containers;
mod descriptors;
mod floods;
mod execs;
mod failures;
mod hashing;
mod ids;
mod images;
mod namespaces;
mod part;
mod pods;
mod program;
mod reuse;
mod runc;
mod scene;
mod sockets;
mod unprivileged;
mod writers;

/// Says past the harness's capture why this test is skipped: it looks like a passed one otherwise.
fn skip(why: &str) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = std::io::stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes());
}

/// Whether the attacks can be played here; says why not.
fn can_attack() -> bool {
    if !nix::unistd::geteuid().is_root() {
        skip("needs root, to be other users");
        return false;
    }
    let given = *process::support() == Support::Given;
    if !given {
        skip("needs a kernel that can prove level process (Linux 6.9)");
    }
    given
}
