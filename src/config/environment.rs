//! What the checks must know of the process that will run the config.
//!
//! Reads the kernel once. Does not read environment variables: whoever does tells of the cluster.

use crate::{
    peer::{
        container,
        process::{self, Support},
    },
    sandbox::Dumpable,
};
use nix::unistd::{AccessFlags, access, getegid, geteuid};
use std::{path::Path, sync::OnceLock};

/// The cluster that the process is in, as far as its variables say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// The pod's namespace.
    pub namespace: Option<String>,
    /// The API server's URL.
    pub server: Option<String>,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

impl Cluster {
    /// Is the one of this process from now on; the first word holds.
    pub fn of_this_process_is(self) {
        let _ = CLUSTER.set(self);
    }
}

/// Ours and the kernel's ids. A value, so that a test can be any process.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Our effective user id: owns the sockets.
    pub uid: u32,
    /// Our effective group id: the sockets' group.
    pub gid: u32,
    /// Whether our user namespace maps every uid. If not, strangers appear as `overflow_uid` (user_namespaces(7)).
    pub uid_map_is_full: bool,
    /// The same for gids.
    pub gid_map_is_full: bool,
    /// What an unmapped uid looks like: `/proc/sys/kernel/overflowuid`.
    pub overflow_uid: u32,
    /// What an unmapped gid looks like.
    pub overflow_gid: u32,
    /// Whether this kernel can prove level `process`.
    pub process: Support,
    /// Whether it can prove level `container` of a process whose PID is to be seen.
    pub container: Support,
    /// Whether processes of our own uid may read our memory, or could when we started (`PR_GET_DUMPABLE`, prctl(2)).
    pub dumpable: bool,
    /// The `source` of every event: `urn:claviger:CLUSTER/NAMESPACE/POD/AGENT`; what is unknown is left out.
    pub source: String,
    /// The cluster, for rotations that Kubernetes coordinates.
    pub cluster: Cluster,
    /// Whether a program can be executed. Asked of the paths that the config names, and of no other.
    pub programs: fn(&Path) -> bool,
    /// Whether we may make files in a directory. Asked of those that the config names, and of no other.
    pub writable: fn(&Path) -> bool,
}

impl Environment {
    /// This process. What cannot be read counts as the usual: a partial map, 65534, dumpable. Its `source` knows the host's
    /// name only (in a pod: the pod's); who knows more sets it.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            uid_map_is_full: read("/proc/self/uid_map").is_some_and(|map| maps_everything(&map)),
            gid_map_is_full: read("/proc/self/gid_map").is_some_and(|map| maps_everything(&map)),
            overflow_uid: number("/proc/sys/kernel/overflowuid"),
            overflow_gid: number("/proc/sys/kernel/overflowgid"),
            process: process::support().clone(),
            container: container::support().clone(),
            dumpable: Dumpable::of_this_process() == Dumpable::AtExec,
            source: match read("/proc/sys/kernel/hostname") {
                Some(host) if !host.trim().is_empty() => format!("urn:claviger:{}/claviger", host.trim()),
                _ => "urn:claviger:claviger".to_owned(),
            },
            cluster: CLUSTER.get().cloned().unwrap_or_default(),
            programs: |path| path.is_file() && access(path, AccessFlags::X_OK).is_ok(),
            writable: |dir| dir.is_dir() && access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        }
    }

    /// Whether `path` is a program that can be executed.
    pub(super) fn has_program(&self, path: &Path) -> bool {
        (self.programs)(path)
    }

    /// Whether we may make files in `dir`.
    pub(super) fn may_write_to(&self, dir: &Path) -> bool {
        (self.writable)(dir)
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(path: &str) -> u32 {
    read(path).and_then(|text| text.trim().parse().ok()).unwrap_or(65534)
}

/// One line `0 0 4294967295` is the initial namespace's map: every id but -1 (user_namespaces(7)).
fn maps_everything(map: &str) -> bool {
    let fields: Vec<&str> = map.split_whitespace().collect();
    fields == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_initial_map_is_full() {
        for (map, full) in [
            ("         0          0 4294967295\n", true),
            ("         0     100000      65536\n", false),
            ("0 0 1000\n1000 1000 4294966295\n", false),
            ("", false),
        ] {
            assert_eq!(maps_everything(map), full, "{map:?}");
        }
    }

    #[test]
    fn this_process_is_somebody() {
        let environment = Environment::of_this_process();
        assert_eq!(environment.uid, nix::unistd::geteuid().as_raw());
        assert!(environment.source.starts_with("urn:claviger:"));
    }
}
