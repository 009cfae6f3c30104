//! The journal's disk: full, full from the start, and its files taken away.

use crate::support::{Agent, Config, LIMIT, Line, Reply, Scene, VALUE, events_in, until};
use devvault::Matcher;
use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{process::Command, task::JoinSet, time::timeout};

/// Why a test that needs a disk of its own cannot run, if it cannot. As root, with the live tests required, that fails.
fn cannot_mount() -> Option<&'static str> {
    if nix::unistd::geteuid().is_root() {
        let tried = std::process::Command::new("unshare").args(["-m", "true"]).output();
        if tried.is_ok_and(|tried| tried.status.success()) {
            return None;
        }
        let required = crate::require_live();
        assert!(!required, "root may not make a mount namespace here (CAP_SYS_ADMIN)");
        return Some("root may not make a mount namespace here (CAP_SYS_ADMIN)");
    }
    Some("only root can mount a small disk")
}

/// An agent whose journal is on a disk of 4 MiB, in a mount namespace of its own; `first` is a shell command that runs
/// before it, with `$1` as the disk.
async fn on_a_small_disk(scene: &Scene, config: &Config, first: &str) -> (Agent, PathBuf) {
    on_a_disk_of("4m", scene, config, first).await
}

/// The same on a disk of `size`.
async fn on_a_disk_of(size: &str, scene: &Scene, config: &Config, first: &str) -> (Agent, PathBuf) {
    let disk = scene.journal();
    std::fs::create_dir(&disk).unwrap();
    let run = scene.run(config);
    let script = format!(
        "mount -t tmpfs -o size={size},mode=0700 journal \"$1\" && {{ {first}; }}; shift; exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(&disk).arg(run.as_std().get_program());
    command.args(run.as_std().get_args());
    let agent = Agent::spawn(command).await;
    agent.health().await;
    // The mount is seen through the agent only, and goes with it.
    let seen = format!("/proc/{}/root{}", agent.pid, disk.display());
    (agent, seen.into())
}

fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut filler = File::create(&path).unwrap();
    let error = loop {
        if let Err(error) = filler.write_all(&[b'x'; 4096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    path
}

fn is_unaudited(reply: &Reply) -> bool {
    if reply.status == 200 {
        return false;
    }
    assert_eq!((reply.status, &reply.json()["reason"]), (503, &"audit_unavailable".into()), "{reply:?}");
    assert!(reply.header("retry-after").is_some_and(|after| after.parse::<u64>().is_ok()), "{reply:?}");
    assert!(!reply.body.contains(VALUE));
    true
}

/// Readiness is looked at every second.
async fn until_unwritable(agent: &Agent) {
    let says = async || {
        let page = agent.page("/readyz").await;
        (page.status == 503 && page.body.contains("audit_unwritable")).then_some(())
    };
    until("audit_unwritable", says).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_disclosed_tokens_live_on_and_room_is_found_again() {
    if let Some(why) = cannot_mount() {
        return crate::skip(why);
    }
    let scene = Scene::with(Duration::from_secs(3)).await;
    let (mut agent, disk) = on_a_small_disk(&scene, &scene.config(), "true").await;
    agent.until_ready().await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    let filler = fill(&disk);
    let mut answered = 1;
    // What was set aside for the segment is used up first: 1 MiB, some 1,700 events.
    while !is_unaudited(&line.ask("/secrets/stripe").await.unwrap()) {
        answered += 1;
        assert!(answered < 5000, "more is answered than fits");
    }
    until_unwritable(&agent).await;
    assert_eq!(agent.page("/livez").await.status, 200);
    // A refusal discloses nothing, and has room of its own.
    assert_eq!(line.ask("/secrets/nothing").await.unwrap().status, 403);

    scene.vault.forget_calls();
    scene.vault.wait_for_calls(&Matcher::renew_self().status(200), 3, LIMIT).await.unwrap();
    assert!(is_unaudited(&line.ask("/secrets/stripe").await.unwrap()));
    let metrics = agent.page("/metrics").await.body;
    assert!(metrics.contains("audit_denied_requests_total{reason=\"audit_unavailable\"}"), "{metrics}");

    // Those who ask without a pause must not keep the room from being found.
    let mut restless = JoinSet::new();
    for _ in 0..4 {
        let mut line = Line::open(&scene.socket("job")).await.unwrap();
        restless.spawn(async move { while is_unaudited(&line.ask("/secrets/stripe").await.unwrap()) {} });
    }
    std::fs::remove_file(filler).unwrap();
    let answered_again = async {
        while let Some(done) = restless.join_next().await {
            done.unwrap()
        }
    };
    timeout(LIMIT, answered_again).await.expect("the room is never found");
    agent.until_ready().await;
    let events = events_in(&disk);
    let read = events.iter().filter(|e| e["type"] == "secret.read.v1" && e["outcome"] == "allow").count();
    assert_eq!(read, answered + 4);
    assert!(events.iter().any(|event| event["type"] == "secret.denied.v1" && event["reason"] == "no_rule"));
    assert!(!events.iter().any(|event| event["type"] == "auth.failed.v1"));
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_best_effort_a_full_disk_stops_no_read_and_the_exact_count_of_what_was_lost_is_on_record() {
    if let Some(why) = cannot_mount() {
        return crate::skip(why);
    }
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.audit = config.audit.replacen('{', "{mode: best-effort, ", 1);
    let (mut agent, disk) = on_a_disk_of("12m", &scene, &config, "true").await;
    agent.until_ready().await;
    let filler = fill(&disk);
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    // More than is on the disk for it, and in memory: some events must be lost.
    let mut reads = 0;
    while reads < 12_000 {
        let reply = line.ask("/secrets/stripe").await.unwrap();
        assert_eq!((reply.status, reply.body.contains(VALUE)), (200, true), "{reply:?}");
        reads += 1;
    }
    // Nobody is kept waiting, so the agent is ready.
    assert_eq!(agent.page("/readyz").await.status, 200);
    std::fs::remove_file(filler).unwrap();
    until("the events that waited", || async {
        let found = events_in(&disk);
        found.iter().any(|event| event["type"] == "audit.gap.v1").then_some(())
    })
    .await;
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(agent.wait().await.code(), Some(0));
    // The disk goes with the agent: what standard output had is what was there.
    let lines: Vec<serde_json::Value> =
        agent.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kept = lines.iter().filter(|event| event["type"] == "secret.read.v1").count() as u64;
    let gaps: Vec<_> = lines.iter().filter(|event| event["reason"] == "dropped").collect();
    let lost: u64 = gaps.iter().map(|event| event["agg"]["count"].as_u64().unwrap()).sum();
    assert_eq!((kept + lost, lost > 0), (reads, true), "{gaps:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_is_full_from_the_start_the_agent_keeps_its_token_and_waits_for_room() {
    if let Some(why) = cannot_mount() {
        return crate::skip(why);
    }
    let scene = Scene::with(Duration::from_secs(3)).await;
    let fill = "head -c 8m /dev/zero > \"$1/filler\" 2>/dev/null";
    let (mut agent, disk) = on_a_small_disk(&scene, &scene.config(), fill).await;
    scene.vault.wait_for_calls(&Matcher::renew_self().status(200), 2, LIMIT).await.unwrap();
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert!(is_unaudited(&line.ask("/secrets/stripe").await.unwrap()));
    assert!(is_unaudited(&line.ask("/secrets/nothing").await.unwrap()));
    until_unwritable(&agent).await;
    std::fs::remove_file(disk.join("filler")).unwrap();
    agent.until_ready().await;
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    // What happened while there was no room is on record too.
    until("the events that waited", || async {
        let events = events_in(&disk);
        let wanted = ["agent.started.v1", "auth.login.v1", "secret.read.v1"];
        wanted.iter().all(|kind| events.iter().any(|event| event["type"] == *kind)).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));
}

/// Reads, lets the journal be removed, and reads again.
async fn removed(sandbox: &str, remove: impl FnOnce(&Path)) {
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.rest = format!("sandbox: {sandbox}\n");
    let mut agent = scene.start(&config).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    remove(&scene.journal());
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    assert_eq!(agent.stop().await, Some(0));
    let reader = claviger::audit::journal::read(&scene.journal()).unwrap();
    let events: Vec<serde_json::Value> =
        reader.map(|(_, bytes)| serde_json::from_slice(&bytes).unwrap()).collect();
    let count = |wanted: &str| events.iter().filter(|event| event["type"] == wanted).count();
    // The second read, and that the first one is gone.
    assert_eq!((count("secret.read.v1"), count("audit.gap.v1")), (1, 1), "{events:#?}");
    let gap = events.iter().find(|event| event["type"] == "audit.gap.v1").unwrap();
    assert_eq!(gap["reason"], "journal_replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_removed_is_begun_again_and_the_loss_is_on_record() {
    removed("on", |journal| {
        for file in std::fs::read_dir(journal).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    })
    .await;
    // With its directory, only if nothing keeps us from making that anew.
    removed("off", |journal| std::fs::remove_dir_all(journal).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_whose_directory_is_removed_is_out_of_the_sandboxs_reach_until_the_next_start() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    std::fs::remove_dir_all(scene.journal()).unwrap();
    let refused = line.ask("/secrets/stripe").await.unwrap();
    assert_eq!(
        (refused.status, &refused.json()["reason"]),
        (503, &"audit_unavailable".into()),
        "{refused:?}"
    );
    until("it says so", || async {
        (agent.page("/readyz").await.body.contains("audit_unwritable")).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));
    let mut agent = scene.start(&scene.config()).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    assert_eq!(agent.stop().await, Some(0));
}
