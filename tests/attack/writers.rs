//! Attacks by who writes: children, heirs, and processes that get a connection from another.

use crate::{
    can_attack,
    part::{Before, Ids, Part},
    scene::{Attacked, Late, UID, attack, permitted},
    support::until,
};

const PROCESS: &str = "uid: 20001, level: process";
const DENIED: &str = "peer.rejected.v1 deny writer_mismatch process";
const READ: &str = "secret.read.v1 allow - process";

/// Attack 8: what the parent is by then, or looks like, does not help its child.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_writes_while_its_parent_looks_honest_gets_nothing_in_100_of_100() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(PROCESS).await;
    for _ in 0..100 {
        attack(&Part::ChildAsks(attacked.socket(), permitted())).await.got_silence();
    }
    assert_eq!(attacked.record().await, vec![DENIED; 100]);
}

/// Attack 8, the control that must fail: at level `user` the child is taken for its parent.
#[tokio::test(flavor = "multi_thread")]
async fn at_level_user_the_same_child_gets_the_secret() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(&format!("uid: {UID}, level: user")).await;
    attack(&Part::ChildAsks(attacked.socket(), permitted())).await.got_the_secret();
    assert_eq!(attacked.record().await, ["secret.read.v1 allow - user"]);
}

/// A known miss of level `process`: who reads an answer is not seen. What was asked for by the process that connected can be
/// read by whoever it gave the connection to, just as it could give away the secret itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_miss_is_a_child_that_only_listens() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(PROCESS).await;
    attack(&Part::ChildListens(attacked.socket(), permitted())).await.got_the_secret();
    assert_eq!(attacked.record().await, [READ]);
}

/// Attack 6: the process that connected has ended before its connection is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn the_heir_of_a_process_that_ended_before_it_was_accepted_gets_nothing() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(PROCESS).await;
    // The kernel takes connections for it.
    let late = Late::new(&attacked.agent).await;
    let socket = attacked.socket();
    let asking = Part::LeaveBehind(socket, permitted(), Before::Asking);
    let mut command: tokio::process::Command = {
        let mut command = asking.command();
        crate::part::quiet(&mut command);
        command.into()
    };
    let mut connector = command.kill_on_drop(true).spawn().unwrap();
    // It has connected, asked, and ended; its child has the connection, and the output.
    assert!(connector.wait().await.unwrap().success());
    drop(late);
    let output = connector.wait_with_output().await.unwrap();
    let told = crate::scene::Told { text: String::from_utf8(output.stdout).unwrap() };
    told.got_silence();
    let record = attacked.record().await;
    assert_eq!(record, ["peer.rejected.v1 deny peer_exited user"]);
}

/// Attack 6, later: it ends while its connection is open, and somebody else holds that.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_process_that_made_it_whoever_holds_it() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(PROCESS).await;
    attack(&Part::LeaveBehind(attacked.socket(), permitted(), Before::Answered)).await.got_silence();
    assert_eq!(attacked.record().await, ["peer.exited.v1 allow - process"]);
}

/// Attack 12: the connection is passed to a process of another user.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_passed_to_another_process_is_of_no_use_to_it() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(PROCESS).await;
    let other = Ids { uid: 4000, gid: 4000, groups: vec![] };
    attack(&Part::PassOn(attacked.socket(), permitted(), other)).await.got_silence();
    // Not to one of the same user either.
    attack(&Part::PassOn(attacked.socket(), permitted(), permitted())).await.got_silence();
    assert_eq!(attacked.record().await, vec![DENIED; 2]);
}

/// Attack 15: who is said to write. An ordinary user cannot say that; root can, and is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_that_another_process_writes_gets_nothing() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new("uid: [0, 20001], level: process").await;
    let told = attack(&Part::Forge(attacked.socket(), permitted(), 1)).await;
    told.got_silence();
    assert!(told.text.lines().any(|line| line == "EPERM"), "{}", told.text);
    let root = Ids { uid: 0, gid: 0, groups: vec![] };
    let told = attack(&Part::Forge(attacked.socket(), root, 1)).await;
    told.got_silence();
    assert!(told.text.lines().any(|line| line == "sent"), "{}", told.text);
    assert_eq!(attacked.record().await, [DENIED]);
}

/// What is held of a peer is given back with its connection.
#[tokio::test(flavor = "multi_thread")]
async fn attacks_leave_no_descriptor_behind() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(PROCESS).await;
    attack(&Part::ChildAsks(attacked.socket(), permitted())).await.got_silence();
    let before = attacked.agent.descriptors();
    for _ in 0..20 {
        attack(&Part::ChildAsks(attacked.socket(), permitted())).await.got_silence();
        attack(&Part::LeaveBehind(attacked.socket(), permitted(), Before::Answered)).await.got_silence();
    }
    until("the descriptors of before", || async { (attacked.agent.is_back_to(before)).then_some(()) }).await;
    assert!(!attacked.record().await.is_empty());
}
