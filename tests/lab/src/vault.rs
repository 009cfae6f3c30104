//! HashiCorp Vault as a test peer: one unsealed server with a root token and KV version 2 at `secret/`.
//! Never claviger's own client: it prepares and questions the server by a path that shares no code with `src/vault/`.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::audit::AuditFile;
use crate::http::Client;
use crate::require_or_skip;
use crate::server::{Folder, RunAs, Server, free_port, poll_until};

/// How the server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `-dev`: all in memory.
    Dev,
    /// `-dev-tls`, and a plain listener beside it for this crate's own client.
    DevTls,
    /// Storage in a folder, so that it can stop and start again.
    Durable,
    /// The same by Raft, as a cluster of one: it gives and takes snapshots.
    Raft,
}

impl Kind {
    /// Whether it has storage on disk, and is not initialised by itself.
    fn is_durable(self) -> bool {
        matches!(self, Kind::Durable | Kind::Raft)
    }
}

/// A running Vault. Dropping it ends it.
pub struct Vault {
    // Before `folder`: fields are dropped in order.
    server: Option<Server>,
    folder: Folder,
    program: PathBuf,
    kind: Kind,
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    root_token: String,
    unseal_key: String,
}

impl Vault {
    /// Starts one in dev mode, in memory, on plain HTTP: about 1 s and 165 MB. `None`: skip the test, as in [`require_or_skip`].
    ///
    /// # Panics
    /// When it is there but does not start, or is missing and required. So do all the others here.
    pub fn start() -> Option<Vault> {
        Vault::start_as(Kind::Dev)
    }

    /// Starts one that serves HTTPS, with a certificate for 127.0.0.1 and localhost from a CA of its own ([`Vault::ca_file`]).
    pub fn start_tls() -> Option<Vault> {
        Vault::start_as(Kind::DevTls)
    }

    /// The same on another address of this machine, which its certificate names too: for pods, which reach no loopback of ours.
    pub fn start_tls_at(address: Ipv4Addr) -> Option<Vault> {
        Vault::start_at(Kind::DevTls, address)
    }

    /// Starts one with its storage on disk: [`Vault::stop`] and [`Vault::restart`] keep its tokens, leases and data.
    pub fn start_durable() -> Option<Vault> {
        Vault::start_as(Kind::Durable)
    }

    /// Starts one with integrated storage, a cluster of one: what `vault operator raft` is for.
    pub fn start_raft() -> Option<Vault> {
        Vault::start_as(Kind::Raft)
    }

    /// One dev Vault for all tests of this process, which must keep to mounts and roles of their own and never seal it.
    pub fn shared() -> Option<&'static Vault> {
        static SHARED: OnceLock<Option<Vault>> = OnceLock::new();
        require_or_skip("vault")?;
        SHARED.get_or_init(Vault::start).as_ref()
    }

    fn start_as(kind: Kind) -> Option<Vault> {
        Vault::start_at(kind, Ipv4Addr::LOCALHOST)
    }

    fn start_at(kind: Kind, address: Ipv4Addr) -> Option<Vault> {
        let program = require_or_skip("vault")?;
        // A free port may be taken by somebody else before Vault has it.
        let mut log = String::new();
        for _ in 0..3 {
            match Vault::launch(&program, kind, address) {
                Ok(vault) => return Some(vault),
                Err(ended) if ended.contains("address already in use") => log = ended,
                Err(ended) => panic!("vault ended at its start; its log:\n{ended}"),
            }
        }
        panic!("vault found no free port three times; its log:\n{log}")
    }

    fn launch(program: &Path, kind: Kind, address: Ipv4Addr) -> Result<Vault, String> {
        let plain = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut vault = Vault {
            server: None,
            folder: Folder::make("vault", RunAs::Same),
            program: program.to_owned(),
            kind,
            plain,
            tls: (kind == Kind::DevTls).then(|| SocketAddr::from((address, free_port()))),
            root_token: format!("lab-root-{}-{}", std::process::id(), plain.port()),
            unseal_key: String::new(),
        };
        vault.write_config();
        vault.serve()?;
        match kind {
            Kind::Dev | Kind::DevTls => vault.unseal_key = vault.printed_unseal_key()?,
            Kind::Durable | Kind::Raft => vault.initialize(),
        }
        vault.wait_until_active();
        if kind.is_durable() {
            vault.root().post("sys/mounts/secret", &json!({"type": "kv-v2"})).expect_success();
        }
        // A new KV 2 mount refuses everything for a moment, while it prepares its storage.
        poll_until(|| (vault.root().get("secret/config").status == 200).then_some(()))
            .unwrap_or_else(|| panic!("secret/ did not become ready; vault's log:\n{}", vault.log()));
        Ok(vault)
    }

    /// Starts the process and waits until its plain listener answers.
    fn serve(&mut self) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.arg("server");
        if !self.kind.is_durable() {
            command.args(["-dev", "-dev-no-store-token"]).env("VAULT_DEV_ROOT_TOKEN_ID", &self.root_token);
            command.arg(format!("-dev-listen-address={}", self.tls.unwrap_or(self.plain)));
        }
        if self.kind == Kind::DevTls {
            command.arg("-dev-tls").arg(format!("-dev-tls-cert-dir={}", self.folder.path().display()));
            command.arg(format!("-dev-tls-san={}", self.addr().ip()));
        }
        if self.kind != Kind::Dev {
            command.arg(format!("-config={}", self.config_file().display()));
        }
        let server = Server::start("vault", &command, &self.folder, RunAs::Same, Signal::SIGKILL);
        let client = self.client("");
        server.wait_until(|| client.try_call("GET", "sys/seal-status", None).ok())?;
        self.server = Some(server);
        Ok(())
    }

    fn config_file(&self) -> PathBuf {
        self.folder.path().join("vault.hcl")
    }

    fn write_config(&self) {
        let listener =
            format!("listener \"tcp\" {{\n  address = \"{}\"\n  tls_disable = true\n}}\n", self.plain);
        let config = match self.kind {
            Kind::Dev => return,
            Kind::DevTls => listener,
            Kind::Durable => format!(
                "{listener}storage \"file\" {{\n  path = \"{}\"\n}}\napi_addr = \"http://{}\"\ndisable_mlock = true\n",
                self.folder.path().join("storage").display(),
                self.plain
            ),
            Kind::Raft => {
                let (storage, cluster) = (self.folder.path().join("storage"), free_port());
                fs::create_dir(&storage)
                    .unwrap_or_else(|error| panic!("making {}: {error}", storage.display()));
                format!(
                    "listener \"tcp\" {{\n  address = \"{}\"\n  cluster_address = \"127.0.0.1:{cluster}\"\n  tls_disable = true\n}}\n\
                     storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"lab\"\n}}\n\
                     api_addr = \"http://{}\"\ncluster_addr = \"https://127.0.0.1:{cluster}\"\ndisable_mlock = true\n",
                    self.plain,
                    storage.display(),
                    self.plain
                )
            }
        };
        let file = self.config_file();
        fs::write(&file, config).unwrap_or_else(|error| panic!("writing {}: {error}", file.display()));
    }

    /// Dev mode prints it after it has made the root token and the `secret/` mount.
    fn printed_unseal_key(&self) -> Result<String, String> {
        let key = || Some(self.log().split_once("Unseal Key: ")?.1.split_once('\n')?.0.trim().to_owned());
        self.server().wait_until(key)
    }

    fn initialize(&mut self) {
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let made = self.client("").put("sys/init", &shares).expect_success();
        let word = |pointer| made.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.root_token = word("/root_token");
        self.unseal_key = word("/keys_base64/0");
        self.client("").put("sys/unseal", &json!({"key": self.unseal_key})).expect_success();
    }

    fn wait_until_active(&self) {
        let active = || self.client("").try_call("GET", "sys/health", None).is_ok_and(|a| a.status == 200);
        poll_until(|| active().then_some(()))
            .unwrap_or_else(|| panic!("vault did not become active; its log:\n{}", self.log()));
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap_or_else(|| panic!("this vault is stopped"))
    }
}

