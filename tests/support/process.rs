//! The built binary as a child process beside an in-memory Vault on loopback, and a plain client for its sockets.
//!
//! Every wait has a limit, and no child outlives the value that started it. Does not look into the agent: what it knows
//! comes from the sockets, the streams and the files.
#![allow(dead_code, clippy::allow_attributes, reason = "not every test binary needs all of it")]

use devvault::{DevVault, RoleSettings, Server};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Long enough for any machine: a test that waits for it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The one secret's value in every scene.
pub(crate) const VALUE: &str = "sk_test_0b5cure-and-unmistakable";
/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// A Vault with one secret, and a folder for one agent.
pub(crate) struct Scene {
    pub(crate) vault: DevVault,
    server: Arc<Server>,
    folder: tempfile::TempDir,
}

impl Scene {
    /// Tokens live an hour.
    pub(crate) async fn new() -> Self {
        Self::with(Duration::from_secs(3600)).await
    }

    /// Tokens live `ttl`.
    pub(crate) async fn with(ttl: Duration) -> Self {
        let vault = DevVault::new();
        vault.mount("secret", devvault::Kind::KvV2);
        vault.put_kv("secret/stripe", &[("api_key", VALUE)]);
        vault.put_kv("secret/other", &[("api_key", "the other value")]);
        vault.database_role("database", "orders", Duration::from_secs(3600), Duration::from_secs(7200));
        let read: &[&str] = &["read"];
        vault.policy(
            "reports",
            &[
                ("secret/data/*", read),
                ("secret/metadata/*", read),
                ("database/creds/*", read),
                ("sys/leases/*", &["create", "read", "update"]),
            ],
        );
        let ids = vault.approle("approle", "reports", RoleSettings::policies(&["reports"]).ttl(ttl));
        let server = Arc::new(vault.serve("127.0.0.1:0").await.unwrap());
        let scene = Self::in_folder(vault, server);
        fs::write(scene.path("role_id"), ids.role_id).unwrap();
        fs::write(scene.path("secret_id"), ids.secret_id).unwrap();
        scene
    }

    /// A folder of its own beside the same Vault.
    pub(crate) fn another(&self) -> Self {
        let scene = Self::in_folder(self.vault.clone(), Arc::clone(&self.server));
        for file in ["role_id", "secret_id"] {
            fs::copy(self.path(file), scene.path(file)).unwrap();
        }
        scene
    }

    fn in_folder(vault: DevVault, server: Arc<Server>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Other users must reach the sockets in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        fs::set_permissions(folder.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { vault, server, folder }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The socket of the workload `name`.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.path("run").join(format!("{name}.sock"))
    }

    /// The journal's directory.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path("audit")
    }

    /// A config that runs: the workload `job`, for our own uid, may read `stripe`.
    pub(crate) fn config(&self) -> Config {
        let file = |name: &str| self.path(name).display().to_string();
        let (role_id, secret_id) = (file("role_id"), file("secret_id"));
        Config {
            vault: format!("{{addresses: [\"{}\"]}}", self.server.url()),
            identities: format!(
                "{{reports: {{method: approle, role_id_file: \"{role_id}\", secret_id_file: \"{secret_id}\"}}}}"
            ),
            secrets:
                "{stripe: {identity: reports, kind: kv, path: secret/stripe, field: api_key, refresh: 1h}}"
                    .into(),
            workloads: format!(
                "\n{}",
                self.workload("job", geteuid().as_raw(), "[{name: keys, secrets: [stripe]}]")
            ),
            audit: format!("{{journal: {{dir: \"{}\", segment: 1MiB, max_size: 8MiB}}}}", file("audit")),
            health: "{listen: \"127.0.0.1:0\"}".into(),
            rest: String::new(),
        }
    }

    /// One line of `workloads`, without limits that a test could run into.
    pub(crate) fn workload(&self, name: &str, uid: u32, rules: &str) -> String {
        let socket = self.socket(name);
        format!(
            "  {name}: {{socket: {{path: \"{}\"}}, peer: {{uid: {uid}}}, limits: {{requests_per_second: 1000000}}, \
             rules: {rules}}}\n",
            socket.display()
        )
    }

