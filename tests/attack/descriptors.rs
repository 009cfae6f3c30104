//! Attack 16: descriptors passed to the agent, to use up what it may have open or to put something into its hands.

use crate::{
    can_attack,
    part::Part,
    scene::{Attacked, attack, permitted},
    support::until,
};

#[tokio::test(flavor = "multi_thread")]
async fn passed_descriptors_are_refused_and_use_up_nothing() {
    if !can_attack() {
        return;
    }
    for level in ["reach", "user", "process"] {
        let peer = if level == "reach" { String::new() } else { "uid: 20001, ".to_owned() };
        let attacked = Attacked::new(&format!("{peer}level: {level}")).await;
        // What is opened with the first connections stays.
        attack(&Part::PassDescriptors(attacked.socket(), permitted(), 2)).await.got_silence();
        let before = attacked.agent.descriptors();
        let told = attack(&Part::PassDescriptors(attacked.socket(), permitted(), 50)).await;
        told.got_silence();
        // The last connection may be on its way out.
        until("the descriptors of before", || async { (attacked.agent.is_back_to(before)).then_some(()) })
            .await;
        let record = attacked.record().await;
        if told.text.lines().any(|line| line == "EPERM") {
            // The kernel refuses them to the sender (Linux 6.16): the agent sees nothing but the end.
            assert!(!told.text.lines().any(|line| line == "sent"), "{}", told.text);
            assert_eq!(record, [""; 0]);
        } else {
            assert_eq!(record, vec![format!("peer.rejected.v1 deny fds_passed {level}"); 52]);
        }
    }
}
