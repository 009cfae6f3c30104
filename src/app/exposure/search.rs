//! Reads what processes and files hold, and looks for our values in it: on a thread of its own, since a read may take for ever.
//!
//! What is read is overwritten by what is read next, and wiped at the end. Tells names, never a value.

use super::text::{Spot, in_arguments, in_environment, in_file, shown};
use crate::{
    broker::scrub::Masks, keeper::value::Value, name::WorkloadName, peer::attestor::Opened,
    report::exposure::Settings,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of the arguments, and of the environment, that are looked at: what the kernel takes by default.
const OF_A_PROCESS: u64 = 2 * 1024 * 1024;
/// Names of one folder that are looked through.
const NAMES: usize = 100_000;

/// A value that is looked for.
pub(super) struct Needle {
    pub(super) masks: Masks,
    pub(super) value: Arc<Value>,
    pub(super) field: Option<String>,
}

/// A process that is looked at.
pub(super) struct Process {
    pub(super) workload: WorkloadName,
    pub(super) pid: Option<i32>,
    pub(super) opened: Opened,
}

/// Where one value was seen.
pub(super) struct Found {
    pub(super) value: Arc<Value>,
    pub(super) field: Option<String>,
    pub(super) workload: Option<WorkloadName>,
    /// The word of the events.
    pub(super) place: &'static str,
    pub(super) exe: Option<String>,
    pub(super) pid: Option<i32>,
    pub(super) spot: Spot,
}

/// What came of a look.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) found: Vec<Found>,
    pub(super) processes: u64,
    pub(super) files: u64,
    pub(super) unseen: Vec<String>,
}

/// Everything, once.
pub(super) fn search(needles: &[Needle], processes: Vec<Process>, settings: &Settings) -> Seen {
    let mut search = Search { needles, seen: Seen::default(), room: Zeroizing::new(Vec::new()) };
    for process in processes {
        search.process(process);
    }
    let mut files = search.files(settings);
    let beyond = files.len().saturating_sub(settings.max_files);
    if beyond > 0 {
        files.truncate(settings.max_files);
        search.unseen(format!("{beyond} files beyond report.exposure.max_files"));
    }
    for file in files {
        search.file(&file, settings.max_size);
    }
    search.seen
}

struct Search<'a> {
    needles: &'a [Needle],
    seen: Seen,
    room: Zeroizing<Vec<u8>>,
}

impl Search<'_> {
    fn unseen(&mut self, what: String) {
        self.seen.unseen.push(what);
    }

    fn shown(&self, name: &[u8]) -> String {
        shown(name, self.needles.iter().map(|needle| &needle.masks))
    }

    fn process(&mut self, process: Process) {
        let Process { workload, pid, opened } = process;
        let Opened { exe, arguments, environment } = opened;
        let exe =
            exe.as_ref().and_then(|exe| fs::read_link(format!("/proc/self/fd/{}", exe.as_raw_fd())).ok());
        let exe = exe.map(|exe| self.shown(exe.as_os_str().as_bytes()));
        let whose = format!(
            "{} of workload {workload}",
            match (&exe, pid) {
                (Some(exe), Some(pid)) => format!("{exe} (pid {pid})"),
                (None, Some(pid)) => format!("process {pid}"),
                (Some(exe), None) => exe.clone(),
                (None, None) => "a process".to_owned(),
            }
        );
        let of = Whose { workload: Some(workload), exe, pid };
        self.text("arguments", arguments, &whose, &of, in_arguments);
        if self.text("environment", environment, &whose, &of, in_environment) {
            self.seen.processes = self.seen.processes.saturating_add(1);
        }
    }

    /// Whether it was looked at.
    fn text(
        &mut self,
        place: &'static str,
        file: Option<OwnedFd>,
        whose: &str,
        of: &Whose,
        spots: fn(&[u8], &Masks) -> Vec<Spot>,
    ) -> bool {
        let Some(file) = file.map(File::from) else {
            self.unseen(format!(
                "the {place} of {whose}: we may not read it (another user, more capabilities, or not dumpable)"
            ));
            return false;
        };
        match read(&file, OF_A_PROCESS, &mut self.room) {
            Ok(rest) => {
                if rest == Rest::Unread {
                    self.unseen(format!("the {place} of {whose} beyond {OF_A_PROCESS} bytes"));
                }
                self.look(place, of, spots);
                true
            }
            Err(error) => {
                self.unseen(format!("the {place} of {whose}: {}", error.kind()));
                false
            }
        }
    }

    /// In what is in the room.
    fn look(&mut self, place: &'static str, of: &Whose, spots: fn(&[u8], &Masks) -> Vec<Spot>) {
        for needle in self.needles {
            for spot in spots(&self.room, &needle.masks) {
                let Whose { workload, exe, pid } = of.clone();
                let (value, field) = (Arc::clone(&needle.value), needle.field.clone());
                self.seen.found.push(Found { value, field, workload, place, exe, pid, spot });
            }
        }
    }

    /// The files that are named, and those of folders that are.
    fn files(&mut self, settings: &Settings) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for path in &settings.files {
            match fs::metadata(path) {
                Ok(found) if found.is_dir() => match fs::read_dir(path) {
                    Ok(entries) => {
                        let all = entries.take(NAMES).filter_map(|entry| Some(entry.ok()?.path()));
                        let mut all: Vec<PathBuf> = all.filter(|path| path.is_file()).collect();
                        all.sort();
                        files.extend(all);
                    }
                    Err(error) => self.cannot(path, &error),
                },
                Ok(found) if found.is_file() => files.push(path.clone()),
                Ok(_) => self.unseen(format!("{}: neither a file nor a folder", path.display())),
                Err(error) => self.cannot(path, &error),
            }
        }
        files
    }

    fn cannot(&mut self, path: &Path, error: &io::Error) {
        let name = self.shown(path.as_os_str().as_bytes());
        self.unseen(format!("the file {name}: {}", error.kind()));
    }

    fn file(&mut self, path: &Path, most: u64) {
        // Whatever was put there in the meantime is not waited for.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let file = opened.and_then(|file| {
            if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
        });
        let rest = file.and_then(|file| read(&file, most, &mut self.room));
        match rest {
            Ok(rest) => {
                let name = self.shown(path.as_os_str().as_bytes());
                if rest == Rest::Unread {
                    self.unseen(format!("the file {name} beyond {most} bytes (report.exposure.max_size)"));
                }
                let before = self.seen.found.len();
                self.look("file", &Whose::default(), in_file);
                for found in self.seen.found.iter_mut().skip(before) {
                    found.spot.name = Some(name.clone());
                }
                self.seen.files = self.seen.files.saturating_add(1);
            }
            Err(error) => self.cannot(path, &error),
        }
    }
}

/// Whose a text is.
#[derive(Clone, Default)]
struct Whose {
    workload: Option<WorkloadName>,
    exe: Option<String>,
    pid: Option<i32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Unread,
}

/// Reads at most `most` bytes into `room`, which holds nothing else then.
fn read(mut file: &File, most: u64, room: &mut Zeroizing<Vec<u8>>) -> io::Result<Rest> {
    let size = usize::try_from(most.saturating_add(1)).unwrap_or(usize::MAX);
    room.zeroize();
    room.resize(size, 0);
    let mut at = 0_usize;
    while let Some(free) = room.get_mut(at..).filter(|free| !free.is_empty()) {
        match file.read(free) {
            Ok(0) => break,
            Ok(read) => at = at.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let rest = if at == size { Rest::Unread } else { Rest::Nothing };
    room.truncate(at.min(size.saturating_sub(1)));
    Ok(rest)
}
