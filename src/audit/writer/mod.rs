//! The journal's thread: takes what waits, writes it at once, syncs once, answers all.
//!
//! Does not decide what is refused or retried: the journal does.

mod accounts;

use super::{
    Error, Receipt, Settings,
    chain::Position,
    flood::Floods,
    journal::{Fault, Journal, Name, walk::list},
    loose::Taken,
    queue::{Ack, Ask, Heed, Queue},
    share::Shares,
    sink::tail::Tail,
};
use crate::{policy::rule::AuditMode, usage::Ledger};
use accounts::{dropped, say};
use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// From the first unsynced byte to the sync, at most.
const SYNC_WITHIN: Duration = Duration::from_millis(50);
/// This much is synced without waiting.
const SYNC_BYTES: usize = 1024 * 1024;
/// How often a failed disk is tried.
const RETRY: Duration = Duration::from_secs(1);
/// A woken waiter that passes nothing on for this long is not waited for.
const PASS_ON: Duration = Duration::from_millis(5);

/// What the thread owns.
pub(super) struct Writer {
    journal: Journal,
    queue: Arc<Queue>,
    tail: Arc<Tail>,
    observe: Box<dyn Fn(Duration) + Send>,
    floods: Floods,
    shares: Shares,
    ledger: Arc<Ledger>,
    /// Segments of earlier chains whose events no share counts yet.
    unweighed: Vec<Name>,
    dir: PathBuf,
    started: Instant,
    dirty_since: Option<Instant>,
    /// When the disk was last looked after.
    tried: Instant,
    /// Keeps other processes out of the directory.
    lock: Option<File>,
}

/// One event's waiter; nobody may wait any more.
struct Waiting {
    ack: Ack<Receipt>,
    mode: AuditMode,
    seq: Result<u64, Error>,
}

#[derive(PartialEq, Eq)]
enum Turn {
    Again,
    Last,
}

impl Writer {
    pub(super) fn new(
        journal: Journal,
        settings: &Settings,
        (queue, tail, ledger): (Arc<Queue>, Arc<Tail>, Arc<Ledger>),
        observe: Box<dyn Fn(Duration) + Send>,
        lock: File,
    ) -> io::Result<Self> {
        let dir = settings.journal.dir.clone();
        let mut unweighed = list(&dir)?;
        unweighed.retain(|name| name.chain != journal.chain());
        Ok(Self {
            journal,
            queue,
            tail,
            observe,
            floods: Floods::default(),
            shares: Shares::new(settings),
            ledger,
            unweighed,
            dir,
            started: Instant::now(),
            dirty_since: None,
            tried: Instant::now(),
            lock: Some(lock),
        })
    }

    /// Works until the journal is closed.
    pub(super) fn run(mut self) {
        let mut batch = Vec::new();
        self.tail.publish(self.journal.synced());
        while self.turn(&mut batch) == Turn::Again {}
    }

    fn turn(&mut self, batch: &mut Vec<Ask>) -> Turn {
        if self.floods.due().is_some_and(|due| due <= self.started.elapsed()) {
            self.report_floods();
        }
        if self.shares.due().is_some_and(|due| due <= self.started.elapsed()) {
            self.report_dropped();
        }
        let heed = if self.journal.is_writable() { Heed::All } else { Heed::AsksOnly };
        self.queue.take(batch, Some(Instant::now()), heed);
        if batch.is_empty() && self.weigh_one() {
            return Turn::Again;
        }
        if batch.is_empty() && self.journal.check_one() {
            self.tail.publish(self.journal.synced());
            return Turn::Again;
        }
        if batch.is_empty() {
            self.queue.take(batch, self.deadline(), heed);
        }
        if batch.is_empty() {
            self.queue.pass_on();
            if self.dirty_since.is_none_or(|since| since.elapsed() >= SYNC_WITHIN) || self.is_retry_due() {
                self.refresh();
            }
            return Turn::Again;
        }
        let turn = self.commit(batch);
        let noted = self.journal.has_notes() && self.journal.is_writable();
        // However many ask: else they would keep a disk that has room again from being found.
        if turn == Turn::Again && (noted || self.is_retry_due()) {
            self.refresh();
        }
        turn
    }

