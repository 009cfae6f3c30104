//! Attacks from another container of the pod, at level `container`: a cgroup of version 2 stands for a container.

use crate::{
    can_attack,
    cgroups::{Cgroup, can_tell_containers},
    part::Part,
    scene::{Attacked, attack, config, lines, permitted},
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

/// Attack 4 at level `container`: of whom the agent cannot see it cannot tell the container, and guesses none.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_hidden_in_another_pid_namespace_is_in_no_container_that_could_be_told() {
    if !can_attack() || !can_tell_containers() {
        return;
    }
    let scene = Scene::new().await;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", BINARY, "run", "--config"]);
    command.arg(scene.write(&config(&scene, "uid: 20001, level: container", 64).text()));
    let mut agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let ask = Part::Ask(scene.socket("job"), permitted(), "/secrets/stripe".into());
    let told = attack(&Part::InPidNamespace(Box::new(ask))).await;
    told.got_nothing();
    assert!(told.text.contains("pid_not_visible"), "{}", told.text);
    let children = format!("/proc/{0}/task/{0}/children", agent.pid);
    let inner =
        until("the agent", || async { fs::read_to_string(&children).ok()?.trim().parse().ok() }).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(inner), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(agent.wait().await.code(), Some(0), "{}", agent.stderr());
    assert_eq!(lines(&scene.events()), ["peer.rejected.v1 deny pid_not_visible process"]);
}
