//! A changed config file: by a signal, by a replaced file, by the symlink that Kubernetes swaps.

use crate::support::{Agent, Config, Line, Scene, until};
use claviger::crypto::{hex, sha256};
use nix::{sys::signal::Signal, unistd::geteuid};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{process::Command, time::sleep};

/// A config in which `job` may read these.
fn with_rules(scene: &Scene, rules: &str) -> Config {
    let mut config = scene.config();
    config.workloads = format!("\n{}", scene.workload("job", geteuid().as_raw(), rules));
    config.secrets = "{stripe: {identity: reports, kind: kv, path: secret/stripe, field: api_key}, \
                      other: {identity: reports, kind: kv, path: secret/other, field: api_key}}"
        .into();
    config
}

const STRIPE: &str = "[{name: keys, secrets: [stripe]}]";
const BOTH: &str = "[{name: keys, secrets: [stripe]}, {name: more, secrets: [other]}]";
const OTHER: &str = "[{name: more, secrets: [other]}]";

async fn status(line: &mut Line, secret: &str) -> u16 {
    line.ask(&format!("/secrets/{secret}")).await.unwrap().status
}

/// Waits until the agent says that it took over, or refused, a config for the `count`th time.
async fn heard(agent: &Agent, kind: &str, count: usize) -> Value {
    let all = || {
        let out = agent.stdout();
        let events = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["type"] == kind).nth(count - 1)
    };
    until(kind, || async { all() }).await
}

async fn reloads(agent: &Agent, outcome: &str) -> Option<u64> {
    let metrics = agent.page("/metrics").await.body;
    let wanted = format!("claviger_config_reloads_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_over_rules_on_open_connections() {
    let scene = Scene::new().await;
    // Reached by a link whose directory is not the file's own: no event of the file system tells of its change.
    fs::create_dir(scene.path("elsewhere")).unwrap();
    let (file, link) = (scene.path("elsewhere/claviger.yaml"), scene.path("linked.yaml"));
    fs::write(&file, with_rules(&scene, STRIPE).text()).unwrap();
    symlink(&file, &link).unwrap();
    let mut command = Command::new(crate::support::BINARY);
    command.arg("run").arg("--config").arg(&link);
    let mut agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (200, 403));
    fs::write(&file, with_rules(&scene, OTHER).text()).unwrap();
    agent.signal(Signal::SIGHUP);
    heard(&agent, "config.loaded.v1", 1).await;
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (403, 200));
    // Nothing new: neither an event nor a count.
    agent.signal(Signal::SIGHUP);
    agent.err_line("the same", |line| line["message"] == "the config is the same as before").await;
    assert_eq!(reloads(&agent, "loaded").await, Some(1));
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_taken_over_without_a_signal() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&with_rules(&scene, STRIPE)).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (200, 403));
    for (turn, (rules, expected)) in
        [(BOTH, (200, 200)), (OTHER, (403, 200)), (STRIPE, (200, 403))].iter().enumerate()
    {
        scene.write(&with_rules(&scene, rules).text());
        heard(&agent, "config.loaded.v1", turn + 1).await;
        assert_eq!(
            (status(&mut line, "stripe").await, status(&mut line, "other").await),
            *expected,
            "{rules}"
        );
    }
    assert_eq!(reloads(&agent, "loaded").await, Some(3));
    assert_eq!(agent.stop().await, Some(0));
}

/// A directory as the kubelet makes it: `config.yaml -> ..data/config.yaml`, `..data -> ..N`.
struct Volume(PathBuf);

