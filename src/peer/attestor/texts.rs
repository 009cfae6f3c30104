//! The texts of `/proc/PID`, taken apart (proc(5)). Pure.
//!
//! Whatever has not the shape that the kernel gives it is no value at all. Names in them are chosen by the process.

use crate::peer::program::{FileId, State};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::PathBuf, str::FromStr};

/// What `stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// The process that it is a child of; 0 where that is in another PID namespace.
    pub(super) parent: u32,
    /// Whether it has a controlling terminal.
    pub(super) terminal: bool,
    /// Which image it executes.
    pub(super) image: Image,
}

/// What changes when a process executes another image, but for luck (address space layout randomisation), and when its number
/// goes to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Image {
    /// Clock ticks from boot to its start.
    pub(super) started: u64,
    start_code: u64,
    start_stack: u64,
    arg_start: u64,
}

impl Image {
    /// Whether the addresses in it are real: the kernel gives 0 or 1 to whoever may not look into the process.
    pub(super) fn is_told(&self) -> bool {
        self.start_code > 1 && self.start_stack > 1
    }
}

/// Reads `stat`.
pub(super) fn stat(text: &[u8]) -> Option<Stat> {
    // The name of the program stands in parentheses, and may hold any byte.
    let after = text.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(text.get(after + 1..)?).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    // proc(5) counts from 1, and two fields stand before.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: number(4)?.try_into().ok()?,
        terminal: fields.get(7 - 3)?.parse::<i32>().ok()? != 0,
        image: Image {
            started: number(22)?,
            start_code: number(26)?,
            start_stack: number(28)?,
            arg_start: number(48)?,
        },
    })
}

/// Reads `status`.
pub(super) fn status(text: &[u8]) -> Option<State> {
    let text = String::from_utf8_lossy(text);
    // The name of the program comes first, and the kernel escapes line breaks in it.
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u32>().ok())
    };
    Some(State {
        traced: field("TracerPid")? != 0,
        no_new_privs: field("NoNewPrivs")? != 0,
        filtered: field("Seccomp")? == 2,
    })
}

/// The cgroup of version 2 that `cgroup` names, or what else it says.
pub(super) fn cgroup(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"0::")).unwrap_or(text)
}

/// One piece of memory that may be executed, as `smaps` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Whether it may be written.
    pub(super) writable: bool,
    /// The file behind it; `None` if there is none.
    pub(super) file: Option<FileId>,
    /// Its name.
    pub(super) path: PathBuf,
    /// Whether some of it is not the file's.
    pub(super) modified: bool,
}

/// Reads the executable pieces in `smaps`.
pub(super) fn executable(smaps: &[u8]) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    let mut unfinished: Option<Row> = None;
    for line in smaps.split(|byte| *byte == b'\n') {
        // A piece begins with its address, in lower-case hex; all other lines with a capital letter.
        if line.first().is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            if unfinished.is_some() {
                return None;
            }
            unfinished = head(line)?;
        } else if let Some(value) = line.strip_prefix(b"Anonymous:")
            && let Some(row) = unfinished.take()
        {
            let value = std::str::from_utf8(value).ok()?.trim().strip_suffix("kB")?;
            rows.push(Row { modified: u64::from_str(value.trim()).ok()? != 0, ..row });
        }
    }
    unfinished.is_none().then_some(rows)
}

/// `7f00-7f10 r-xp 00000000 fe:01 1234      /usr/lib/x.so`; the inner `None` is a piece that may not be executed.
fn head(line: &[u8]) -> Option<Option<Row>> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let _addresses = field()?.split_once('-')?;
    let rights: &[u8; 4] = field()?.as_bytes().try_into().ok()?;
    let _offset = field()?;
    let (major, minor) = field()?.split_once(':')?;
    let (major, minor) = (u64::from_str_radix(major, 16).ok()?, u64::from_str_radix(minor, 16).ok()?);
    let inode = u64::from_str(field()?).ok()?;
    let path = fields.next().unwrap_or_default();
    let path = path.get(path.iter().position(|byte| *byte != b' ').unwrap_or(path.len())..)?;
    let [_, write, execute, _] = *rights;
    if execute != b'x' {
        return Some(None);
    }
    Some(Some(Row {
        writable: write == b'w',
        file: (inode != 0).then_some(FileId { major, minor, inode }),
        path: OsStr::from_bytes(path).into(),
        modified: true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_texts_are_read() {
        let read = |name: &str| std::fs::read(format!("/proc/self/{name}")).unwrap();
        let told = stat(&read("stat")).unwrap();
        assert_eq!(told.parent, std::os::unix::process::parent_id());
        assert!(told.image.is_told());
        assert!(!status(&read("status")).unwrap().traced);
        let rows = executable(&read("smaps")).unwrap();
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        assert!(rows.iter().any(|row| row.path == exe && row.file.is_some() && !row.modified), "{rows:?}");
        assert!(
            rows.iter().any(|row| row.path.as_os_str() == "[vdso]" && row.file.is_none() && !row.modified)
        );
    }

    #[test]
    fn a_name_cannot_pretend_to_be_a_field() {
        let fields = |name: &str| {
            let numbers: Vec<_> = (5..=52).map(|field| field.to_string()).collect();
            format!("7 ({name}) S 4 {}\n", numbers.join(" "))
        };
        let expected = Stat {
            parent: 4,
            terminal: true,
            image: Image { started: 22, start_code: 26, start_stack: 28, arg_start: 48 },
        };
        for name in ["sleep", "a) R 1 (b", "", ") S 1 2 3", "\n"] {
            assert_eq!(stat(fields(name).as_bytes()), Some(expected), "{name}");
        }
        assert_eq!(stat(b"7 (sleep) S 4 5"), None);
        assert_eq!(stat(b""), None);
        let status = status(b"Name:\tTracerPid:\nTracerPid:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n").unwrap();
        assert_eq!(status, State { traced: false, no_new_privs: true, filtered: true });
    }

    #[test]
    fn pieces_that_may_be_executed_are_read_with_their_names() {
        let text = b"\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/a b (deleted)\n\
Size:                328 kB\nAnonymous:             4 kB\nVmFlags: rd ex\n\
00500000-00552000 r--p 00000000 08:02 9      /usr/bin/c\n\
Anonymous:             4 kB\n\
7ffd0000-7ffd1000 rwxp 00000000 00:00 0 \n\
Anonymous:             0 kB\n\
7ffd2000-7ffd3000 r-xp 00000000 00:00 0                          [vdso]\n\
Anonymous:             0 kB\n";
        let row = |writable, file, path: &str, modified| Row { writable, file, path: path.into(), modified };
        let file = FileId { major: 8, minor: 2, inode: 173_521 };
        assert_eq!(
            executable(text).unwrap(),
            [
                row(false, Some(file), "/usr/bin/a b (deleted)", true),
                row(true, None, "", false),
                row(false, None, "[vdso]", false),
            ]
        );
        assert_eq!(executable(b"").unwrap(), []);
        // Cut off.
        assert_eq!(executable(&text[..60]), None);
        assert_eq!(executable(b"00400000 r-xp\n"), None);
    }

    #[test]
    fn the_second_version_of_cgroups_counts() {
        assert_eq!(cgroup(b"1:cpu:/a\n0::/pod/x\n"), b"0::/pod/x");
        assert_eq!(cgroup(b"1:cpu:/a\n"), b"1:cpu:/a\n");
    }
}
