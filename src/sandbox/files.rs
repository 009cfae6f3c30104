//! Landlock (landlock(7)): which files, TCP ports, abstract sockets and processes are within reach.
//!
//! Asks for what Linux 6.15 has (ABI 7), and takes what an older kernel gives. What later ones add is not asked for, since none
//! of it was tried. UDP, and reaching a path socket, cannot be restricted by these kernels.

use super::{Missing, Need, Plan};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope, make_bitflags,
};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// What is asked for.
const ASKED: ABI = ABI::V7;
/// Domain names over TCP (RFC 7766), when an answer does not fit into a datagram.
const DNS: u16 = 53;

/// What name resolution, the system's trust roots and /proc (our own sockets' descriptors, peers) are read from.
const SYSTEM: &[&str] = &[
    "/etc",
    "/usr/share",
    "/usr/local/share",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/var/lib/ca-certificates",
    "/proc",
];
/// Places in /etc that may lead out of it.
const LINKS: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    concat!("/etc/ssl/certs/ca-certificates", ".crt"),
];

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | MakeReg | RemoveFile | Truncate
});
const SOCKET: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeSock | RemoveFile});

/// What Landlock enforces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Enforced {
    /// It was not asked to.
    Off,
    /// What its version has: 1 files, 4 also ports, 6 also scopes.
    Abi(i32),
    /// Nothing, for this reason.
    Nothing(String),
}

impl Enforced {
    /// What does not hold.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let missing = |what: &str, remedy| Missing { what: what.to_owned(), remedy };
        match self {
            Self::Off => Vec::new(),
            Self::Nothing(why) => {
                let what = format!("files, ports and scopes are not restricted: {why}");
                vec![Missing { what, remedy: "run on Linux 6.12 or later with landlock in the lsm= list" }]
            }
            Self::Abi(abi) => [
                (4, missing("TCP ports are not restricted", "run on Linux 6.7 or later")),
                (6, missing("abstract sockets and signals are not restricted", "run on Linux 6.12 or later")),
            ]
            .into_iter()
            .filter_map(|(from, missing)| (*abi < from).then_some(missing))
            .collect(),
        }
    }
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Nothing(_) => f.write_str("no"),
            Self::Abi(abi) => {
                let net = if *abi >= 4 { ", net" } else { "" };
                let scopes = if *abi >= 6 { ", scopes" } else { "" };
                write!(f, "abi {abi}: files{net}{scopes}")
            }
        }
    }
}

/// Gives up everything but `plan` and what the system's libraries read.
pub(super) fn restrict(plan: &Plan) -> Enforced {
    match ruleset(plan).and_then(RulesetCreated::restrict_self) {
        Ok(status) => match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => {
                Enforced::Abi((effective_abi as i32).min(ASKED as i32))
            }
            LandlockStatus::NotEnabled => Enforced::Nothing("Landlock is not enabled".to_owned()),
            LandlockStatus::NotImplemented => Enforced::Nothing("this kernel has no Landlock".to_owned()),
        },
        Err(error) => Enforced::Nothing(error.to_string()),
    }
}

fn ruleset(plan: &Plan) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ASKED))?
        .handle_access(AccessNet::from_all(ASKED))?
        .scope(Scope::from_all(ASKED))?
        .create()?
        .add_rule(NetPort::new(DNS, AccessNet::ConnectTcp))?;
    for path in system() {
        rules = allow(rules, &path, READ)?;
    }
    rules = allow(rules, Path::new("/dev/null"), make_bitflags!(AccessFs::{ReadFile | WriteFile}))?;
    rules = allow(rules, Path::new("/dev/urandom"), AccessFs::ReadFile.into())?;
    for need in plan.needs() {
        rules = match need {
            Need::Read(path) => allow(rules, &standing(path), READ)?,
            Need::Write(path) => allow(rules, &standing(path), WRITE)?,
            Need::Socket(path) => allow(rules, &standing(path), SOCKET)?,
            Need::Connect(port) => rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?,
            Need::Bind(port) => rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?,
        };
    }
    for directory in plan.files().iter().filter_map(|file| led_to(file)) {
        rules = allow(rules, &directory, READ)?;
    }
    Ok(rules)
}

/// What is not there cannot be allowed, and need not be.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(open) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ASKED) };
    if access.is_empty() { Ok(rules) } else { rules.add_rule(PathBeneath::new(open, access)) }
}

fn system() -> impl Iterator<Item = PathBuf> {
    SYSTEM.iter().map(PathBuf::from).chain(LINKS.iter().filter_map(|link| led_to(Path::new(link))))
}

