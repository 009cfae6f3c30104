//! The peer: `vault proxy` with one AppRole identity, a Unix socket and its cache, as its own documentation sets it up.

use super::{
    Outcome, load,
    process::{Cores, Process},
    vault::Vault,
};
use std::{fs, path::Path, path::PathBuf};
use tempfile::TempDir;

/// A running proxy. Dropping it ends it.
pub(super) struct Proxy {
    // Before the folder: it is ended first.
    process: Process,
    socket: PathBuf,
    kv: Vec<u8>,
    token: Vec<u8>,
    _folder: TempDir,
}

impl Proxy {
    /// Starts one and waits until it answers; `None` without the program.
    pub(super) fn start(cores: &Cores, vault: &Vault) -> Outcome<Option<Self>> {
        let Some(program) = vault.program() else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        let (config, socket) = (folder.path().join("proxy.hcl"), folder.path().join("proxy.sock"));
        fs::write(&config, config_of(vault, &socket))?;
        let mut command = cores.measured(program);
        command.arg("proxy").arg(format!("-config={}", config.display()));
        let log = folder.path().join("log");
        let mut process = Process::start(command, &log)?;
        let kv = b"GET /v1/secret/data/stripe HTTP/1.1\r\nHost: proxy\r\n\r\n".to_vec();
        // The one answer of the proxy's cache that needs no engine: a child token, as small as a database login.
        let body = r#"{"policies":["default"],"ttl":"1h"}"#;
        let token = format!(
            "POST /v1/auth/token/create HTTP/1.1\r\nHost: proxy\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let ready = process.wait_for("vault proxy", || load::open(&socket, &kv, 1).ok());
        ready.map_err(|error| {
            format!("{error}; its log:\n{}", fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(Some(Self { process, socket, kv, token: token.into_bytes(), _folder: folder }))
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A read of the value that the agent's read is of.
    pub(super) fn kv(&self) -> &[u8] {
        &self.kv
    }

    /// A read of something that the proxy has in its cache.
    pub(super) fn token(&self) -> &[u8] {
        &self.token
    }
}

fn config_of(vault: &Vault, socket: &Path) -> String {
    let ca = vault.ca_file().map(|file| format!("  ca_cert = \"{}\"\n", file.display())).unwrap_or_default();
    format!(
        r#"
vault {{
  address = "{url}"
{ca}}}
auto_auth {{
  method "approle" {{
    config = {{
      role_id_file_path = "{role_id}"
      secret_id_file_path = "{secret_id}"
      remove_secret_id_file_after_reading = false
    }}
  }}
}}
api_proxy {{
  use_auto_auth_token = true
}}
cache {{
}}
listener "unix" {{
  address = "{socket}"
  tls_disable = true
}}
"#,
        url = vault.url(),
        role_id = vault.credential("role_id").display(),
        secret_id = vault.credential("secret_id").display(),
        socket = socket.display(),
    )
}
