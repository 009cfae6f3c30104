//! SIGKILL at any moment under load: what a client was given is on record, and the record is whole.

use crate::support::{Agent, Line, Scene, VALUE, until};
use claviger::crypto::{hex, sha256};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// Clients of one agent; each has a socket of its own, so that its reads can be told apart in the journal.
const CLIENTS: usize = 4;
/// Agents at a time: a restarted one waits up to two seconds before it logs in.
const LANES: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_every_answered_read_is_on_record_and_no_line_is_torn() {
    kill_times(13, "64MiB").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten thousand kills take half an hour; `tests/run long` runs them"]
async fn killed_ten_thousand_times_nothing_answered_is_off_the_record() {
    kill_times(625, "1GiB").await;
}

/// Kills each of [`LANES`] agents so many times.
async fn kill_times(kills: u64, journal: &str) {
    let scene = Scene::new().await;
    let mut lanes = JoinSet::new();
    for number in 0..LANES {
        let lane =
            Lane { scene: scene.another(), chance: Chance(number * 7919 + 1), journal: journal.to_owned() };
        lanes.spawn(lane.run(kills));
    }
    let mut reads = 0;
    // Judged one after the other when all are dead: it takes a thread each, and agents are served by the same.
    for (lane, answered) in lanes.join_all().await {
        reads += lane.judge(&answered).await;
    }
    // Else nothing was proved.
    assert!(reads > LANES * kills, "only {reads} reads were answered");
}

/// Moments that differ from kill to kill (Marsaglia's xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// One journal, and the agents that write to it one after the other.
struct Lane {
    scene: Scene,
    chance: Chance,
    journal: String,
}

/// What the clients of one agent were given, by the revision of its config.
type Answered = BTreeMap<String, [u64; CLIENTS]>;

impl Lane {
    async fn run(mut self, kills: u64) -> (Self, Answered) {
        let mut answered = Answered::new();
        for number in 0..kills {
            let text = self.config(number);
            let counts = self.live_and_die(&text).await;
            answered.insert(revision(&text), counts);
        }
        // The last one stops in order, so that both kinds of end are found by a start.
        let mut last = self.scene.start(&self.scene_config(kills)).await;
        assert_eq!(last.stop().await, Some(0));
        (self, answered)
    }

    /// Holds what is on record against what was answered; gives how many reads that were.
    async fn judge(&self, answered: &Answered) -> u64 {
        let chains = verify(&self.scene.journal());
        check_reads(&chains, answered);
        let [.., stopped, signed] = &chains.last().unwrap()[..] else { panic!("a short chain") };
        assert_eq!(
            (&stopped["type"], &signed["type"]),
            (&"agent.stopped.v1".into(), &"audit.checkpoint.v1".into())
        );
        let dir = self.scene.journal().display().to_string();
        let judged = self.scene.claviger(&["audit", "verify", &dir]).await;
        assert_eq!(judged.status.code(), Some(0), "{}", String::from_utf8_lossy(&judged.stdout));
        answered.values().flatten().sum()
    }

    fn scene_config(&self, number: u64) -> crate::support::Config {
        let mut config = self.scene.config();
        let me = nix::unistd::geteuid().as_raw();
        let one = |client| {
            self.scene.workload(&format!("client-{client}"), me, "[{name: keys, secrets: [stripe]}]")
        };
        config.workloads = format!("\n{}", (0..CLIENTS).map(one).collect::<String>());
        let dir = self.scene.journal();
        config.audit = format!(
            "{{journal: {{dir: \"{}\", segment: 1MiB, max_size: {}}}, checkpoints: {{signer: boot}}}}",
            dir.display(),
            self.journal
        );
        // A revision of its own for each start: events of reads name it.
        config.rest = format!("# start {number}\n");
        config
    }

    fn config(&self, number: u64) -> String {
        self.scene_config(number).text()
    }

    /// Starts an agent, loads it, kills it; gives how many reads each client was answered.
    async fn live_and_die(&mut self, config: &str) -> [u64; CLIENTS] {
        self.scene.write(config);
        let mut command = tokio::process::Command::new(crate::support::BINARY);
        command.arg("run").arg("--config").arg(self.scene.path("config.yaml"));
        let mut agent = Agent::spawn(command).await;
        let counts: Arc<[AtomicU64; CLIENTS]> = Arc::default();
        let dead = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let socket = self.scene.socket(&format!("client-{client}"));
            let (counts, dead) = (Arc::clone(&counts), Arc::clone(&dead));
            clients.spawn(async move { read_until_dead(&socket, &counts[client], &dead).await });
        }
        if self.chance.below(8) == 0 {
            // While it starts.
            sleep(Duration::from_millis(self.chance.below(100))).await;
        } else {
            let all = || counts.iter().all(|count| count.load(Ordering::Relaxed) > 0);
            until("a first answer for each client", || async { all().then_some(()) }).await;
            sleep(Duration::from_micros(self.chance.below(60_000))).await;
        }
        agent.signal(Signal::SIGKILL);
        agent.wait().await;
        dead.store(true, Ordering::Relaxed);
        clients.join_all().await;
        std::array::from_fn(|client| counts[client].load(Ordering::Relaxed))
    }
}

