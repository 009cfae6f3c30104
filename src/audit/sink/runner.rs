//! The life of one sink, the same for every kind: reads behind the journal, delivers batch after batch, saves its place.
//!
//! Works on a thread of its own with a small runtime of its own, so that neither a slow receiver nor a slow disk can hold
//! up a request. At least once: after a crash one batch may come twice, with the same ids.

use super::{
    batch::{FULL, Item, MOST},
    courier::{Courier, Standing, Tell},
    cursor::Cursor,
    dead::DeadLetters,
    fact::What,
    outlet::{Outlet, Pace},
    tail::{Journal, Seen, Tail},
};
use crate::{
    audit::{
        chain::Position,
        journal::walk::{Walk, list},
        pins::Pins,
        queue::{Ask, Queue},
        remote::Remote,
    },
    name::SinkName,
};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Between two tries of a disk that fails.
const REST: Duration = Duration::from_secs(1);
/// Between two tries to start a sink that cannot be started.
const RESTART: Duration = Duration::from_secs(10);
/// What a delivery that is cut off may take to end.
const CUT: Duration = Duration::from_millis(100);

/// What a sink needs of the journal.
#[derive(Clone)]
pub(in crate::audit) struct Source {
    pub(in crate::audit) dir: PathBuf,
    pub(in crate::audit) max: u64,
    pub(in crate::audit) tail: Arc<Tail>,
    pub(in crate::audit) queue: Arc<Queue>,
    pub(in crate::audit) pins: Arc<Pins>,
    pub(in crate::audit) remote: Arc<Remote>,
}

/// What others may ask of a running sink, and see of it.
#[derive(Default)]
pub(in crate::audit) struct Control {
    /// Ends it, once the rest is delivered.
    pub(super) stop: CancellationToken,
    /// Ends it at once; nothing is saved any more.
    cut: CancellationToken,
    reopen: AtomicBool,
    /// Events of earlier chains that are not delivered yet.
    behind: AtomicU64,
    /// Number of the last delivered event of this chain.
    seq: AtomicU64,
}

impl Control {
    /// Of a sink that `stop` ends.
    #[cfg(test)]
    pub(in crate::audit) fn until(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// Has it open its file anew before the next batch.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// How many events wait for it, of a journal that ends at `end`.
    pub(super) fn lag(&self, end: u64) -> u64 {
        let here = end.saturating_sub(self.seq.load(Ordering::Relaxed));
        here.saturating_add(self.behind.load(Ordering::Relaxed))
    }
}

/// Makes the way to the receiver.
pub(in crate::audit) type Make = Box<dyn Fn() -> io::Result<Box<dyn Outlet>> + Send + Sync>;

/// Runs the sink `name` until `control.stop`, or until the journal is closed and all is delivered. After the stop the
/// rest may take as long as the outlet's pace says; an outlet that blocks for longer is left alone.
pub(in crate::audit) async fn run(
    source: Source,
    name: SinkName,
    make: Make,
    tell: Tell,
    control: Arc<Control>,
) {
    loop {
        match start(&source, &name, &make, &tell, &control) {
            Ok((pace, ended)) => {
                if watch(&source, &name, &control, pace, ended).await {
                    return;
                }
                tracing::error!(sink = %name, "the audit sink broke off; it is started again");
            }
            Err(error) => tracing::error!(sink = %name, %error, "the audit sink does not run; trying again"),
        }
        tokio::select! {
            () = control.stop.cancelled() => return,
            () = tokio::time::sleep(RESTART) => {}
        }
    }
}

fn start(
    source: &Source,
    name: &SinkName,
    make: &Make,
    tell: &Tell,
    control: &Arc<Control>,
) -> io::Result<(Pace, oneshot::Receiver<()>)> {
    let outlet = make()?;
    let pace = outlet.pace();
    let cursor = Cursor::open(&source.dir, name)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let courier = Courier {
        name: name.clone(),
        outlet,
        dead: DeadLetters::new(&source.dir, name, source.max, Arc::clone(&source.pins)),
        tell: Arc::clone(tell),
        stop: control.stop.clone(),
        standing: Standing::Up,
        missed: Vec::new(),
    };
    let walk = Walk::new(&source.dir, cursor.saved());
    let runner = Runner {
        source: source.clone(),
        control: Arc::clone(control),
        courier,
        cursor,
        walk,
        delivered: None,
        saved_at: Instant::now(),
        pace,
    };
    let (done, ended) = oneshot::channel();
    let work = move || {
        runner.run(&runtime);
        // Nobody may wait any more.
        done.send(()).unwrap_or_default();
    };
    thread::Builder::new().name(format!("audit-{name}")).spawn(work)?;
    Ok((pace, ended))
}

/// Waits for the end of the thread. No, if it broke off by itself.
async fn watch(
    source: &Source,
    name: &SinkName,
    control: &Control,
    pace: Pace,
    mut ended: oneshot::Receiver<()>,
) -> bool {
    tokio::select! {
        biased;
        end = &mut ended => return end.is_ok(),
        () = control.stop.cancelled() => {}
    }
    source.tail.nudge();
    if tokio::time::timeout(pace.drain, &mut ended).await.is_err() {
        control.cut.cancel();
        // Whether it ended or is stuck, there is nothing more to do.
        let _ = tokio::time::timeout(CUT, &mut ended).await;
        tracing::warn!(sink = %name, "what the audit sink did not take is delivered after the next start");
    }
    true
}

/// The sink on its thread.
struct Runner {
    source: Source,
    control: Arc<Control>,
    courier: Courier,
    cursor: Cursor,
    walk: Walk,
    /// The last event that the receiver has.
    delivered: Option<Position>,
    saved_at: Instant,
    pace: Pace,
}

impl Runner {
    fn run(mut self, runtime: &tokio::runtime::Runtime) {
        self.delivered = self.cursor.saved();
        let mut weighed = false;
        loop {
            let seen = self.source.tail.end();
            if !weighed {
                weighed = self.weigh(seen).is_ok();
            }
            let last = self.control.stop.is_cancelled() || seen.journal == Journal::Closed;
            let done = self.catch_up(seen.position, runtime);
            if self.control.cut.is_cancelled() {
                return;
            }
            if let Err(error) = done {
                tracing::warn!(sink = %self.courier.name, %error, "reading audit events; trying again");
                if last {
                    return self.save();
                }
                self.source.tail.gather(seen, u64::MAX, REST);
                continue;
            }
            if last {
                return self.save();
            }
            self.idle(seen);
        }
    }

