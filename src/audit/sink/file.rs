//! Appends one line an event to a file of ours, which is rotated by renaming once it is large enough.
//!
//! Looks at each batch whether the path still names the file: one that was moved or deleted is made anew. A batch counts
//! as delivered when it is on disk. What a crash left of a line is cut.

use super::{
    super::journal::disk::options,
    batch::Item,
    format::Format,
    outlet::{Outlet, Pace, Verdict},
    settings,
};
use std::{
    fs::{self, File},
    future::Future,
    io::{self, Write as _},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

/// How far back the end of the last whole line is looked for.
const TORN: u64 = 128 * 1024;

/// The outlet of kind `file`.
pub(super) struct Appender {
    settings: settings::File,
    format: Format,
    file: Option<File>,
}

impl Appender {
    pub(super) fn new(settings: settings::File, format: Format) -> Self {
        Self { settings, format, file: None }
    }

    fn append(&mut self, items: &[Item]) -> io::Result<()> {
        let lines = self.format.lines(items);
        let path = self.settings.path.clone();
        if let Some(file) = self.file.take_if(|file| !names(file, &path)) {
            drop(file);
            tracing::warn!(path = %path.display(), "the audit file was moved or deleted; it is made anew");
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => open(&path)?,
        };
        let size = file.metadata()?.len();
        let file = if size > 0 && size.saturating_add(lines.len() as u64) > self.settings.max_size {
            drop(file);
            self.rotate()?;
            open(&path)?
        } else {
            file
        };
        let start = file.metadata()?.len();
        if let Err(error) = (&file).write_all(&lines).and_then(|()| file.sync_data()) {
            // No torn line, and none twice; after a failed sync the file is opened anew.
            file.set_len(start)?;
            return Err(error);
        }
        self.file = Some(file);
        Ok(())
    }

    /// `FILE.2` becomes `FILE.3`, `FILE.1` becomes `FILE.2`, the file itself `FILE.1`; the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        let path = &self.settings.path;
        if self.settings.keep == 0 {
            return fs::remove_file(path);
        }
        for number in (1..self.settings.keep).rev() {
            match fs::rename(numbered(path, number), numbered(path, number.saturating_add(1))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(path, numbered(path, 1))
    }
}

impl Outlet for Appender {
    fn send<'a>(&'a mut self, items: &'a [Item]) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        let verdict = match self.append(items) {
            Ok(()) => Verdict::Delivered,
            Err(error) => Verdict::failed("io", error),
        };
        Box::pin(std::future::ready(verdict))
    }

    fn pace(&self) -> Pace {
        Pace { gather: Duration::from_millis(100), save: Duration::ZERO, drain: Duration::from_millis(500) }
    }

    fn reopen(&mut self) {
        self.file = None;
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = options().read(true).append(true).create(true).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no plain file"));
    }
    let whole = whole_lines(&file, found.len())?;
    if whole < found.len() {
        file.set_len(whole)?;
    }
    if found.len() == 0
        && let Some(dir) = path.parent()
    {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

/// The length of a file up to its last whole line; one without any line end is left alone.
fn whole_lines(file: &File, size: u64) -> io::Result<u64> {
    let start = size.saturating_sub(TORN);
    let mut tail = vec![0; usize::try_from(size.saturating_sub(start)).unwrap_or(0)];
    file.read_exact_at(&mut tail, start)?;
    let end = tail.iter().rposition(|byte| *byte == b'\n');
    Ok(match end {
        Some(at) => start.saturating_add(at as u64).saturating_add(1),
        None if start == 0 => 0,
        None => size,
    })
}

fn names(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    ours.nlink() > 0 && (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sink::tests::{items, send};

    fn appender(path: &Path, max_size: u64, keep: u32) -> Appender {
        Appender::new(settings::File { path: path.to_owned(), max_size, keep }, Format::Native)
    }

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn the_file_is_ours_alone_and_rotated_by_renaming() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let events = items(8);
        let mut sink = appender(&path, 2 * events[0].native.len() as u64 + 10, 2);
        for event in &events {
            assert_eq!(send(&mut sink, std::slice::from_ref(event)).await, Verdict::Delivered);
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = |n: usize| String::from_utf8(events[n].native.clone()).unwrap();
        assert_eq!(lines(&path), [text(6), text(7)]);
        assert_eq!(lines(&numbered(&path, 1)), [text(4), text(5)]);
        assert_eq!(lines(&numbered(&path, 2)), [text(2), text(3)]);
        assert!(!numbered(&path, 3).exists());
    }

    #[tokio::test]
    async fn a_file_that_is_deleted_or_moved_away_is_made_anew_at_the_next_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let (events, mut sink) = (items(4), appender(&path, 1 << 20, 1));
        send(&mut sink, &events[..1]).await;
        fs::remove_file(&path).unwrap();
        send(&mut sink, &events[1..2]).await;
        assert_eq!(lines(&path).len(), 1);
        fs::rename(&path, dir.path().join("moved")).unwrap();
        send(&mut sink, &events[2..3]).await;
        assert_eq!((lines(&path).len(), lines(&dir.path().join("moved")).len()), (1, 1));
        // Replaced by another file: what is in it stays.
        fs::write(dir.path().join("other"), "theirs\n").unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        send(&mut sink, &events[3..]).await;
        assert_eq!(lines(&path), ["theirs".to_owned(), String::from_utf8(events[3].native.clone()).unwrap()]);
    }

    #[tokio::test]
    async fn a_line_that_a_crash_tore_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        fs::write(&path, "{\"whole\":1}\n{\"torn").unwrap();
        let (events, mut sink) = (items(1), appender(&path, 1 << 20, 1));
        send(&mut sink, &events).await;
        assert_eq!(
            lines(&path),
            ["{\"whole\":1}".to_owned(), String::from_utf8(events[0].native.clone()).unwrap()]
        );
    }

    #[tokio::test]
    async fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        fs::write(dir.path().join("target"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("target"), &path).unwrap();
        assert!(matches!(send(&mut appender(&path, 1 << 20, 1), &items(1)).await, Verdict::Failed(_)));
    }
}
