//! Where requests wait for the journal's thread, and how they hear of it.
//!
//! The thread wakes one waiter of a batch; that one, on the runtime's own thread, wakes the others. Waking each from
//! the journal's thread would cost a system call apiece. Does not touch files.

use super::{
    Error, Receipt, Settings,
    chain::Chain,
    event::Event,
    loose::{Loose, Taken},
};
use crate::policy::rule::AuditMode;
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The most events of one commit.
const BATCH: usize = 1_024;

/// Where an answer goes.
pub(super) type Ack<T> = oneshot::Sender<Result<T, Error>>;

/// An event's waiter and what it is told; nobody may wait any more.
pub(super) type Answer = (Ack<Receipt>, Result<Receipt, Error>);

/// What the journal's thread is asked.
pub(super) enum Ask {
    /// To record an event.
    Record(Box<Event>, AuditMode, Ack<Receipt>),
    /// To put everything on disk.
    Flush(Ack<()>),
    /// The same, and to seal the journal and end.
    Close(Option<Ack<()>>),
    /// To take over settings.
    Apply(Box<Settings>),
    /// To record what nobody waits for.
    Loose(Taken),
    /// To let go of what no sink needs any more.
    Tidy,
    /// To take in what an earlier agent handed over.
    Adopt(Box<Adoption>, Ack<()>),
}

/// Events of an earlier chain, without a hole, that continue `before`.
pub(super) struct Adoption {
    /// The chain before the first one.
    pub(super) before: Chain,
    /// As they were journalled.
    pub(super) events: Vec<Vec<u8>>,
}

/// The queue before the journal.
pub(super) struct Queue {
    line: Mutex<Line>,
    arrived: Condvar,
    /// Answers that wait for the woken waiter to pass them on.
    answers: Mutex<Vec<Answer>>,
}

#[derive(Default)]
struct Line {
    asks: Vec<Ask>,
    loose: Loose,
    sleeping: Sleeping,
    closed: Closed,
}

#[derive(Default, PartialEq, Eq)]
enum Sleeping {
    /// Until there is an ask.
    Deeply,
    /// Until there is anything.
    Lightly,
    #[default]
    No,
}

/// Whether the journal's thread cares for what nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heed {
    All,
    /// It could not write it.
    AsksOnly,
}

#[derive(Default, PartialEq, Eq)]
enum Closed {
    Yes,
    #[default]
    No,
}

impl Line {
    fn is_idle(&self, heed: Heed) -> bool {
        self.asks.is_empty() && (heed == Heed::AsksOnly || self.loose.is_empty())
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { line: Mutex::default(), arrived: Condvar::new(), answers: Mutex::default() }
    }

    /// Puts `ask` at the end of the line; it is carried out even if nobody waits for the answer any more. After the
    /// end, the answer's sender is dropped.
    pub(super) fn push(&self, ask: Ask) {
        let mut line = lock(&self.line);
        if line.closed == Closed::Yes {
            return;
        }
        line.asks.push(ask);
        if line.sleeping != Sleeping::No {
            line.sleeping = Sleeping::No;
            drop(line);
            self.arrived.notify_one();
        }
    }

    /// Leaves `event` for when the journal's thread can write it. No, after the end.
    pub(super) fn leave(&self, event: Box<Event>) -> bool {
        let mut line = lock(&self.line);
        if line.closed == Closed::Yes {
            return false;
        }
        line.loose.push(event);
        if line.sleeping == Sleeping::Lightly {
            line.sleeping = Sleeping::No;
            drop(line);
            self.arrived.notify_one();
        }
        true
    }

    /// Some of what nobody waits for.
    pub(super) fn take_loose(&self) -> Taken {
        lock(&self.line).loose.take(BATCH)
    }

    /// Takes back what could not be written.
    pub(super) fn give_back(&self, taken: Taken) {
        lock(&self.line).loose.give_back(taken);
    }

    /// Moves the next batch to `batch`; waits for one until `deadline`, or for ever without one.
    pub(super) fn take(&self, batch: &mut Vec<Ask>, deadline: Option<Instant>, heed: Heed) {
        let mut line = lock(&self.line);
        while line.is_idle(heed) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return;
            }
            line.sleeping = if heed == Heed::All { Sleeping::Lightly } else { Sleeping::Deeply };
            line = match left {
                None => self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.arrived.wait_timeout(line, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            line.sleeping = Sleeping::No;
            if !line.is_idle(heed) {
                // On a core shared with the runtime's thread that one goes on first, and what it still has to say comes
                // into the same batch. With nobody else on the core this is a system call that does nothing.
                drop(line);
                thread::yield_now();
                line = lock(&self.line);
            }
        }
        let count = line.asks.len().min(BATCH);
        batch.extend(line.asks.drain(..count));
        if heed == Heed::All && !line.loose.is_empty() {
            batch.push(Ask::Loose(line.loose.take(BATCH)));
        }
    }

    /// Ends the line: whoever still waits in it, or comes later, hears that it is closed.
    pub(super) fn close(&self) {
        let mut line = lock(&self.line);
        line.closed = Closed::Yes;
        line.asks.clear();
    }

    /// Whether the line has ended.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.line).closed == Closed::Yes
    }

    /// Answers a batch: wakes one waiter and leaves the rest to it.
    pub(super) fn answer(&self, mut batch: Vec<Answer>) {
        self.pass_on();
        while let Some((ack, answer)) = batch.pop() {
            let mut answers = lock(&self.answers);
            answers.append(&mut batch);
            drop(answers);
            if ack.send(answer).is_ok() {
                return;
            }
            // That waiter hung up; the next one takes its part.
            batch.append(&mut lock(&self.answers));
        }
    }

    /// Whether answers wait to be passed on.
    pub(super) fn owes_answers(&self) -> bool {
        !lock(&self.answers).is_empty()
    }

    /// Passes on the answers that wait.
    pub(super) fn pass_on(&self) {
        let answers = std::mem::take(&mut *lock(&self.answers));
        for (ack, answer) in answers {
            // A waiter that hung up needs no answer: its event is on disk all the same.
            ack.send(answer).unwrap_or_default();
        }
    }
}

/// Passes answers on when its waiter was answered, and also when the waiter hangs up: a woken waiter that is dropped
/// would leave the others waiting.
pub(super) struct PassOn<'a>(pub(super) &'a Queue);

impl Drop for PassOn<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

/// A panic elsewhere leaves these values whole: each is changed in one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
