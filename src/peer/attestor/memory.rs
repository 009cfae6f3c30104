//! The memory of a process that it may execute, and what lies behind it.
//!
//! Names in it are chosen by the process, and are walked where it sees files: each is believed only as far as the kernel confirms
//! it.

use super::{
    proc::{read, unreadable},
    texts,
};
use crate::peer::program::{Backing, FileId, Mapping, Refusal};
use nix::{
    sys::{
        stat::{major, minor},
        statfs::{FsType, statfs},
    },
    unistd::{SysconfVar, sysconf},
};
use std::{
    fs::{self, File, Metadata},
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

/// FUSE (linux/magic.h): its server may give other bytes each time.
pub(super) const FUSE: FsType = FsType(0x6573_5546);
/// The most pages of one piece of code that are looked at: 4 GiB where a page is 4 KiB.
const MOST_PAGES: u64 = 1 << 20;

/// What may be executed of this memory. That it is still the process's must be checked afterwards.
pub(super) fn mappings(pid: u32, maps: &File, pagemap: &File, own: FileId) -> Result<Vec<Mapping>, Refusal> {
    let rows = texts::executable(&read(maps)?).ok_or(Refusal::AttestorFailed)?;
    // The executable's was looked at when it was opened; as long as it is executed, no other file system has its number.
    let mut plain = vec![(own.major, own.minor)];
    let backed = |row: texts::Row| {
        let backing = match row.file {
            // The same for all, at the end of all addresses: nobody can write it.
            None if row.path.to_str() == Some("[vsyscall]") => return Ok(None),
            None if row.path.to_str() == Some("[vdso]") => Backing::Kernel,
            None => Backing::Nothing,
            Some(id) if id == own => Backing::File { id, path: row.path, trusted: true },
            Some(_) if !has_a_name(&row.path) => Backing::Nothing,
            Some(id) => {
                let trusted = is_trusted(pid, id, &row.path, &mut plain);
                Backing::File { id, path: row.path, trusted }
            }
        };
        let modified = backing != Backing::Nothing && is_modified(pagemap, &row.addresses)?;
        Ok(Some(Mapping { backing, modified, writable: row.writable }))
    };
    rows.into_iter().map(backed).filter_map(Result::transpose).collect()
}

/// Whether some of this memory is not what its file holds.
fn is_modified(pagemap: &File, addresses: &Range<u64>) -> Result<bool, Refusal> {
    let failed = || Refusal::AttestorFailed;
    let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok().flatten().ok_or_else(failed)?);
    let page = page.ok().filter(|page| *page > 0).ok_or_else(failed)?;
    let mut told = vec![0; 32 << 10];
    let (mut at, end) = (addresses.start / page * 8, addresses.end / page * 8);
    if end.saturating_sub(at) > MOST_PAGES * 8 {
        return Err(Refusal::AttestorFailed);
    }
    while at < end {
        let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(told.len());
        let part = told.get_mut(..part).ok_or_else(failed)?;
        pagemap.read_exact_at(part, at).map_err(|error| match error.kind() {
            // That memory is gone.
            io::ErrorKind::UnexpectedEof => Refusal::ImageChanged,
            _ => unreadable(&error),
        })?;
        if texts::has_pages_of_its_own(part) {
            return Ok(true);
        }
        at += part.len() as u64;
    }
    Ok(false)
}

/// `/memfd:x (deleted)` and the like have none.
fn has_a_name(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with('/') && !path.ends_with(" (deleted)"))
}

/// Whether this name, where that process sees files, leads to that file; and whether it is root's own. The file systems in
/// `plain` are known not to be FUSE: that is asked once for all files of one.
fn is_trusted(pid: u32, id: FileId, path: &Path, plain: &mut Vec<(u64, u64)>) -> bool {
    let Ok(path) = path.strip_prefix("/") else { return false };
    let path = Path::new("/proc").join(pid.to_string()).join("root").join(path);
    let Ok(told) = fs::symlink_metadata(&path) else { return false };
    let found = FileId { major: major(told.dev()), minor: minor(told.dev()), inode: told.ino() };
    if found != id || !is_roots_own(&told) {
        return false;
    }
    let device = (id.major, id.minor);
    if !plain.contains(&device) {
        if statfs(&path).map_or(true, |told| told.filesystem_type() == FUSE) {
            return false;
        }
        plain.push(device);
    }
    true
}

/// Whether only root may write it.
pub(super) fn is_roots_own(told: &Metadata) -> bool {
    told.is_file() && told.uid() == 0 && told.mode() & 0o022 == 0
}
