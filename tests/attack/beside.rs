//! The workload goes on while others attack.

use crate::{
    can_attack,
    part::{Before, Ids, Part},
    program::{Programs, counts},
    scene::{Attacked, attack, finished, permitted},
    support::{Line, VALUE},
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

/// The same at level `program`: a new process for each request, which is looked at, challenged and looked at again.
#[tokio::test(flavor = "multi_thread")]
async fn the_permitted_program_is_served_every_time_while_others_attack() {
    const TIMES: usize = 1000;
    const AT_A_TIME: usize = 50;
    let Some(programs) = Programs::new().await else { return };
    assert!(programs.compile("other", "tests/attack/legit.c", &["-DPATCHED"]).await);
    let attacked = programs.attacked_where(&["legit", "other"]).await;
    programs.settle("legit").await;
    let done = AtomicBool::new(false);
    let attacks: [&[&str]; 6] = [
        &["hostile", "become", "SOCKET", "legit", "3", "0", "bare"],
        &["hostile", "become", "SOCKET", "legit", "3", "1000", "memory"],
        &["hostile", "patch", "SOCKET", "legit", "SECRET", "poke"],
        &["hostile", "patch", "SOCKET", "legit", "SECRET", "trace"],
        &["hostile", "nameless", "legit", "SOCKET", "SECRET"],
        &["other", "SOCKET", "SECRET"],
    ];
    let attacking = async {
        let mut rounds = 0;
        while rounds == 0 || !done.load(Ordering::Relaxed) {
            for words in attacks {
                let told = programs.tell(&attacked, words).await;
                assert!(!told.text.contains(VALUE), "{words:?}: {}", told.text);
            }
            rounds += 1;
        }
        rounds
    };
    let asking = async {
        let script = format!("for time in $(seq {AT_A_TIME}); do \"$0\" \"$@\"; done");
        let mut line = ["sh", "-c", &script].map(str::to_owned).to_vec();
        line.extend(programs.line(&attacked, &["legit", "SOCKET", "SECRET"]));
        for _ in 0..TIMES / AT_A_TIME {
            let told = finished(programs.command(line.clone())).await.text;
            assert_eq!(told.matches(VALUE).count(), AT_A_TIME, "{}", told.replace(VALUE, ""));
        }
        done.store(true, Ordering::Relaxed);
    };
    let (rounds, ()) = tokio::join!(attacking, asking);
    let record = attacked.record().await;
    let counts = counts(&record);
    for (line, expected) in [
        ("secret.read.v1 allow -", TIMES),
        ("peer.rejected.v1 deny text_modified", 2 * rounds),
        ("peer.rejected.v1 deny traced", rounds),
        ("peer.rejected.v1 deny exe_deleted", rounds),
    ] {
        assert_eq!(counts.get(line), Some(&expected), "{line}: {counts:?}");
    }
    // Those that become the permitted program are caught at one point or another.
    assert_eq!(record.len() - TIMES - 4 * rounds, 6 * rounds, "{counts:?}");
    assert_eq!(record.iter().filter(|line| line.contains(" deny ")).count(), 10 * rounds, "{counts:?}");
}