impl Volume {
    fn swap(&self, number: u32, content: &str) {
        let fresh = self.0.join(format!("..{number}"));
        fs::create_dir(&fresh).unwrap();
        fs::write(fresh.join("config.yaml"), content).unwrap();
        symlink(format!("..{number}"), self.0.join("..data_tmp")).unwrap();
        let old = fs::read_link(self.0.join("..data"));
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(self.0.join(old)).unwrap();
        }
    }

    fn file(&self) -> &Path {
        &self.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_is_swapped_again_and_again_is_taken_over_each_time() {
    let scene = Scene::new().await;
    let volume = Volume(scene.path("etc"));
    fs::create_dir(volume.file()).unwrap();
    volume.swap(0, &with_rules(&scene, STRIPE).text());
    symlink("..data/config.yaml", volume.file().join("config.yaml")).unwrap();
    let mut command = Command::new(crate::support::BINARY);
    command.arg("run").arg("--config").arg(volume.file().join("config.yaml"));
    let mut agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (200, 403));
    for (turn, rules, expected) in [(1, BOTH, (200, 200)), (2, OTHER, (403, 200)), (3, STRIPE, (200, 403))] {
        volume.swap(turn, &with_rules(&scene, rules).text());
        heard(&agent, "config.loaded.v1", turn as usize).await;
        assert_eq!(
            (status(&mut line, "stripe").await, status(&mut line, "other").await),
            expected,
            "{rules}"
        );
    }
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_is_an_event_and_a_metric() {
    let scene = Scene::new().await;
    let good = with_rules(&scene, STRIPE);
    let mut agent = scene.start(&good).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    // Two problems; and what is good in it is not taken over either.
    let bad = with_rules(&scene, BOTH).text() + "colour: blue\nlog: {level: loud}\n";
    scene.write(&bad);
    let event = heard(&agent, "config.rejected.v1", 1).await;
    assert_eq!(
        (&event["reason"], &event["agent"]["problems"]),
        (&"config_invalid".into(), &2.into()),
        "{event}"
    );
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (200, 403));
    agent
        .err_line("the problem", |line| {
            line["problem"].as_str().is_some_and(|problem| problem.starts_with("colour: line "))
        })
        .await;
    assert_eq!((reloads(&agent, "rejected").await, reloads(&agent, "loaded").await), (Some(1), None));
    assert_eq!(agent.page("/readyz").await.status, 200);
    fs::remove_file(scene.path("config.yaml")).unwrap();
    heard(&agent, "config.rejected.v1", 2).await;
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (200, 403));
    // A good one is taken over after it.
    scene.write(&with_rules(&scene, BOTH).text());
    heard(&agent, "config.loaded.v1", 1).await;
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (200, 200));
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_restart_can_change_is_rejected_whole_and_named() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&with_rules(&scene, STRIPE)).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    let mut config = with_rules(&scene, BOTH);
    config.health = "{listen: \"127.0.0.1:0\", names: true}".into();
    config.audit = config.audit.replace("/audit\"", "/audit-2\"");
    config.workloads = config.workloads.replace("job.sock", "job-2.sock");
    scene.write(&config.text());
    let event = heard(&agent, "config.rejected.v1", 1).await;
    assert_eq!(event["reason"], "needs_restart");
    let mut keys: Vec<&str> =
        event["agent"]["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["audit.journal.dir", "health.names", "workloads.job.socket.path"]);
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (200, 403));
    assert_eq!(reloads(&agent, "rejected").await, Some(1));
    assert!(!scene.path("audit-2").exists() && !scene.socket("job-2").exists());
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_identities_come_and_go_while_the_agent_runs() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(status(&mut line, "other").await, 403);
    let mut config = with_rules(&scene, BOTH);
    config.identities = config.identities.replace("{reports: ", "{fresh: ").replace("}}", "}, ")
        + scene.config().identities.trim_start_matches('{');
    config.secrets = config.secrets.replace("other: {identity: reports", "other: {identity: fresh");
    scene.write(&config.text());
    heard(&agent, "config.loaded.v1", 1).await;
    until("the new secret", || {
        let socket = scene.socket("job");
        async move { (status(&mut Line::open(&socket).await.unwrap(), "other").await == 200).then_some(()) }
    })
    .await;
    assert_eq!(scene.vault.tokens().len(), 2);
    agent.until_ready().await;
    let metrics = agent.page("/metrics").await.body;
    for identity in ["reports", "fresh"] {
        let wanted = format!("claviger_token_seconds_left{{identity=\"{identity}\"}}");
        assert!(metrics.contains(&wanted), "{wanted} is not in\n{metrics}");
    }
    // An identity can only go with a restart; its secret and rule can go now.
    config.workloads = scene.config().workloads;
    config.secrets = scene.config().secrets;
    scene.write(&config.text());
    heard(&agent, "config.loaded.v1", 2).await;
    assert_eq!((status(&mut line, "stripe").await, status(&mut line, "other").await), (200, 403));
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(scene.vault.tokens().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_no_longer_allowed_is_refused_on_its_open_connection() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(status(&mut line, "stripe").await, 200);
    let mut config = scene.config();
    let stranger = geteuid().as_raw() + 20001;
    config.workloads = format!("\n{}", scene.workload("job", stranger, STRIPE));
    scene.write(&config.text());
    heard(&agent, "config.loaded.v1", 1).await;
    let refused = line.ask("/secrets/stripe").await.unwrap();
    assert_eq!((refused.status, &refused.json()["reason"]), (403, &"uid".into()));
    assert!(line.ends().await);
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_another_one_is_taken_over_is_not_missed() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&with_rules(&scene, STRIPE)).await;
    for round in 0..20_u64 {
        scene.write(&format!("{}# {round}\n", with_rules(&scene, BOTH).text()));
        agent.signal(Signal::SIGHUP);
        // Sweeps over the time that taking over needs.
        sleep(Duration::from_micros(300 * round)).await;
        let last = format!("{}# {round}\n", with_rules(&scene, OTHER).text());
        scene.write(&last);
        taken_over(&agent, &last).await;
    }
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_the_agent_starts_is_not_missed() {
    let scene = Scene::new().await;
    // A warning is said once the file was read, before anything is started.
    let mut first = scene.config();
    first.workloads = first.workloads.replace("peer:", "bridge: deny, peer:");
    for round in 0..10_u64 {
        let mut agent = Agent::spawn(scene.run(&first)).await;
        agent.err_line("a warning", |line| line["message"] == "config").await;
        sleep(Duration::from_micros(500 * round)).await;
        let last = format!("{}# {round}\n", with_rules(&scene, BOTH).text());
        scene.write(&last);
        taken_over(&agent, &last).await;
        agent.signal(Signal::SIGKILL);
        agent.wait().await;
    }
}

/// Waits until the agent says that it runs `config`.
async fn taken_over(agent: &Agent, config: &str) {
    let revision = format!("sha256:{}", &hex(&sha256(config.as_bytes()))[..16]);
    let told = |event: &Value| {
        event["type"] == "config.loaded.v1" && event["agent"]["revision"] == revision.as_str()
    };
    agent.event("the last change is taken over", told).await;
}
