//! The attacks in a pod: each in a container of its own, without a capability, under each of the two default seccomp profiles.
//!
//! Attack 14 is not here: without a capability nobody becomes another user. Those at level `program` are with the others of that level.

use crate::{
    agent::attempts,
    cgroups::can_tell_containers,
    part::{Before, Ids, Part},
    runc::{AGENT, PROFILES, Pids, Pod, Profile, can_make_pods, user},
    scene::{Late, Told, UID, config, permitted},
    support::{Scene, until},
};
use std::{fs, process::Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

const PROCESS: &str = "uid: 20001, level: process";
const CONTAINER: &str = "uid: 20001, level: container";
const DENIED: &str = "peer.rejected.v1 deny writer_mismatch process";
const READ: &str = "secret.read.v1 allow - process";

fn ask(pod: &Pod, target: &str) -> Part {
    Part::Ask(pod.socket(), permitted(), target.into())
}

/// The words of the lines that begin with `what`.
fn outcomes<'a>(told: &'a Told, what: &str) -> Vec<&'a str> {
    told.text.lines().filter_map(|line| line.strip_prefix(what)?.strip_prefix(' ')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_default_pod_the_agent_serves_with_no_privilege_and_proves_level_process() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        let pod = Pod::new(profile, Pids::Own, PROCESS).await;
        let status = fs::read_to_string(format!("/proc/{}/status", pod.attacked.agent.pid)).unwrap();
        let says = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(says(set), "0000000000000000", "{set}");
        }
        assert_eq!((says("NoNewPrivs:").as_str(), says("Seccomp:").as_str()), ("1", "2"));
        assert_eq!(says("Uid:"), [AGENT; 4].map(|id| id.to_string()).join(" "));
        assert_eq!(says("Groups:"), "");
        let told = pod.attack(ask(&pod, "/whoami")).await;
        for part in [r#"\"pid\":\"hidden\""#, r#"\"level\":\"process\",\"level_required\":\"process\""#] {
            assert!(told.text.contains(part), "{part} in {}", told.text);
        }
        pod.attack(ask(&pod, "/secrets/stripe")).await.got_the_secret();
        assert_eq!(pod.record().await, [READ]);
    }
}

/// Attack 1: another container of the pod, into which the same directory is mounted.
#[tokio::test(flavor = "multi_thread")]
async fn another_container_of_the_pod_with_the_same_socket_is_told_no() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        let pod = Pod::new(profile, Pids::Own, PROCESS).await;
        for other in [20_002, AGENT] {
            let ask = Part::Ask(pod.socket(), user(other), "/secrets/stripe".into());
            let told = pod.attack_as(&user(other), ask).await;
            told.got_nothing();
            assert!(told.text.contains("403"), "{}", told.text);
        }
        assert_eq!(pod.record().await, ["peer.rejected.v1 deny uid user"; 2]);
    }
}

/// Attacks 8 and 12: neither the child of whoever connected nor another process of its user.
async fn only_the_process_that_connected_is_heard(profile: Profile, pids: Pids) {
    let pod = Pod::new(profile, pids, PROCESS).await;
    pod.attack(Part::ChildAsks(pod.socket(), permitted())).await.got_silence();
    pod.attack(Part::PassOn(pod.socket(), permitted(), permitted())).await.got_silence();
    assert_eq!(pod.record().await, [DENIED; 2], "{profile:?} {pids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_default_pod_only_the_process_that_connected_is_heard() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        only_the_process_that_connected_is_heard(profile, Pids::Own).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_pod_shares_its_processes_only_the_one_that_connected_is_heard() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        only_the_process_that_connected_is_heard(profile, Pids::Shared).await;
    }
}

/// Attack 16.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_pod_passed_descriptors_use_up_nothing_of_the_agent() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        let pod = Pod::new(profile, Pids::Own, PROCESS).await;
        pod.attack(ask(&pod, "/whoami")).await;
        let before = pod.attacked.agent.descriptors();
        let told = pod.attack(Part::PassDescriptors(pod.socket(), permitted(), 20)).await;
        told.got_silence();
        until("the descriptors of before", || async {
            (pod.attacked.agent.is_back_to(before)).then_some(())
        })
        .await;
        // From Linux 6.16 the kernel refuses them to the sender.
        let refused = told.text.lines().any(|line| line == "EPERM");
        let expected = if refused { vec![] } else { vec!["peer.rejected.v1 deny fds_passed process"; 20] };
        assert_eq!(pod.record().await, expected);
    }
}

