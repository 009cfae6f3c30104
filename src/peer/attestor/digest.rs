//! Digests of executables, and which of them are remembered for how long. Pure but for [`hash`].
//!
//! Never goes by a path. Knows no processes.

use crate::{
    crypto::{Hash, Sha256},
    peer::program::{FileId, Refusal},
};
use nix::sys::stat::{major, minor};
use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    time::{Duration, Instant, SystemTime},
};

/// The largest executable that is hashed.
const LARGEST: u64 = 512 << 20;
/// The most digests that are remembered.
const MOST: usize = 64;
/// How long a digest is remembered that somebody was permitted for.
const PERMITTED: Duration = Duration::from_secs(600);
/// How long another is.
const OTHER: Duration = Duration::from_secs(5);
/// How old the last change of a file must be: two changes closer than a clock tick have the same time.
const SETTLED: Duration = Duration::from_secs(2);
/// How long one file is hashed at most.
const LONGEST: Duration = Duration::from_secs(30);
/// How much is read at a time.
const PART: usize = 256 << 10;

/// What changes when the bytes of a file change. The time of change (`ctime`) cannot be set back by whoever may only write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    /// Which file.
    pub(super) file: FileId,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    born: Option<SystemTime>,
}

impl Stamp {
    /// Of an open file, as the kernel has just told it.
    pub(super) fn of(told: &Metadata) -> Self {
        Self {
            file: FileId { major: major(told.dev()), minor: minor(told.dev()), inode: told.ino() },
            size: told.size(),
            modified: (told.mtime(), told.mtime_nsec()),
            changed: (told.ctime(), told.ctime_nsec()),
            born: told.created().ok(),
        }
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the last change is so long ago, at `now`, that another would show.
    pub(super) fn is_settled(&self, now: crate::clock::Timestamp) -> bool {
        let Ok(nanoseconds) = i32::try_from(self.changed.1) else { return false };
        let Ok(changed) = crate::clock::Timestamp::new(self.changed.0, nanoseconds) else { return false };
        Duration::try_from(now.duration_since(changed)).is_ok_and(|age| age >= SETTLED)
    }
}

/// The digest of an open file, of which `stamp` was taken; `moved` is told of every part.
///
/// # Errors
/// [`Refusal::ExeTooBig`]; [`Refusal::Timeout`] after 30 s; [`Refusal::ImageChanged`] if the file changed on the way;
/// [`Refusal::AttestorFailed`] if it cannot be read.
pub(super) fn hash(file: &File, stamp: &Stamp, mut moved: impl FnMut()) -> Result<Hash, Refusal> {
    if stamp.size > LARGEST {
        return Err(Refusal::ExeTooBig);
    }
    let begun = Instant::now();
    let mut part = vec![0; PART];
    let (mut hash, mut at) = (Sha256::new(), 0);
    loop {
        let read = match file.read_at(&mut part, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|_| Refusal::AttestorFailed)?,
        };
        let Some(read) = part.get(..read).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
        at += read.len() as u64;
        if at > LARGEST {
            return Err(Refusal::ExeTooBig);
        }
        if begun.elapsed() > LONGEST {
            return Err(Refusal::Timeout);
        }
        moved();
    }
    let after = Stamp::of(&file.metadata().map_err(|_| Refusal::AttestorFailed)?);
    if after == *stamp && at == stamp.size { Ok(hash.finish()) } else { Err(Refusal::ImageChanged) }
}

/// What a digest was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Somebody is permitted by it.
    Permitted,
    /// Nobody who asked so far.
    Other,
}

/// The digests that are remembered: those that were used last.
#[derive(Debug, Default)]
pub(super) struct Cache(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    stamp: Stamp,
    digest: Hash,
    worth: Worth,
    until: Instant,
    used: Instant,
}

impl Cache {
    /// The digest of a file that has this stamp at `now`.
    pub(super) fn find(&mut self, stamp: &Stamp, now: Instant) -> Option<Hash> {
        self.0.retain(|entry| entry.until > now);
        let entry = self.0.iter_mut().find(|entry| entry.stamp == *stamp)?;
        entry.used = now;
        Some(entry.digest)
    }

