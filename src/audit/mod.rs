//! Puts every event on disk before anything is disclosed, and gives the receipt for it.
//!
//! Does not render answers, and never holds a secret. One thread owns the journal; a request only waits for it.

mod approved;
mod canonical;
mod chain;
pub mod checkpoint;
mod escape;
mod because;
mod call;
pub mod event;
mod flood;
pub mod handoff;
pub mod journal;
mod exposed;
mod kind;
mod loose;
pub mod note;
mod pen;
mod pod;
mod pins;
mod queue;
mod rotated;
mod reason;
mod remote;
mod reported;
mod share;
pub mod sink;
mod stats;
pub mod tree;
mod used;
pub mod verify;
mod writer;

pub use chain::ChainId;
pub use stats::Stats;

use crate::{policy::rule::AuditMode, usage::Ledger, vault::endpoint::TransitKey};
use event::Event;
use journal::disk::{self, Disk, RealDisk, Unfit};
use pins::Pins;
use queue::{Ask, PassOn, Queue};
use remote::Remote;
use sink::tail::Tail;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::sync::oneshot;
use writer::Writer;

/// How events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The mode where a rule asks for nothing stronger.
    pub mode: AuditMode,
    /// The file that holds events first.
    pub journal: Journal,
    /// Where events go on to.
    pub sinks: Vec<sink::Settings>,
    /// How many workloads share the journal: of more than one, none may hold more than half of what the required sinks have
    /// not taken.
    pub workloads: usize,
    /// `urn:claviger:CLUSTER/NAMESPACE/POD/AGENT`; what is unknown is left out.
    pub source: String,
    /// The pod that the agent is in, which every event names; the config does not know it.
    pub pod: Option<event::Pod>,
    /// Whether paths in Vault are hashed in events.
    pub hash_paths: bool,
    /// The key in Vault by which values are fingerprinted, if they are.
    pub fingerprint_key: Option<TransitKey>,
    /// Who signs how far the journal has come; nobody without it.
    pub checkpoints: Option<checkpoint::Settings>,
    /// Where the undelivered tail is handed over at exit.
    pub handoff: Option<handoff::Settings>,
}

/// The journal's directory and sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Ours alone; made with mode 0700 when missing.
    pub dir: PathBuf,
    /// All segments together, in bytes: at least 8 MiB.
    pub max_size: u64,
    /// One segment, in bytes: 1 to 64 MiB.
    pub segment: u64,
    /// How long a sealed segment is kept once every required sink has it; room that is needed comes first. Without a
    /// required sink the oldest is deleted at `max_size`, and never before.
    pub retain: Duration,
}

/// The journal, open. Clones are the same journal; when the last one is dropped, it is synced and sealed.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    max: u64,
    chain: ChainId,
    mode: AtomicU8,
    queue: Arc<Queue>,
    tail: Arc<Tail>,
    remote: Arc<Remote>,
    pins: Arc<Pins>,
    stats: Arc<Stats>,
    ledger: Arc<Ledger>,
}

/// Proof that an event is kept as surely as its mode demands: synced for `strict`, given to the kernel for `buffered`,
/// queued in memory for `best-effort`. Only the audit makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    chain: ChainId,
    /// 0: it has no number yet.
    seq: u64,
}

/// Where an event is, by its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// In the journal's file.
    InJournal,
    /// In memory, and lost with the process; dropped if the journal cannot be written for long.
    Queued,
}

/// Why there is no receipt.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk is full or broken; it is tried again by itself.
    #[error("the audit journal cannot be written")]
    Unavailable {
        /// What the disk said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The workload's events that the required sinks have not taken fill its half of the journal.
    #[error("the workload's events fill its half of the audit journal")]
    ShareFull,
    /// The event is on disk, and no receiver elsewhere acknowledged it in time.
    #[error("the event was not acknowledged elsewhere in time")]
    Unacknowledged,
    /// The journal was closed.
    #[error("the audit journal is closed")]
    Closed,
    /// The directory is not fit to hold a journal.
    #[error("the audit journal's directory {} cannot be used: {why}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Opening the journal failed.
    #[error("opening the audit journal in {}", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
}

