//! The workload goes on while others attack.

use crate::{
    can_attack,
    part::{Before, Ids, Part},
    scene::{Attacked, attack, permitted},
    support::Line,
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

/// 1,000 of 1,000, on connections of their own and on one that stays, while attackers come and go.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_client_is_served_every_time_while_others_attack() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new("uid: [0, 20001], level: process").await;
    let socket = attacked.socket();
    let other = Ids { uid: 4000, gid: 4000, groups: vec![] };
    let attacks = [
        Part::ChildAsks(socket.clone(), permitted()),
        Part::LeaveBehind(socket.clone(), permitted(), Before::Answered),
        Part::PassOn(socket.clone(), permitted(), other.clone()),
        Part::AskThenBecome(socket.clone(), other.clone()),
        Part::Ask(socket.clone(), other, "/secrets/stripe".into()),
        Part::PassDescriptors(socket.clone(), permitted(), 3),
    ];
    let done = AtomicBool::new(false);
    let attacking = async {
        let mut rounds = 0;
        while rounds == 0 || !done.load(Ordering::Relaxed) {
            for part in &attacks {
                attack(part).await.got_nothing();
            }
            rounds += 1;
        }
        rounds
    };
    let asking = async {
        let mut kept = Line::open(&socket).await.unwrap();
        for _ in 0..500 {
            assert_eq!(kept.ask("/secrets/stripe").await.unwrap().status, 200);
            let mut fresh = Line::open(&socket).await.unwrap();
            assert_eq!(fresh.ask("/secrets/stripe").await.unwrap().status, 200);
        }
        done.store(true, Ordering::Relaxed);
    };
    let (rounds, ()) = tokio::join!(attacking, asking);
    let record = attacked.record().await;
    // Refusals that are counted together have no level any more.
    let count = |line: &str| record.iter().filter(|found| found.starts_with(line)).count();
    for (line, expected) in [
        ("secret.read.v1 allow - process", 1000),
        ("peer.rejected.v1 deny writer_mismatch ", 2 * rounds),
        ("peer.rejected.v1 deny creds_drift ", rounds),
        ("peer.exited.v1 allow - process", rounds),
        ("peer.rejected.v1 deny uid ", rounds),
    ] {
        let all: BTreeMap<&String, usize> = record.iter().map(|line| (line, count(line))).collect();
        assert_eq!(count(line), expected, "{line}: {all:#?}");
    }
}
