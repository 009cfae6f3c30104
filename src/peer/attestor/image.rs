//! One process, looked at through `/proc`: what it executes, and whether it still does.
//!
//! Runs in the attestor, which no sandbox blinds. Every number of a process that is used here is checked afterwards to have been
//! that process's all the while. Does not hash and does not wait, but for what the kernel makes it wait for.

use super::{
    ancestry,
    digest::Stamp,
    memory::{self, FUSE},
    proc::{read_of, read_record, unreadable},
    texts::{self, Image, Stat},
    wire::Depth,
};
use crate::{
    crypto::Hash,
    peer::{
        kernel::{self, LiveIds},
        program::{Facts, FileId, Mapping, Refusal, Settings, State, judge, judge_image, judge_state},
    },
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::statfs::fstatfs,
};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::{FileExt as _, MetadataExt as _},
    },
};

/// The most threads that are looked at.
const THREADS: usize = 4096;

/// A process that lived, with the executable that it had all that time; not judged yet.
#[derive(Debug)]
pub(super) struct Candidate {
    held: Held,
    /// What is required of it.
    pub(super) settings: Settings,
    /// Its executable, open.
    pub(super) executable: File,
    /// What the executable was like.
    pub(super) stamp: Stamp,
    name: String,
    trusted: bool,
    terminal: bool,
}

/// A process that is held: by pidfd, by the memory it had, and by what tells one image from another.
#[derive(Debug)]
struct Held {
    pidfd: OwnedFd,
    pid: u32,
    files: Files,
    image: Image,
    ids: LiveIds,
}

/// The files of `/proc` that are read again and again. Each is the process's own as long as it is open, whoever has its number.
#[derive(Debug)]
struct Files {
    // Nothing can be read of these two any more once that memory is gone, as after execve(2).
    maps: File,
    pagemap: File,
    stat: File,
    // Of its first thread.
    status: File,
}

/// A process that executes a permitted program, from a file that is as it must be. What it has in its memory, and what holds of
/// its threads, is for [`Self::check`].
#[derive(Debug)]
pub(super) struct Permitted {
    held: Held,
    settings: Settings,
    facts: Facts,
}

impl Candidate {
    /// Takes hold of a process and opens its executable.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn new(pidfd: OwnedFd, settings: Settings) -> Result<Self, Refusal> {
        let (held, executable, terminal) = Held::take(pidfd)?;
        let failed = |_| Refusal::AttestorFailed;
        let told = executable.metadata().map_err(failed)?;
        let stamp = Stamp::of(&told);
        if fstatfs(&executable).map_err(|_| Refusal::AttestorFailed)?.filesystem_type() == FUSE {
            return Err(Refusal::ExeUnreadable);
        }
        let link = fs::read_link(format!("/proc/self/fd/{}", executable.as_raw_fd())).map_err(failed)?;
        let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if told.nlink() == 0 || name.ends_with(" (deleted)") {
            return Err(Refusal::ExeDeleted);
        }
        Ok(Self { held, settings, executable, stamp, name, trusted: memory::is_roots_own(&told), terminal })
    }

    /// Whether it still executes what it did: to be asked where finding out its digest took a while.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        self.held.check_image().map(|_| ())
    }

    /// Judges what it executes, now that the digest of that is known.
    ///
    /// # Errors
    /// The first thing against it.
    pub(super) fn judge(self, digest: Hash) -> Result<Permitted, Refusal> {
        let Self { held, settings, stamp, name, trusted, terminal, .. } = self;
        let of_container_main = ancestry::ask(settings.ancestry, held.pid)?;
        if of_container_main.is_some() {
            // Numbers of processes were followed.
            held.check_image()?;
        }
        let (mappings, state) = (Vec::new(), State::default());
        let file = stamp.file;
        let facts = Facts { digest, name, file, trusted, mappings, state, terminal, of_container_main };
        judge_image(&settings, &facts)?;
        Ok(Permitted { held, settings, facts })
    }
}

impl Permitted {
    /// Which of the permitted executables it is, by its place in the settings.
    pub(super) fn which(&self) -> u64 {
        let place = self.settings.exe_sha256.iter().position(|digest| *digest == self.facts.digest);
        place.and_then(|place| u64::try_from(place).ok()).unwrap_or(u64::MAX)
    }

    /// Whether it still is what it was.
    ///
    /// # Errors
    /// The first thing against it.
    pub(super) fn check(&self, depth: Depth) -> Result<(), Refusal> {
        if depth == Depth::Light {
            return judge_state(&self.settings, self.held.check()?);
        }
        let (stat, mappings, state) = self.held.check_all(self.facts.file)?;
        judge(&self.settings, &Facts { mappings, state, terminal: stat.terminal, ..self.facts.clone() })
    }
}

/// What is found when a process is taken hold of.
struct Look {
    pid: u32,
    files: Files,
    stat: Stat,
    ids: LiveIds,
    executable: File,
}

impl Held {
    /// Takes hold of a process, and opens its executable; says whether it has a controlling terminal.
    fn take(pidfd: OwnedFd) -> Result<(Self, File, bool), Refusal> {
        check_alive(pidfd.as_fd())?;
        let looked = Look::at(pidfd.as_fd());
        // If it lives now, its number was its own all the while.
        check_alive(pidfd.as_fd())?;
        let Look { pid, files, stat, ids, executable } = looked?;
        Ok((Self { pidfd, pid, files, image: stat.image, ids }, executable, stat.terminal))
    }