    /// Writes the config's file, whole at once, and gives its path.
    pub(crate) fn write(&self, config: &str) -> PathBuf {
        let (file, aside) = (self.path("config.yaml"), self.path("config.yaml~"));
        fs::write(&aside, config).unwrap();
        fs::rename(&aside, &file).unwrap();
        file
    }

    /// Starts an agent with `config`, and waits until it is ready.
    pub(crate) async fn start(&self, config: &Config) -> Agent {
        let agent = Agent::spawn(self.run(config)).await;
        agent.until_ready().await;
        agent
    }

    /// The command that starts an agent with `config`.
    pub(crate) fn run(&self, config: &Config) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("run").arg("--config").arg(self.write(&config.text()));
        command
    }

    /// Runs `claviger` with `line` as a client of the workload `job`, to its end.
    pub(crate) async fn claviger(&self, line: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(line).env("CLAVIGER_SOCKET", self.socket("job"));
        finish(command).await
    }

    /// Every event of the journal.
    pub(crate) fn events(&self) -> Vec<Value> {
        events_in(&self.journal())
    }
}

/// The sections of a config, each as the text behind its key.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) vault: String,
    pub(crate) identities: String,
    pub(crate) secrets: String,
    pub(crate) workloads: String,
    pub(crate) audit: String,
    pub(crate) health: String,
    /// Whole lines.
    pub(crate) rest: String,
}

impl Config {
    /// The file.
    pub(crate) fn text(&self) -> String {
        let Self { vault, identities, secrets, workloads, audit, health, rest } = self;
        format!(
            "vault: {vault}\nidentities: {identities}\nsecrets: {secrets}\nworkloads: {workloads}\naudit: {audit}\n\
             health: {health}\n{rest}"
        )
    }
}

/// Every event of the journal in `dir`, which must be whole: at once when nobody writes to it, and between two
/// records, within the limit, when an agent does.
pub(crate) fn events_in(dir: &Path) -> Vec<Value> {
    let give_up = Instant::now() + LIMIT;
    loop {
        let mut reader = claviger::audit::journal::read(dir).unwrap();
        let events = reader.by_ref().map(|(_, bytes)| serde_json::from_slice(&bytes).unwrap()).collect();
        if reader.failed().is_none() && reader.skipped() == 0 {
            return events;
        }
        assert!(Instant::now() < give_up, "the journal is not whole");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Runs a command to its end, which must come within the limit.
pub(crate) async fn finish(mut command: Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    timeout(LIMIT, command.output()).await.expect("the command does not end").unwrap()
}

/// Looks again and again until there is something, up to the limit.
pub(crate) async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, looking).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

/// A running agent. It is killed when dropped.
pub(crate) struct Agent {
    child: Child,
    pub(crate) pid: i32,
    out: watch::Receiver<String>,
    err: watch::Receiver<String>,
    reading: JoinSet<()>,
}

impl Agent {
    /// Starts what must become an agent in the same process.
    pub(crate) async fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut reading = JoinSet::new();
        let out = collect(&mut reading, child.stdout.take().unwrap());
        let err = collect(&mut reading, child.stderr.take().unwrap());
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        Self { child, pid, out, err, reading }
    }

    /// Where health is served, by the log.
    pub(crate) async fn health(&self) -> SocketAddr {
        let found = self.err_line("health is served", |line| line["message"] == "health is served").await;
        found["address"].as_str().unwrap().parse().unwrap()
    }

    /// A page of the health port.
    pub(crate) async fn page(&self, path: &str) -> Reply {
        let stream = tokio::net::TcpStream::connect(self.health().await).await.unwrap();
        Line::over(stream).ask(path).await.unwrap()
    }

    /// Waits until `/readyz` says yes.
    pub(crate) async fn until_ready(&self) {
        until("readiness", || async { (self.page("/readyz").await.status == 200).then_some(()) }).await;
    }

    /// Waits for a line of the log.
    pub(crate) async fn err_line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        line_of(&self.err, what, wanted).await
    }

    /// Waits for an event on standard output.
    pub(crate) async fn event(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        line_of(&self.out, what, wanted).await
    }

    /// Everything that standard output had so far.
    pub(crate) fn stdout(&self) -> String {
        self.out.borrow().clone()
    }

    /// Everything that standard error had so far.
    pub(crate) fn stderr(&self) -> String {
        self.err.borrow().clone()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap();
    }

    /// Waits for the end of the process and of its streams.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let status = timeout(LIMIT, self.child.wait()).await.expect("the agent does not end").unwrap();
        let drained = async { while self.reading.join_next().await.is_some() {} };
        timeout(LIMIT, drained).await.expect("the streams do not end");
        assert!(!self.stderr().contains("panicked"), "{}", self.stderr());
        status
    }

    /// Asks it to stop, and waits for that; gives its exit code.
    pub(crate) async fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait().await.code()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    /// Whether what was opened since there were `before` is closed again, but for the few that the agent may need for itself:
    /// a way to Vault, a segment that a sink reads.
    pub(crate) fn is_back_to(&self, before: usize) -> bool {
        self.descriptors() <= before + 8
    }
}