/// The directory to which the links of `path` lead: a file is replaced by another of its name, as a rule.
fn led_to(path: &Path) -> Option<PathBuf> {
    let target = fs::canonicalize(path).ok()?;
    match target.parent() {
        Some(parent) if !target.is_dir() && parent != Path::new("/") => Some(parent.to_owned()),
        _ => Some(target),
    }
}

/// `path`, or what is there above it, so that it can be made later; never the root.
fn standing(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|path| path.exists() && *path != Path::new("/"));
    let there = there.unwrap_or(path);
    if there != path {
        tracing::warn!(
            path = %path.display(), instead = %there.display(),
            "not there yet: the sandbox lets its nearest directory in instead; make it before the start"
        );
    }
    there.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Error, ErrorKind},
        net::{TcpListener, TcpStream},
        os::unix::net::UnixListener,
    };

    /// Does `act` on a thread of its own within `plan`; `None` where this kernel has no Landlock.
    fn within<T: Send + 'static>(
        plan: &Plan,
        act: impl FnOnce(&Enforced) -> T + Send + 'static,
    ) -> Option<T> {
        let plan = plan.clone();
        let closed = std::thread::spawn(move || {
            let enforced = restrict(&plan);
            (!matches!(enforced, Enforced::Nothing(_))).then(|| act(&enforced))
        });
        closed.join().unwrap()
    }

    fn denied<T>(result: Result<T, Error>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn only_what_was_planned_is_read_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "other", "audit", "run"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), "text").unwrap();
        }
        std::os::unix::fs::symlink(at("other").join("file"), at("etc/link")).unwrap();
        let mut plan = Plan::default();
        plan.add(Need::Read(at("etc/config.yaml")));
        plan.add(Need::Write(at("audit")));
        plan.add(Need::Socket(at("run/job.sock")));
        let root = folder.path().to_owned();
        let done = within(&plan, move |_| {
            let at = |name: &str| root.join(name);
            assert_eq!(fs::read(at("etc/file")).unwrap(), b"text");
            assert!(denied(fs::write(at("etc/file"), "x")) && denied(fs::remove_file(at("etc/file"))));
            assert!(denied(fs::read(at("other/file"))) && denied(fs::read(at("etc/link"))));
            fs::write(at("audit/new"), "x").unwrap();
            fs::rename(at("audit/new"), at("audit/newer")).unwrap();
            fs::hard_link(at("audit/newer"), at("audit/bad")).unwrap();
            fs::remove_file(at("audit/newer")).unwrap();
            assert!(denied(fs::create_dir(at("audit/folder"))));
            drop(UnixListener::bind(at("run/job.sock")).unwrap());
            fs::remove_file(at("run/job.sock")).unwrap();
            assert!(denied(fs::read(at("run/file"))) && denied(UnixListener::bind(at("other/s"))));
            assert!(fs::read("/etc/passwd").is_ok() && fs::read("/proc/self/mountinfo").is_ok());
            assert!(denied(fs::read_dir("/")));
        });
        assert!(done.is_some() || !Path::new("/sys/kernel/security/landlock").exists());
    }

    #[test]
    fn a_file_that_a_link_leads_to_is_read_with_what_takes_its_place() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, target) = (here.path().join("config.yaml"), there.path().join("claviger.yaml"));
        fs::write(&target, "one").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut plan = Plan::default();
        plan.add(Need::Read(link.clone()));
        fs::write(there.path().join("new"), "two").unwrap();
        fs::rename(there.path().join("new"), &target).unwrap();
        let read = within(&plan, move |_| fs::read(link).unwrap());
        assert!(read.is_none_or(|text| text == b"two"));
    }

    #[test]
    fn only_the_planned_ports_are_connected_to_and_listened_on() {
        let (vault, other) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (vault, other) = (vault.local_addr().unwrap(), other.local_addr().unwrap());
        let mut plan = Plan::default();
        plan.add(Need::Connect(vault.port()));
        plan.add(Need::Bind(0));
        within(&plan, move |enforced| {
            if !enforced.to_string().contains("net") {
                return;
            }
            // Nobody listens any more; what counts is who says no.
            assert!(!denied(TcpStream::connect(vault)));
            assert!(denied(TcpStream::connect(other)));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            assert_ne!(listener.local_addr().unwrap().port(), 0);
            assert!(denied(TcpListener::bind(other)), "port 0 is a port of the kernel's choice only");
        });
    }
}
