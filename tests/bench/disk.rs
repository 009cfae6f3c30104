//! What the disk below the journal costs by itself: nothing of ours is faster than that.

use super::{Outcome, load::Times};
use std::{fs::OpenOptions, os::unix::fs::FileExt as _, path::Path, time::Instant};

/// Where journals and this file lie: a real disk as a rule, where a folder for temporary files may be memory.
pub(super) fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// One KiB written and synced, again and again, into a file that has its room already.
pub(super) fn sync_latency(count: usize) -> Outcome<Times> {
    std::fs::create_dir_all(folder())?;
    let path = tempfile::NamedTempFile::new_in(folder())?.into_temp_path();
    let file = OpenOptions::new().write(true).open(&path)?;
    let block = [7; 1024];
    file.write_all_at(&vec![0; block.len() * count], 0)?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(count);
    for at in 0..count {
        let started = Instant::now();
        file.write_all_at(&block, u64::try_from(at * block.len())?)?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    Ok(Times::of(times))
}

/// Whether `folder` is memory, where a sync costs nothing and proves nothing.
pub(super) fn is_memory() -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(folder()).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}