/// Attack 6: the process that connected has ended before its connection is accepted, and its child holds that.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_pod_the_heir_of_a_process_that_ended_before_it_was_accepted_gets_nothing() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        let pod = Pod::new(profile, Pids::Own, PROCESS).await;
        // The kernel takes connections for it.
        let late = Late::new(&pod.attacked.agent).await;
        let leave = Part::LeaveBehind(pod.socket(), permitted(), Before::Asking);
        let (mut command, _container) = pod.container(&permitted(), &Part::UnderInit(Box::new(leave)));
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.ends_with("ended\n") {
            assert_ne!(out.read_line(&mut text).await.unwrap(), 0, "{text}");
        }
        drop(late);
        out.read_to_string(&mut text).await.unwrap();
        assert!(child.wait().await.unwrap().success());
        Told { text }.got_silence();
        assert_eq!(pod.record().await, ["peer.rejected.v1 deny peer_exited user"]);
    }
}

/// Attack 28: where the directory is mounted read-only, the socket cannot be replaced, and can be used.
#[tokio::test(flavor = "multi_thread")]
async fn a_workload_whose_mount_is_read_only_cannot_put_another_socket_in_the_place() {
    if !can_make_pods().await {
        return;
    }
    let pod = Pod::new(Profile::Moby, Pids::Own, PROCESS).await;
    let told = pod.attack(Part::Squat(pod.socket())).await;
    // What exists is found before it is asked whether more could be made.
    assert_eq!((outcomes(&told, "unlink"), outcomes(&told, "bind")), (vec!["EROFS"], vec!["EADDRINUSE"]));
    told.got_the_secret();
    // The control: the same where somebody has forgotten the `readOnly`.
    let told = pod.attack_writable(Part::Squat(pod.socket())).await;
    assert_eq!((outcomes(&told, "unlink"), outcomes(&told, "bind")), (vec!["done"], vec!["done"]));
}

/// Attack 27: a client gets the agent's pidfd from its own end of the connection, also from another PID namespace.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_agents_own_uid_copies_no_descriptor_of_it() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        let pod = Pod::new(profile, Pids::Own, PROCESS).await;
        let told = pod.attack_as(&user(AGENT), Part::CopyDescriptors(pod.socket())).await;
        // By containers/common's profile it may ask; that the agent is not dumpable, from its exec on, is in the way.
        assert_eq!(outcomes(&told, "copy"), ["EPERM"; 16], "{profile:?}");
    }
}

/// Attack 27 in the layout that helps it most: one uid, and all processes to be seen by all.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_pod_shares_its_processes_and_its_uid_nothing_is_read_of_an_agent_in_its_sandbox() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        let scene = Scene::new().await;
        let mut config = config(&scene, &format!("uid: {AGENT}"), 64);
        config.rest = "sandbox: required\n".into();
        let pod = Pod::with(profile, Pids::Shared, scene, &config).await;
        let agent = &pod.attacked.agent;
        let line = agent.err_line("what holds", |line| line["message"] == "sandbox").await;
        assert_eq!((&line["dumpable"], &line["seccomp"]), (&"no".into(), &"yes".into()), "{line}");
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid)).unwrap();
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        let pid = pids.split_whitespace().next_back().unwrap().parse().unwrap();
        let told = pod.attack_as(&user(AGENT), Part::Rob(user(AGENT), pid, Some(pod.socket()))).await;
        let found = attempts(&told.text);
        assert_eq!(found.len(), 14, "{}", told.text);
        for (what, how) in found {
            assert!(["EACCES", "EPERM"].contains(&how), "{what}: {how}\n{}", told.text);
        }
    }
}

/// The control of attack 27: by one of the profiles, descriptors are copied from whoever does nothing against it.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_program_in_another_container_that_does_nothing_against_it_descriptors_are_copied() {
    if !can_make_pods().await {
        return;
    }
    for (profile, expected) in [(Profile::Moby, "EPERM"), (Profile::ContainersCommon, "done")] {
        let pod = Pod::new(profile, Pids::Own, PROCESS).await;
        let socket = pod.socket().with_file_name("victim.sock");
        let victim = pod.attack_writable(Part::BeCopied(socket.clone()));
        let attack = async {
            until("the victim", || async { socket.exists().then_some(()) }).await;
            pod.attack(Part::CopyDescriptors(socket.clone())).await
        };
        let (_, told) = tokio::join!(victim, attack);
        assert_eq!(outcomes(&told, "copy").first(), Some(&expected), "{profile:?}: {}", told.text);
    }
}

