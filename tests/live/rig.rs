//! A running claviger in a folder of its own, and what a workload and an operator see of it.
//! Prepares Vault through the lab's own client; nothing here uses claviger's library.

use lab::Vault;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_claviger");
/// The only end of a wait for something that does not come.
const LIMIT: Duration = Duration::from_secs(60);
/// What the identity of the tests may do. The default policy lets a token renew its leases, not revoke them.
const POLICY: &str = r#"
path "secret/*" { capabilities = ["read"] }
path "old/*" { capabilities = ["read"] }
path "database/creds/*" { capabilities = ["read"] }
path "pki/issue/*" { capabilities = ["update"] }
path "auth/token/create" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"#;

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {LIMIT:?} for: {what}");
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two questions; nothing is asserted about it"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Runs a program to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    let ran = command.stdin(Stdio::null()).output();
    ran.unwrap_or_else(|error| panic!("running {:?}: {error}", command.get_program()))
}

/// Runs a program that must succeed; gives its standard output without the last newline.
pub(crate) fn printed(command: &mut Command) -> String {
    let ran = output(command);
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{command:?}: {out}{err}");
    out.trim_end_matches('\n').to_owned()
}

/// Vault's own command line, as root.
pub(crate) fn vault_cli(vault: &Vault, args: &[&str]) -> String {
    let mut command = Command::new(vault.program());
    command.args(args).env_clear().env("HOME", "/nonexistent");
    printed(command.env("VAULT_ADDR", vault.url()).env("VAULT_TOKEN", vault.root_token()))
}

/// A config that grows, and the folder that everything is in.
pub(crate) struct Plan {
    folder: tempfile::TempDir,
    pub(crate) config: Value,
    /// What stands in its environment.
    pub(crate) env: Vec<(&'static str, &'static str)>,
}

impl Plan {
    /// One workload, which is us, and no secret yet.
    pub(crate) fn new(vault: &Vault) -> Plan {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["run", "audit", "out"] {
            fs::create_dir(at(name)).unwrap();
        }
        let mut config = json!({
            "vault": {"addresses": [vault.url()]},
            "identities": {},
            "secrets": {},
            "workloads": {"job": {
                "socket": {"path": at("run/claviger.sock")},
                "peer": {"uid": nix::unistd::geteuid().as_raw()},
                "rules": [{"name": "keys", "secrets": []}],
            }},
            "audit": {"journal": {"dir": at("audit")}},
            "health": {"listen": "127.0.0.1:0", "names": true},
            "log": {"level": "debug", "format": "json"},
        });
        if let Some(ca) = vault.ca_file() {
            config["vault"]["ca_file"] = json!(ca);
        }
        vault.root().put("sys/policies/acl/reports", &json!({"policy": POLICY})).expect_success();
        Plan { folder, config, env: Vec::new() }
    }

    /// Where everything of it is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes a file into the folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The identity `reports`.
    pub(crate) fn identity(&mut self, settings: Value) {
        self.config["identities"]["reports"] = settings;
    }

    /// The identity `reports` by AppRole; `role` is added to the role's settings in Vault.
    pub(crate) fn approle(&mut self, vault: &Vault, role: Value) {
        make_approle(vault, role);
        self.approle_again(vault);
    }

    /// The same where Vault has the role already.
    pub(crate) fn approle_again(&mut self, vault: &Vault) {
        let secret_id = vault.root().post("auth/approle/role/app/secret-id", &json!({})).expect_success();
        let secret_id = self.file("secret_id", secret_id["data"]["secret_id"].as_str().unwrap());
        let role_id = self.file("role_id", &role_id(vault));
        self.identity(json!({"method": "approle", "role_id_file": role_id, "secret_id_file": secret_id}));
    }

