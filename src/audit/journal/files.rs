//! The files of the journal: the one being written, those kept, and the room that is held back.
//!
//! A tenth of the journal's size is taken from the disk in advance. When the disk is full, that file becomes the next
//! segment, and only the agent's own events and refusals may use it. Does not know events.

use super::{
    ahead::Ahead,
    disk::{self, Disk, Unfit},
    recovery::{self, Kept},
    segment::{self, Name},
};
use crate::audit::{
    Journal as Settings, Stats,
    chain::Chain,
    pins::{Hold, Pins},
};
use crate::clock::{self, Timestamp};
use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::Fault;

/// Less than this holds no header and event.
const SMALLEST: u64 = 64 * 1024;

pub(super) struct Files {
    disk: Box<dyn Disk>,
    dir: PathBuf,
    max: u64,
    segment: u64,
    retain: Duration,
    kept: VecDeque<Kept>,
    reserve: Option<(File, u64)>,
    active: Option<Active>,
    scarce: Option<Fault>,
    pins: Arc<Pins>,
    /// The oldest file that has events, and when its first one happened.
    oldest: Option<(PathBuf, Timestamp)>,
    stats: Arc<Stats>,
}

struct Active {
    file: File,
    path: PathBuf,
    first: u64,
    /// Behind the last record that is on disk.
    end: u64,
    size: u64,
    begun: Timestamp,
    standing: Standing,
    ahead: Ahead,
}

/// A file of whole records that is no segment yet; a start removes it.
pub(super) struct Aside {
    name: Name,
    file: PathBuf,
    size: u64,
}

#[derive(PartialEq, Eq)]
enum Standing {
    Named,
    /// The path no longer names the file.
    Gone,
}

