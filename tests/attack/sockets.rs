//! Attacks 28 and 29, in part: another user puts a socket of its own in the place of ours, or looks for a way around the file.

use crate::{
    can_attack,
    part::{Ids, Part},
    scene::{Attacked, Attacker, UID, attack, config, permitted},
    skip,
    support::{BINARY, Scene, finish, until},
};
use nix::sched::{CloneFlags, unshare};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use tokio::process::Command;

fn other() -> Ids {
    Ids { uid: 4000, gid: 4000, groups: vec![] }
}

/// Gives this thread, and all that it starts, mounts of its own; they are gone with it. Says so if that cannot be.
async fn can_mount() -> bool {
    if !can_attack() {
        return false;
    }
    let works = unshare(CloneFlags::CLONE_NEWNS).is_ok() && mount(&["--make-rprivate", "/"]).await;
    if !works {
        skip("needs the right to mount");
    }
    works
}

async fn mount(line: &[&str]) -> bool {
    let mut command = Command::new("mount");
    command.args(line);
    finish(command).await.status.success()
}

async fn bind(from: &Path, to: &Path, options: &str) {
    fs::create_dir_all(to).unwrap();
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    assert!(
        mount(&["--bind", from, to]).await && mount(&["-o", &format!("remount,bind,{options}"), to]).await
    );
}

/// A directory of this mode, in which the agent's socket is to be.
fn directory(scene: &Scene, mode: u32) -> PathBuf {
    let directory = scene.socket("job").parent().unwrap().to_owned();
    fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
    directory
}

async fn attacked(scene: Scene) -> Attacked {
    let agent = scene.start(&config(&scene, &format!("uid: {UID}, level: process"), 64)).await;
    Attacked { scene, agent }
}

fn ask(socket: PathBuf) -> Part {
    Part::Ask(socket, permitted(), "/secrets/stripe".into())
}

/// The directory is a mount, as a volume in a pod is, and so is taken whoever may write to it.
#[tokio::test]
async fn a_socket_that_another_user_replaced_is_seen_and_bound_again() {
    if !can_mount().await {
        return;
    }
    let scene = Scene::new().await;
    let directory = directory(&scene, 0o777);
    bind(&directory, &directory, "rw").await;
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    let attacked = attacked(scene).await;
    let ours = fs::metadata(attacked.socket()).unwrap().ino();
    let mut squatter = Attacker::start(&Part::Replace(attacked.socket(), other()));
    squatter.tells("squatting").await;
    assert_ne!(fs::metadata(attacked.socket()).unwrap().ino(), ours);
    // A live socket is never taken from anybody: the agent says that its own is lost, and is not ready.
    let lost = |line: &serde_json::Value| line["message"] == "the socket file was removed or replaced";
    attacked.agent.err_line("that the socket is lost", lost).await;
    until("that it says so", || async {
        let ready = attacked.agent.page("/readyz").await;
        (ready.status == 503 && ready.body.contains("socket_lost")).then_some(())
    })
    .await;
    // A client that knows whom to expect is not taken in: not a byte is sent.
    let mut client = Command::new(BINARY);
    client.args(["get", "stripe", "--server-uid", "0"]).env("CLAVIGER_SOCKET", attacked.socket());
    let told = finish(client).await;
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(told.status.code() == Some(1) && said.contains("uid 4000") && told.stdout.is_empty(), "{said}");
    drop(squatter);
    let again =
        |line: &serde_json::Value| line["message"] == "the socket file was removed or replaced; bound again";
    attacked.agent.err_line("that it is bound again", again).await;
    attacked.agent.until_ready().await;
    attack(&ask(attacked.socket())).await.got_the_secret();
    let page = attacked.agent.page("/metrics").await.body;
    assert!(page.contains("claviger_socket_rebinds_total{workload=\"job\"} 1"), "{page}");
}

#[tokio::test]
async fn in_a_sticky_directory_nobody_can_remove_the_socket() {
    if !can_attack() {
        return;
    }
    let scene = Scene::new().await;
    directory(&scene, 0o1777);
    let attacked = attacked(scene).await;
    let told = attack(&Part::Replace(attacked.socket(), other())).await;
    assert!(told.text.lines().any(|line| line == "EPERM"), "{}", told.text);
    attack(&ask(attacked.socket())).await.got_the_secret();
}

/// As a workload's container has it.
#[tokio::test]
async fn over_a_read_only_mount_the_socket_can_be_used_and_not_replaced() {
    if !can_mount().await {
        return;
    }
    let scene = Scene::new().await;
    let (directory, view) = (directory(&scene, 0o755), scene.path("view"));
    bind(&directory, &view, "ro").await;
    let _attacked = attacked(scene).await;
    let seen = view.join("job.sock");
    for ids in [other(), permitted(), Ids { uid: 0, gid: 0, groups: vec![] }] {
        let told = attack(&Part::Replace(seen.clone(), ids)).await;
        assert!(told.text.lines().any(|line| line == "EROFS"), "{}", told.text);
    }
    attack(&ask(seen)).await.got_the_secret();
}

/// Attack 29: an abstract name could be reached from every container of the pod.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_has_no_abstract_socket() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::new(&format!("uid: {UID}, level: process")).await;
    let path = |inode: u64| {
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let of = |line: &str| {
            let mut words = line.split_whitespace().skip(6);
            (words.next() == Some(&*inode.to_string())).then(|| words.next().unwrap_or_default().to_owned())
        };
        table.lines().find_map(of)
    };
    // An open connection, too.
    let _line = crate::support::Line::open(&attacked.socket()).await.unwrap();
    let open = until("the agent's sockets", || async {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", attacked.agent.pid)).unwrap();
        let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let inodes = links.filter_map(|link| {
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        });
        let paths: Vec<String> = inodes.filter_map(path).collect();
        // Bound by way of the directory's descriptor.
        (paths.iter().filter(|path| path.ends_with("/job.sock")).count() == 2).then_some(paths)
    })
    .await;
    assert!(!open.iter().any(|path| path.starts_with('@')), "{open:?}");
}