impl Error {
    /// When another try makes sense, if one does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { .. } | Self::ShareFull | Self::Unacknowledged => Some(Duration::from_secs(1)),
            Self::Closed | Self::Directory { .. } | Self::Open { .. } => None,
        }
    }
}

impl From<Arc<io::Error>> for Error {
    fn from(source: Arc<io::Error>) -> Self {
        Self::Unavailable { source }
    }
}

impl Audit {
    /// Opens the journal and starts its thread. `observe` is told how long each commit took; it runs on that thread
    /// and must not wait. Blocks on the disk: for use before anything is served.
    ///
    /// # Errors
    /// The directory is not ours, others may write to it, another process uses it, or it cannot be read. A full disk
    /// is no error: the agent must be able to keep its tokens alive.
    pub fn open(settings: &Settings, observe: impl Fn(Duration) + Send + 'static) -> Result<Self, Error> {
        Self::open_on(Box::new(RealDisk), settings, Box::new(observe))
    }

    /// Makes the journal's directory if it is missing, and refuses it as [`Audit::open`] does. For a caller that will not be
    /// able to make it any more when it opens the journal.
    ///
    /// # Errors
    /// The directory is not ours, others may write to it, or it cannot be made.
    pub fn prepare(settings: &Settings) -> Result<(), Error> {
        prepare_dir(&settings.journal.dir)
    }

    fn open_on(
        disk: Box<dyn Disk>,
        settings: &Settings,
        observe: Box<dyn Fn(Duration) + Send>,
    ) -> Result<Self, Error> {
        let dir = settings.journal.dir.clone();
        let lock = lock_dir(&dir)?;
        let failed = |source: io::Error| Error::Open { dir: dir.clone(), source: source.into() };
        let stats = Arc::new(Stats::default());
        let journal = journal::Journal::open(disk, settings, Arc::clone(&stats)).map_err(failed)?;
        let (chain, pins) = (journal.chain(), journal.pins());
        let (queue, tail) = (Arc::new(Queue::new()), Arc::new(Tail::new(chain)));
        let ledger = Arc::new(Ledger::default());
        let shared = (Arc::clone(&queue), Arc::clone(&tail), Arc::clone(&ledger));
        let writer = Writer::new(journal, settings, shared, observe, lock).map_err(failed)?;
        thread::Builder::new().name("audit-journal".into()).spawn(|| writer.run()).map_err(failed)?;
        let mode = AtomicU8::new(settings.mode as u8);
        let max = settings.journal.max_size;
        let remote = Arc::new(Remote::of(&settings.sinks));
        Ok(Self(Arc::new(Inner {
            dir: dir.clone(),
            max,
            chain,
            mode,
            queue,
            tail,
            remote,
            pins,
            stats,
            ledger,
        })))
    }

    /// Keeps `event` as surely as `mode` demands. From the first poll on the event is committed even if the future is
    /// dropped. Events are numbered in the order of those first polls; what is queued comes later. What discloses nothing
    /// waits for nobody elsewhere.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the journal cannot be written or has no room, [`Error::ShareFull`], [`Error::Closed`] after
    /// the end, [`Error::Unacknowledged`]. Nothing may be disclosed then.
    pub async fn record(&self, event: impl Into<Box<Event>>, mode: AuditMode) -> Result<Receipt, Error> {
        let event = event.into();
        if mode == AuditMode::BestEffort {
            let left = self.0.queue.leave(event);
            return if left { Ok(Receipt { chain: self.0.chain, seq: 0 }) } else { Err(Error::Closed) };
        }
        let waits = event.waits_elsewhere();
        let receipt = self.commit(event, mode).await?;
        if mode == AuditMode::StrictRemote && waits {
            // They are not to wait for more events to send.
            self.0.tail.nudge();
            self.0.remote.acknowledged_by(remote::QUORUM, receipt.seq, remote::LIMIT).await?;
        }
        Ok(receipt)
    }

