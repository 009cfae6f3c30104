//! The sockets: who may use them, how many at once, and what the files look like.

use crate::support::{Agent, BINARY, Config, LIMIT, Line, Scene, VALUE, finish, until};
use nix::unistd::geteuid;
use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
    process::Output,
    time::Duration,
};
use tokio::{process::Command, task::JoinSet};

/// The uid that may use the socket, and one that may not.
const PERMITTED: u32 = 20001;
const STRANGER: u32 = 20002;

/// Asks for the secret as another user, which only root can be.
async fn get_as(scene: &Scene, uid: u32) -> Output {
    let copy = scene.path("claviger");
    if !copy.exists() {
        // The binary's own directory may be closed to other users.
        fs::copy(BINARY, &copy).unwrap();
    }
    let mut command = Command::new(copy);
    command
        .args(["get", "stripe"])
        .env("CLAVIGER_SOCKET", scene.socket("job"))
        .current_dir("/")
        .uid(uid)
        .gid(uid);
    finish(command).await
}

fn for_uid(scene: &Scene, uid: u32) -> Config {
    let mut config = scene.config();
    config.workloads = format!("\n{}", scene.workload("job", uid, "[{name: keys, secrets: [stripe]}]"));
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_refused_with_the_reason_and_the_permitted_one_is_served() {
    if !geteuid().is_root() {
        return crate::skip("only root can become another user");
    }
    let scene = Scene::new().await;
    let mut agent = scene.start(&for_uid(&scene, PERMITTED)).await;
    let got = get_as(&scene, PERMITTED).await;
    assert_eq!((got.status.code(), got.stdout), (Some(0), VALUE.as_bytes().to_vec()));
    for uid in [STRANGER, 65534] {
        let got = get_as(&scene, uid).await;
        let said = String::from_utf8(got.stderr).unwrap();
        assert_eq!((got.status.code(), got.stdout.len()), (Some(3), 0), "{said}");
        assert!(
            said.contains(&format!("uid {uid} may not use this socket")) && said.contains("(reason uid,"),
            "{said}"
        );
    }
    // Root is no exception.
    let got = Line::open(&scene.socket("job")).await.unwrap().hear().await.unwrap();
    assert_eq!((got.status, &got.json()["reason"]), (403, &"uid".into()));
    assert!(!got.body.contains(VALUE));
    assert_eq!(agent.stop().await, Some(0));
    let events = scene.events();
    let refused: Vec<_> = events.iter().filter(|event| event["type"] == "peer.rejected.v1").collect();
    let uids: Vec<_> = refused.iter().map(|event| event["actor"]["uid"].as_u64().unwrap()).collect();
    assert_eq!(uids, [u64::from(STRANGER), 65534, 0]);
    assert!(refused.iter().all(|event| event["reason"] == "uid" && event["outcome"] == "deny"));
    let read = events.iter().find(|event| event["type"] == "secret.read.v1").unwrap();
    assert_eq!(read["actor"]["uid"], PERMITTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_root_the_workload_of_another_uid_is_refused_all_the_same() {
    let scene = Scene::new().await;
    let mut config = scene.config();
    let own = geteuid().as_raw();
    config.workloads.push_str(&scene.workload(
        "elsewhere",
        own + STRANGER,
        "[{name: keys, secrets: [stripe]}]",
    ));
    let mut agent = scene.start(&config).await;
    let mut refused = Line::open(&scene.socket("elsewhere")).await.unwrap();
    let reply = refused.ask("/secrets/stripe").await.unwrap();
    assert_eq!((reply.status, &reply.json()["reason"]), (403, &"uid".into()));
    assert!(refused.ends().await);
    let reply = Line::open(&scene.socket("job")).await.unwrap().ask("/secrets/stripe").await.unwrap();
    assert_eq!((reply.status, reply.body.contains(VALUE)), (200, true));
    assert_eq!(agent.stop().await, Some(0));
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// The modes do not depend on the umask that the agent was started with.
#[tokio::test(flavor = "multi_thread")]
async fn files_have_the_modes_of_the_config_whatever_the_umask_is() {
    for umask in ["0000", "0077"] {
        let scene = Scene::new().await;
        let mut config = scene.config();
        let own = geteuid().as_raw();
        let tight = scene.workload("tight", own, "[]").replace(".sock\"}", ".sock\", mode: \"0600\"}");
        config.workloads.push_str(&tight);
        let run = scene.run(&config);
        let mut command = Command::new("sh");
        command.args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask]).arg(run.as_std().get_program());
        command.args(run.as_std().get_args());
        let mut agent = Agent::spawn(command).await;
        agent.until_ready().await;
        let reply = Line::open(&scene.socket("job")).await.unwrap().ask("/secrets/stripe").await.unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(
            (mode(&scene.socket("job")), mode(&scene.socket("tight"))),
            (0o666, 0o600),
            "umask {umask}"
        );
        assert!(fs::symlink_metadata(scene.socket("job")).unwrap().file_type().is_socket());
        assert_eq!(agent.stop().await, Some(0));
        assert_eq!(mode(&scene.journal()), 0o700, "umask {umask}");
        let files: Vec<_> =
            fs::read_dir(scene.journal()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.iter().any(|file| file.extension().is_some_and(|ext| ext == "seg")), "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "umask {umask}: {}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_connections_as_many_are_open_as_the_limit_says_and_the_others_are_refused() {
    if !geteuid().is_root() {
        return crate::skip("only root can count the descriptors of a process that is not dumpable");
    }
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.workloads = config.workloads.replace("limits: {", "limits: {connections: 32, ");
    let mut agent = scene.start(&config).await;
    let before = agent.descriptors();
    let mut lines = JoinSet::new();
    for _ in 0..1000 {
        let mut line = Line::open(&scene.socket("job")).await.unwrap();
        lines.spawn(async move {
            // Of those that are refused only some are told why.
            let reply = line.ask("/secrets/stripe").await.ok();
            assert!(reply.as_ref().is_none_or(|reply| [200, 429].contains(&reply.status)), "{reply:?}");
            usize::from(reply.is_some_and(|reply| reply.status == 200))
        });
    }
    let (mut most, mut served) = (0, 0);
    while let Some(done) = lines.join_next().await {
        served += done.unwrap();
        most = most.max(agent.descriptors());
    }
    // A socket and a process for each; a socket for each of those that are told why not.
    assert!(most <= before + 2 * 32 + 16 + 16, "{most} descriptors, {before} before");
    back_to(&agent, before).await;
    let reply = Line::open(&scene.socket("job")).await.unwrap().ask("/secrets/stripe").await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(agent.stop().await, Some(0));
    assert!(served >= 32, "{served}");
    let events = scene.events();
    assert_eq!(events.iter().filter(|event| event["type"] == "secret.read.v1").count(), served + 1);
    assert!(events.iter().any(|event| event["reason"] == "connections"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_at_once_leave_nothing_behind() {
    if !geteuid().is_root() {
        return crate::skip("only root can count the descriptors of a process that is not dumpable");
    }
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.workloads = config.workloads.replace("limits: {", "limits: {connections: 2000, ");
    let mut agent = scene.start(&config).await;
    let before = agent.descriptors();
    let mut lines = Vec::new();
    for number in 0..1000 {
        let mut line = Line::open(&scene.socket("job")).await.unwrap();
        match number % 4 {
            0 => assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200),
            1 => line.send("GET /secrets/st").await.unwrap(),
            2 => line.say("/secrets/stripe?wait=60s&since=x").await.unwrap(),
            _ => {}
        }
        lines.push(line);
    }
    until("a thousand connections", || async {
        agent
            .page("/metrics")
            .await
            .body
            .contains("claviger_connections{workload=\"job\"} 1000")
            .then_some(())
    })
    .await;
    drop(lines);
    back_to(&agent, before).await;
    let reply = Line::open(&scene.socket("job")).await.unwrap().ask("/secrets/stripe").await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(agent.stop().await, Some(0));
}

/// Waits until the agent has as few descriptors open as before; says which are, if that does not come.
async fn back_to(agent: &Agent, before: usize) {
    let back = async {
        while !agent.is_back_to(before) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(LIMIT, back).await.is_err() {
        let open = fs::read_dir(format!("/proc/{}/fd", agent.pid)).unwrap();
        let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect();
        panic!("{before} descriptors before, and now {}: {open:?}", open.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ran_out_of_descriptors_recovers() {
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.workloads = config.workloads.replace("limits: {", "limits: {connections: 1000, ");
    let run = scene.run(&config);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 48; exec \"$@\"", "sh"]).arg(run.as_std().get_program());
    command.args(run.as_std().get_args());
    let mut agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(Line::open(&scene.socket("job")).await.unwrap());
    }
    agent.err_line("what happens", |line| line["message"] == "accepting a connection failed").await;
    // Those that came in are served.
    assert_eq!(open[0].ask("/secrets/stripe").await.unwrap().status, 200);
    drop(open);
    until("an answer", || async {
        let mut line = Line::open(&scene.socket("job")).await.ok()?;
        (line.ask("/secrets/stripe").await.ok()?.status == 200).then_some(())
    })
    .await;
    agent.until_ready().await;
    assert_eq!(agent.stop().await, Some(0));
    let events = scene.events();
    assert_eq!(events.last().unwrap()["type"], "agent.stopped.v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_file_that_is_removed_is_made_again_and_open_connections_stay() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    fs::remove_file(scene.socket("job")).unwrap();
    let opened = until("the socket", || async { Line::open(&scene.socket("job")).await.ok() });
    let mut fresh = tokio::time::timeout(LIMIT, opened).await.unwrap();
    assert_eq!(fresh.ask("/secrets/stripe").await.unwrap().status, 200);
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    assert_eq!(agent.stop().await, Some(0));
    assert!(!scene.socket("job").exists());
}