    fn is_retry_due(&self) -> bool {
        !self.journal.is_writable() && self.tried.elapsed() >= RETRY
    }

    fn deadline(&self) -> Option<Instant> {
        let sync = self.dirty_since.and_then(|since| since.checked_add(SYNC_WITHIN));
        let now = Instant::now();
        let retry = (!self.journal.is_writable()).then(|| self.tried.checked_add(RETRY)).flatten();
        let owed = self.queue.owes_answers().then(|| now.checked_add(PASS_ON)).flatten();
        let counts = self.floods.due().into_iter().chain(self.shares.due()).min();
        let counts = counts.and_then(|due| self.started.checked_add(due));
        [sync, retry, owed, counts].into_iter().flatten().min()
    }

    fn refresh(&mut self) {
        let (started, dirty) = (Instant::now(), self.journal.is_dirty());
        self.tried = started;
        self.journal.refresh();
        if dirty && !self.journal.is_dirty() {
            (self.observe)(started.elapsed());
        }
        self.synced();
    }

    fn commit(&mut self, batch: &mut Vec<Ask>) -> Turn {
        let started = Instant::now();
        self.journal.begin();
        let (mut waiting, mut flushes, mut close) = (Vec::with_capacity(batch.len()), Vec::new(), None);
        let mut loose = None;
        for ask in batch.drain(..) {
            match ask {
                Ask::Record(event, mode, ack) => {
                    waiting.push(Waiting { ack, mode, seq: self.admit(&event) });
                }
                Ask::Flush(ack) => flushes.push(ack),
                Ask::Close(ack) => close = Some(ack),
                Ask::Apply(settings) => self.apply(&settings),
                Ask::Loose(taken) => loose = Some(taken),
                Ask::Tidy => self.tidy(),
                Ask::Adopt(adoption, ack) => ack.send(self.adopt(&adoption)).unwrap_or_default(),
            }
        }
        let wrote = self.journal.write();
        if wrote.is_ok() {
            self.answer_buffered(&mut waiting);
        }
        if self.journal.is_dirty() && self.dirty_since.is_none() {
            self.dirty_since = Some(started);
        }
        let due = self.journal.unsynced() >= SYNC_BYTES
            || self.dirty_since.is_some_and(|since| since.elapsed() >= SYNC_WITHIN);
        let asked = !waiting.is_empty() || !flushes.is_empty() || close.is_some();
        let mut done = if asked || due || wrote.is_err() { self.settle(started) } else { Ok(()) };
        if done.is_err() {
            self.floods.taken_back(self.journal.synced());
            self.shares.taken_back(self.journal.synced());
        }
        self.answer(waiting, &done);
        // After those that wait: it is kept whatever happens to them.
        if let Some(taken) = loose {
            self.place(taken, started);
        }
        if !flushes.is_empty() || close.is_some() {
            self.place_all(started);
            done = done.and(self.settle(started));
        }
        for ack in flushes {
            ack.send(done.clone().map_err(Error::from)).unwrap_or_default();
        }
        match close {
            Some(ack) => self.close(ack),
            None => Turn::Again,
        }
    }

    fn close(&mut self, ack: Option<Ack<()>>) -> Turn {
        let left = self.queue.take_loose();
        if !left.is_empty() {
            let count = left.lost.map_or(0, |lost| lost.count).saturating_add(left.events.len() as u64);
            tracing::error!(
                count,
                "events that nobody waited for are lost: the audit journal cannot be written"
            );
        }
        self.report_floods();
        self.report_dropped();
        let closed = self.journal.close();
        self.synced();
        // All ends before the answer, so that whoever hears it may open the journal again.
        self.lock = None;
        self.end();
        if let Some(ack) = ack {
            ack.send(closed.map_err(Error::from)).unwrap_or_default();
        }
        Turn::Last
    }