    /// Remembers a digest. Those that permitted nobody make room first, so that strangers cannot push out what is needed.
    pub(super) fn keep(&mut self, stamp: Stamp, digest: Hash, worth: Worth, now: Instant) {
        self.0.retain(|entry| entry.stamp != stamp);
        if self.0.len() >= MOST {
            let rank = |entry: &Entry| (entry.worth == Worth::Permitted, entry.used);
            let oldest = self.0.iter().enumerate().min_by_key(|(_, entry)| rank(entry));
            if let Some((oldest, _)) = oldest {
                self.0.swap_remove(oldest);
            }
        }
        let life = if worth == Worth::Permitted { PERMITTED } else { OTHER };
        self.0.push(Entry { stamp, digest, worth, until: now + life, used: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, crypto::sha256};
    use std::{fs, io::Write as _};

    fn stamp(inode: u64) -> Stamp {
        Stamp {
            file: FileId { major: 8, minor: 1, inode },
            size: 3,
            modified: (100, 0),
            changed: (100, 5),
            born: None,
        }
    }

    #[test]
    fn a_digest_is_remembered_for_a_while_and_a_useless_one_shortly() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.keep(stamp(1), [1; 32], Worth::Permitted, start);
        cache.keep(stamp(2), [2; 32], Worth::Other, start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(cache.find(&stamp(1), after(4)), Some([1; 32]));
        assert_eq!(cache.find(&stamp(2), after(4)), Some([2; 32]));
        assert_eq!(cache.find(&stamp(2), after(5)), None);
        assert_eq!(cache.find(&stamp(1), after(599)), Some([1; 32]));
        assert_eq!(cache.find(&stamp(1), after(600)), None);
    }

    #[test]
    fn any_change_of_the_file_is_another_stamp() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep(stamp(1), [1; 32], Worth::Permitted, now);
        for other in [
            stamp(2),
            Stamp { size: 4, ..stamp(1) },
            Stamp { modified: (100, 1), ..stamp(1) },
            Stamp { changed: (100, 6), ..stamp(1) },
            Stamp { born: Some(SystemTime::UNIX_EPOCH), ..stamp(1) },
            Stamp { file: FileId { minor: 2, ..stamp(1).file }, ..stamp(1) },
        ] {
            assert_eq!(cache.find(&other, now), None, "{other:?}");
        }
        assert_eq!(cache.find(&stamp(1), now), Some([1; 32]));
    }

    #[test]
    fn strangers_cannot_push_out_what_is_needed() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep(stamp(0), [1; 32], Worth::Permitted, now);
        for inode in 1..1000 {
            cache.keep(stamp(inode), [2; 32], Worth::Other, now + Duration::from_millis(inode));
        }
        assert_eq!(cache.0.len(), MOST);
        assert_eq!(cache.find(&stamp(0), now), Some([1; 32]));
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_settled() {
        let at = |seconds, nanoseconds| Timestamp::new(seconds, nanoseconds).unwrap();
        for (now, settled) in [
            (at(102, 5), true),
            (at(102, 4), false),
            (at(100, 5), false),
            (at(99, 0), false),
            (at(1000, 0), true),
        ] {
            assert_eq!(stamp(1).is_settled(now), settled, "{now}");
        }
    }

    #[test]
    fn the_whole_file_is_hashed_and_one_that_changed_is_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = vec![7; PART + 3];
        file.write_all(&text).unwrap();
        let open = File::open(file.path()).unwrap();
        let stamp = Stamp::of(&open.metadata().unwrap());
        let mut parts = 0;
        assert_eq!(hash(&open, &stamp, || parts += 1), Ok(sha256(&text)));
        assert_eq!(parts, 2);
        file.write_all(b"more").unwrap();
        assert_eq!(hash(&open, &stamp, || {}), Err(Refusal::ImageChanged));
        fs::File::create(file.path()).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(hash(&open, &Stamp::of(&open.metadata().unwrap()), || {}), Err(Refusal::ExeTooBig));
    }
}
