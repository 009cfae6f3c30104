//! Prints exactly the journalled bytes, one line an event, behind the journal and at its own pace.
//!
//! At least once: after a crash, up to a second of lines may come twice, with the same ids. A reader of our output
//! that stalls makes this sink lag, and nothing else. Works on a thread of its own, since writing may block.

use super::{
    cursor::Cursor,
    tail::{Journal, Tail},
};
use crate::{
    audit::{
        Audit,
        chain::Position,
        journal::walk::{Walk, list},
    },
    name::SinkName,
};
use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Lines are gathered for this long, so that a busy journal costs few writes.
const GATHER: Duration = Duration::from_millis(20);
/// Between two savings of the cursor.
const SAVE: Duration = Duration::from_secs(1);
/// How long the rest may take once the sink is asked to end.
const DRAIN: Duration = Duration::from_millis(500);
/// Between two tries of an output or disk that fails.
const REST: Duration = Duration::from_secs(1);
/// Bytes of one write, about.
const CHUNK: usize = 64 * 1024;

/// The sink of kind `stdout`, not running yet.
pub struct Stdout {
    dir: PathBuf,
    name: SinkName,
    tail: Arc<Tail>,
    out: Box<dyn Write + Send>,
}

impl Stdout {
    /// The sink `name` of `audit`, printing to `out`.
    #[must_use]
    pub fn new(audit: &Audit, name: SinkName, out: Box<dyn Write + Send>) -> Self {
        Self { dir: audit.0.dir.clone(), name, tail: Arc::clone(&audit.0.tail), out }
    }

    /// The sink `name` of `audit`, printing to our standard output.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn of_process(audit: &Audit, name: SinkName) -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(audit, name, Box::new(out)))
    }

    /// Prints until `stop`, or until the journal is closed and all is printed. After `stop`, what is left is printed
    /// for half a second at most; an output that blocks for longer is left alone, and the next start goes on from the
    /// last saved place.
    ///
    /// # Errors
    /// The sink's cursor cannot be read, or no thread can be started.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (done, ended) = oneshot::channel::<()>();
        let tail = Arc::clone(&self.tail);
        let printer = Printer::open(self, Arc::clone(&stopping))?;
        let work = move || {
            printer.run();
            drop(done);
        };
        thread::Builder::new().name("audit-stdout".into()).spawn(work)?;
        tokio::pin!(ended);
        tokio::select! {
            _ = &mut ended => return Ok(()),
            () = stop.cancelled() => {}
        }
        stopping.store(true, Ordering::Release);
        tail.nudge();
        // Whether it ended or is stuck, there is nothing more to do.
        match tokio::time::timeout(DRAIN, ended).await {
            Ok(_) => Ok(()),
            Err(_) => {
                tracing::warn!("standard output is stuck; the rest is printed after the next start");
                Ok(())
            }
        }
    }
}

/// The sink on its thread.
struct Printer {
    dir: PathBuf,
    name: SinkName,
    tail: Arc<Tail>,
    out: Box<dyn Write + Send>,
    stopping: Arc<AtomicBool>,
    cursor: Cursor,
    walk: Walk,
    /// Lines that are being printed, and how much of them is.
    lines: Vec<u8>,
    printed: usize,
    saved_at: Instant,
}

impl Printer {
    fn open(sink: Stdout, stopping: Arc<AtomicBool>) -> io::Result<Self> {
        let Stdout { dir, name, tail, out } = sink;
        let cursor = Cursor::open(&dir, &name)?;
        let walk = Walk::new(&dir, cursor.saved());
        let saved_at = Instant::now();
        Ok(Self { dir, name, tail, out, stopping, cursor, walk, lines: Vec::new(), printed: 0, saved_at })
    }

    fn run(mut self) {
        loop {
            let stopping = self.stopping.load(Ordering::Acquire);
            let seen = self.tail.end();
            if let Err(error) = self.catch_up(seen.position) {
                tracing::warn!(sink = %self.name, %error, "printing audit events; trying again");
                if stopping || seen.journal == Journal::Closed {
                    return;
                }
                self.tail.gather(seen, REST);
                continue;
            }
            let last = self.walk.last();
            if stopping || seen.journal == Journal::Closed {
                self.save(last);
                return;
            }
            let unsaved = self.cursor.saved() != last;
            if unsaved && self.saved_at.elapsed() >= SAVE {
                self.save(last);
            }
            let limit = unsaved.then(|| SAVE.saturating_sub(self.saved_at.elapsed()));
            self.tail.wait(seen, limit.map(|limit| limit.max(GATHER)));
            self.tail.gather(seen, GATHER);
        }
    }

    fn save(&mut self, last: Option<Position>) {
        let Some(last) = last else { return };
        self.saved_at = Instant::now();
        if let Err(error) = self.cursor.save(last) {
            tracing::warn!(sink = %self.name, %error, "saving the sink's cursor; lines may come twice");
        }
    }

    /// Prints everything up to `end`.
    fn catch_up(&mut self, end: Position) -> io::Result<()> {
        self.print()?;
        let names = list(&self.dir)?;
        loop {
            while self.lines.len() < CHUNK {
                let Some(event) = self.walk.next(&names, Some(end))? else { break };
                self.lines.extend_from_slice(event);
                self.lines.push(b'\n');
            }
            let skipped = self.walk.take_skipped();
            if skipped > 0 {
                tracing::error!(sink = %self.name, skipped, "events were gone before this sink could print them");
            }
            if self.lines.is_empty() {
                return Ok(());
            }
            self.print()?;
        }
    }

    /// Prints the lines in hand from where the last try ended, so that no line is torn by an error.
    fn print(&mut self) -> io::Result<()> {
        while let Some(rest) = self.lines.get(self.printed..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.printed = self.printed.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.flush()?;
        self.lines.clear();
        self.printed = 0;
        Ok(())
    }
}
