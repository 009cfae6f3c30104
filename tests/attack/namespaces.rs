//! Attacks and honest clients from other PID and user namespaces, as in other containers of a pod.

use crate::{
    can_attack,
    part::{Ids, Part, quiet},
    scene::{Attacked, attack, config, finished, lines, permitted},
    skip,
    support::{Agent, BINARY, LIMIT, Scene, finish, until},
};
use nix::sys::signal::Signal;
use std::{fs, os::unix::fs::chown, path::Path};
use tokio::process::Command;

/// Whether namespaces can be made here; says so if not.
async fn can_unshare(kinds: &[&str]) -> bool {
    if !can_attack() {
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(kinds).arg("--fork").arg("true");
    let works = finish(command).await.status.success();
    if !works {
        skip("needs the right to make namespaces");
    }
    works
}

/// Attack 4: neither sees the other's PIDs, as it is by default in a pod. At level `process` the client gets the secret, and
/// its child does not.
#[tokio::test(flavor = "multi_thread")]
async fn level_process_holds_between_pid_namespaces_that_do_not_see_each_other() {
    if !can_unshare(&["--pid", "--mount-proc"]).await {
        return;
    }
    let scene = Scene::new().await;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", BINARY, "run", "--config"]);
    command.arg(scene.write(&config(&scene, "uid: 20001, level: process", 64).text()));
    let mut agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let inside = |part| Part::InPidNamespace(Box::new(part));
    let ask = |target: &str| inside(Part::Ask(scene.socket("job"), permitted(), target.into()));
    let told = attack(&ask("/whoami")).await;
    for part in [r#"\"pid\":\"hidden\""#, r#"\"level\":\"process\",\"level_required\":\"process\""#] {
        assert!(told.text.contains(part), "{part} in {}", told.text);
    }
    attack(&ask("/secrets/stripe")).await.got_the_secret();
    attack(&inside(Part::PassOn(scene.socket("job"), permitted(), permitted()))).await.got_silence();
    // The first process of its namespace takes no signal from there; its parent passes none on.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid)).unwrap();
    let inner: i32 = children.trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(inner), Signal::SIGTERM).unwrap();
    assert_eq!(agent.wait().await.code(), Some(0), "{}", agent.stderr());
    assert_eq!(
        lines(&scene.events()),
        ["secret.read.v1 allow - process", "peer.rejected.v1 deny writer_mismatch process"]
    );
}

/// Gives the user namespace that `pid` has entered its map: 65536 ids, which begin with `first` outside.
async fn map_ids(pid: i32, first: u32) {
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    let theirs = format!("/proc/{pid}/ns/user");
    until("a user namespace", || async { (fs::read_link(&theirs).ok()? != ours).then_some(()) }).await;
    for kind in ["gid", "uid"] {
        fs::write(format!("/proc/{pid}/{kind}_map"), format!("0 {first} 65536\n")).unwrap();
    }
}

fn give(folder: &Path, owner: u32) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            give(&path, owner);
        }
        chown(&path, Some(owner), Some(owner)).unwrap();
    }
    chown(folder, Some(owner), Some(owner)).unwrap();
}

/// Attack 5: to an agent in a user namespace of its own, all who are outside look alike.
#[tokio::test(flavor = "multi_thread")]
async fn users_from_another_user_namespace_look_alike_and_are_all_refused() {
    const OURS: u32 = 300_000;
    const THEIRS: u32 = 200_000;
    if !can_unshare(&["--user"]).await {
        return;
    }
    let scene = Scene::new().await;
    // Wherever the build is: others may execute this copy. Another process writes it, since what this one has open for writing
    // its children have too, for a moment, and what is open for writing cannot be executed.
    let binary = scene.path("claviger");
    let mut copy = Command::new("cp");
    copy.arg(BINARY).arg(&binary);
    assert!(finish(copy).await.status.success());
    let binary = binary.display().to_string();
    let agent = |peer: &str, verb: &[&str]| {
        let file = scene.write(&config(&scene, peer, 64).text());
        give(scene.path("run").parent().unwrap(), OURS);
        let mut line = vec![binary.clone()];
        line.extend(verb.iter().map(|word| (*word).to_owned()));
        line.push(file.display().to_string());
        Command::from(Part::InUserNamespace(Box::new(Part::Become(line))).command())
    };

    // That number means nobody there, and so may not be permitted.
    let mut checking = agent("uid: 65534, gid: 65534", &["check"]);
    let checking = checking.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let checking = checking.kill_on_drop(true).spawn().unwrap();
    map_ids(i32::try_from(checking.id().unwrap()).unwrap(), OURS).await;
    let checked = tokio::time::timeout(LIMIT, checking.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(64), "{said}");
    assert!(said.contains("65534 is what every user from outside our user namespace looks like"), "{said}");

    let mut agent = Agent::spawn(agent("uid: 20001", &["run", "--config"])).await;
    map_ids(agent.pid, OURS).await;
    agent.until_ready().await;
    // From a namespace of its own, as the permitted uid there; and from outside.
    let ask = Part::Ask(scene.socket("job"), permitted(), "/secrets/stripe".into());
    let mut command = Part::InUserNamespace(Box::new(ask.clone())).command();
    quiet(&mut command);
    let child = Command::from(command).kill_on_drop(true).spawn().unwrap();
    map_ids(i32::try_from(child.id().unwrap()).unwrap(), THEIRS).await;
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    let told = crate::scene::Told { text: String::from_utf8(output.stdout).unwrap() };
    told.got_nothing();
    assert!(told.text.contains("overflow_id"), "{}", told.text);
    attack(&ask).await.got_nothing();
    attack(&Part::Ask(scene.socket("job"), Ids { uid: 65_534, gid: 65_534, groups: vec![] }, "/".into()))
        .await
        .got_nothing();
    // The control: the same uid by the agent's own map.
    let own = Ids { uid: OURS + 20_001, gid: OURS + 20_001, groups: vec![] };
    attack(&Part::Ask(scene.socket("job"), own, "/secrets/stripe".into())).await.got_the_secret();
    assert_eq!(agent.stop().await, Some(0), "{}", agent.stderr());
    let denied = "peer.rejected.v1 deny overflow_id user";
    assert_eq!(lines(&scene.events()), [denied, denied, denied, "secret.read.v1 allow - process"]);
}

/// The control of attack 4 with nothing unusual: what works without namespaces works from a namespace below the agent's.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_a_namespace_below_is_seen_with_its_pid() {
    if !can_unshare(&["--pid"]).await {
        return;
    }
    let attacked = Attacked::new("uid: 20001").await;
    let ask = Part::Ask(attacked.socket(), permitted(), "/whoami".into());
    let mut command = Part::InPidNamespace(Box::new(ask)).command();
    quiet(&mut command);
    let told = finished(command.into()).await;
    assert!(!told.text.contains("hidden") && told.text.contains(r#"\"level\":\"process\""#), "{}", told.text);
}
