//! The journal: events on disk, numbered and chained, in segments of bounded size.
//!
//! What is appended waits in `unsynced` until `settle` has it on disk, so a disk that fails once loses nothing: the
//! file that failed is given up, and what waits is written again to a new one. One owner, no thread, no queue.

mod adopt;
mod ahead;
mod crc32c;
pub(super) mod disk;
mod files;
mod recovery;
pub(super) mod segment;
pub(super) mod walk;
mod weigh;

pub use walk::{Reader, read};

use super::{
    Settings, Stats,
    canonical::{self, Frame},
    chain::{Chain, ChainId},
    event::{AgentFacts, Event, Outcome, Pod, Reason, Type},
    pen::Paths,
    pins::Pins,
};
use crate::clock::{self, Timestamp};
use crate::crypto::{random, sha256};
use disk::Disk;
use files::Files;
pub(super) use segment::Name;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
pub(super) use weigh::weigh;

/// Why the journal cannot be written, shared by all who wait.
pub(super) type Fault = Arc<io::Error>;

/// How long a failure is answered without another try.
const REST: Duration = Duration::from_millis(250);

/// The journal of one start of the agent.
pub(super) struct Journal {
    source: String,
    pod: Option<Pod>,
    paths: Paths,
    started: Duration,
    now: Timestamp,
    mono: Duration,
    last_time: Timestamp,
    files: Files,
    chain: Chain,
    /// Where the chain stood before the first unsynced record.
    base: Chain,
    /// Records that are not known to be on disk.
    unsynced: Vec<u8>,
    /// How many of those bytes were given to the kernel.
    written: usize,
    /// What a failure takes back: nothing before it may be lost.
    mark: (usize, Chain),
    notes: VecDeque<Event>,
    unchecked: VecDeque<Name>,
    down: Option<(Fault, Duration)>,
    pins: Arc<Pins>,
    stats: Arc<Stats>,
}