/// What a test connects to.
impl Vault {
    /// The listener to test against; HTTPS after [`Vault::start_tls`].
    pub fn addr(&self) -> SocketAddr {
        self.tls.unwrap_or(self.plain)
    }

    /// The same as a URL without a slash at its end.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr())
    }

    /// Where it serves plain HTTP, on the loopback of this machine: for what stands between it and others.
    pub fn plain(&self) -> SocketAddr {
        self.plain
    }

    /// The CA that signed the server's certificate (PEM); `None` on plain HTTP.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.tls.map(|_| self.folder.path().join("vault-ca.pem"))
    }

    /// The vault program itself, for its CLI and `vault proxy`.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.server().pid().as_raw().cast_unsigned()
    }

    /// The root token. Its text is different for every server.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// A client with the root token. Always over plain HTTP, on a listener beside the TLS one if need be.
    pub fn root(&self) -> Client {
        self.client(&self.root_token)
    }

    /// A client with another token; an empty one sends none.
    pub fn client(&self, token: &str) -> Client {
        Client::new(self.plain, Some(token).filter(|token| !token.is_empty()))
    }

    /// What the server wrote to its output.
    pub fn log(&self) -> String {
        self.server().log()
    }
}

/// What a test does to it.
impl Vault {
    /// Turns on the server's own record of its calls, once; asked again, it gives the same file.
    pub fn audit_file(&self) -> AuditFile {
        let path = self.folder.path().join("audit.log");
        if self.root().get("sys/audit").expect_success().get("lab/").is_none() {
            let options = json!({"file_path": path, "hmac_accessor": "false"});
            self.root().put("sys/audit/lab", &json!({"type": "file", "options": options})).expect_success();
        }
        AuditFile::new(path)
    }

    /// Seals it: every call but a few of `sys/` gets 503 from now on.
    pub fn seal(&self) {
        self.root().put("sys/seal", &json!({})).expect_success();
    }

    /// Unseals it and waits until it serves again.
    pub fn unseal(&self) {
        self.client("").put("sys/unseal", &json!({"key": self.unseal_key})).expect_success();
        self.wait_until_active();
    }

    /// Freezes the process: it accepts connections (the kernel does) and answers nothing.
    pub fn pause(&self) {
        self.server().signal(Signal::SIGSTOP);
    }

    /// Ends a [`Vault::pause`].
    pub fn resume(&self) {
        self.server().signal(Signal::SIGCONT);
    }

    /// Ends the process: connections are refused. Only one started as durable has anything left after it.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.end(Signal::SIGTERM);
        }
    }

    /// Starts it again at the same address, and unseals it.
    ///
    /// # Panics
    /// When it is not durable, since everything would be gone, or when its port was taken meanwhile.
    pub fn restart(&mut self) {
        assert!(self.kind.is_durable(), "only a Vault with storage of its own can restart");
        self.stop();
        if let Err(log) = self.serve() {
            panic!("vault did not restart; its log:\n{log}");
        }
        self.unseal();
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("url", &self.url()).field("kind", &self.kind).finish_non_exhaustive()
    }
}
