//! The Vault behind what is measured, prepared for three secrets and one identity: the real one over TLS, or, where the lab
//! has none, the in-memory one over plain HTTP.

use super::{Outcome, process::Cores};
use devvault::{DevVault, Kind, RoleSettings};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

const POLICY: &[(&str, &[&str])] = &[
    ("secret/data/*", &["read"]),
    ("secret/metadata/*", &["read"]),
    ("pki/issue/web", &["create", "update"]),
    ("auth/token/create", &["create", "update"]),
];

/// A Vault with one AppRole, whose credentials lie in files.
pub(super) struct Vault {
    server: Server,
    url: String,
    files: TempDir,
}

enum Server {
    Real(Box<lab::Vault>),
    Double { _end_of_its_thread: DropGuard },
}

impl Vault {
    pub(super) fn start(cores: &Cores) -> Outcome<Self> {
        let files = tempfile::tempdir()?;
        let (server, url, ids) = match lab::Vault::start_tls() {
            Some(real) => {
                cores.put_load(real.pid())?;
                let ids = prepare(&real)?;
                let url = real.url();
                (Server::Real(real.into()), url, ids)
            }
            None => double()?,
        };
        fs::write(files.path().join("role_id"), ids.0)?;
        fs::write(files.path().join("secret_id"), ids.1)?;
        Ok(Self { server, url, files })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The CA of its certificate; `None` on plain HTTP.
    pub(super) fn ca_file(&self) -> Option<PathBuf> {
        match &self.server {
            Server::Real(real) => real.ca_file(),
            Server::Double { .. } => None,
        }
    }

    /// How it is reached, in a word.
    pub(super) fn transport(&self) -> &'static str {
        match self.server {
            Server::Real(_) => "TLS",
            Server::Double { .. } => "plain HTTP to the in-memory Vault",
        }
    }

    /// The program, for `vault proxy`.
    pub(super) fn program(&self) -> Option<&Path> {
        match &self.server {
            Server::Real(real) => Some(real.program()),
            Server::Double { .. } => None,
        }
    }

    /// The file of that name with a credential.
    pub(super) fn credential(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }
}

type Ids = (String, String);

fn prepare(vault: &lab::Vault) -> Outcome<Ids> {
    let root = vault.root();
    let post = |path: &str, body: Value| root.post(path, &body).expect_success();
    post("secret/data/stripe", json!({"data": {"api_key": "sk_live_51HqLyjWDarjtT1zdp7dc"}}));
    post("sys/mounts/pki", json!({"type": "pki"}));
    post("pki/root/generate/internal", json!({"common_name": "bench"}));
    post("pki/roles/web", json!({"allow_any_name": true, "key_type": "ec", "key_bits": 256, "ttl": "24h"}));
    let rules: Value = POLICY
        .iter()
        .map(|(path, can)| ((*path).to_owned(), json!({"capabilities": can})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    root.put("sys/policies/acl/bench", &json!({"policy": json!({"path": rules}).to_string()}))
        .expect_success();
    post("sys/auth/approle", json!({"type": "approle"}));
    post("auth/approle/role/bench", json!({"token_policies": "bench", "token_ttl": "1h"}));
    let text = |answer: &Value, at: &str| {
        answer.pointer(at).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no {at}"))
    };
    let role_id = root.get("auth/approle/role/bench/role-id").expect_success();
    let secret_id = post("auth/approle/role/bench/secret-id", json!({}));
    Ok((text(&role_id, "/data/role_id")?, text(&secret_id, "/data/secret_id")?))
}

fn double() -> Outcome<(Server, String, Ids)> {
    let vault = DevVault::new();
    vault.mount("secret", Kind::KvV2);
    vault.put_kv("secret/stripe", &[("api_key", "sk_live_51HqLyjWDarjtT1zdp7dc")]);
    vault.pki_role("pki", "web", Duration::from_secs(24 * 3600));
    vault.policy("bench", POLICY);
    let role = RoleSettings::policies(&["bench"]).ttl(Duration::from_secs(3600));
    let ids = vault.approle("approle", "bench", role);
    let stop = CancellationToken::new();
    let (told, url) = std::sync::mpsc::channel();
    let stopped = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            let server = vault.serve("127.0.0.1:0").await;
            // Whoever asked has gone only when the bench has failed.
            let _ = told.send(server.as_ref().map(devvault::Server::url).map_err(ToString::to_string));
            stopped.cancelled().await;
        });
    });
    Ok((Server::Double { _end_of_its_thread: stop.drop_guard() }, url.recv()??, (ids.role_id, ids.secret_id)))
}