    async fn commit(&self, event: Box<Event>, mode: AuditMode) -> Result<Receipt, Error> {
        let (ack, answer) = oneshot::channel();
        // Declared before the wait, so that it is dropped after it.
        let _others = PassOn(&self.0.queue);
        self.0.queue.push(Ask::Record(event, mode, ack));
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Waits until everything recorded so far is synced.
    ///
    /// # Errors
    /// As [`Audit::record`].
    pub async fn flush(&self) -> Result<(), Error> {
        let (ack, answer) = oneshot::channel();
        self.0.queue.push(Ask::Flush(ack));
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Records what is still in the line, syncs, and seals the journal: the next start then knows that this one ended
    /// well. Other clones hear [`Error::Closed`] from here on.
    ///
    /// # Errors
    /// As [`Audit::record`].
    pub async fn close(self) -> Result<(), Error> {
        let (ack, answer) = oneshot::channel();
        self.0.queue.push(Ask::Close(Some(ack)));
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// The mode where a rule asks for nothing stronger.
    #[must_use]
    pub fn mode(&self) -> AuditMode {
        let mode = self.0.mode.load(Ordering::Relaxed);
        // One that is not known is never taken for a weaker one.
        let known = [AuditMode::BestEffort, AuditMode::Buffered, AuditMode::Strict];
        known.into_iter().find(|known| *known as u8 == mode).unwrap_or(AuditMode::StrictRemote)
    }

    /// Changes that mode.
    pub fn set_mode(&self, mode: AuditMode) {
        self.0.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Takes over what may change while running: the mode, the sizes, whether paths are hashed. The directory and the
    /// source stay.
    pub fn apply(&self, settings: &Settings) {
        self.set_mode(settings.mode);
        self.0.remote.require(&settings.sinks);
        self.0.queue.push(Ask::Apply(Box::new(settings.clone())));
    }

    /// Whether a disclosure could be recorded now, as far as is known: false while the disk is full or broken, and
    /// after the end.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.0.stats.writable.load(Ordering::Relaxed) && !self.0.queue.is_closed()
    }

    /// What the journal counts.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.0.stats)
    }

    /// What was used of what is permitted, since this start.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// What a sink needs of the journal.
    fn source(&self) -> sink::runner::Source {
        let Inner { dir, max, queue, tail, pins, remote, .. } = &*self.0;
        let (queue, tail, pins) = (Arc::clone(queue), Arc::clone(tail), Arc::clone(pins));
        let remote = Arc::clone(remote);
        sink::runner::Source { dir: dir.clone(), max: *max, tail, queue, pins, remote }
    }

    /// The name of this start's chain.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        self.0.chain
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.push(Ask::Close(None));
    }
}

impl Receipt {
    /// The event's id: the same wherever the event is sent. Of an event that is queued, and so has none yet: the chain's.
    #[must_use]
    pub fn id(&self) -> String {
        match self.kept() {
            Kept::InJournal => format!("{}-{:020}", self.chain, self.seq),
            Kept::Queued => self.chain.to_string(),
        }
    }

    /// Where the event is.
    #[must_use]
    pub fn kept(&self) -> Kept {
        if self.seq == 0 { Kept::Queued } else { Kept::InJournal }
    }

    /// The event's number in its chain, from 1; 0 while it is queued.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

fn prepare_dir(dir: &Path) -> Result<(), Error> {
    disk::prepare(dir).map_err(|unfit| match unfit {
        Unfit::Unsafe(why) => Error::Directory { dir: dir.to_owned(), why },
        Unfit::Failed(source) => Error::Open { dir: dir.to_owned(), source: source.into() },
    })
}

fn lock_dir(dir: &Path) -> Result<File, Error> {
    prepare_dir(dir)?;
    disk::lock(dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            Error::Directory { dir: dir.to_owned(), why: "another process uses this journal" }
        }
        _ => Error::Open { dir: dir.to_owned(), source: error.into() },
    })
}

#[cfg(test)]
mod tests;