    /// Sleeps until there is something to do.
    fn idle(&mut self, seen: Seen) {
        let unsaved = self.cursor.saved() != self.delivered;
        if unsaved && self.saved_at.elapsed() >= self.pace.save {
            self.save();
        }
        let unsaved = self.cursor.saved() != self.delivered;
        let limit =
            unsaved.then(|| self.pace.save.saturating_sub(self.saved_at.elapsed()).max(self.pace.gather));
        self.source.tail.wait(seen, limit);
        self.source.tail.gather(seen, MOST as u64, self.pace.gather);
    }

    /// Counts what waits of earlier chains.
    fn weigh(&self, seen: Seen) -> io::Result<()> {
        let chain = seen.position.chain;
        let here = self.cursor.saved().filter(|saved| saved.chain == chain);
        self.control.seq.store(here.map_or(0, |saved| saved.seq), Ordering::Relaxed);
        let mut count = 0_u64;
        if here.is_none() {
            let mut walk = Walk::new(&self.source.dir, self.cursor.saved());
            let (names, end) = (list(&self.source.dir)?, Position { chain, seq: 0 });
            while walk.next(&names, Some(end))?.is_some() {
                count = count.saturating_add(1);
            }
        }
        self.control.behind.store(count, Ordering::Relaxed);
        Ok(())
    }

    /// Delivers everything up to `end`.
    fn catch_up(&mut self, end: Position, runtime: &tokio::runtime::Runtime) -> io::Result<()> {
        loop {
            if self.control.reopen.swap(false, Ordering::Relaxed) {
                self.courier.outlet.reopen();
            }
            let batch = self.read(end)?;
            let skipped = self.walk.take_skipped();
            if skipped > 0 {
                let sink = &self.courier.name;
                tracing::error!(%sink, skipped, "events were gone before this audit sink could have them");
                self.courier.say(What::Skipped { events: skipped });
            }
            if batch.is_empty() {
                return Ok(());
            }
            let (cut, courier) = (self.control.cut.clone(), &mut self.courier);
            let done = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = cut.cancelled() => 0,
                    done = courier.deliver(&batch) => done,
                }
            });
            self.note(batch.get(..done).unwrap_or_default(), end);
            if done < batch.len() {
                // It is asked to end: the rest gets one more try, from here on.
                self.walk = Walk::new(&self.source.dir, self.delivered);
                return Ok(());
            }
        }
    }

    fn read(&mut self, end: Position) -> io::Result<Vec<Item>> {
        let names = list(&self.source.dir)?;
        let (mut batch, mut bytes) = (Vec::new(), 0_usize);
        while batch.len() < MOST && bytes < FULL {
            let native = match self.walk.next(&names, Some(end)) {
                Ok(Some(native)) => native.to_vec(),
                Ok(None) => break,
                Err(error) if batch.is_empty() => return Err(error),
                // What was read before it must not be lost; the error comes again.
                Err(_) => break,
            };
            bytes = bytes.saturating_add(native.len());
            let Some(place) = self.walk.last() else { break };
            batch.push(Item { place, native });
        }
        Ok(batch)
    }

    /// The receiver has `items`.
    fn note(&mut self, items: &[Item], end: Position) {
        let Some(last) = items.last() else { return };
        self.delivered = Some(last.place);
        let old = items.iter().filter(|item| item.place.chain != end.chain).count() as u64;
        // Nobody else writes to it.
        let behind = self.control.behind.load(Ordering::Relaxed).saturating_sub(old);
        self.control.behind.store(behind, Ordering::Relaxed);
        if last.place.chain == end.chain {
            self.control.seq.store(last.place.seq, Ordering::Relaxed);
            let missed = self.courier.missed.iter().filter(|place| place.chain == end.chain);
            self.source.remote.acknowledge(&self.courier.name, last.place.seq, missed.map(|place| place.seq));
        }
        self.courier.missed.clear();
        if self.saved_at.elapsed() >= self.pace.save {
            self.save();
        }
    }

    fn save(&mut self) {
        let Some(place) = self.delivered.filter(|place| self.cursor.saved() != Some(*place)) else { return };
        self.saved_at = Instant::now();
        match self.cursor.save(place) {
            Ok(()) => {
                if self.source.pins.passed(&self.courier.name, place) {
                    self.source.queue.push(Ask::Tidy);
                }
            }
            Err(error) => {
                tracing::warn!(sink = %self.courier.name, %error, "saving the sink's place; events may come twice");
            }
        }
    }
}