impl Files {
    /// Lists what is kept and sets room aside; opens no segment.
    pub(super) fn open(
        disk: Box<dyn Disk>,
        settings: &Settings,
        pins: Arc<Pins>,
        stats: Arc<Stats>,
    ) -> io::Result<Self> {
        Ok(Self {
            disk,
            dir: settings.dir.clone(),
            max: settings.max_size,
            segment: settings.segment.max(SMALLEST),
            retain: settings.retain,
            kept: recovery::kept(&settings.dir)?.into(),
            reserve: None,
            active: None,
            scarce: None,
            pins,
            oldest: None,
            stats,
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// New sizes; they count from the next segment on.
    pub(super) fn resize(&mut self, settings: &Settings) {
        (self.max, self.segment) = (settings.max_size, settings.segment.max(SMALLEST));
        self.retain = settings.retain;
    }

    /// Why only the agent's own events and refusals may be written, if so.
    pub(super) fn scarce(&self) -> Option<&Fault> {
        self.scarce.as_ref()
    }

    pub(super) fn is_open(&self) -> bool {
        self.active.is_some()
    }

    /// Whether `bytes` fit behind what is on disk.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.active.as_ref().is_some_and(|active| active.end.saturating_add(bytes as u64) <= active.size)
    }

    /// Opens the segment that continues `before` and has room for `bytes`. Old segments give way to it.
    pub(super) fn start(&mut self, before: &Chain, bytes: usize) -> io::Result<()> {
        let name = Name { chain: before.last.chain, first: before.next() };
        let path = self.dir.join(name.file());
        let size = self.segment.max(bytes.saturating_add(segment::HEADER) as u64);
        let room = self.retire(size.saturating_add(if self.reserve.is_none() { self.max / 10 } else { 0 }));
        let (file, size) = match room.and_then(|()| self.fresh(&path, size)) {
            Ok(file) => (file, size),
            Err(error) => self.use_reserve(&path, error)?,
        };
        let begun = self
            .disk
            .write(&file, &segment::header(before), 0)
            .and_then(|()| self.disk.sync(&file))
            .and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(error) = begun {
            self.stats.fsync_errors.fetch_add(1, Ordering::Relaxed);
            self.disk.remove(&path)?;
            return Err(error);
        }
        let end = segment::HEADER as u64;
        let (begun, standing) = (clock::now(), Standing::Named);
        let (first, ahead) = (name.first, Ahead::default());
        self.active = Some(Active { file, path, first, end, size, begun, standing, ahead });
        self.restock();
        self.count();
        Ok(())
    }

    /// Writes `bytes` at `offset` behind what is on disk, and zeros behind them once in a while.
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        let active = self.active.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let start = active.end.saturating_add(offset as u64);
        self.disk.write(&active.file, bytes, start)?;
        let written = start..start.saturating_add(bytes.len() as u64);
        let Some(fill) = active.ahead.next(written, active.size) else { return Ok(()) };
        self.disk.write(&active.file, fill.zeros(), fill.start)
    }

    /// Waits until `bytes` behind the last commit are on disk, in a file that is still there.
    pub(super) fn commit(&mut self, bytes: usize) -> io::Result<()> {
        let active = self.active.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = self.disk.sync(&active.file) {
            self.stats.fsync_errors.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        if !self.disk.names(&active.file, &active.path)? {
            active.standing = Standing::Gone;
            return Err(io::Error::new(io::ErrorKind::NotFound, "the segment was removed or replaced"));
        }
        active.end = active.end.saturating_add(bytes as u64);
        self.stats.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the segment behind its last record.
    pub(super) fn seal(&mut self) {
        let Some(active) = self.active.take() else { return };
        // Only zeros are cut: if that fails, readers stop at them all the same.
        let size = self.disk.truncate(&active.file, active.end).map_or(active.size, |()| active.end);
        self.kept.push_back(Kept { path: active.path, size, sealed: clock::now() });
        self.count();
    }

    /// Seals the segment and waits until that is on disk.
    pub(super) fn close(&mut self) -> io::Result<()> {
        if let Some(active) = self.active.take() {
            self.disk.truncate(&active.file, active.end)?;
            self.disk.sync(&active.file)?;
        }
        Ok(())
    }

    /// Gives up a segment that failed. What was acknowledged before stays in it; what was not is cut, and the caller
    /// writes it again. If the file was removed: the number of the first event that went with it.
    pub(super) fn give_up(&mut self) -> Option<u64> {
        let active = self.active.take()?;
        if active.standing == Standing::Gone {
            self.count();
            return Some(active.first);
        }
        let (path, size) = if active.end > segment::HEADER as u64 {
            let size = self.disk.truncate(&active.file, active.end).map_or(active.size, |()| active.end);
            (active.path, size)
        } else {
            let bad = bad(&active.path);
            let path = if self.disk.rename(&active.path, &bad).is_ok() { bad } else { active.path };
            (path, active.size)
        };
        self.kept.push_back(Kept { path, size, sealed: clock::now() });
        self.count();
        None
    }

    /// Sets room aside again, if it was used.
    pub(super) fn restock(&mut self) {
        if self.reserve.is_some() {
            return;
        }
        let path = self.dir.join("reserve");
        let size = (self.max / 10).max(SMALLEST);
        let made =
            self.disk.remove(&path).and_then(|()| self.retire(size)).and_then(|()| self.fresh(&path, size));
        match made {
            Ok(file) => {
                self.reserve = Some((file, size));
                if self.scarce.take().is_some() {
                    tracing::info!("the audit journal has room again");
                }
            }
            Err(error) => {
                if self.scarce.is_none() {
                    tracing::error!(%error, "the audit journal has no room: nothing is disclosed until it has");
                }
                self.scarce = Some(Arc::new(error));
            }
        }
        self.count();
    }

    /// Keeps a damaged segment as `*.bad`, and what is whole in it.
    pub(super) fn salvage(&mut self, name: Name) -> io::Result<()> {
        recovery::salvage(self.disk.as_ref(), &self.dir, name)?;
        let active = self.active.as_ref().map(|active| &active.path);
        self.kept =
            recovery::kept(&self.dir)?.into_iter().filter(|kept| Some(&kept.path) != active).collect();
        self.count();
        Ok(())
    }

    /// Writes `records` of an earlier chain, which continue `before`, into a file that is no segment yet; `None` if there is a
    /// segment that begins as they do.
    pub(super) fn set_aside(&mut self, before: &Chain, records: &[u8]) -> io::Result<Option<Aside>> {
        let name = Name { chain: before.last.chain, first: before.next() };
        let (path, aside) = (self.dir.join(name.file()), self.dir.join(format!("{}.tmp", name.file())));
        if path.exists() {
            return Ok(None);
        }
        let size = segment::HEADER.saturating_add(records.len()) as u64;
        self.retire(size)?;
        self.disk.remove(&aside)?;
        let file = self.disk.create(&aside)?;
        self.disk.write(&file, &segment::header(before), 0)?;
        self.disk.write(&file, records, segment::HEADER as u64)?;
        self.disk.sync(&file)?;
        Ok(Some(Aside { name, file: aside, size }))
    }

    /// Keeps what was set aside as a segment of its own.
    pub(super) fn take_in(&mut self, aside: Aside) -> io::Result<()> {
        let Aside { name, file, size } = aside;
        let path = self.dir.join(name.file());
        self.disk.rename(&file, &path)?;
        self.disk.sync_dir(&self.dir)?;
        let at = self.kept.iter().take_while(|kept| kept.name().is_some_and(|other| other < name)).count();
        self.kept.insert(at, Kept { path, size, sealed: clock::now() });
        self.count();
        Ok(())
    }

    fn fresh(&self, path: &Path, size: u64) -> io::Result<File> {
        let file = match self.disk.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.rename(path, &bad(path))?;
                self.disk.create(path)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk::prepare(&self.dir).map_err(|unfit| match unfit {
                    Unfit::Unsafe(why) => io::Error::new(io::ErrorKind::PermissionDenied, why),
                    Unfit::Failed(error) => error,
                })?;
                self.disk.create(path)?
            }
            other => other?,
        };
        if let Err(error) = self.disk.allocate(&file, size) {
            self.disk.remove(path)?;
            return Err(error);
        }
        Ok(file)
    }

    fn use_reserve(&mut self, path: &Path, error: io::Error) -> io::Result<(File, u64)> {
        let Some(reserve) = self.reserve.take() else { return Err(error) };
        tracing::error!(%error, "the audit journal has no room: only the agent's own events are written");
        self.disk.rename(&self.dir.join("reserve"), path)?;
        self.scarce = Some(Arc::new(error));
        Ok(reserve)
    }

    /// Removes segments that every required sink has passed and that were kept long enough; none without such a sink.
    pub(super) fn let_go(&mut self) {
        if self.pins.hold() == Hold::Nothing {
            return;
        }
        let now = clock::now();
        while let Some(at) = self.removable() {
            let age = self.kept.get(at).map(|kept| now.duration_since(kept.sealed));
            if age.is_none_or(|age| Duration::try_from(age).unwrap_or_default() < self.retain) {
                break;
            }
            self.remove(at);
        }
        self.count();
    }

    /// Makes room for `coming` bytes: the oldest goes first, and nothing goes that a required sink did not take.
    fn retire(&mut self, coming: u64) -> io::Result<()> {
        while self.total().saturating_add(coming) > self.max {
            match self.removable() {
                Some(at) => self.remove(at),
                None if self.kept.is_empty() => break,
                None => {
                    let full = "the journal is full of events that a required sink did not take";
                    return Err(io::Error::new(io::ErrorKind::StorageFull, full));
                }
            }
        }
        Ok(())
    }

    /// The oldest kept file that no required sink needs.
    fn removable(&self) -> Option<usize> {
        let hold = self.pins.hold();
        let active = self.active.as_ref().and_then(|active| Name::parse(active.path.file_name()?.to_str()?));
        let names: Vec<Option<Name>> = self.kept.iter().map(Kept::name).collect();
        (0..names.len()).find(|at| {
            let (here, later) = (names.get(*at).copied().flatten(), names.get(at.saturating_add(1)..));
            let next = later.unwrap_or_default().iter().flatten().next().copied().or(active);
            here.is_none_or(|name| hold.lets_go(name, next))
        })
    }

    fn remove(&mut self, at: usize) {
        let Some(gone) = self.kept.remove(at) else { return };
        if let Err(error) = self.disk.remove(&gone.path) {
            tracing::warn!(path = %gone.path.display(), %error, "removing an old segment");
        }
    }

    fn total(&self) -> u64 {
        let kept = self.kept.iter().map(|kept| kept.size);
        let active = self.active.iter().map(|active| active.size);
        let reserve = self.reserve.iter().map(|(_, size)| *size);
        kept.chain(active).chain(reserve).fold(self.pins.dead_bytes(), u64::saturating_add)
    }

    fn count(&mut self) {
        self.stats.journal_bytes.store(self.total(), Ordering::Relaxed);
        let oldest = self.kept.iter().find(|kept| kept.name().is_some());
        let path = oldest.map(|kept| &kept.path).or(self.active.as_ref().map(|active| &active.path));
        if self.oldest.as_ref().map(|(path, _)| path) != path {
            let begun = match oldest {
                Some(kept) => kept.begun().ok().flatten(),
                None => self.active.as_ref().map(|active| active.begun),
            };
            self.oldest = path.cloned().zip(begun);
        }
        let seconds = self.oldest.as_ref().map_or(0, |(_, begun)| begun.as_second());
        self.stats.oldest.store(u64::try_from(seconds).unwrap_or(0), Ordering::Relaxed);
    }
}

fn bad(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    name.into()
}
