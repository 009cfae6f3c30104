//! The agent that is measured: the real program with a config, a socket and a journal of its own.

use super::{
    Outcome, disk, load,
    process::{Cores, Process},
    vault::Vault,
};
use claviger::crypto::{hex, sha256};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const SECRETS: [&str; 3] = ["stripe", "web", "ci"];

/// How its journal is written.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Strict,
    Buffered,
}

impl Mode {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Buffered => "buffered",
        }
    }
}

/// Where its events go on to.
#[derive(Clone, Copy)]
pub(super) enum Sinks {
    /// Standard output, as without a word about it.
    Default,
    /// The same, and a journal that holds all events of a long run.
    Roomy,
    /// With such a journal, a required receiver beside it that never answers.
    BlackHole(SocketAddr),
}

impl Sinks {
    /// What the config says behind the journal's directory.
    fn text(self) -> String {
        match self {
            Self::Default => "}".into(),
            Self::Roomy => ", max_size: 2GiB}".into(),
            Self::BlackHole(address) => format!(
                ", max_size: 2GiB}}, sinks: {{console: {{kind: stdout}}, siem: {{kind: http, url: \"http://{address}/\", \
                 required: true}}}}"
            ),
        }
    }
}

/// How surely a peer must be known; each has a socket of its own.
#[derive(Clone, Copy)]
pub(super) enum Level {
    User,
    Process,
    /// Known by the bench's own digest. The agent that is measured for reads has no such workload, and so no attestor.
    Program,
}

impl Level {
    pub(super) const ALL: [Self; 3] = [Self::User, Self::Process, Self::Program];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Process => "process",
            Self::Program => "program",
        }
    }

    /// What the config requires beside the level; `None` where an agent of this mode has no such workload.
    fn required(self, mode: Mode) -> Outcome<Option<String>> {
        Ok(match (self, mode) {
            (Self::User | Self::Process, _) => Some(String::new()),
            (Self::Program, Mode::Strict) => None,
            (Self::Program, Mode::Buffered) => {
                let digest = sha256(&fs::read(std::env::current_exe()?)?);
                Some(format!(", program: {{exe_sha256: [\"{}\"]}}", hex(&digest)))
            }
        })
    }

    fn socket(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.sock", self.word()))
    }
}

/// A running agent. Dropping it ends it.
pub(super) struct Agent {
    // Before the folders: it is ended first.
    process: Process,
    mode: Mode,
    transport: &'static str,
    socket: PathBuf,
    request: Vec<u8>,
    first_secret_after: Duration,
    folder: TempDir,
    journal: TempDir,
}

impl Agent {
    /// Starts one whose folders are new, and waits until it has all its secrets.
    pub(super) fn start(program: &Path, cores: &Cores, vault: &Vault, mode: Mode) -> Outcome<Self> {
        Self::start_with(program, cores, vault, mode, Sinks::Default)
    }

