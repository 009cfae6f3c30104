//! What must stay within the agent's reach: directories and ports.
//!
//! Pure. Does not say what of it the kernel can enforce.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// One thing that must stay within reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Reading this file, and any that takes its place: its directory is what counts, since Kubernetes swaps files by links.
    Read(PathBuf),
    /// Reading, writing, making and removing the files in this directory.
    Write(PathBuf),
    /// Making and removing the socket at this path.
    Socket(PathBuf),
    /// Connecting to this TCP port of any host.
    Connect(u16),
    /// Listening on this TCP port; 0 is a port of the kernel's choice, and no other.
    Bind(u16),
}

/// Everything that must stay within reach. What the system's libraries need (name resolution, trust roots) is not listed: it
/// always does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    needs: BTreeSet<Need>,
    files: BTreeSet<PathBuf>,
}

impl Plan {
    /// Adds one.
    pub fn add(&mut self, need: Need) {
        if let Need::Read(file) = &need {
            self.files.insert(file.clone());
        }
        self.needs.insert(need.by_directory());
    }

    /// Whether `need` is within reach of what was added.
    #[must_use]
    pub fn allows(&self, need: &Need) -> bool {
        let need = need.clone().by_directory();
        self.needs.iter().any(|given| match (given, &need) {
            (Need::Read(given) | Need::Write(given), Need::Read(wanted))
            | (Need::Write(given), Need::Write(wanted))
            | (Need::Socket(given), Need::Socket(wanted)) => wanted.starts_with(given),
            (given, wanted) => given == wanted,
        })
    }

    /// A file itself, wherever the links of its path lead: what they lead to is read, too.
    #[must_use]
    pub fn files(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// All, in order: of `Read` and `Socket` the directory, or a file itself whose directory is the root.
    pub fn needs(&self) -> impl Iterator<Item = &Need> {
        self.needs.iter()
    }
}

impl Extend<Need> for Plan {
    fn extend<T: IntoIterator<Item = Need>>(&mut self, needs: T) {
        needs.into_iter().for_each(|need| self.add(need));
    }
}

impl Need {
    fn by_directory(self) -> Self {
        match self {
            // The directory's own name may end in it: what was given twice stays the same.
            Self::Read(path) => Self::Read(directory(&path)),
            Self::Socket(path) => Self::Socket(directory(&path)),
            other => other,
        }
    }
}

/// Where a file is. The root is no answer: everything is in it.
fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) if parent != Path::new("/") => parent.to_owned(),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[Need], wanted: Need, expected: &str) {
        let mut plan = Plan::default();
        plan.extend(given.iter().cloned());
        assert_eq!(if plan.allows(&wanted) { "yes" } else { "no" }, expected, "{given:?} {wanted:?}");
    }

    #[test]
    fn what_is_in_the_same_directory_or_below_is_within_reach() {
        let (read, write) = (|path: &str| Need::Read(path.into()), |path: &str| Need::Write(path.into()));
        let socket = |path: &str| Need::Socket(path.into());
        check(&[read("/etc/claviger/config.yaml")], read("/etc/claviger/other.yaml"), "yes");
        check(&[read("/etc/claviger/config.yaml")], read("/etc/claviger/tls/ca.pem"), "yes");
        check(&[read("/etc/claviger/config.yaml")], read("/etc/claviger-2/ca.pem"), "no");
        check(&[read("/etc/claviger/config.yaml")], read("/etc/ca.pem"), "no");
        check(&[read("/config.yaml")], read("/config.yaml"), "yes");
        check(&[read("/config.yaml")], read("/ca.pem"), "no");
        check(&[read("config.yaml")], read("ca.pem"), "yes");
        check(&[write("/var/audit")], write("/var/audit"), "yes");
        check(&[write("/var/audit")], read("/var/audit/seg"), "yes");
        check(&[read("/var/audit/seg")], write("/var/audit"), "no");
        check(&[socket("/run/a/a.sock")], socket("/run/a/b.sock"), "yes");
        check(&[socket("/run/a/a.sock")], socket("/run/b/a.sock"), "no");
        check(&[read("/run/a/x")], socket("/run/a/a.sock"), "no");
    }

    #[test]
    fn a_port_is_within_reach_for_what_it_was_given() {
        check(&[Need::Connect(8200)], Need::Connect(8200), "yes");
        check(&[Need::Connect(8200)], Need::Connect(443), "no");
        check(&[Need::Connect(8200)], Need::Bind(8200), "no");
        check(&[Need::Bind(0)], Need::Bind(8099), "no");
        check(&[], Need::Connect(443), "no");
    }
}
