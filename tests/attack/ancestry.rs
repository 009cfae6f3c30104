//! Attack 26: the permitted program in the workload's own container, but not the one that the container was started with.
//!
//! In the layout that level `program` needs: one user, and processes that all containers of the pod see.

use crate::{
    part::Part,
    program::{Programs, peer},
    runc::{AGENT, PROFILES, Pids, Pod, Profile, can_make_pods, user},
    scene::{Told, config},
    support::Scene,
};
use std::process::Stdio;

/// A pod whose agent serves the permitted program only; `more` is what else is required of it.
async fn pod(programs: &Programs, profile: Profile, more: &str) -> Pod {
    let scene = Scene::new().await;
    let peer = peer(&format!("exe_sha256: [\"{}\"]{more}", programs.digest("legit")));
    let peer = peer.replacen("uid: 20001", &format!("uid: {AGENT}"), 1);
    let config = config(&scene, &peer, 64);
    Pod::with(profile, Pids::Shared, scene, &config).await.showing(programs.folder())
}

fn part(programs: &Programs, pod: &Pod, words: &[&str]) -> Part {
    Part::BecomeAs(user(AGENT), programs.line(&pod.attacked, words))
}

/// Runs the permitted program in a container that runs already, as `kubectl exec` would.
async fn exec(programs: &Programs, pod: &Pod) -> Told {
    let waits = Part::BecomeAs(user(AGENT), vec!["/bin/cat".into()]);
    let (mut command, container) = pod.container(&user(AGENT), &waits);
    let _child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    container.pid().await;
    pod.attack_inside(&container, &part(programs, pod, &["legit", "SOCKET", "SECRET"])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_descends_from_its_containers_first_process_is_the_permitted_program() {
    let (true, Some(programs)) = (can_make_pods().await, Programs::new().await) else { return };
    for profile in PROFILES {
        let pod = pod(&programs, profile, ", ancestry: container-main").await;
        let legit = part(&programs, &pod, &["legit", "SOCKET", "SECRET"]);
        pod.attack_as(&user(AGENT), legit).await.got_the_secret();
        exec(&programs, &pod).await.got_no_nonce("ancestry");
        // The container's first process itself starts one that soon has no parent in it any more.
        let loose = part(&programs, &pod, &["hostile", "loose", "legit", "SOCKET", "SECRET"]);
        let (command, _container) = pod.container(&user(AGENT), &loose);
        crate::scene::finished(command).await.got_no_nonce("ancestry");
        let refused = "peer.rejected.v1 deny ancestry process";
        assert_eq!(pod.record().await, ["secret.read.v1 allow - program", refused, refused], "{profile:?}");
    }
}

/// The control, and a known miss: unless that is required, whoever may start programs in the container may start this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_miss_is_the_permitted_program_that_somebody_starts_in_the_container() {
    let (true, Some(programs)) = (can_make_pods().await, Programs::new().await) else { return };
    let pod = pod(&programs, Profile::Moby, "").await;
    exec(&programs, &pod).await.got_the_secret();
    assert_eq!(pod.record().await, ["secret.read.v1 allow - program"]);
}
