//! Brings one batch to its receiver, in order, however long that takes: retries for ever, cuts out what is refused.
//!
//! Does not read the journal and does not save a place: the runner does.

use super::{
    batch::{self, Item},
    dead::DeadLetters,
    fact::{Fact, What},
    outlet::{Code, Failure, Outlet, Verdict},
};
use crate::{audit::chain::Position, crypto::chance, name::SinkName};
use std::{iter, ops::Range, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The ceiling of the first wait after a failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(250);
/// The ceiling of all waits.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest that a receiver may ask us to wait.
const LONGEST_AFTER: Duration = Duration::from_secs(300);
/// This many failures in a row are worth an event: a connection that was closed while idle is not.
const DOWN: u32 = 2;

/// Told of everything that happens to sinks; must not wait.
pub(in crate::audit) type Tell = Arc<dyn Fn(Fact) + Send + Sync>;

/// The way of one sink's events.
pub(super) struct Courier {
    pub(super) name: SinkName,
    pub(super) outlet: Box<dyn Outlet>,
    pub(super) dead: DeadLetters,
    pub(super) tell: Tell,
    /// Once cancelled, each part is tried only once more.
    pub(super) stop: CancellationToken,
    pub(super) standing: Standing,
    /// What the receiver refused, or may have refused, of what is done with.
    pub(super) missed: Vec<Position>,
}

/// Whether deliveries work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Up,
    Down,
}

/// What came of one part.
enum Part {
    Done,
    Refused(Code),
    GivenUp,
}

impl Courier {
    /// Delivers `items`; how many of them, from the first on, are done with. Fewer than all only once `stop` came.
    pub(super) async fn deliver(&mut self, items: &[Item]) -> usize {
        let mut parts: Vec<Range<usize>> = iter::once(0..items.len()).collect();
        while let Some(part) = parts.pop() {
            let bound = part.clone();
            let chosen = items.get(bound).unwrap_or_default();
            match self.deliver_part(chosen).await {
                Part::Done => {}
                Part::GivenUp => return part.start,
                Part::Refused(code) if chosen.len() <= 1 => {
                    self.bury(chosen, chosen.len() as u64, None, code)
                }
                Part::Refused(_) => {
                    let [earlier, later]: [Range<usize>; 2] = batch::halves(part);
                    parts.extend([later, earlier]);
                }
            }
        }
        items.len()
    }

    async fn deliver_part(&mut self, items: &[Item]) -> Part {
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            match self.outlet.send(items).await {
                Verdict::Delivered => {
                    self.say(What::Delivered { took: begun.elapsed() });
                    self.up();
                    return Part::Done;
                }
                Verdict::Partly(rejected) => {
                    let of = items.len() as u64;
                    self.bury(items, rejected.min(of), Some(of), Code::Word("partial"));
                    self.up();
                    return Part::Done;
                }
                Verdict::Refused(code) => {
                    self.say(What::Failed(code));
                    self.up();
                    return Part::Refused(code);
                }
                Verdict::Failed(failure) => {
                    failures = failures.saturating_add(1);
                    if !self.rest(&failure, failures).await {
                        return Part::GivenUp;
                    }
                }
            }
        }
    }

    /// Waits before the next try; no, if there is none.
    async fn rest(&mut self, failure: &Failure, failures: u32) -> bool {
        let Failure { code, why, after } = failure;
        self.say(What::Failed(*code));
        tracing::debug!(sink = %self.name, %code, why, failures, "delivering audit events");
        if failures == DOWN && self.standing == Standing::Up {
            tracing::warn!(sink = %self.name, %code, why, "the audit sink is down; its events wait in the journal");
            self.standing = Standing::Down;
            self.say(What::Down(*code));
        }
        if self.stop.is_cancelled() {
            return false;
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = sleep(wait(failures, *after, chance())) => {}
        }
        true
    }

    fn up(&mut self) {
        if self.standing == Standing::Down {
            tracing::info!(sink = %self.name, "the audit sink is up again");
            self.standing = Standing::Up;
            self.say(What::Up);
        }
    }

    /// Sets aside what the receiver refuses for good: what follows must not wait for it.
    fn bury(&mut self, items: &[Item], events: u64, of: Option<u64>, code: Code) {
        let reason = match of {
            Some(of) => format!("indeterminate({events}/{of})"),
            None => code.to_string(),
        };
        tracing::error!(sink = %self.name, first = items.first().map(Item::id), events, reason, "the receiver refuses audit events");
        if let Err(error) = self.dead.keep(items, &reason) {
            tracing::error!(sink = %self.name, %error, "dead letters cannot be kept: these events are in the journal only");
        }
        self.missed.extend(items.iter().map(|item| item.place));
        self.say(What::Dead { events, of, code });
    }

    pub(super) fn say(&self, what: What) {
        (self.tell)(Fact { sink: self.name.clone(), what });
    }
}

/// The wait after the `failures`-th failure in a row: full jitter under a doubling ceiling, and what the receiver asks.
fn wait(failures: u32, after: Option<Duration>, chance: f64) -> Duration {
    let ceiling = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(7)).min(LONGEST);
    // Never quite zero: a receiver that fails at once must not be asked in a loop.
    ceiling.mul_f64(chance.max(0.05)).max(after.unwrap_or_default().min(LONGEST_AFTER))
}
