//! What the agent gives up for good, so that whoever takes it over has little: dumps, privileges, files, ports, system calls.
//!
//! The kernel keeps each promise until the process ends. Does not read a config: a [`Plan`] says what must stay within reach.
//! [`harden`] comes first of all, [`enter`] before the first thread and after every process that must stay outside.

mod calls;
mod files;
mod plan;

pub use plan::{Need, Plan};

use crate::secret::{self, Memory};
use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};
use std::{fmt, sync::OnceLock};

/// The config's `sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Everything that this kernel has; what it lacks is a warning.
    #[default]
    On,
    /// Everything, or no start.
    Required,
    /// No Landlock and no seccomp filter. What costs nothing and hinders nobody holds all the same.
    Off,
}

/// Whether other processes of our uid can read our memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dumpable {
    /// Never could: the kernel saw to it at exec, since the binary cannot be read by who runs it (mode 0111).
    Never,
    /// From exec until [`harden`] was called they could, and what attached itself then is still there.
    AtExec,
}

impl Dumpable {
    /// Of this process: what [`harden`] found, else what the kernel says now.
    #[must_use]
    pub fn of_this_process() -> Self {
        BORN.get().copied().unwrap_or_else(ask)
    }
}

static BORN: OnceLock<Dumpable> = OnceLock::new();

fn ask() -> Dumpable {
    match prctl::get_dumpable() {
        Ok(false) => Dumpable::Never,
        // What cannot be asked counts as the worse.
        Ok(true) | Err(_) => Dumpable::AtExec,
    }
}

/// Makes memory unreadable to others of our uid (`PR_SET_DUMPABLE`, prctl(2)) and forbids core files. To be called before
/// anything secret is read.
///
/// # Errors
/// What the kernel says; nothing of ours explains it.
pub fn harden() -> Result<(), nix::Error> {
    BORN.get_or_init(ask);
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Takes from a process that only reads and answers the system calls that the agent does without, `beside` them these, and opening
/// anything for writing: they fail with EPERM in every thread of it.
///
/// # Errors
/// The kernel has no seccomp filters.
pub fn confine_reader(beside: &[libc::c_long]) -> std::io::Result<()> {
    calls::filter_reader(beside).map_err(std::io::Error::other)
}

/// What holds, from now to the end of the process.
#[derive(Debug, Clone)]
pub struct Inside {
    dumpable: Dumpable,
    landlock: files::Enforced,
    seccomp: Seccomp,
    secrets: Memory,
    plan: Option<Plan>,
}

/// Whether system calls are filtered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seccomp {
    On,
    Off,
    Missing(String),
}

/// Something that does not hold, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Missing {
    /// What does not hold, and why.
    pub what: String,
    /// What would help.
    pub remedy: &'static str,
}

/// Everything that `sandbox: required` asked for and that does not hold. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refused(
    /// One by one.
    pub Vec<Missing>,
);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "sandbox: required, but {}", all.join("; "))
    }
}

/// Gives up everything but what `plan` lists. Binds the calling thread and those that it makes; there may be no other yet.
///
/// # Errors
/// With [`Mode::Required`], what this kernel lacks. The process is then bound all the same and should end.
pub fn enter(mode: Mode, plan: &Plan) -> Result<Inside, Refused> {
    // Without it neither of the two below is granted; each asks for it again, and its error is theirs.
    let _ = prctl::set_no_new_privs();
    let secrets = secret::prepare();
    let (landlock, seccomp) = match mode {
        Mode::Off => (files::Enforced::Off, Seccomp::Off),
        Mode::On | Mode::Required => {
            let landlock = files::restrict(plan);
            (landlock, calls::filter().map_or_else(Seccomp::Missing, |()| Seccomp::On))
        }
    };
    let plan = (mode != Mode::Off).then(|| plan.clone());
    let inside = Inside { dumpable: Dumpable::of_this_process(), landlock, seccomp, secrets, plan };
    let missing = inside.missing();
    if mode == Mode::Required && !missing.is_empty() { Err(Refused(missing)) } else { Ok(inside) }
}

impl Inside {
    /// What stays within reach; `None`: everything does, since the sandbox is off.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Whether others of our uid could have attached themselves at the start.
    #[must_use]
    pub fn dumpable(&self) -> Dumpable {
        self.dumpable
    }

    /// What was asked for and this kernel cannot give. Whether the binary is readable is not among it: that harms only where a
    /// workload has our uid, which the config's check knows.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = self.landlock.missing();
        if let Seccomp::Missing(why) = &self.seccomp {
            let what = format!("system calls are not filtered: {why}");
            missing.push(Missing { what, remedy: "run on a kernel with CONFIG_SECCOMP_FILTER" });
        }
        if !self.secrets.is_locked() {
            let what = "memory of secrets is not locked".to_owned();
            missing.push(Missing { what, remedy: "raise RLIMIT_MEMLOCK to 8 MiB (ulimit -l 8192)" });
        }
        missing
    }

    /// Says in one line of the log what holds.
    pub fn say(&self) {
        let [dumpable, core, no_new_privs, landlock, seccomp, secrets] = self.words().map(|(_, word)| word);
        tracing::info!(dumpable, core, no_new_privs, landlock, seccomp, secrets, "sandbox");
        for Missing { what, remedy } in self.missing() {
            tracing::warn!(what, remedy, "the sandbox is not whole");
        }
    }

    fn words(&self) -> [(&'static str, String); 6] {
        let dumpable = match self.dumpable {
            Dumpable::Never => "no",
            Dumpable::AtExec => "partly",
        };
        let no_new_privs = if prctl::get_no_new_privs().unwrap_or(false) { "yes" } else { "no" };
        let seccomp = match self.seccomp {
            Seccomp::On => "yes",
            Seccomp::Off => "off",
            Seccomp::Missing(_) => "no",
        };
        let secrets = if self.secrets.is_locked() { "locked" } else { "not locked" };
        [
            ("dumpable", dumpable.to_owned()),
            ("core", "0".to_owned()),
            ("no_new_privs", no_new_privs.to_owned()),
            ("landlock", self.landlock.to_string()),
            ("seccomp", seccomp.to_owned()),
            ("secrets", secrets.to_owned()),
        ]
    }
}

/// `dumpable=no; core=0; no_new_privs=yes; landlock=abi 7: files, net, scopes; seccomp=yes; secrets=locked`
impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().map(|(name, word)| format!("{name}={word}")).join("; "))
    }
}
