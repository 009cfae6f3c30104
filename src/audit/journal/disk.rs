//! The few file operations of the journal, in one place so that tests can make each of them fail.
//!
//! Does not know what is in the files.

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, fallocate},
    unistd::geteuid,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// File operations; each does the real thing unless a test says otherwise.
pub(in crate::audit) trait Disk: Send {
    /// Makes a file that did not exist, for us alone.
    fn create(&self, path: &Path) -> io::Result<File> {
        options().read(true).write(true).create_new(true).open(path)
    }

    /// Opens a file for writing.
    fn open(&self, path: &Path) -> io::Result<File> {
        options().read(true).write(true).open(path)
    }

    /// Takes `size` bytes of the disk for `file`, all zeros; where a file system cannot, only the length is set.
    fn allocate(&self, file: &File, size: u64) -> io::Result<()> {
        let length = i64::try_from(size).map_err(io::Error::other)?;
        loop {
            return match fallocate(file, FallocateFlags::empty(), 0, length) {
                Ok(()) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => file.set_len(size),
                Err(errno) => Err(errno.into()),
            };
        }
    }

    /// Writes all of `bytes` at `offset`.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Waits until what was written is on disk.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Cuts `file` to `size`.
    fn truncate(&self, file: &File, size: u64) -> io::Result<()> {
        file.set_len(size)
    }

    /// Waits until the names in `dir` are on disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Gives a file another name; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file; one that is gone already is no error.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Whether `path` still names `file`.
    fn names(&self, file: &File, path: &Path) -> io::Result<bool> {
        let ours = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(there) => Ok(ours.nlink() > 0 && (there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The disk itself.
pub(in crate::audit) struct RealDisk;

impl Disk for RealDisk {}

/// Links are never followed, and nobody else may read.
pub(in crate::audit) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_CLOEXEC.bits());
    options
}

/// Why a directory cannot hold a journal.
#[derive(Debug)]
pub(in crate::audit) enum Unfit {
    /// It is somebody else's, or somebody else may write to it.
    Unsafe(&'static str),
    /// It cannot be made or read.
    Failed(io::Error),
}

/// Makes `dir` if it is missing, and refuses it unless it is ours alone to write to.
pub(in crate::audit) fn prepare(dir: &Path) -> Result<(), Unfit> {
    let found = match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Unfit::Failed)?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent).and_then(|parent| parent.sync_all()).map_err(Unfit::Failed)?;
            }
            fs::symlink_metadata(dir)
        }
        other => other,
    };
    let found = found.map_err(Unfit::Failed)?;
    if !found.is_dir() {
        return Err(Unfit::Unsafe("it is not a directory"));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(Unfit::Unsafe("it belongs to another user"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(Unfit::Unsafe("others may write to it; its mode should be 0700"));
    }
    Ok(())
}

/// Makes sure that no other process writes to `dir`; the answer holds the lock while it lives.
pub(in crate::audit) fn lock(dir: &Path) -> io::Result<File> {
    let file = options().write(true).create(true).truncate(false).open(dir.join("lock"))?;
    file.try_lock().map_err(io::Error::from)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(prepare(&open), Err(Unfit::Unsafe(_))));
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        assert!(matches!(prepare(&link), Err(Unfit::Unsafe(_))));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(prepare(&file), Err(Unfit::Unsafe(_))));
    }

    #[test]
    fn a_missing_directory_is_made_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        prepare(&new).unwrap();
        assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o700);
        prepare(&new).unwrap();
    }

    #[test]
    fn two_processes_cannot_share_a_journal() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).is_err());
        drop(held);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_a_segment_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "x").unwrap();
        symlink(&target, &link).unwrap();
        assert!(RealDisk.open(&link).is_err());
        assert!(RealDisk.create(&link).is_err());
    }
}
