//! What a start finds of earlier chains: the torn tail that a crash leaves is cut, damage is set aside.
//!
//! A damaged segment is kept as `*.bad`, and what is whole in it is written again as segments of its own, in an order
//! that a crash at any step leaves readable. Does not write events: the journal says what was lost.

use super::{
    disk::Disk,
    segment::{self, Name, SegmentReader, Step},
    walk::list,
};
use crate::audit::{
    chain::{Chain, Position},
    event::{AgentFacts, Event, Outcome, Reason, Type},
};
use crate::clock::Timestamp;
use crate::crypto::{hex, sha256};
use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// The last event of an earlier chain.
pub(super) struct Last {
    /// Where that chain ended.
    pub(super) chain: Chain,
    /// How it ended.
    pub(super) ending: Ending,
}

impl Last {
    /// What is to be put on record of it.
    pub(super) fn event(&self, now: Timestamp) -> Event {
        let mut event = match self.ending {
            Ending::Sealed => Event::new(Type::AuditRecovered, Outcome::Allow, now),
            Ending::Cut => Event::new(Type::AuditRecovered, Outcome::Error, now),
        };
        event.reason = (self.ending == Ending::Cut).then_some(Reason::Crash);
        event.agent = Some(end_of(&self.chain));
        event
    }
}

/// What `audit.recovered` says of where `chain` ended.
pub(super) fn end_of(chain: &Chain) -> AgentFacts {
    AgentFacts {
        chain: Some(chain.last.chain.to_string()),
        from_seq: Some(chain.last.seq),
        last_hash: Some(hex(&chain.hash)),
        ..AgentFacts::default()
    }
}

/// How a chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The journal was closed.
    Sealed,
    /// The process or the machine stopped in between.
    Cut,
}

/// A file of the journal that is no longer written.
pub(super) struct Kept {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its length.
    pub(super) size: u64,
    /// When its last byte was written.
    pub(super) sealed: Timestamp,
}

impl Kept {
    /// The segment that it is; nothing for one that is set aside.
    pub(super) fn name(&self) -> Option<Name> {
        Name::parse(self.path.file_name()?.to_str()?)
    }

    /// When its first event happened.
    pub(super) fn begun(&self) -> io::Result<Option<Timestamp>> {
        let Some(mut reader) = SegmentReader::open(&self.path)? else { return Ok(None) };
        let found = matches!(reader.step()?, Step::Record(_));
        Ok(found.then(|| segment::time_of(reader.record())).flatten())
    }
}

/// Finds the end of the newest chain, cuts what a crash left behind it, and removes files that hold nothing.
pub(super) fn recover(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Last>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            disk.remove(&path)?;
        }
    }
    for name in list(dir)?.into_iter().rev() {
        match recover_one(disk, dir, name) {
            Ok(None) => {}
            Ok(Some(last)) => return Ok(Some(last)),
            // An old segment that cannot be read is no reason not to start.
            Err(error) => {
                tracing::error!(segment = name.file(), %error, "reading the end of an earlier chain")
            }
        }
    }
    Ok(None)
}

fn recover_one(disk: &dyn Disk, dir: &Path, name: Name) -> io::Result<Option<Last>> {
    let path = dir.join(name.file());
    let mut reader = open(&path, name)?;
    let mut end: Option<(Chain, u64)> = None;
    loop {
        match reader.step()? {
            Step::Record(seq) => {
                let last = Position { chain: name.chain, seq };
                end = Some((Chain { last, hash: sha256(reader.record()) }, reader.at()));
            }
            Step::End if reader.only_zeros_follow()? => break,
            Step::End | Step::Damaged if reader.resync()?.is_some() => {}
            Step::End | Step::Damaged => break,
        }
    }
    // Damage in a sealed segment is no torn tail: it stays until it is checked.
    let sealed = reader.is_sealed()?;
    match end {
        None if sealed && !reader.only_zeros_follow()? => Ok(None),
        None => {
            // Nothing in it was ever acknowledged: a header is on disk before the first record.
            disk.remove(&path)?;
            Ok(None)
        }
        Some((chain, _)) if sealed => Ok(Some(Last { chain, ending: Ending::Sealed })),
        Some((chain, at)) => {
            let file = disk.open(&path)?;
            disk.truncate(&file, at)?;
            disk.sync(&file)?;
            Ok(Some(Last { chain, ending: Ending::Cut }))
        }
    }
}