impl Journal {
    /// Opens the journal in a directory that is fit and locked. A full disk is no error here: events are then refused
    /// until there is room.
    pub(super) fn open(disk: Box<dyn Disk>, settings: &Settings, stats: Arc<Stats>) -> io::Result<Self> {
        let dir = &settings.journal.dir;
        let last = recovery::recover(disk.as_ref(), dir)?;
        let now = clock::now();
        let newest = walk::list(dir)?.last().map_or(0, |name| name.chain.millis().saturating_add(1));
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0).max(newest);
        let chain = Chain::new(ChainId::new(millis, random()?));
        let pins = Arc::new(Pins::open(dir, &settings.sinks)?);
        let mono = clock::since_boot();
        let mut journal = Self {
            source: settings.source.clone(),
            pod: settings.pod.clone(),
            paths: paths(settings),
            started: mono,
            now,
            mono,
            last_time: now,
            unchecked: walk::list(dir)?.into_iter().rev().collect(),
            files: Files::open(disk, &settings.journal, Arc::clone(&pins), Arc::clone(&stats))?,
            chain,
            base: chain,
            unsynced: Vec::new(),
            written: 0,
            mark: (0, chain),
            notes: last.map(|last| last.event(now)).into_iter().collect(),
            down: None,
            pins,
            stats,
        };
        journal.refresh();
        Ok(journal)
    }

    /// The name of this chain.
    pub(super) fn chain(&self) -> ChainId {
        self.chain.last.chain
    }

    /// What the sinks and the journal share.
    pub(super) fn pins(&self) -> Arc<Pins> {
        Arc::clone(&self.pins)
    }

    /// Number of the last event that is on disk.
    pub(super) fn synced(&self) -> u64 {
        self.base.last.seq
    }

    /// Whether events wait for a sync.
    pub(super) fn is_dirty(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Bytes that wait for a sync.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Whether disclosures can be recorded, as far as is known.
    pub(super) fn is_writable(&self) -> bool {
        self.down.is_none() && self.files.scarce().is_none()
    }

    /// Whether [`Journal::refresh`] has something to write.
    pub(super) fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Takes over what may change while running.
    pub(super) fn apply(&mut self, settings: &Settings) {
        self.paths = paths(settings);
        self.files.resize(&settings.journal);
        self.pins.require(&settings.sinks);
        self.tidy();
    }

    /// A required sink has come further, or there is another set of them: what no sink needs may go.
    pub(super) fn tidy(&mut self) {
        self.files.let_go();
        if self.files.scarce().is_some() {
            self.files.restock();
        }
        self.show();
    }

    /// Starts a batch: from here on a failure takes back what is appended, until [`Journal::keep`].
    pub(super) fn begin(&mut self) {
        self.now = clock::now();
        self.mono = clock::since_boot();
        self.keep();
    }

    /// What was appended was acknowledged: no failure may take it back.
    pub(super) fn keep(&mut self) {
        self.mark = (self.unsynced.len(), self.chain);
    }

    /// Counts events that never came this far.
    pub(super) fn lost(&self, count: u64) {
        self.stats.gap_events.fetch_add(count, Ordering::Relaxed);
    }

    /// Numbers and chains `event`, and gives its number. It is not on disk yet.
    pub(super) fn append(&mut self, event: &Event) -> Result<u64, Fault> {
        if let Some(fault) = self.files.scarce().filter(|_| event.discloses()) {
            return Err(Arc::clone(fault));
        }
        self.note()?;
        self.place(event)
    }

    /// Gives everything to the kernel: a crash of the process loses nothing from here on.
    pub(super) fn write(&mut self) -> Result<(), Fault> {
        let rest = self.unsynced.get(self.written..).unwrap_or_default();
        if !rest.is_empty() {
            self.files.write(rest, self.written)?;
            self.written = self.unsynced.len();
        }
        Ok(())
    }

    /// Puts everything on disk: a crash of the machine loses nothing from here on. A failure takes back what was
    /// appended since the mark.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        if let Err(fault) = self.rested() {
            self.take_back();
            return Err(fault);
        }
        for last_try in [false, true] {
            match self.try_settle() {
                Ok(()) => {
                    self.up();
                    return Ok(());
                }
                Err(fault) => {
                    tracing::warn!(error = %fault, "the audit journal's segment is given up");
                    self.give_up();
                    if last_try {
                        self.take_back();
                        return Err(self.fail(fault));
                    }
                }
            }
        }
        Ok(())
    }

    /// Work that no event asked for: retries a failed disk, takes room back, writes down what a start found.
    pub(super) fn refresh(&mut self) {
        self.begin();
        self.files.restock();
        if self.down.is_some() || !self.notes.is_empty() || self.is_dirty() || !self.files.is_open() {
            // A failure is remembered in `down`, which is what readiness shows.
            let done = self.note().and_then(|()| self.settle());
            if let Err(fault) = done {
                tracing::debug!(error = %fault, "the audit journal still cannot be written");
            }
        }
        self.show();
    }

    /// Reads one segment of earlier chains against damage. No, if none is left.
    pub(super) fn check_one(&mut self) -> bool {
        let Some(name) = self.unchecked.pop_front() else { return false };
        match recovery::check(self.files.dir(), name) {
            Ok(None) => {}
            Ok(Some(holes)) => {
                tracing::warn!(segment = name.file(), "damaged bytes in the audit journal are set aside");
                for hole in holes {
                    self.gap(name.chain, *hole.start(), *hole.end(), Reason::JournalDamaged);
                }
                // First the event, so that a crash in between cannot hide the loss.
                self.refresh();
                if let Err(error) = self.files.salvage(name) {
                    tracing::warn!(segment = name.file(), %error, "setting damaged bytes aside");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(segment = name.file(), %error, "reading an old segment"),
        }
        true
    }

    /// Puts everything on disk and seals the segment, so that the next start knows that this one ended well.
    pub(super) fn close(&mut self) -> Result<(), Fault> {
        self.note()?;
        self.settle()?;
        self.files.close()?;
        Ok(())
    }

    fn place(&mut self, event: &Event) -> Result<u64, Fault> {
        self.rested()?;
        let room = segment::PREFIX.saturating_add(canonical::LONGEST);
        if !self.files.has_room(self.unsynced.len().saturating_add(room)) {
            if self.files.is_open() {
                self.settle()?;
                self.files.seal();
            }
            if let Err(fault) = self.files.start(&self.base, self.unsynced.len().saturating_add(room)) {
                return Err(self.fail(fault.into()));
            }
            self.written = 0;
        }
        let start = segment::begin(&mut self.unsynced);
        let time = event.time.max(self.last_time);
        let frame = Frame {
            source: &self.source,
            pod: self.pod.as_ref(),
            paths: self.paths,
            time,
            recorded: self.now.max(time),
            mono: self.mono.saturating_sub(self.started),
            chain: &self.chain,
        };
        canonical::render(&mut self.unsynced, event, &frame);
        let Some(hash) = segment::finish(&mut self.unsynced, start).map(sha256) else {
            self.unsynced.truncate(start);
            return Err(Arc::new(io::Error::from(io::ErrorKind::FileTooLarge)));
        };
        self.last_time = time;
        self.chain = self.chain.with(hash);
        Ok(self.chain.last.seq)
    }

    fn note(&mut self) -> Result<(), Fault> {
        while let Some(note) = self.notes.pop_front() {
            if let Err(fault) = self.place(&note) {
                self.notes.push_front(note);
                return Err(fault);
            }
            self.keep();
        }
        Ok(())
    }

    fn try_settle(&mut self) -> Result<(), Fault> {
        if !self.files.is_open() {
            self.files.start(&self.base, self.unsynced.len())?;
            self.written = 0;
        }
        self.write()?;
        self.files.commit(self.unsynced.len())?;
        self.unsynced.clear();
        self.unsynced.shrink_to(256 * 1024);
        (self.written, self.base, self.mark) = (0, self.chain, (0, self.chain));
        Ok(())
    }

    /// No sync is ever tried again on a file that failed: Linux reports a failed write-back once, and then calls the
    /// pages clean.
    fn give_up(&mut self) {
        self.written = 0;
        if let Some(first) = self.files.give_up() {
            let (chain, last) = (self.chain(), self.base.last.seq);
            tracing::error!(first, last, "the audit journal's file was removed or replaced");
            if first <= last {
                self.gap(chain, first, last, Reason::JournalReplaced);
            }
        }
    }

    fn gap(&mut self, chain: ChainId, from: u64, to: u64, reason: Reason) {
        let lost = to.saturating_add(1).saturating_sub(from);
        self.stats.gap_events.fetch_add(lost, Ordering::Relaxed);
        let mut event = Event::new(Type::AuditGap, Outcome::Error, self.now);
        event.reason = Some(reason);
        event.agent = Some(AgentFacts {
            chain: Some(chain.to_string()),
            from_seq: Some(from),
            to_seq: Some(to),
            ..AgentFacts::default()
        });
        self.notes.push_back(event);
    }

    fn take_back(&mut self) {
        let (length, chain) = self.mark;
        self.unsynced.truncate(length);
        self.written = self.written.min(length);
        self.chain = chain;
    }

    fn rested(&self) -> Result<(), Fault> {
        match &self.down {
            Some((fault, until)) if self.mono < *until => Err(Arc::clone(fault)),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        if self.down.is_none() {
            tracing::error!(error = %fault, "the audit journal cannot be written: nothing is disclosed until it can");
        }
        self.down = Some((Arc::clone(&fault), self.mono.saturating_add(REST)));
        self.show();
        fault
    }

    fn up(&mut self) {
        if self.down.take().is_some() {
            tracing::info!("the audit journal can be written again");
        }
        self.show();
    }

    fn show(&self) {
        self.stats.writable.store(self.is_writable(), Ordering::Relaxed);
    }
}

fn paths(settings: &Settings) -> Paths {
    if settings.hash_paths { Paths::Hashed } else { Paths::Clear }
}

#[cfg(test)]
mod tests;
