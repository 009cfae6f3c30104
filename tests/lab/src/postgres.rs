//! PostgreSQL as the database behind Vault's dynamic credentials: a cluster of its own in a temporary folder.
//! Never the machine's own cluster. PostgreSQL refuses to run as root, so root runs it as the user `postgres`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use serde_json::json;

use crate::require_or_skip;
use crate::server::{Folder, RunAs, Server, free_port};
use crate::vault::Vault;

const SUPERUSER: &str = "postgres";
const PASSWORD: &str = "lab-superuser";

/// A running cluster. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    // Before `folder`: fields are dropped in order.
    _server: Server,
    folder: Folder,
    programs: PathBuf,
    port: u16,
}

/// Why SQL did not run: what psql printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError(String);

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SqlError {}

impl Postgres {
    /// Makes an empty cluster and starts it: about 3 s. `None`: skip the test, as in [`require_or_skip`].
    ///
    /// # Panics
    /// When it is there but does not start, or is missing and required.
    pub fn start() -> Option<Postgres> {
        let programs = require_or_skip("postgres")?;
        let user = user();
        let folder = Folder::make("postgres", user);
        make_cluster(&programs, &folder, user);
        // A free port may be taken by somebody else before PostgreSQL has it.
        let mut log = String::new();
        for _ in 0..3 {
            match launch(&programs, &folder, user) {
                Ok((server, port)) => return Some(Postgres { _server: server, folder, programs, port }),
                Err(ended) => log = ended,
            }
        }
        panic!("postgres ended at its start, three times; its log:\n{log}")
    }

    /// The superuser's URL over TCP, password included.
    pub fn url(&self) -> String {
        format!("postgresql://{SUPERUSER}:{PASSWORD}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its programs are, `psql` among them.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Runs SQL as the superuser, over the Unix socket and so without a password: rows as lines, columns joined by `|`.
    pub fn query(&self, sql: &str) -> Result<String, SqlError> {
        answer(&psql(&self.programs, self.folder.path(), self.port, sql))
    }

    /// Whether this user and password open a session over TCP, where a password is always asked for.
    ///
    /// # Panics
    /// When the server cannot be asked: that is no answer about the password.
    pub fn can_login(&self, user: &str, password: &str) -> bool {
        match self.query_as(user, password, "select 1") {
            Ok(one) => one == "1",
            Err(SqlError(text)) => {
                assert!(
                    text.contains("password authentication failed")
                        || text.contains("not permitted to log in")
                        // While it is being dropped.
                        || text.contains("does not exist"),
                    "asking PostgreSQL about {user}: {text}"
                );
                false
            }
        }
    }

    /// Runs SQL over TCP as any user.
    pub fn query_as(&self, user: &str, password: &str, sql: &str) -> Result<String, SqlError> {
        let mut command = psql_command(&self.programs, "127.0.0.1", self.port, user);
        answer(&output(command.args(["-c", sql]).env("PGPASSWORD", password)))
    }

    /// Makes this cluster known to Vault's database engine (at `database/`, as the connection `postgres`) and gives it
    /// the dynamic role `role`, whose users live `ttl` and with renewals `max_ttl`. The answer is the path to read
    /// for a new user. Source: Vault's documentation, "PostgreSQL database secrets engine".
    pub fn vault_database(&self, vault: &Vault, role: &str, ttl: Duration, max_ttl: Duration) -> String {
        let root = vault.root();
        if root.get("sys/mounts/database").status != 200 {
            root.post("sys/mounts/database", &json!({"type": "database"})).expect_success();
        }
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        );
        let connection = json!({
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "*",
            "connection_url": url,
            "username": SUPERUSER,
            "password": PASSWORD,
        });
        root.post("database/config/postgres", &connection).expect_success();
        let create =
            "create role \"{{name}}\" with login password '{{password}}' valid until '{{expiration}}'";
        let role_body = json!({
            "db_name": "postgres",
            "creation_statements": [create],
            "default_ttl": format!("{}s", ttl.as_secs()),
            "max_ttl": format!("{}s", max_ttl.as_secs()),
        });
        root.post(&format!("database/roles/{role}"), &role_body).expect_success();
        format!("database/creds/{role}")
    }
}

fn user() -> RunAs {
    if !geteuid().is_root() {
        return RunAs::Same;
    }
    match User::from_name("postgres") {
        Ok(Some(user)) => RunAs::Other(user.uid, user.gid),
        other => panic!("PostgreSQL does not run as root, and the user `postgres` is missing: {other:?}"),
    }
}

fn make_cluster(programs: &Path, folder: &Folder, user: RunAs) {
    let password_file = folder.path().join("password");
    fs::write(&password_file, PASSWORD)
        .unwrap_or_else(|e| panic!("writing {}: {e}", password_file.display()));
    let mut initdb = Command::new(programs.join("initdb"));
    initdb.args([
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
    ]);
    initdb.args(["--username", SUPERUSER, "--pwfile"]).arg(&password_file);
    initdb.arg("--pgdata").arg(folder.path().join("cluster")).current_dir(folder.path());
    user.apply(&mut initdb);
    let made = output(&mut initdb);
    assert!(made.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&made.stderr));
}

fn launch(programs: &Path, folder: &Folder, user: RunAs) -> Result<(Server, u16), String> {
    let port = free_port();
    let mut command = Command::new(programs.join("postgres"));
    command.arg("-D").arg(folder.path().join("cluster")).arg("-k").arg(folder.path());
    command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    // Nothing here outlives the test, so nothing need reach the disk.
    command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=50"]);
    let server = Server::start("postgres", &command, folder, user, Signal::SIGQUIT);
    server.wait_until(|| answer(&psql(programs, folder.path(), port, "select 1")).ok())?;
    Ok((server, port))
}

fn psql(programs: &Path, folder: &Path, port: u16, sql: &str) -> Output {
    let host = folder.display().to_string();
    output(psql_command(programs, &host, port, SUPERUSER).args(["-c", sql]))
}

fn psql_command(programs: &Path, host: &str, port: u16, user: &str) -> Command {
    let mut command = Command::new(programs.join("psql"));
    command.env_clear().args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]);
    command.args(["-h", host, "-p", &port.to_string(), "-U", user, "-d", "postgres"]);
    command
}

fn output(command: &mut Command) -> Output {
    let program = command.get_program().to_owned();
    let ran = command.stdin(Stdio::null()).output();
    ran.unwrap_or_else(|error| panic!("running {}: {error}", Path::new(&program).display()))
}

fn answer(ran: &Output) -> Result<String, SqlError> {
    if ran.status.success() {
        Ok(String::from_utf8_lossy(&ran.stdout).trim_end_matches('\n').to_owned())
    } else {
        Err(SqlError(String::from_utf8_lossy(&ran.stderr).trim().to_owned()))
    }
}