/// Reads over one connection, one request at a time, until it breaks.
async fn read_until_dead(socket: &Path, count: &AtomicU64, dead: &AtomicBool) {
    let mut line = loop {
        match Line::open(socket).await {
            Ok(line) => break line,
            Err(_) if dead.load(Ordering::Relaxed) => return,
            // Not bound yet.
            Err(_) => sleep(Duration::from_millis(2)).await,
        }
    };
    while let Ok(reply) = line.ask("/secrets/stripe").await {
        match reply.status {
            200 => {
                assert!(reply.body.contains(VALUE));
                count.fetch_add(1, Ordering::Relaxed);
            }
            503 => {
                assert!(!reply.body.contains(VALUE));
                sleep(Duration::from_millis(2)).await;
            }
            other => panic!("{other}: {}", reply.body),
        }
    }
}

fn revision(config: &str) -> String {
    format!("sha256:{}", &hex(&sha256(config.as_bytes()))[..16])
}

/// The journal's chains, each link of each of them looked at.
fn verify(dir: &Path) -> Vec<Vec<Value>> {
    let mut reader = claviger::audit::journal::read(dir).unwrap();
    let mut chains: Vec<Vec<Value>> = Vec::new();
    let (mut uid, mut hash, mut seq) = (String::new(), String::new(), 0);
    for (number, bytes) in reader.by_ref() {
        let event: Value = serde_json::from_slice(&bytes).expect("a torn line");
        let chain = event["chain"]["uid"].as_str().unwrap();
        if chain != uid {
            if let Some(before) = chains.last() {
                check_recovered(&event, before.last().unwrap(), &hash);
            }
            (uid, hash, seq) = (chain.to_owned(), "0".repeat(64), 0);
            chains.push(Vec::new());
        }
        seq += 1;
        assert_eq!((number, &event["seq"]), (seq, &Value::from(format!("{seq:020}"))));
        assert_eq!(event["id"], format!("{uid}-{seq:020}"));
        assert_eq!(event["chain"]["prev"], hash, "{uid} is broken at {seq}");
        assert_ne!(event["type"], "audit.gap.v1");
        hash = hex(&sha256(&bytes));
        chains.last_mut().unwrap().push(event);
    }
    assert!(reader.failed().is_none() && reader.skipped() == 0);
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names
        .filter(|name| [".bad", ".tmp"].iter().any(|end| name.to_string_lossy().ends_with(end)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    chains
}

/// The first event of a chain says how the one before it ended.
fn check_recovered(first: &Value, last: &Value, hash: &str) {
    assert_eq!(first["type"], "audit.recovered.v1");
    let said = &first["agent"];
    assert_eq!((&said["chain"], &said["last_seq"]), (&last["chain"]["uid"], &last["seq"]));
    assert_eq!(said["last_hash"], hash);
}

/// A client asks one thing at a time: the journal has what it was answered, and at most the one it waited for.
fn check_reads(chains: &[Vec<Value>], answered: &Answered) {
    let mut recorded = Answered::new();
    let read = |event: &&Value| event["type"] == "secret.read.v1" && event["outcome"] == "allow";
    for event in chains.iter().flatten().filter(read) {
        let revision = event["rule"]["rev"].as_str().unwrap().to_owned();
        let client: usize =
            event["workload"].as_str().unwrap().strip_prefix("client-").unwrap().parse().unwrap();
        recorded.entry(revision).or_default()[client] += 1;
    }
    for (revision, counts) in answered {
        let recorded = recorded.get(revision).copied().unwrap_or_default();
        for (answered, recorded) in counts.iter().zip(recorded) {
            assert!(
                (*answered..=*answered + 1).contains(&recorded),
                "{answered} answered, {recorded} recorded"
            );
        }
    }
}
