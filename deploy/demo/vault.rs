//! Which Vault the demo uses: the one of `VAULT_ADDR`, else `vault` or `bao` of PATH in dev mode, else the in-memory one.
//!
//! Starts it where it must, and ends what it started. Does not prepare it.

use crate::{api::Api, screen::Screen};
use anyhow::{Context as _, Result, bail};
use devvault::DevVault;
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use url::{Host, Url};

/// A dev server is up within a second; a machine under load may need longer.
const START: Duration = Duration::from_secs(20);

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The demo started it, and it is gone afterwards.
    Demo,
    /// It was there before, and must be left as it was.
    User,
}

/// A Vault that answers, and where the demo keeps its files.
pub(crate) struct Server {
    /// One line about it, for the reader.
    pub(crate) said: String,
    /// Whether the demo may leave traces in it.
    pub(crate) owner: Owner,
    /// Its base URL.
    pub(crate) address: String,
    /// The namespace to work in.
    pub(crate) namespace: Option<String>,
    /// The only trust root, when given.
    pub(crate) ca_file: Option<PathBuf>,
    /// The operator's way in.
    pub(crate) api: Api,
    /// All files of the demo.
    pub(crate) home: TempDir,
    running: Running,
}

enum Running {
    Elsewhere,
    Program(Child),
    InMemory(devvault::Server),
}

impl Server {
    /// Whether it runs on this machine, so that it reaches what listens on loopback.
    pub(crate) fn is_here(&self) -> bool {
        let Ok(url) = Url::parse(&self.address) else { return false };
        match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Whether the address is plain HTTP.
    pub(crate) fn is_plain(&self) -> bool {
        self.address.starts_with("http://")
    }

    /// Ends the server if the demo started it, and removes all files.
    pub(crate) async fn stop(self) {
        match self.running {
            Running::Elsewhere => {}
            Running::Program(mut child) => drop(child.kill().await),
            Running::InMemory(server) => server.stop().await,
        }
        // Whoever cares looks whether the folder is gone.
        let _ = self.home.close();
    }
}

/// Finds or starts one.
pub(crate) async fn choose(screen: &Screen) -> Result<Server> {
    let home = TempDir::with_prefix("claviger-demo-").context("making a temporary folder")?;
    match (variable("VAULT_ADDR"), variable("VAULT_TOKEN")) {
        (Some(address), Some(token)) => return yours(address, &token, home).await,
        (None, None) => {}
        _ => screen.head("note", "only one of VAULT_ADDR and VAULT_TOKEN is set, so neither is used"),
    }
    for name in ["vault", "bao"] {
        let Some(program) = on_path(name) else { continue };
        match start(&program, home.path()).await {
            Ok((child, address, api)) => {
                let version = version(&api).await?;
                let said = format!("`{name}` {version} in dev mode, from PATH ({})", program.display());
                let running = Running::Program(child);
                return Ok(of_demo(said, address, api, home, running));
            }
            Err(error) => screen.head("note", &format!("{} did not start: {error:#}", program.display())),
        }
    }
    let double = DevVault::new();
    let server = double.serve("127.0.0.1:0").await.context("starting the in-memory Vault")?;
    let api = Api::new(&server.url(), &double.root_token(), None, None)?;
    let version = version(&api).await?;
    let said = format!("`devvault`, the in-memory double of Vault {version} (no vault or bao on PATH)");
    Ok(of_demo(said, server.url(), api, home, Running::InMemory(server)))
}

fn of_demo(said: String, address: String, api: Api, home: TempDir, running: Running) -> Server {
    Server { said, owner: Owner::Demo, address, namespace: None, ca_file: None, api, home, running }
}

async fn yours(address: String, token: &str, home: TempDir) -> Result<Server> {
    let address = address.trim_end_matches('/').to_owned();
    let namespace = variable("VAULT_NAMESPACE");
    let ca_file = variable("VAULT_CACERT").map(std::path::absolute).transpose()?;
    let api = Api::new(&address, token, namespace.clone(), ca_file.as_deref())?;
    let version = version(&api).await.context("asking the Vault of VAULT_ADDR")?;
    let said = format!("yours, {version} at {address}, since VAULT_ADDR and VAULT_TOKEN are set");
    let running = Running::Elsewhere;
    Ok(Server { said, owner: Owner::User, address, namespace, ca_file, api, home, running })
}

/// Starts `program` in dev mode on a free port. Its storage is its memory; it writes no file outside `home`.
async fn start(program: &Path, home: &Path) -> Result<(Child, String, Api)> {
    // Free now; nothing holds it until the server does.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let token = format!("demo-{}", claviger::crypto::hex(&claviger::crypto::random::<16>()?));
    let log = std::fs::File::create(home.join("vault.log"))?;
    let mut command = Command::new(program);
    command
        .args(["server", "-dev", "-dev-no-store-token"])
        .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
        .env_clear()
        .env("HOME", home)
        .envs([("VAULT_DEV_ROOT_TOKEN_ID", &token), ("BAO_DEV_ROOT_TOKEN_ID", &token)])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let address = format!("http://127.0.0.1:{port}");
    let api = Api::new(&address, &token, None, None)?;
    let up = async {
        // The dev server's own mount comes last, after the root token.
        while api.read("sys/mounts/secret").await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("it ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    let up = tokio::time::timeout(START, up).await;
    up.with_context(|| format!("it did not answer within {} s", START.as_secs()))??;
    Ok((child, address, api))
}

async fn version(api: &Api) -> Result<String> {
    Ok(crate::api::text(&api.read("sys/health").await?, "/version")?.to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the demo is a program of its own")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "the demo is a program of its own")]
fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let runs = |file: &PathBuf| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(runs)
}