/// `shareProcessNamespace: true`.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_pod_shares_its_processes_the_peers_pid_is_its_own() {
    if !can_make_pods().await {
        return;
    }
    for profile in PROFILES {
        let pod = Pod::new(profile, Pids::Shared, PROCESS).await;
        let told = pod.attack(ask(&pod, "/whoami")).await;
        let pid = format!(r#"\"pid\":{}"#, outcomes(&told, "pid")[0]);
        for part in [pid.as_str(), r#"\"level\":\"process\""#] {
            assert!(told.text.contains(part), "{part} in {}", told.text);
        }
        let told = pod.attack(ask(&pod, "/secrets/stripe")).await;
        told.got_the_secret();
        let pid: u32 = outcomes(&told, "pid")[0].parse().unwrap();
        let Pod { mut attacked, .. } = pod;
        assert_eq!(attacked.agent.stop().await, Some(0), "{}", attacked.agent.stderr());
        let read =
            attacked.scene.events().into_iter().find(|event| event["type"] == "secret.read.v1").unwrap();
        assert_eq!((&read["actor"]["pid"], &read["actor"]["uid"]), (&pid.into(), &UID.into()), "{read}");
    }
}

/// Attack 4 at level `container`: in a default pod it cannot be told, and nobody is taken for somebody.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_default_pod_level_container_refuses_whom_it_cannot_see() {
    if !can_make_pods().await || !can_tell_containers() {
        return;
    }
    let pod = Pod::new(Profile::Moby, Pids::Own, CONTAINER).await;
    let told = pod.attack(ask(&pod, "/secrets/stripe")).await;
    told.got_nothing();
    assert!(told.text.contains("pid_not_visible"), "{}", told.text);
    assert_eq!(pod.record().await, ["peer.rejected.v1 deny pid_not_visible process"]);
}

/// Attack 1 where the uid is the same: the container counts. And, a known miss of level `container`, attack 26: whoever is let
/// into that container from outside, as by `kubectl exec`, is in it.
async fn a_container_is_kept_out_until_the_first_has_ended(profile: Profile, pids: Pids, ids: &Ids) {
    let pod = Pod::new(profile, pids, &format!("uid: {}, level: container", ids.uid)).await;
    let ask = || Part::Ask(pod.socket(), ids.clone(), "/secrets/stripe".into());
    let (mut command, first) = pod.container(ids, &Part::Stay(pod.socket(), ids.clone()));
    let mut child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().expect("it ended").trim() != "here" {}
    pod.attack_inside(&first, &ask()).await.got_the_secret();
    let told = pod.attack_as(ids, ask()).await;
    told.got_nothing();
    assert!(told.text.contains(r#"\"reason\":\"container\""#), "{}", told.text);
    drop(child.stdin.take());
    assert!(child.wait().await.unwrap().success());
    pod.attack_as(ids, ask()).await.got_the_secret();
    let expected = [
        "secret.read.v1 allow - container",
        "peer.rejected.v1 deny container process",
        "peer.repinned.v1 allow - container",
        "secret.read.v1 allow - container",
    ];
    assert_eq!(pod.record().await, expected, "{profile:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_pod_shares_its_processes_a_container_of_the_same_uid_is_kept_out_until_the_first_has_ended()
{
    if !can_make_pods().await || !can_tell_containers() {
        return;
    }
    for profile in PROFILES {
        a_container_is_kept_out_until_the_first_has_ended(profile, Pids::Shared, &permitted()).await;
    }
}

/// Of a process of its own uid the agent may ask for the mount namespace, though it does not see the PID.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_default_pod_of_one_uid_another_container_is_kept_out_until_the_first_has_ended() {
    if !can_make_pods().await || !can_tell_containers() {
        return;
    }
    for profile in PROFILES {
        a_container_is_kept_out_until_the_first_has_ended(profile, Pids::Own, &user(AGENT)).await;
    }
}