    /// Writes what nobody waits for, as far as the journal takes it; from here on it outlives a disk that fails. The rest
    /// goes back to the line.
    fn place(&mut self, mut taken: Taken, started: Instant) -> Option<Fault> {
        self.journal.begin();
        let mut refused = None;
        if let Some(lost) = taken.lost {
            match self.journal.append(&dropped(lost)) {
                Ok(_) => {
                    self.journal.lost(lost.count);
                    taken.lost = None;
                }
                Err(fault) => refused = Some(fault),
            }
        }
        while refused.is_none()
            && let Some(event) = taken.events.front()
        {
            self.journal.keep();
            if let Some(full) = self.shares.refuse(event) {
                say(&full);
                self.shares.drop_one(event.time, self.started.elapsed());
                taken.events.pop_front();
                continue;
            }
            match self.append(event) {
                Ok(_) => drop(taken.events.pop_front()),
                Err(fault) => refused = Some(fault),
            }
        }
        self.journal.keep();
        // A write that fails is tried again with the sync.
        let _ = self.journal.write();
        if self.journal.is_dirty() && self.dirty_since.is_none() {
            self.dirty_since = Some(started);
        }
        if refused.is_some() {
            self.queue.give_back(taken);
        }
        refused
    }

    /// Writes everything that nobody waits for, unless the journal refuses.
    fn place_all(&mut self, started: Instant) {
        let mut taken = self.queue.take_loose();
        while !taken.is_empty() && self.place(taken, started).is_none() {
            taken = self.queue.take_loose();
        }
    }

    fn end(&self) {
        self.queue.close();
        self.queue.pass_on();
        self.tail.close();
    }

    fn settle(&mut self, started: Instant) -> Result<(), Fault> {
        if !self.journal.is_dirty() {
            self.synced();
            return Ok(());
        }
        let done = self.journal.settle();
        if done.is_ok() {
            (self.observe)(started.elapsed());
        }
        self.synced();
        done
    }

    fn synced(&mut self) {
        if !self.journal.is_dirty() || !self.journal.is_writable() {
            self.dirty_since = None;
        }
        let end = Position { chain: self.journal.chain(), seq: self.journal.synced() };
        self.shares.synced(end);
        self.tail.publish(end.seq);
    }

    /// Once answered, an event cannot be taken back, and neither can those before it.
    fn answer_buffered(&mut self, waiting: &mut Vec<Waiting>) {
        let ready = |one: &mut Waiting| one.mode == AuditMode::Buffered && one.seq.is_ok();
        let ready: Vec<_> = waiting.extract_if(.., ready).collect();
        if ready.is_empty() {
            return;
        }
        self.journal.keep();
        let last = ready.iter().filter_map(|one| one.seq.as_ref().ok()).max().copied();
        self.answer_up_to(ready, last.unwrap_or(0), None);
    }

    fn answer(&self, waiting: Vec<Waiting>, done: &Result<(), Fault>) {
        self.answer_up_to(waiting, self.journal.synced(), done.as_ref().err());
    }

    fn answer_up_to(&self, waiting: Vec<Waiting>, seq: u64, fault: Option<&Fault>) {
        let chain = self.journal.chain();
        let answers = waiting.into_iter().map(|one| {
            let answer = match (one.seq, fault) {
                (Ok(own), _) if own <= seq => Ok(Receipt { chain, seq: own }),
                (Ok(_), Some(fault)) => Err(Error::from(Arc::clone(fault))),
                (Ok(_), None) => Err(Error::Closed),
                (Err(error), _) => Err(error),
            };
            (one.ack, answer)
        });
        self.queue.answer(answers.collect());
    }
}

/// However the thread ends, nobody is left waiting.
impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}