fn collect(
    reading: &mut JoinSet<()>,
    stream: impl AsyncRead + Unpin + Send + 'static,
) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    reading.spawn(async move {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
            sender.send_modify(|all| all.push_str(std::str::from_utf8(&line).unwrap()));
            line.clear();
        }
    });
    receiver
}

async fn line_of(stream: &watch::Receiver<String>, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let find = |all: &String| all.lines().filter_map(|line| serde_json::from_str(line).ok()).find(&wanted);
    let mut stream = stream.clone();
    let found = async {
        loop {
            let found = find(&stream.borrow_and_update());
            if found.is_some() || stream.changed().await.is_err() {
                return found.or_else(|| find(&stream.borrow()));
            }
        }
    };
    match timeout(LIMIT, found).await {
        Ok(Some(line)) => line,
        _ => panic!("no line says: {what}; there were:\n{}", stream.borrow().as_str()),
    }
}

pub(crate) use line::{Line, Reply};

mod line {
    use super::{LIMIT, Value};
    use std::{io, path::Path};
    use tokio::{
        io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
        net::UnixStream,
        time::timeout,
    };

    /// One connection, kept alive from request to request.
    pub(crate) struct Line<S = UnixStream> {
        stream: S,
        read: Vec<u8>,
    }

    /// One answer.
    #[derive(Debug)]
    pub(crate) struct Reply {
        pub(crate) status: u16,
        pub(crate) head: String,
        pub(crate) body: String,
    }

    impl Reply {
        /// The body as JSON.
        pub(crate) fn json(&self) -> Value {
            serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
        }

        /// A header.
        pub(crate) fn header(&self, name: &str) -> Option<&str> {
            let named = |line: &&str| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name));
            self.head.lines().find(named).and_then(|line| Some(line.split_once(':')?.1.trim()))
        }
    }

    impl Line {
        /// Connects.
        pub(crate) async fn open(socket: &Path) -> io::Result<Self> {
            UnixStream::connect(socket).await.map(Self::over)
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
        pub(crate) fn over(stream: S) -> Self {
            Self { stream, read: Vec::new() }
        }

        /// Asks for `target`, and takes the whole answer.
        pub(crate) async fn ask(&mut self, target: &str) -> io::Result<Reply> {
            self.say(target).await?;
            self.hear().await
        }

        /// Sends a GET for `target`.
        pub(crate) async fn say(&mut self, target: &str) -> io::Result<()> {
            self.send(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await
        }

        /// Sends bytes as they are.
        pub(crate) async fn send(&mut self, text: &str) -> io::Result<()> {
            self.stream.write_all(text.as_bytes()).await
        }

        /// Takes one answer, which must come within the limit.
        pub(crate) async fn hear(&mut self) -> io::Result<Reply> {
            timeout(LIMIT, self.reply()).await.map_err(|_| io::ErrorKind::TimedOut)?
        }

        /// Whether the other end closes without another byte.
        pub(crate) async fn ends(&mut self) -> bool {
            timeout(LIMIT, self.more()).await.expect("the connection stays open").is_err()
                && self.read.is_empty()
        }

        async fn reply(&mut self) -> io::Result<Reply> {
            let end = loop {
                match self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                    Some(at) => break at + 4,
                    None => self.more().await?,
                }
            };
            let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
            let mut reply = Reply { status, head, body: String::new() };
            let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
            while self.read.len() < length {
                self.more().await?;
            }
            reply.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
            Ok(reply)
        }

        async fn more(&mut self) -> io::Result<()> {
            match self.stream.read_buf(&mut self.read).await? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            }
        }
    }
}
