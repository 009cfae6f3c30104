//! The real servers for claviger's tests and benches: each value is one running server, and ends with it.
//! Everything blocks, so an async test calls it before its runtime starts or from `spawn_blocking`. It builds and
//! installs nothing (`tests/lab/build` does) and never touches a server that it did not start.
//!
//! ```no_run
//! # fn a_key_is_read_from_a_real_vault() {
//! let Some(vault) = lab::Vault::start() else { return };
//! vault.root().post("secret/data/key", &serde_json::json!({"data": {"api_key": "k"}})).expect_success();
//! # }
//! ```

mod audit;
mod collector;
mod http;
mod kube;
mod postgres;
mod rsyslog;
mod server;
mod session;
mod vault;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use audit::AuditFile;
pub use collector::{Collector, LogRecord};
pub use http::{Answer, Client};
pub use kube::{ApiServer, Cluster, Node, Ran, write_image};
pub use postgres::{Postgres, SqlError};
pub use rsyslog::{Logged, Rsyslog};
pub use session::Session;
pub use vault::Vault;

/// A program that this run does not have. Its text says why and, where there is one, the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    program: String,
    why: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.program, self.why)
    }
}

impl std::error::Error for Missing {}

/// What a test run expects of the real servers, from the variable `REQUIRE_LIVE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Live {
    /// `1`: a missing server is a failure. `tests/run` sets it.
    Required,
    /// Unset: used when there, else the test is skipped.
    WhenThere,
    /// `0`: every live test is skipped. `tests/run quick` sets it.
    LeftOut,
}

/// Where `program` is: for a server its file, for `postgres` the directory of its programs.
///
/// Only looks; `tests/lab/build` is the one place that knows the cache's layout, so it is asked.
pub fn require(program: &str) -> Result<PathBuf, Missing> {
    let missing = |why: String| Missing { program: program.to_owned(), why };
    if live() == Live::LeftOut {
        return Err(missing("the real servers are left out (REQUIRE_LIVE=0)".to_owned()));
    }
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("build");
    let asked = Command::new(&build).args(["--cached", program]).stdin(Stdio::null()).output();
    match asked {
        Ok(answer) if answer.status.success() => {
            Ok(PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim_end_matches('\n')))
        }
        Ok(answer) if answer.status.code() == Some(3) => {
            Err(missing(format!("not in the lab cache; get it with: tests/lab/build {program}")))
        }
        Ok(answer) => Err(missing(format!(
            "{} --cached failed: {}",
            build.display(),
            String::from_utf8_lossy(&answer.stderr).trim()
        ))),
        Err(error) => Err(missing(format!("{} cannot be run ({error})", build.display()))),
    }
}

/// As [`require`], for a test that is about to start: `None` means that it must return now, and the reason was printed.
///
/// The line goes past the test harness's capture, since a skipped test looks like a passed one otherwise.
///
/// # Panics
/// When the program is missing and `REQUIRE_LIVE=1`.
pub fn require_or_skip(program: &str) -> Option<PathBuf> {
    match require(program) {
        Ok(path) => Some(path),
        Err(missing) if live() == Live::Required => panic!("{missing}"),
        Err(missing) => {
            let test = std::thread::current().name().unwrap_or("?").to_owned();
            // One write, so that parallel tests do not mix their lines; nothing to do when stderr is closed.
            let _ = std::io::stderr().write_all(format!("skipped: {test}: {missing}\n").as_bytes());
            None
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test run's own switch, not a setting of claviger")]
fn live() -> Live {
    match std::env::var("REQUIRE_LIVE").as_deref() {
        Ok("1") => Live::Required,
        Ok("0") => Live::LeftOut,
        _ => Live::WhenThere,
    }
}
