//! One agent, with one secret and one workload, and attackers beside it.
//!
//! Does not know the attacks.

use crate::{
    part::{Ids, Part, quiet},
    support::{Agent, LIMIT, Scene, VALUE, until},
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// The workload's user.
pub(crate) const UID: u32 = 20_001;
pub(crate) const GID: u32 = 20_001;

/// The workload's own user.
pub(crate) fn permitted() -> Ids {
    Ids { uid: UID, gid: GID, groups: vec![] }
}

/// What one attacker told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) text: String,
}

impl Told {
    /// No byte of the secret, and each connection closed.
    pub(crate) fn got_nothing(&self) {
        assert!(self.text.contains("heard"), "the attack did not happen: {}", self.text);
        assert!(!self.text.contains(VALUE), "{}", self.text);
        assert!(!self.text.lines().any(|line| line == "open"), "{}", self.text);
        assert!(self.text.lines().any(|line| line == "closed"), "{}", self.text);
    }

    /// It was refused for this reason before it was challenged.
    pub(crate) fn got_no_nonce(&self, reason: &str) {
        assert!(!self.text.contains(VALUE) && !self.text.contains("nonce\":"), "{}", self.text);
        assert!(self.text.contains("unchallenged") && self.text.contains(reason), "{}", self.text);
    }

    /// Not a single byte.
    pub(crate) fn got_silence(&self) {
        self.got_nothing();
        let heard: Vec<_> = self.text.lines().filter(|line| line.starts_with("heard")).collect();
        assert!(heard.iter().all(|line| *line == "heard \"\""), "{heard:?}");
    }

    pub(crate) fn got_the_secret(&self) {
        assert!(self.text.contains(VALUE), "{}", self.text);
    }
}

/// An agent under attack.
pub(crate) struct Attacked {
    pub(crate) scene: Scene,
    pub(crate) agent: Agent,
}

impl Attacked {
    /// `peer` is who may connect, as the config has it.
    pub(crate) async fn new(peer: &str) -> Self {
        Self::with(peer, 64).await
    }

    pub(crate) async fn with(peer: &str, connections: u32) -> Self {
        let scene = Scene::new().await;
        let config = config(&scene, peer, connections);
        let agent = scene.start(&config).await;
        Self { scene, agent }
    }

    /// The workload's socket.
    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.scene.socket("job")
    }

    /// Ends the agent, and gives what is on record of peers and secrets: `type outcome reason level`.
    pub(crate) async fn record(mut self) -> Vec<String> {
        assert_eq!(self.agent.stop().await, Some(0), "{}", self.agent.stderr());
        lines(&self.scene.events())
    }
}

/// An agent that stands still until this is dropped: as late as any attacker could wish.
pub(crate) struct Late<'a>(&'a Agent);

impl<'a> Late<'a> {
    pub(crate) async fn new(agent: &'a Agent) -> Self {
        agent.signal(Signal::SIGSTOP);
        let late = Self(agent);
        stands_still(agent.pid).await;
        late
    }
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}

/// Waits until no thread of a process runs any more.
pub(crate) async fn stands_still(pid: i32) {
    let stands = || {
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    };
    until("standing still", || async { stands().then_some(()) }).await;
}

/// One that stands for several is there as often.
pub(crate) fn lines(events: &[Value]) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let seen = |event: &&Value| {
        event["type"].as_str().is_some_and(|kind| kind.starts_with("peer.") || kind.starts_with("secret."))
    };
    let line = |event: &Value| {
        let parts = [&event["type"], &event["outcome"], &event["reason"], &event["actor"]["level"]];
        let count = event["agg"]["count"].as_u64().unwrap_or(1);
        std::iter::repeat_n(parts.map(word).join(" "), usize::try_from(count).unwrap())
    };
    events.iter().filter(seen).flat_map(line).collect()
}

pub(crate) fn config(scene: &Scene, peer: &str, connections: u32) -> crate::support::Config {
    let socket = scene.socket("job");
    let workloads = format!(
        "\n  job: {{socket: {{path: \"{}\"}}, peer: {{{peer}}}, limits: {{connections: {connections}, \
         requests_per_second: 1000000}}, rules: [{{name: keys, secrets: [stripe]}}]}}\n",
        socket.display()
    );
    crate::support::Config { workloads, ..scene.config() }
}

/// Plays a part to the end of everybody who takes part in it.
pub(crate) async fn attack(part: &Part) -> Told {
    let mut command = part.command();
    quiet(&mut command);
    finished(command.into()).await
}

/// An attacker that goes on until it is dropped.
pub(crate) struct Attacker {
    _process: Child,
    told: Lines<BufReader<ChildStdout>>,
}

impl Attacker {
    pub(crate) fn start(part: &Part) -> Self {
        let mut command = part.command();
        quiet(&mut command);
        let mut process = Command::from(command).kill_on_drop(true).spawn().unwrap();
        let told = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, told }
    }

    /// Waits until it tells a line that begins so, and gives what follows.
    pub(crate) async fn tells(&mut self, beginning: &str) -> String {
        let finding = async {
            loop {
                let line = self.told.next_line().await.unwrap().expect("the attacker has ended");
                if let Some(rest) = line.strip_prefix(beginning) {
                    return rest.to_owned();
                }
            }
        };
        timeout(LIMIT, finding).await.unwrap_or_else(|_| panic!("the attacker never tells {beginning}"))
    }
}

/// Takes what a started attacker tells.
pub(crate) async fn finished(mut command: Command) -> Told {
    command.kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("the attackers do not end").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("FAILED") && !errors.contains("panicked"), "{text}\n{errors}");
    Told { text }
}