    /// That it lives, is the same image and has the same ids; and the state of its first thread.
    fn check(&self) -> Result<State, Refusal> {
        let state = self.files.state();
        self.check_image()?;
        state
    }

    /// The same, and what it may execute, and what holds of all its threads.
    fn check_all(&self, own: FileId) -> Result<(Stat, Vec<Mapping>, State), Refusal> {
        let Files { maps, pagemap, .. } = &self.files;
        let mappings = memory::mappings(self.pid, maps, pagemap, own);
        let first = self.files.state();
        let stat = self.check_image()?;
        let (mappings, first) = (mappings?, first?);
        if stat.threads == 1 {
            return Ok((stat, mappings, first));
        }
        let all = state_of_all(self.pid);
        Ok((self.check_image()?, mappings, all?))
    }

    /// That it lives, is the same image and has the same ids.
    fn check_image(&self) -> Result<Stat, Refusal> {
        let looked = self.look();
        // If it lives now, its number was its own all the while.
        check_alive(self.pidfd.as_fd())?;
        looked
    }

    fn look(&self) -> Result<Stat, Refusal> {
        let readable = self.files.have_memory()?;
        let stat = self.files.stat()?;
        if !readable || stat.image != self.image {
            return Err(Refusal::ImageChanged);
        }
        match kernel::live(self.pidfd.as_fd()) {
            Ok(Some((pid, ids))) if (pid, ids) == (self.pid, self.ids) => {}
            Ok(_) => return Err(Refusal::CredsDrift),
            Err(_) => return Err(Refusal::AttestorFailed),
        }
        Ok(stat)
    }
}

impl Look {
    fn at(pidfd: BorrowedFd<'_>) -> Result<Self, Refusal> {
        let (pid, ids) = match kernel::live(pidfd) {
            Ok(told) => told.ok_or(Refusal::PidNotVisible)?,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EREMOTE | libc::ESRCH)) => {
                return Err(Refusal::PidNotVisible);
            }
            Err(_) => return Err(Refusal::AttestorFailed),
        };
        let files = Files::of(pid)?;
        let stat = files.stat()?;
        if !stat.image.is_told() {
            return Err(Refusal::ExeUnreadable);
        }
        let executable = File::open(format!("/proc/{pid}/exe")).map_err(|error| match error.kind() {
            // A process without memory of its own has none.
            io::ErrorKind::NotFound => Refusal::ExeUnreadable,
            _ => unreadable(&error),
        })?;
        if !files.have_memory()? {
            return Err(Refusal::ImageChanged);
        }
        Ok(Self { pid, files, stat, ids, executable })
    }
}

impl Files {
    fn of(pid: u32) -> Result<Self, Refusal> {
        let open = |name| File::open(format!("/proc/{pid}/{name}")).map_err(|error| unreadable(&error));
        Ok(Self {
            maps: open("maps")?,
            pagemap: open("pagemap")?,
            stat: open("stat")?,
            status: open("status")?,
        })
    }

    /// Whether the memory is there that was pinned.
    fn have_memory(&self) -> Result<bool, Refusal> {
        self.maps.read_at(&mut [0], 0).map(|read| read == 1).map_err(|error| unreadable(&error))
    }

    fn stat(&self) -> Result<Stat, Refusal> {
        texts::stat(&read_record(&self.stat)?).ok_or(Refusal::AttestorFailed)
    }

    fn state(&self) -> Result<State, Refusal> {
        texts::status(&read_record(&self.status)?).ok_or(Refusal::AttestorFailed)
    }
}

/// Asks the kernel, at this moment, whether the process still lives.
///
/// # Errors
/// [`Refusal::PeerExited`]; [`Refusal::AttestorFailed`] if poll(2) fails.
pub(super) fn check_alive(pidfd: BorrowedFd<'_>) -> Result<(), Refusal> {
    match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], PollTimeout::ZERO) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Refusal::PeerExited),
        Err(_) => Err(Refusal::AttestorFailed),
    }
}

/// In which mount namespace a process is.
///
/// # Errors
/// Why that cannot be known.
pub(super) fn mount_namespace(pidfd: &OwnedFd) -> Result<u64, Refusal> {
    let told = kernel::mount_namespace(pidfd.as_fd());
    check_alive(pidfd.as_fd())?;
    told.map_err(|error| match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EREMOTE | libc::ESRCH) => Refusal::PidNotVisible,
        _ => Refusal::AttestorFailed,
    })
}

/// What holds of all its threads: each can be traced alone, and have a filter alone.
fn state_of_all(pid: u32) -> Result<State, Refusal> {
    let mut all = State { traced: false, no_new_privs: true, filtered: true };
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| unreadable(&error))? {
        let thread = thread.map_err(|error| unreadable(&error))?.file_name();
        let Some(thread) = thread.to_str() else { return Err(Refusal::AttestorFailed) };
        let one = match read_of(pid, &format!("task/{thread}/status")) {
            // This one has ended.
            Err(Refusal::PidNotVisible) => continue,
            text => texts::status(&text?).ok_or(Refusal::AttestorFailed)?,
        };
        all.traced |= one.traced;
        all.no_new_privs &= one.no_new_privs;
        all.filtered &= one.filtered;
        threads += 1;
        if threads > THREADS {
            return Err(Refusal::AttestorFailed);
        }
    }
    if threads == 0 { Err(Refusal::PidNotVisible) } else { Ok(all) }
}