    /// A secret of `reports` that the workload may read.
    pub(crate) fn secret(&mut self, name: &str, mut settings: Value) {
        settings["identity"] = json!("reports");
        self.config["secrets"][name] = settings;
        self.config["workloads"]["job"]["rules"][0]["secrets"].as_array_mut().unwrap().push(json!(name));
    }

    /// The secret `stripe`: a KV 2 field, looked at each second, its first value written.
    pub(crate) fn stripe(&mut self, vault: &Vault) {
        write_stripe(vault, "sk_live_1");
        self.secret(
            "stripe",
            json!({"kind": "kv", "path": "secret/stripe", "field": "api_key", "refresh": "1s"}),
        );
    }

    /// Starts claviger with it.
    pub(crate) fn start(self) -> Agent {
        Agent { folder: self.folder, config: self.config, env: self.env, child: None }.begin()
    }
}

impl Agent {
    /// One more start in the folder of one that was stopped, with the config that is there.
    pub(crate) fn again(stopped: Stopped) -> Agent {
        let text = fs::read(stopped.folder.path().join("claviger.yaml")).unwrap();
        let config = serde_json::from_slice(&text).unwrap();
        Agent { folder: stopped.folder, config, env: Vec::new(), child: None }.begin()
    }

    fn begin(self) -> Agent {
        let mut agent = self;
        agent.write_config();
        let output = |name: &str| File::create(agent.folder().join("out").join(name)).unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .arg("run")
            .arg("--config")
            .arg(agent.config_file())
            .env_clear()
            .envs(agent.env.iter().copied())
            .stdin(Stdio::null());
        command.stdout(output("stdout")).stderr(output("stderr"));
        agent.child = Some(command.spawn().unwrap());
        until("the socket", || {
            agent.assert_runs();
            UnixStream::connect(agent.socket()).ok()
        });
        agent
    }
}

/// Makes the AppRole `app`, with the policies `reports` and `ci-read`.
pub(crate) fn make_approle(vault: &Vault, mut role: Value) {
    let root = vault.root();
    root.post("sys/auth/approle", &json!({"type": "approle"})).expect_success();
    role["token_policies"] = json!(["reports", "ci-read"]);
    root.post("auth/approle/role/app", &role).expect_success();
}

/// Its role id.
pub(crate) fn role_id(vault: &Vault) -> String {
    let answer = vault.root().get("auth/approle/role/app/role-id").expect_success();
    answer["data"]["role_id"].as_str().unwrap().to_owned()
}

