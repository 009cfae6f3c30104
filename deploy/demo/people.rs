//! Who plays whom: as root, the agent and each workload have a uid of their own; else all have the caller's.
//!
//! Starts processes of claviger, which is this program again. Does not know what they are asked to do.

use anyhow::{Context as _, Result};
use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};
use tempfile::TempDir;
use tokio::process::Command;

/// The uid (and gid) of the agent, when the demo may choose.
const AGENT: u32 = 20000;
const REPORT_JOB: u32 = 20001;
const BILLING_AGENT: u32 = 20002;

/// Who has which uid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct People {
    /// The agent.
    pub(crate) agent: Person,
    /// The workload that may read the API key.
    pub(crate) report_job: Person,
    /// The other workload.
    pub(crate) billing_agent: Person,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person {
    /// Its uid.
    pub(crate) uid: u32,
    /// Its gid: the same number where the demo may choose.
    pub(crate) gid: u32,
    /// Whether a process must change to it.
    changes: Changes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changes {
    Uid,
    Nothing,
}

impl People {
    /// Whether two uids can be shown.
    pub(crate) fn differ(&self) -> bool {
        self.report_job.uid != self.billing_agent.uid
    }
}

/// Finds out by trying: root in a container may not be allowed to change its uid.
pub(crate) async fn find(home: &TempDir) -> Result<People> {
    // Everybody must get through to the sockets; what lies below has modes of its own.
    open(home.path(), 0o711)?;
    let changed = |uid| Person { uid, gid: uid, changes: Changes::Uid };
    let root = nix::unistd::geteuid().is_root();
    if root && works(changed(BILLING_AGENT)).await {
        return Ok(People {
            agent: changed(AGENT),
            report_job: changed(REPORT_JOB),
            billing_agent: changed(BILLING_AGENT),
        });
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let same = Person { uid, gid, changes: Changes::Nothing };
    Ok(People { agent: same, report_job: same, billing_agent: same })
}

async fn works(person: Person) -> bool {
    let mut command = person.claviger(&["version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().await.is_ok_and(|status| status.success())
}

impl Person {
    /// A process of this person's that is claviger with these arguments.
    pub(crate) fn claviger(self, arguments: &[&str]) -> Command {
        self.program(&[&[crate::AS_CLAVIGER], arguments].concat())
    }

    fn program(self, arguments: &[&str]) -> Command {
        // By this name, since another uid may not reach the folder in which this program lies.
        let mut command = Command::new("/proc/self/exe");
        command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        if self.changes == Changes::Uid {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// A process of this person's that calls an API over `socket`.
    pub(crate) fn caller(self, socket: &str, path: &str) -> Command {
        self.program(&[crate::AS_CALLER, socket, path])
    }

    /// Makes a folder of this person's below `home`, which others may pass through but not read.
    pub(crate) fn folder(self, home: &Path, name: &str) -> Result<std::path::PathBuf> {
        let folder = home.join(name);
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        open(&folder, 0o711)?;
        self.own(&folder)?;
        Ok(folder)
    }

    /// Writes a file that only this person can read.
    pub(crate) fn file(self, folder: &Path, name: &str, content: &str) -> Result<std::path::PathBuf> {
        let file = folder.join(name);
        std::fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
        open(&file, 0o600)?;
        self.own(&file)?;
        Ok(file)
    }

    fn own(self, path: &Path) -> Result<()> {
        if self.changes == Changes::Uid {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("giving {} to uid {}", path.display(), self.uid))?;
        }
        Ok(())
    }
}

fn open(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("changing the mode of {}", path.display()))
}
