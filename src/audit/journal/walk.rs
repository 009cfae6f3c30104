//! Reads a journal forwards across its segments and chains, also while it is being written.
//!
//! Where a segment's records and the next segment's overlap, the next one's count: it was begun because the first
//! one's tail could not be trusted. Does not change files.

use super::segment::{Name, SegmentReader, Step};
use crate::audit::chain::{ChainId, Position};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The segments of `dir`, oldest first.
pub(in crate::audit) fn list(dir: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().to_str().and_then(Name::parse));
    }
    names.sort_unstable();
    Ok(names)
}

/// Where a reader stands.
pub(in crate::audit) struct Walk {
    dir: PathBuf,
    last: Option<Position>,
    open: Option<(Name, SegmentReader)>,
    skipped: u64,
}

impl Walk {
    /// Starts behind `last`, or with the oldest event there is.
    pub(in crate::audit) fn new(dir: &Path, last: Option<Position>) -> Self {
        Self { dir: dir.to_owned(), last, open: None, skipped: 0 }
    }

    /// Where it reads.
    pub(in crate::audit) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The last event that was read.
    pub(in crate::audit) fn last(&self) -> Option<Position> {
        self.last
    }

    /// Events that should have been there and were not: removed by age, or damaged. Counted since the last call.
    pub(in crate::audit) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Reads the next event that is not behind `limit`. `names` must be listed after `limit` was learned.
    pub(in crate::audit) fn next(
        &mut self,
        names: &[Name],
        limit: Option<Position>,
    ) -> io::Result<Option<&[u8]>> {
        if !self.advance(names, limit)? {
            return Ok(None);
        }
        Ok(self.open.as_ref().map(|(_, reader)| reader.record()))
    }

    fn advance(&mut self, names: &[Name], limit: Option<Position>) -> io::Result<bool> {
        loop {
            let Some((name, mut reader)) = self.open.take() else {
                let Some(name) = self.pick(names) else { return Ok(false) };
                if !self.enter(name)? {
                    let Some(after) = following(names, name) else { return Ok(false) };
                    self.jump(after);
                }
                continue;
            };
            let after = following(names, name);
            let wanted = Position { chain: name.chain, seq: reader.next() };
            let same_chain = after.filter(|after| after.chain == name.chain);
            if same_chain.is_some_and(|after| after.first <= wanted.seq) {
                continue;
            }
            if limit.is_some_and(|limit| wanted > limit) {
                self.open = Some((name, reader));
                return Ok(false);
            }
            let step = reader.step()?;
            if let Step::Record(_) = step {
                self.last = Some(wanted);
                self.open = Some((name, reader));
                return Ok(true);
            }
            let more = step == Step::Damaged || same_chain.is_some();
            let found = if more { reader.resync()? } else { None };
            match (found, after) {
                (Some(seq), _) if same_chain.is_none_or(|after| seq < after.first) => {
                    self.skipped = self.skipped.saturating_add(seq.saturating_sub(wanted.seq));
                    self.last = Some(Position { seq: seq.saturating_sub(1), ..wanted });
                    self.open = Some((name, reader));
                }
                (_, Some(after)) => self.jump(after),
                (_, None) => {
                    self.open = Some((name, reader));
                    return Ok(false);
                }
            }
        }
    }

    /// The segment that holds the event after the last one, else the next there is.
    fn pick(&mut self, names: &[Name]) -> Option<Name> {
        let Some(last) = self.last else { return names.first().copied() };
        let wanted = last.seq.saturating_add(1);
        let holds = |name: &&Name| name.chain == last.chain && name.first <= wanted;
        if let Some(name) = names.iter().rev().find(holds) {
            return Some(*name);
        }
        let next = names.iter().find(|name| (name.chain, name.first) > (last.chain, last.seq))?;
        self.jump(*next);
        Some(*next)
    }

    /// Goes on with the first event of `name`, and counts what lies between.
    fn jump(&mut self, name: Name) {
        let before = self.last.filter(|last| last.chain == name.chain).map_or(0, |last| last.seq);
        let here = name.first.saturating_sub(1);
        self.skipped = self.skipped.saturating_add(here.saturating_sub(before));
        self.last = Some(Position { chain: name.chain, seq: here });
    }

    /// Opens `name` and passes what was read already. No, if it is gone or has no header.
    fn enter(&mut self, name: Name) -> io::Result<bool> {
        let mut reader = match SegmentReader::open(&self.dir.join(name.file())) {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let read = self.last.filter(|last| last.chain == name.chain).map_or(0, |last| last.seq);
        while reader.next() <= read {
            match reader.step()? {
                Step::Record(_) => {}
                Step::End => break,
                Step::Damaged if reader.resync()?.is_some() => {}
                Step::Damaged => break,
            }
        }
        self.open = Some((name, reader));
        Ok(true)
    }
}

fn following(names: &[Name], name: Name) -> Option<Name> {
    names.get(names.partition_point(|other| *other <= name)).copied()
}

/// Every event of a journal that is there and whole, oldest first: its number and its bytes. Numbers start again
/// with each chain; the bytes name their chain.
pub struct Reader {
    dir: PathBuf,
    walk: Walk,
    names: Vec<Name>,
    skipped: u64,
    failed: Option<io::Error>,
}

/// Reads the journal in `dir`. Needs no lock, and may run beside the agent: it ends where the last whole event does.
///
/// # Errors
/// `dir` cannot be listed.
pub fn read(dir: &Path) -> io::Result<Reader> {
    Ok(Reader {
        dir: dir.to_owned(),
        walk: Walk::new(dir, None),
        names: list(dir)?,
        skipped: 0,
        failed: None,
    })
}

impl Reader {
    /// Looks for what came since the end was reached; reading goes on behind the last event.
    ///
    /// # Errors
    /// The directory cannot be listed; nothing changes then.
    pub fn look_again(&mut self) -> io::Result<()> {
        self.names = list(&self.dir)?;
        self.failed = None;
        Ok(())
    }

    /// Events that were passed over so far because their bytes are damaged or gone.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The chain of the last event.
    #[must_use]
    pub fn chain(&self) -> Option<ChainId> {
        self.walk.last().map(|last| last.chain)
    }

    /// Why reading ended early, if it did.
    #[must_use]
    pub fn failed(&self) -> Option<&io::Error> {
        self.failed.as_ref()
    }
}

impl Iterator for Reader {
    type Item = (u64, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = match self.walk.next(&self.names, None) {
            Ok(bytes) => bytes.map(<[u8]>::to_vec),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        };
        self.skipped = self.skipped.saturating_add(self.walk.take_skipped());
        Some((self.walk.last()?.seq, bytes?))
    }
}
