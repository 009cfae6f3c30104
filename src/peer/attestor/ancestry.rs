//! Whether a process descends from the first process of its container.
//!
//! Goes by numbers that other processes may give up and take while it looks: whoever asks checks afterwards that the process
//! itself stayed. Works in a PID namespace that the containers of a pod share, where each container's first process has no
//! parent that can be seen.

use super::{proc::read_of, texts};
use crate::peer::program::{Ancestry, Refusal};
use std::fs;

/// The longest line of parents that is followed.
const LONGEST: usize = 64;

/// Looks, if that is asked.
///
/// # Errors
/// [`Refusal::Ancestry`] where it cannot be known.
pub(super) fn ask(asked: Ancestry, pid: u32) -> Result<Option<bool>, Refusal> {
    match asked {
        Ancestry::Any => Ok(None),
        Ancestry::ContainerMain => look(pid).map(Some),
    }
}

fn look(pid: u32) -> Result<bool, Refusal> {
    let cgroup = cgroup_of(pid)?;
    let Some(first) = first_ancestor(pid, &cgroup)? else { return Ok(false) };
    let started = stat_of(first)?.image.started;
    for entry in fs::read_dir("/proc").map_err(|_| Refusal::Ancestry)? {
        let name = entry.map_err(|_| Refusal::Ancestry)?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse().ok()).filter(|other| *other != first)
        else {
            continue;
        };
        // One that has ended in the meantime is nobody's first any more.
        let (Ok(stat), Ok(theirs)) = (stat_of(other), cgroup_of(other)) else { continue };
        if stat.parent == 0 && theirs == cgroup && stat.image.started <= started {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The ancestor whose parent cannot be seen, if all up to it are of this cgroup.
fn first_ancestor(pid: u32, cgroup: &[u8]) -> Result<Option<u32>, Refusal> {
    let mut ancestor = pid;
    for _ in 0..LONGEST {
        if cgroup_of(ancestor)? != cgroup {
            return Ok(None);
        }
        match stat_of(ancestor)?.parent {
            0 => return Ok(Some(ancestor)),
            parent => ancestor = parent,
        }
    }
    Ok(None)
}

fn stat_of(pid: u32) -> Result<texts::Stat, Refusal> {
    let text = read_of(pid, "stat").map_err(|_| Refusal::Ancestry)?;
    texts::stat(&text).ok_or(Refusal::Ancestry)
}

fn cgroup_of(pid: u32) -> Result<Vec<u8>, Refusal> {
    let text = read_of(pid, "cgroup").map_err(|_| Refusal::Ancestry)?;
    Ok(texts::cgroup(&text).to_vec())
}
