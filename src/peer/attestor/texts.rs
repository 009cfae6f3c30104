//! The texts of `/proc/PID`, taken apart (proc(5)). Pure.
//!
//! Whatever has not the shape that the kernel gives it is no value at all. Names in them are chosen by the process.

use crate::peer::program::{FileId, State};
use std::{ffi::OsStr, ops::Range, os::unix::ffi::OsStrExt as _, path::PathBuf, str::FromStr};

/// What `stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// The process that it is a child of; 0 where that is in another PID namespace.
    pub(super) parent: u32,
    /// Whether it has a controlling terminal.
    pub(super) terminal: bool,
    /// How many threads it has; one that has ended counts as long as it is the first.
    pub(super) threads: u64,
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
        threads: number(20)?,
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

/// One piece of memory that may be executed, as `maps` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Where it lies, in bytes.
    pub(super) addresses: Range<u64>,
    /// Whether it may be written.
    pub(super) writable: bool,
    /// The file behind it; `None` if there is none.
    pub(super) file: Option<FileId>,
    /// Its name.
    pub(super) path: PathBuf,
}

/// Reads the executable pieces in `maps`.
pub(super) fn executable(maps: &[u8]) -> Option<Vec<Row>> {
    // A line that is cut off may look like a whole one.
    let whole = maps.is_empty() || maps.ends_with(b"\n");
    let lines = whole.then_some(maps)?.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let rows: Vec<Option<Row>> = lines.map(row).collect::<Option<_>>()?;
    Some(rows.into_iter().flatten().collect())
}

/// `7f00-7f10 r-xp 00000000 fe:01 1234      /usr/lib/x.so`; the inner `None` is a piece that may not be executed.
fn row(line: &[u8]) -> Option<Option<Row>> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = field()?.split_once('-')?;
    let addresses = hex(start)?..hex(end)?;
    let rights: &[u8; 4] = field()?.as_bytes().try_into().ok()?;
    let _offset = field()?;
    let (major, minor) = field()?.split_once(':')?;
    let (major, minor) = (hex(major)?, hex(minor)?);
    let inode = u64::from_str(field()?).ok()?;
    let path = fields.next().unwrap_or_default();
    let path = path.get(path.iter().position(|byte| *byte != b' ').unwrap_or(path.len())..)?;
    let [_, write, execute, _] = *rights;
    Some((execute == b'x').then(|| Row {
        addresses,
        writable: write == b'w',
        file: (inode != 0).then_some(FileId { major, minor, inode }),
        path: OsStr::from_bytes(path).into(),
    }))
}

/// Whether one of these pages, as `pagemap` tells them, is there or was put away, and is not a file's: a page that was written to
/// after it had been mapped (Documentation/admin-guide/mm/pagemap.rst).
pub(super) fn has_pages_of_its_own(pagemap: &[u8]) -> bool {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const FILES: u64 = 1 << 61;
    let pages = pagemap.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    pages.into_iter().any(|page| page & (PRESENT | SWAPPED) != 0 && page & FILES == 0)
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
        let rows = executable(&read("maps")).unwrap();
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        assert!(rows.iter().any(|row| row.path == exe && row.file.is_some() && !row.writable), "{rows:?}");
        assert!(rows.iter().any(|row| row.path.as_os_str() == "[vdso]" && row.file.is_none()));
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
            threads: 20,
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
00500000-00552000 r--p 00000000 08:02 9      /usr/bin/c\n\
7ffd0000-7ffd1000 rwxp 00000000 00:00 0 \n\
7ffd2000-7ffd3000 r-xp 00000000 00:00 0                          [vdso]\n";
        let row =
            |addresses, writable, file, path: &str| Row { addresses, writable, file, path: path.into() };
        let file = FileId { major: 8, minor: 2, inode: 173_521 };
        assert_eq!(
            executable(text).unwrap(),
            [
                row(0x40_0000..0x45_2000, false, Some(file), "/usr/bin/a b (deleted)"),
                row(0x7ffd_0000..0x7ffd_1000, true, None, ""),
                row(0x7ffd_2000..0x7ffd_3000, false, None, "[vdso]"),
            ]
        );
        assert_eq!(executable(b"").unwrap(), []);
        // Cut off.
        assert!(
            (1..text.len())
                .filter(|end| text[end - 1] != b'\n')
                .all(|end| executable(&text[..end]).is_none())
        );
        assert_eq!(executable(b"00400000 r-xp\n"), None);
    }

    #[test]
    fn a_page_that_is_not_the_files_is_seen_even_when_it_is_put_away() {
        let pages = |pages: &[u64]| pages.iter().flat_map(|page| page.to_ne_bytes()).collect::<Vec<u8>>();
        for (told, expected) in [
            (&[][..], false),
            (&[0, 0], false),
            (&[5 << 61, 5 << 61 | 1], false),
            (&[5 << 61, 4 << 61], true),
            (&[2 << 61], true),
            // It is being moved.
            (&[3 << 61], false),
        ] {
            assert_eq!(has_pages_of_its_own(&pages(told)), expected, "{told:?}");
        }
    }

    #[test]
    fn the_second_version_of_cgroups_counts() {
        assert_eq!(cgroup(b"1:cpu:/a\n0::/pod/x\n"), b"0::/pod/x");
        assert_eq!(cgroup(b"1:cpu:/a\n"), b"1:cpu:/a\n");
    }
}