/// Writes a new version of the secret `stripe`.
pub(crate) fn write_stripe(vault: &Vault, api_key: &str) {
    let data = json!({"data": {"api_key": api_key, "account": "acct_1", "mode": "live"}});
    vault.root().post("secret/data/stripe", &data).expect_success();
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Reply {
    fn parse(raw: &[u8]) -> Reply {
        let raw = String::from_utf8_lossy(raw);
        let (head, text) = raw.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not HTTP: {raw:?}"));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap();
        Reply { status, head: head.to_ascii_lowercase(), text: text.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.header("claviger-stale") == Some("true")
    }
}

/// A claviger that runs. Dropping it kills it.
pub(crate) struct Agent {
    folder: tempfile::TempDir,
    config: Value,
    env: Vec<(&'static str, &'static str)>,
    child: Option<Child>,
}

/// What is left of one that was stopped.
pub(crate) struct Stopped {
    pub(crate) code: Option<i32>,
    pub(crate) events: Vec<Value>,
    pub(crate) log: Vec<Value>,
    pub(crate) folder: tempfile::TempDir,
}

impl Agent {
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/claviger.sock")
    }

    fn config_file(&self) -> PathBuf {
        self.folder.path().join("claviger.yaml")
    }

    /// JSON is YAML.
    fn write_config(&self) {
        let new = self.folder.path().join("claviger.yaml.new");
        fs::write(&new, self.config.to_string()).unwrap();
        fs::rename(new, self.config_file()).unwrap();
    }

    /// Changes the config of the running agent, which watches the file.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        self.write_config();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id().cast_signed())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn assert_runs(&self) {
        // Signal 0 does not tell a zombie from a process: its state does.
        let state = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        assert!(!state.contains(") Z "), "claviger ended; its log:\n{}", self.text("stderr"));
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.folder().join("out").join(name)).unwrap_or_default()
    }

    /// Sends one request through the socket.
    pub(crate) fn ask(&self, target: &str) -> Reply {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: claviger\r\nConnection: close\r\n\r\n").unwrap();
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).unwrap();
        Reply::parse(&raw)
    }

    /// The answer about one secret, whatever it is.
    pub(crate) fn read(&self, secret: &str) -> Reply {
        self.ask(&format!("/secrets/{secret}"))
    }

    /// The answer about one secret, as soon as there is a value.
    pub(crate) fn value(&self, secret: &str) -> Value {
        until(&format!("a value of {secret}"), || {
            let reply = self.read(secret);
            (reply.status == 200).then(|| reply.json())
        })
    }

    /// The same, as soon as its generation is `generation` or later.
    pub(crate) fn generation(&self, secret: &str, generation: u64) -> Value {
        until(&format!("generation {generation} of {secret}"), || {
            let value = self.value(secret);
            (value["generation"].as_u64() >= Some(generation)).then_some(value)
        })
    }

    /// What the health port says.
    pub(crate) fn health(&self, target: &str) -> Reply {
        let started = self.event("agent.started.v1", |_| true);
        let text = started.to_string();
        let at = text.find("127.0.0.1:").expect("the address of the health port");
        let address: String =
            text[at..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).unwrap();
        Reply::parse(&raw)
    }

    /// Waits until it is ready.
    pub(crate) fn ready(&self) {
        until("readiness", || (self.health("/readyz").status == 200).then_some(()));
    }

    /// The events so far, as the stdout sink printed them.
    pub(crate) fn events(&self) -> Vec<Value> {
        lines(&self.text("stdout"))
    }

    /// The first event of a type for which `wanted` holds, as soon as it is there.
    pub(crate) fn event(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(kind, || self.events().into_iter().find(|event| event["type"] == kind && wanted(event)))
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        lines(&self.text("stderr"))
    }

    /// The first line of the log that has `part` in it, as soon as it is there.
    pub(crate) fn says(&self, part: &str) -> Value {
        until(&format!("a line of log with {part:?}"), || {
            self.log().into_iter().find(|line| line.to_string().contains(part))
        })
    }

    /// Stops it by SIGTERM.
    pub(crate) fn stop(mut self) -> Stopped {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        let status = until("the end of claviger", || self.child.as_mut().unwrap().try_wait().unwrap());
        self.child = None;
        let (events, log) = (self.events(), self.log());
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Stopped { code: status.code(), events, log, folder }
    }
}

impl Drop for Agent {
    #[expect(clippy::print_stderr, reason = "the log of the agent of a test that failed")]
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("claviger's log:\n{}", self.text("stderr"));
        }
    }
}

impl Stopped {
    /// The events of a type.
    pub(crate) fn events(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["type"] == kind).collect()
    }

    /// Everything that it wrote anywhere, by place.
    pub(crate) fn written(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let journal =
            fs::read_dir(self.folder.path().join("audit")).unwrap().map(|entry| entry.unwrap().path());
        let paths =
            ["stdout", "stderr"].iter().map(|name| self.folder.path().join("out").join(name)).chain(journal);
        paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

/// How long a line of log says that it will wait.
pub(crate) fn again_in_ms(line: &Value) -> u64 {
    let said = &line["again_in_ms"];
    said.as_u64().or_else(|| said.as_str()?.parse().ok()).unwrap_or_else(|| panic!("no wait in {line}"))
}

/// Every whole line, as JSON.
fn lines(text: &str) -> Vec<Value> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    whole.lines().map(parse).collect()
}
