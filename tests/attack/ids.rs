//! Attacks by who somebody is: other users, other groups, and users who become others.

use crate::{
    can_attack,
    part::{Ids, Part},
    scene::{Attacked, GID, UID, attack, permitted},
};

fn ask(attacked: &Attacked, ids: Ids) -> Part {
    Part::Ask(attacked.socket(), ids, "/secrets/stripe".into())
}

/// Attacks 1, 2 and 3, and the control: the permitted user gets the secret.
#[tokio::test(flavor = "multi_thread")]
async fn another_uid_gid_or_missing_group_is_told_no_and_gets_nothing() {
    if !can_attack() {
        return;
    }
    for level in ["user", "process"] {
        let attacked =
            Attacked::new(&format!("uid: {UID}, gid: {GID}, groups: [7, 8], level: {level}")).await;
        let groups = vec![8, 7, 9];
        attack(&ask(&attacked, Ids { groups: groups.clone(), ..permitted() })).await.got_the_secret();
        for ids in [
            Ids { uid: 2000, gid: GID, groups: groups.clone() },
            Ids { uid: UID, gid: 2000, groups },
            Ids { groups: vec![7, GID], ..permitted() },
            // Root is nobody special.
            Ids { uid: 0, gid: 0, groups: vec![7, 8] },
        ] {
            let told = attack(&ask(&attacked, ids)).await;
            told.got_nothing();
            assert!(told.text.contains("403"), "{}", told.text);
        }
        let mut expected = vec![format!("secret.read.v1 allow - {level}")];
        for reason in ["uid", "gid", "groups", "uid"] {
            expected.push(format!("peer.rejected.v1 deny {reason} user"));
        }
        assert_eq!(attacked.record().await, expected);
    }
}

/// Attack 14: connects as root, which may, and asks as somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_becomes_another_user_after_connecting_is_cut_off() {
    if !can_attack() {
        return;
    }
    for level in ["user", "process"] {
        let attacked = Attacked::new(&format!("uid: 0, level: {level}")).await;
        let root = Ids { uid: 0, gid: 0, groups: vec![] };
        attack(&ask(&attacked, root.clone())).await.got_the_secret();
        let other = |uid, gid| Part::AskThenBecome(attacked.socket(), Ids { uid, gid, groups: vec![] });
        attack(&other(5000, 5000)).await.got_silence();
        attack(&other(5000, 0)).await.got_silence();
        attack(&other(0, 5000)).await.got_silence();
        // Nothing changes for whoever becomes what it was.
        attack(&other(0, 0)).await.got_the_secret();
        let read = format!("secret.read.v1 allow - {level}");
        let denied = format!("peer.rejected.v1 deny creds_drift {level}");
        assert_eq!(attacked.record().await, [&read, &denied, &denied, &denied, &read].map(String::clone));
    }
}

/// Attack 14 while it waits: what it was when it asked does not count, but what it is when it would be answered.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_becomes_another_user_while_it_waits_for_a_value_gets_none() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new("uid: 0, level: process").await;
    let other = Ids { uid: 5000, gid: 5000, groups: vec![] };
    attack(&Part::WaitThenBecome(attacked.socket(), other)).await.got_silence();
    let record = attacked.record().await;
    assert_eq!(record, ["secret.read.v1 allow - process", "peer.rejected.v1 deny creds_drift process"]);
}

/// Attack 14 by half: only the effective uid changes, which the kernel does not stamp on what is written.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_gives_up_its_effective_uid_only_is_cut_off_too() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new("uid: 0, level: process").await;
    attack(&Part::AskThenLower(attacked.socket(), 5000)).await.got_silence();
    assert_eq!(attacked.record().await, ["peer.rejected.v1 deny creds_drift process"]);
}

/// A known miss of level `user`: the kernel stamps the real ids on what is written, and there is no process to ask for the
/// effective ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_miss_of_level_user_is_a_change_of_the_effective_uid_only() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new("uid: 0, level: user").await;
    attack(&Part::AskThenLower(attacked.socket(), 5000)).await.got_the_secret();
    assert_eq!(attacked.record().await, ["secret.read.v1 allow - user"]);
}

/// A program whose real uid is another than its effective one, as with a set-user-id bit: at level `process` the kernel tells
/// both, and it is served as what it is effectively; at level `user` the two cannot be told from a change.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_user_id_program_is_served_at_level_process_and_refused_at_level_user() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(&format!("uid: {UID}, level: process")).await;
    attack(&Part::LowerThenAsk(attacked.socket(), UID)).await.got_the_secret();
    assert_eq!(attacked.record().await, ["secret.read.v1 allow - process"]);
    let attacked = Attacked::new(&format!("uid: {UID}, level: user")).await;
    attack(&Part::LowerThenAsk(attacked.socket(), UID)).await.got_silence();
    assert_eq!(attacked.record().await, ["peer.rejected.v1 deny creds_drift user"]);
}