/// The files of `dir` that count towards its size, oldest first.
pub(super) fn kept(dir: &Path) -> io::Result<Vec<Kept>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "seg" || extension == "bad") {
            let found = fs::symlink_metadata(&path)?;
            let sealed = found.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
            files.push(Kept { size: found.len(), path, sealed: sealed.unwrap_or(Timestamp::UNIX_EPOCH) });
        }
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Numbers of events that one segment has lost.
pub(super) type Hole = RangeInclusive<u64>;

/// What is wrong with a segment that is no longer written: `None` if nothing is.
pub(super) fn check(dir: &Path, name: Name) -> io::Result<Option<Vec<Hole>>> {
    let path = dir.join(name.file());
    let whole_header =
        SegmentReader::open(&path)?.is_some_and(|reader| reader.before().last.chain == name.chain);
    let mut reader = open(&path, name)?;
    let (mut holes, mut damaged) = (Vec::new(), !whole_header);
    loop {
        let wanted = reader.next();
        match reader.step()? {
            Step::Record(_) => continue,
            Step::End if reader.only_zeros_follow()? => break,
            Step::End | Step::Damaged => damaged = true,
        }
        match reader.resync()? {
            Some(seq) if seq > wanted => holes.push(wanted..=seq.saturating_sub(1)),
            Some(_) => {}
            None => {
                let next = list(dir)?.into_iter().find(|other| *other > name && other.chain == name.chain);
                let last = next.map_or(wanted, |next| next.first.saturating_sub(1));
                holes.extend(Some(wanted..=last).filter(|hole| !hole.is_empty()));
                break;
            }
        }
    }
    Ok(damaged.then_some(holes))
}

/// Keeps a damaged segment as `*.bad`, and writes what is whole in it as segments of its own.
pub(super) fn salvage(disk: &dyn Disk, dir: &Path, name: Name) -> io::Result<()> {
    let path = dir.join(name.file());
    let runs = whole_runs(&path, name)?;
    let bad = dir.join(format!("{}.bad", name.file()));
    let temporary = |first: u64| dir.join(format!("{}.tmp", Name { first, ..name }.file()));
    let mut in_place = false;
    for (before, frames) in &runs {
        let target = temporary(before.next());
        disk.remove(&target)?;
        let file = disk.create(&target)?;
        disk.write(&file, &segment::header(before), 0)?;
        disk.write(&file, frames, segment::HEADER as u64)?;
        disk.sync(&file)?;
        if before.next() == name.first {
            in_place = true;
        } else {
            disk.rename(&target, &dir.join(Name { first: before.next(), ..name }.file()))?;
        }
    }
    if in_place {
        match fs::hard_link(&path, &bad) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => disk.rename(&temporary(name.first), &path)?,
        }
    } else {
        disk.rename(&path, &bad)?;
    }
    disk.sync_dir(dir)
}

fn whole_runs(path: &Path, name: Name) -> io::Result<Vec<(Chain, Vec<u8>)>> {
    let mut runs: Vec<(Chain, Vec<u8>)> = Vec::new();
    let mut reader = open(path, name)?;
    let mut broken = true;
    loop {
        match reader.step()? {
            Step::Record(seq) => {
                if broken {
                    let last = Position { chain: name.chain, seq: seq.saturating_sub(1) };
                    let hash = segment::prev_of(reader.record()).unwrap_or_default();
                    runs.push((Chain { last, hash }, Vec::new()));
                }
                broken = false;
                if let Some((_, frames)) = runs.last_mut() {
                    let start = segment::begin(frames);
                    frames.extend_from_slice(reader.record());
                    segment::finish(frames, start);
                }
            }
            Step::End if reader.only_zeros_follow()? => return Ok(runs),
            Step::End | Step::Damaged => match reader.resync()? {
                Some(_) => broken = true,
                None => return Ok(runs),
            },
        }
    }
}

/// Where a header is damaged, the file's name says the same.
fn open(path: &Path, name: Name) -> io::Result<SegmentReader> {
    match SegmentReader::open(path)? {
        Some(reader) => Ok(reader),
        None => SegmentReader::without_header(path, name),
    }
}
