//! Keys of a real PostgreSQL, rotated by the driver `exec` with their values in a real Vault, while consumers log in with what
//! they read there. Without the servers each test is skipped with its reason, or fails when `REQUIRE_LIVE=1`.
//!
//! The rotation is run in process, without the schedule's shortest times, so that there are many of them in a minute.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod bootstrap;
mod load;
mod once;
mod scene;

use claviger::rotation::fact::Act;
use load::Load;
use scene::{Scene, Users};
use std::time::Duration;

/// Rotates `rounds` times under load, and gives what was measured.
fn rotate(users: Users, rounds: usize) -> Option<Outcome> {
    let scene = Scene::new(users)?;
    // 200 queries a second.
    let load = Load::start(&scene, 4);
    let facts = scene.rotate(rounds, &load);
    let logins = load.end();
    let mut gaps: Vec<Duration> = facts.iter().filter_map(|fact| fact.gap).collect();
    gaps.sort_unstable();
    let bad: Vec<_> =
        facts.iter().filter(|fact| is_bad(fact.act)).map(|fact| (fact.act, fact.phase)).collect();
    assert!(bad.is_empty(), "{bad:?}");
    let promoted = facts.iter().filter(|fact| fact.act == Act::Promoted).count();
    assert!(promoted >= rounds, "{promoted} promotions");
    Some(Outcome { promoted, logins, gaps })
}

struct Outcome {
    promoted: usize,
    logins: load::Count,
    gaps: Vec<Duration>,
}

fn is_bad(act: Act) -> bool {
    matches!(act, Act::Failed(_) | Act::Orphaned(_) | Act::TakenOver | Act::Skipped(_))
}

impl Outcome {
    fn say(&self, kind: &str) {
        let Self { promoted, logins, gaps } = self;
        println!(
            "{kind}: {promoted} rotations, {} logins, {} of them failed, {} queries",
            logins.good + logins.bad,
            logins.bad,
            logins.queries
        );
        let at = |share: usize| gaps.get((gaps.len() * share / 100).min(gaps.len().saturating_sub(1)));
        if let (Some(half), Some(most)) = (at(50), at(99)) {
            println!("{kind}: gap p50 {half:.1?}, p99 {most:.1?}");
        }
    }
}

fn two_slot(rounds: usize) {
    let Some(outcome) = rotate(Users::Two, rounds) else { return };
    outcome.say("two-slot");
    assert_eq!(outcome.logins.bad, 0, "whoever logs in with what it read, before its grace is over, is in");
    assert!(outcome.logins.queries > rounds, "{:?}", outcome.logins);
}

fn single(rounds: usize) {
    let Some(outcome) = rotate(Users::One, rounds) else { return };
    outcome.say("single");
    assert_eq!(outcome.gaps.len(), outcome.promoted, "each gap is measured");
}

#[test]
fn two_users_take_turns_and_no_login_fails() {
    two_slot(20);
}

#[test]
#[ignore = "a quarter of an hour: the long proof"]
fn two_users_take_turns_a_thousand_times_and_no_login_fails() {
    two_slot(1_000);
}

#[test]
fn the_gap_of_a_single_user_is_measured() {
    single(10);
}

#[test]
#[ignore = "minutes: the long proof"]
fn the_gap_of_a_single_user_is_measured_two_hundred_times() {
    single(200);
}
