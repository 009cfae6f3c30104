//! Attacks from another container of the pod, at level `container`: a cgroup of version 2 stands for a container.

use crate::{
    cgroups::{Cgroup, can_tell_containers, under},
    part::{Part, quiet},
    scene::{Attacked, attack, config, finished, lines, permitted},
    support::{Agent, BINARY, LIMIT, Scene, until},
};
use std::{fs, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A client that is connected, and stays so until its standard input is closed.
async fn staying(attacked: &Attacked, cgroup: &Cgroup) -> Child {
    let mut command = cgroup.part(Part::Stay(attacked.socket(), permitted())).command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Command::from(command).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let here = async { while lines.next_line().await.unwrap().expect("it ended").trim() != "here" {} };
    timeout(LIMIT, here).await.expect("it never came");
    child
}

fn ask(attacked: &Attacked, cgroup: &Cgroup) -> Part {
    cgroup.part(Part::Ask(attacked.socket(), permitted(), "/secrets/stripe".into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_container_of_the_same_user_gets_nothing_until_the_first_one_has_ended() {
    let (true, Some(ours), Some(other)) = (can_tell_containers(), Cgroup::new(), Cgroup::new()) else {
        return;
    };
    let attacked = Attacked::new("uid: 20001, level: container").await;
    let mut first = staying(&attacked, &ours).await;
    attack(&ask(&attacked, &ours)).await.got_the_secret();
    let told = attack(&ask(&attacked, &other)).await;
    told.got_nothing();
    assert!(told.text.contains(r#"\"reason\":\"container\""#), "{}", told.text);
    // The first container ends, and is started again, as it were, with another cgroup.
    drop(first.stdin.take());
    timeout(LIMIT, first.wait()).await.expect("it stays").unwrap();
    attack(&ask(&attacked, &other)).await.got_the_secret();
    let (before, now) = (ours.id().to_string(), other.id().to_string());
    let Attacked { scene, mut agent } = attacked;
    assert_eq!(agent.stop().await, Some(0), "{}", agent.stderr());
    let events = scene.events();
    assert_eq!(
        lines(&events),
        [
            "secret.read.v1 allow - container",
            "peer.rejected.v1 deny container process",
            "peer.repinned.v1 allow - container",
            "secret.read.v1 allow - container",
        ]
    );
    let repinned = events.iter().find(|event| event["type"] == "peer.repinned.v1").unwrap();
    assert_eq!(repinned["before"]["id"], before);
    assert_eq!(repinned["actor"]["container"]["id"], now);
}

/// Attack 29: a process that shares the PID namespace and the uid reaches the socket though it has no mount of it, by the root of a
/// process that has. At level `process` that is enough; at level `container` it is another container.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_reaches_the_socket_through_anothers_root_is_still_another_container() {
    let (true, Some(ours), Some(other)) = (can_tell_containers(), Cgroup::new(), Cgroup::new()) else {
        return;
    };
    for (level, heard) in [("process", "200 OK"), ("container", "403 Forbidden")] {
        let attacked = Attacked::new(&format!("uid: 20001, level: {level}")).await;
        let mut first = staying(&attacked, &ours).await;
        // The one above may not be looked into, since it has changed its uid; this one has executed since.
        let sleep = ours.part(Part::BecomeAs(permitted(), vec!["sleep".into(), "60".into()]));
        let mut sleep = Command::from(sleep.command()).kill_on_drop(true).spawn().unwrap();
        let pid = sleep.id().unwrap();
        until("the sleeper", || async {
            fs::read_to_string(format!("/proc/{pid}/comm")).ok().filter(|name| name == "sleep\n").map(drop)
        })
        .await;
        let socket = attacked.socket();
        let folder = socket.parent().unwrap().display();
        let hidden = format!("mount -t tmpfs none {folder} && test ! -e {} && exec \"$@\"", socket.display());
        let around = format!("/proc/{pid}/root{}", socket.display());
        let ask = other.part(Part::Ask(around.into(), permitted(), "/secrets/stripe".into()));
        let mut command = under(&["unshare", "--mount", "sh", "-c", &hidden, "sh"], &ask);
        quiet(&mut command);
        let told = finished(command.into()).await;
        assert!(told.text.contains(heard), "{level}: {}", told.text);
        sleep.kill().await.unwrap();
        drop(first.stdin.take());
        timeout(LIMIT, first.wait()).await.expect("it stays").unwrap();
        let last = attacked.record().await.pop().unwrap();
        let expected = match level {
            "process" => "secret.read.v1 allow - process",
            _ => "peer.rejected.v1 deny container process",
        };
        assert_eq!(last, expected);
    }
}

/// Attack 4 at level `container`: whom the agent cannot see it tells by its mount namespace, if it may look at that (as root it
/// may; as another user without capabilities it may not, which the pods show).
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_hidden_in_another_pid_namespace_is_told_by_its_mount_namespace() {
    if !can_tell_containers() {
        return;
    }
    let scene = Scene::new().await;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", BINARY, "run", "--config"]);
    command.arg(scene.write(&config(&scene, "uid: 20001, level: container", 64).text()));
    let mut agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let ask = Part::Ask(scene.socket("job"), permitted(), "/secrets/stripe".into());
    attack(&Part::InPidNamespace(Box::new(ask))).await.got_the_secret();
    let children = format!("/proc/{0}/task/{0}/children", agent.pid);
    let inner =
        until("the agent", || async { fs::read_to_string(&children).ok()?.trim().parse().ok() }).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(inner), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(agent.wait().await.code(), Some(0), "{}", agent.stderr());
    let events = scene.events();
    assert_eq!(lines(&events), ["secret.read.v1 allow - container"]);
    let read = events.iter().find(|event| event["type"] == "secret.read.v1").unwrap();
    assert!(read["actor"]["container"]["id"].as_str().unwrap().starts_with("mount namespace "), "{read}");
}
