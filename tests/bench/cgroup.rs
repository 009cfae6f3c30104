//! A cgroup of the bench's own: a peer in the hierarchy's root is in no container, and so cannot be known at level `program`.
//!
//! Needs root, and a hierarchy of version 2. Does not limit anything.

use super::Outcome;
use std::{fs, path::PathBuf};

/// Where this process is as long as this lives. Dropping it goes back.
pub(super) struct Own {
    root: PathBuf,
    folder: PathBuf,
}

impl Own {
    /// Moves this process out of the root; `None` where it is not in it.
    pub(super) fn enter() -> Outcome<Option<Self>> {
        if !fs::read_to_string("/proc/self/cgroup")?.lines().any(|line| line == "0::/") {
            return Ok(None);
        }
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mut fields = mounts.lines().map(|line| line.split(' ').skip(1));
        let root = fields.find_map(|mut fields| fields.next().filter(|_| fields.next() == Some("cgroup2")));
        let root = PathBuf::from(root.ok_or("no cgroup hierarchy of version 2 is mounted")?);
        let folder = root.join(format!("claviger-bench-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let own = Self { root, folder };
        fs::write(own.folder.join("cgroup.procs"), "0")?;
        Ok(Some(own))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // What is left of it is an empty folder of the kernel's memory.
        let _ = fs::write(self.root.join("cgroup.procs"), "0").and_then(|()| fs::remove_dir(&self.folder));
    }
}