    /// The same with these sinks.
    pub(super) fn start_with(
        program: &Path,
        cores: &Cores,
        vault: &Vault,
        mode: Mode,
        sinks: Sinks,
    ) -> Outcome<Self> {
        // Paths of sockets are short; journals lie on a disk.
        let folder = tempfile::tempdir()?;
        let journal = tempfile::tempdir_in(disk::folder())?;
        let (config, socket) = (folder.path().join("config.yaml"), Level::User.socket(folder.path()));
        fs::write(&config, config_of(vault, mode, sinks, (folder.path(), journal.path()))?)?;
        let mut command = cores.measured(program);
        command.arg("run").arg("--config").arg(&config);
        let log = folder.path().join("log");
        let started = Instant::now();
        let mut process = Process::start(command, &log)?;
        let mut ready = |name: &str| {
            let done = process
                .wait_for(name, || load::open(&socket, &request(name), 1).ok().map(|_| started.elapsed()));
            done.map_err(|error| {
                let log = fs::read_to_string(&log).unwrap_or_default();
                format!("{error}; its log:\n{log}")
            })
        };
        let [first, others @ ..] = SECRETS;
        let first_secret_after = ready(first)?;
        for name in others {
            ready(name)?;
        }
        Ok(Self {
            process,
            mode,
            transport: vault.transport(),
            socket,
            request: request(first),
            first_secret_after,
            folder,
            journal,
        })
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// How it reaches Vault.
    pub(super) fn transport(&self) -> &'static str {
        self.transport
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where peers must be known at this level.
    pub(super) fn socket_of(&self, level: Level) -> PathBuf {
        level.socket(self.folder.path())
    }

    /// A read of one value in hand.
    pub(super) fn request(&self) -> &[u8] {
        &self.request
    }

    /// A read of what no rule allows.
    pub(super) fn forbidden(&self) -> Vec<u8> {
        request("nothing")
    }

    /// What its journal takes on the disk of events: not the room that is set aside.
    pub(super) fn journal_bytes(&self) -> Outcome<u64> {
        let mut sum = 0;
        for event in claviger::audit::journal::read(self.journal.path())? {
            sum += event.1.len() as u64;
        }
        Ok(sum)
    }

    /// A read of the same value in Vault's own API, which is asked for it each time.
    pub(super) fn passed_on(&self) -> &'static [u8] {
        b"GET /v1/secret/data/stripe HTTP/1.1\r\nHost: claviger\r\n\r\n"
    }

    /// A request in Vault's own API whose answer is in the cache: for a child token, as that of `vault proxy` is.
    pub(super) fn held(&self) -> Vec<u8> {
        let body = r#"{"policies":["default"],"ttl":"1h"}"#;
        let head = "POST /v1/auth/token/create HTTP/1.1\r\nHost: claviger\r\nContent-Length:";
        format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    /// From exec to the answer with the first secret.
    pub(super) fn first_secret_after(&self) -> Duration {
        self.first_secret_after
    }
}

fn request(name: &str) -> Vec<u8> {
    format!("GET /secrets/{name} HTTP/1.1\r\nHost: claviger\r\n\r\n").into_bytes()
}

fn config_of(vault: &Vault, mode: Mode, sinks: Sinks, (folder, journal): (&Path, &Path)) -> Outcome<String> {
    let uid = nix::unistd::geteuid();
    let mut workloads = String::new();
    for level in Level::ALL {
        let Some(required) = level.required(mode)? else { continue };
        workloads += &format!(
            "
  {word}-job:
    socket: {{path: {socket}}}
    peer: {{uid: {uid}, level: {word}{required}}}
    limits: {{connections: 1100, requests_per_second: 1000000}}
    rules:
    - {{name: keys, secrets: [stripe, web, ci]}}
    - {{name: tree, vault: {{paths: [\"secret/data/+\"]}}}}
    - {{name: children, vault: {{tokens: {{policies: [default], ttl: 1h}}, cache: leases}}}}",
            word = level.word(),
            socket = level.socket(folder).display(),
        );
    }
    let ca = vault.ca_file().map(|file| format!(", ca_file: {}", file.display())).unwrap_or_default();
    Ok(format!(
        "\
vault: {{addresses: [\"{url}\"]{ca}}}
identities:
  bench: {{method: approle, role_id_file: {role_id}, secret_id_file: {secret_id}}}
secrets:
  stripe: {{identity: bench, kind: kv, path: secret/stripe, field: api_key, refresh: 15s}}
  web: {{identity: bench, kind: certificate, path: pki/issue/web, params: {{common_name: web.internal}}}}
  ci: {{identity: bench, kind: token, policies: [default], ttl: 15m}}
workloads:{workloads}
audit: {{mode: {mode}, journal: {{dir: {journal}{sinks}}}
health: {{listen: \"127.0.0.1:0\"}}
",
        url = vault.url(),
        role_id = vault.credential("role_id").display(),
        secret_id = vault.credential("secret_id").display(),
        mode = mode.word(),
        sinks = sinks.text(),
        journal = journal.display(),
    ))
}
