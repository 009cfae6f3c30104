//! The task behind one secret: gets it, keeps it, replaces it, lets the old one go.
//!
//! One task a secret is what makes one read of Vault at a time, and what keeps one bad secret from hurting another.
//! Does not hand anything out: it writes the shelf that `Keeper` reads.

use super::{
    Settings, Shared, Shelf, Slot,
    again::Again,
    fact::Act,
    fingerprint,
    kept::{Fresh, Kept, Made, Old},
    kv::{self, Look},
    source,
};
use crate::{
    crypto,
    name::WorkloadName,
    shutdown,
    vault::{
        backoff,
        error::{Class, Error, Fault},
        limiter::Account,
        renewal::Due,
        session::{Identity, Session, State},
    },
};
use std::{future::pending, sync::atomic::Ordering, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// A workload that waits may make a task try again this soon, and no sooner.
const NUDGE_PAUSE: Duration = Duration::from_secs(1);

/// The task that keeps one secret.
pub struct Task {
    settings: Settings,
    shared: Shared,
    identity: Identity,
    shelf: watch::Sender<Shelf>,
    nudges: mpsc::Receiver<WorkloadName>,
    again: Again,
    reader: kv::Reader,
    current: Option<Kept>,
    old: Vec<Old>,
    made: u64,
    problem: Option<Error>,
    failures: u32,
    refusals: u32,
    tried: Tried,
}

/// The last attempt.
struct Tried {
    at: Option<Instant>,
    session: u64,
    next: Instant,
}

/// A secret's slot and the task behind it; nothing is sent before the task runs.
#[must_use]
pub fn keep(settings: Settings, identity: Identity, shared: Shared) -> (Slot, Task) {
    let (shelf, watched) = watch::channel(Shelf::default());
    let (nudge, nudges) = mpsc::channel(1);
    let tried = Tried { at: None, session: 0, next: Instant::now() };
    let slot = Slot::new(watched, nudge);
    let task = Task {
        settings,
        reader: kv::Reader::new(shared.engines.clone()),
        shared,
        identity,
        shelf,
        nudges,
        again: slot.again(),
        current: None,
        old: Vec::new(),
        made: 0,
        problem: None,
        failures: 0,
        refusals: 0,
        tried,
    };
    (slot, task)
}

impl Task {
    /// Runs until `stop`, which is cancelled when the secret leaves the config or the process ends.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut account = Account::Refresh;
        let exit = self.shared.exit.clone();
        loop {
            // Only the end of everything cuts a call short: what it would bring is else left to nobody.
            if !stop.is_cancelled() {
                shutdown::last_turn(self.turn(&account), &exit).await;
            }
            account = Account::Refresh;
            let wake = self.wake();
            let mut ends = self.session_end();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.let_go().await,
                Ok(()) = self.identity.state.changed() => {}
                Ok(()) = async { match &mut ends { Some(ends) => ends.changed().await, None => pending().await } } => {}
                () = self.again.heard() => self.current.iter_mut().for_each(|kept| kept.due = Due::Replace(Instant::now())),
                Some(workload) = self.nudges.recv() => if self.hurry() { account = Account::Workload(workload) },
                () = async { match wake { Some(at) => sleep_until(at).await, None => pending().await } } => {}
            }
        }
    }

    /// Does whatever is due; running it twice does no harm.
    async fn turn(&mut self, account: &Account) {
        self.drop_ended().await;
        let state = self.identity.state.borrow_and_update().clone();
        match state {
            State::Starting => {}
            State::Down(error) => self.session_lost(error),
            State::Live(session) => {
                let now = Instant::now();
                if self.tried.session != session.number() {
                    // What the last token was refused, the new one may be given.
                    self.tried.next = now;
                    self.refusals = 0;
                }
                // While a new one cannot be had, the one in hand is kept alive.
                if self.new_is_due(now) && self.tried.next <= now {
                    self.obtain(&session, account).await;
                } else if matches!(&self.current, Some(Kept { due: Due::Renew(at), .. }) if *at <= now) {
                    self.renew(&session).await;
                }
            }
        }
        self.renew_old().await;
        self.publish();
    }

    fn wake(&self) -> Option<Instant> {
        let live = matches!(*self.identity.state.borrow(), State::Live(_));
        let current = match self.current.as_ref().map(|kept| kept.due) {
            None => Some(self.tried.next),
            Some(Due::Renew(at)) => Some(at),
            Some(Due::Replace(at)) => Some(at.max(self.tried.next)),
            Some(Due::Never) => None,
        };
        let moving = self.current.as_ref().filter(|kept| self.moved_on(kept)).map(|_| self.tried.next);
        let end = self.current.as_ref().and_then(Kept::end);
        let old = self.old.iter().flat_map(|old| [Some(old.until), old.renewal()]).flatten();
        current.into_iter().chain(moving).filter(|_| live).chain(end).chain(old).min()
    }

    /// Whether a newer login has taken the place of the one that `kept` was made with.
    fn moved_on(&self, kept: &Kept) -> bool {
        match (&*self.identity.state.borrow(), &kept.value.session) {
            (State::Live(session), Some(made_with)) => session.number() != made_with.number(),
            _ => false,
        }
    }

    fn session_end(&self) -> Option<watch::Receiver<Option<Instant>>> {
        self.current.as_ref().and_then(|kept| kept.value.session.as_ref()).map(Session::ends)
    }

    fn new_is_due(&self, now: Instant) -> bool {
        let due = |kept: &Kept| matches!(kept.due, Due::Replace(at) if at <= now) || self.moved_on(kept);
        self.current.as_ref().is_none_or(due)
    }

    /// Lets a workload bring the next attempt forward: it waits for the first value, or the one in hand is doubted.
    fn hurry(&mut self) -> bool {
        let now = Instant::now();
        let rested = self.tried.at.map_or(now, |at| at + NUDGE_PAUSE).max(now);
        if let Some(kept) = self.current.as_mut() {
            return kept.doubt(rested);
        }
        let hurry = rested == now && self.tried.next > now;
        if hurry {
            self.tried.next = now;
        }
        hurry
    }

    async fn obtain(&mut self, session: &Session, account: &Account) {
        let waited_until = self.tried.next;
        self.tried = Tried { at: Some(Instant::now()), session: session.number(), next: waited_until };
        let known = self.again.known(self.current.as_ref().map(|kept| kept.value.generation()));
        let looked =
            source::look(&self.settings, &mut self.reader, &self.shared.vault, account, session, known).await;
        match looked {
            Ok(Look::Unchanged) => self.confirm(),
            Ok(Look::Fresh(fresh)) if self.has(&fresh) => self.confirm(),
            Ok(Look::Fresh(fresh)) => {
                let fingerprint =
                    fingerprint::of(&self.settings, &self.shared, session, &fresh.content).await;
                self.promote(fresh, fingerprint, session);
            }
            Err(error) if error.class() == Class::Budget => {
                self.tried.next = Instant::now() + error.retry_after().unwrap_or(NUDGE_PAUSE);
            }
            Err(error) => self.failed(error, session),
        }
    }

    fn confirm(&mut self) {
        let now = Instant::now();
        let due = self.settings.due_after(now, None);
        self.settled();
        if let Some(kept) = &mut self.current {
            kept.confirmed = now;
            kept.due = due;
        }
    }

    fn settled(&mut self) {
        self.problem = None;
        self.failures = 0;
        self.refusals = 0;
        self.tried.next = Instant::now();
    }

    /// Whether `fresh` is what is in hand.
    fn has(&self, fresh: &Fresh) -> bool {
        self.current.as_ref().is_some_and(|kept| {
            kept.is_copy(&self.settings.kind)
                && kept.value.content == fresh.content
                && fresh.version.is_none_or(|version| version == kept.value.generation)
        })
    }

    /// Serves `fresh` from now on; the one before it keeps its grace.
    fn promote(&mut self, fresh: Fresh, fingerprint: Option<String>, session: &Session) {
        let now = Instant::now();
        let due = self.settings.due_after(now, fresh.term.as_ref());
        self.settled();
        self.made += 1;
        let tag = self.shared.tags.fetch_add(1, Ordering::Relaxed) + 1;
        let mount = source::mount(&self.settings.kind, &self.reader);
        let (settings, boot, rotation) = (&self.settings, &*self.shared.boot, self.again.take(fresh.version));
        let made = Made { settings, boot, number: self.made, tag, mount, fingerprint, rotation };
        let kept = fresh.kept(made, session, due);
        tracing::debug!(secret = %self.settings.name, generation = kept.value.generation, "new value");
        let before = self.current.replace(kept);
        self.old.extend(before.map(|before| before.retire(now, self.settings.grace)));
    }

    fn failed(&mut self, error: Error, session: &Session) {
        self.failures += 1;
        let wait = backoff::wait(&error, self.failures, crypto::chance());
        self.tried.next = Instant::now() + wait;
        tracing::warn!(secret = %self.settings.name, %error, again_in_ms = backoff::ms(wait), "not kept");
        match error.class() {
            Class::Denied => {
                self.identity.doubt(session);
                self.refusals += 1;
            }
            Class::Missing => self.refusals += 2,
            _ => {}
        }
        // Vault answered, twice with a token that it knows, that this may not be read (or that it is gone): a value
        // that is no longer permitted is not served from memory either.
        if self.refusals >= 2 && self.current.take_if(|kept| kept.is_copy(&self.settings.kind)).is_some() {
            self.old.clear();
        }
        self.problem = Some(error);
    }

    async fn renew(&mut self, session: &Session) {
        let Some(kept) = &self.current else { return };
        let Some(result) = source::renew(&self.shared.vault, session, &kept.handle).await else { return };
        let granted = result.as_ref().ok().map(|(ttl, _)| *ttl);
        self.report(Act::Renew, kept, result.as_ref().err().cloned(), granted);
        let now = Instant::now();
        match &result {
            Err(error) => tracing::warn!(secret = %self.settings.name, %error, "not renewed"),
            Ok(_) => self.problem = None,
        }
        let Some(kept) = &mut self.current else { return };
        match result {
            Ok((ttl, renewable)) => {
                kept.term = kept.term.map(|term| term.renewed(now, ttl, renewable));
                kept.confirmed = now;
                kept.failures = 0;
            }
            // What Vault will not renew is replaced in time.
            Err(error) if matches!(error.class(), Class::Denied | Class::Invalid | Class::Missing) => {
                kept.term = kept.term.map(|term| term.unrenewable());
            }
            Err(error) => {
                kept.failures += 1;
                kept.due = Due::Renew(now + backoff::wait(&error, kept.failures, crypto::chance()));
                self.problem = Some(error);
                return;
            }
        }
        let term = kept.term;
        let due = self.settings.due_after(now, term.as_ref());
        if let Some(kept) = &mut self.current {
            kept.due = due;
        }
    }

    /// What would end within its grace is renewed, so that the grace is as long as it was said to be.
    async fn renew_old(&mut self) {
        let now = Instant::now();
        let due = |old: &Old| old.renewal().is_some_and(|at| at <= now);
        let Some((at, old)) = self.old.iter().enumerate().find(|(_, old)| due(old)) else { return };
        let Some(session) = old.kept.value.session.clone() else { return };
        let Some(result) = source::renew(&self.shared.vault, &session, &old.kept.handle).await else {
            return;
        };
        let granted = result.as_ref().ok().map(|(ttl, _)| *ttl);
        self.report(Act::Renew, &old.kept, result.as_ref().err().cloned(), granted);
        if let Some(old) = self.old.get_mut(at) {
            old.renewed(Instant::now(), &result, self.settings.grace);
        }
    }

    /// The token is dead, and everything that was made with it.
    fn session_lost(&mut self, error: Error) {
        self.current.take_if(|kept| kept.value.session.is_some());
        self.old.retain(|old| old.kept.value.session.is_none());
        self.problem = Some(error);
    }

    /// Lets go of what has ended or had its grace.
    async fn drop_ended(&mut self) {
        let now = Instant::now();
        // Taken out only when it is let go of: this may be cut short by a stop, and what is left is revoked there.
        while let Some(at) = self.old.iter().position(|old| old.until <= now) {
            // What was made with an earlier login falls with that token, when the last value of it is dropped.
            if let Some(old) = self.old.get(at)
                && !(self.moved_on(&old.kept) && old.kept.falls_at_exit())
            {
                // It is tried once: what is left ends by itself.
                let _ = self.revoke(&old.kept, &Account::Upkeep).await;
            }
            self.old.remove(at);
        }
        let ended = |kept: &Kept| kept.end().is_some_and(|end| end <= now);
        if self.current.as_ref().is_some_and(ended) {
            self.current = None;
        }
    }

    /// Ends a lease or child, if it is one.
    async fn revoke(&self, kept: &Kept, account: &Account) -> Result<(), Error> {
        let state = self.identity.state.borrow().clone();
        let Some(result) = source::revoke(&self.shared.vault, account, &state, kept).await else {
            return Ok(());
        };
        if let Err(error) = &result {
            tracing::warn!(secret = %self.settings.name, %error, "not revoked");
        }
        self.report(Act::Revoke, kept, result.as_ref().err().cloned(), None);
        result
    }

    /// Ends it, and tries again as long as Vault cannot be asked, until it has ended by itself.
    async fn revoke_surely(&self, kept: &Kept, account: &Account) {
        let mut failures = 0;
        while let Err(error) = self.revoke(kept, account).await {
            failures += 1;
            let again = Instant::now() + backoff::wait(&error, failures, crypto::chance());
            if error.fault() == Fault::Caller || kept.end().is_some_and(|end| end <= again) {
                return;
            }
            sleep_until(again).await;
        }
    }

    /// At the end: at exit what falls with its token is left to it; everything else is revoked here.
    async fn let_go(&mut self) {
        self.shelf.send_replace(Shelf { problem: self.problem.clone(), ..Shelf::default() });
        let account = self.settings.kind.account_at_the_end();
        let kept: Vec<Kept> =
            self.current.take().into_iter().chain(self.old.drain(..).map(|old| old.kept)).collect();
        for kept in kept {
            tokio::select! {
                biased;
                () = self.shared.exit.cancelled() => if !kept.falls_at_exit() {
                    let _ = self.revoke(&kept, &Account::Exit).await;
                },
                () = self.revoke_surely(&kept, &account) => {}
            }
        }
    }

    fn publish(&self) {
        let kind = &self.settings.kind;
        let current = self.current.as_ref().map(|kept| kept.held(kind, None));
        let previous = self.old.last().map(|old| old.kept.held(kind, Some(old.until)));
        self.shelf.send_replace(Shelf { current, previous, problem: self.problem.clone() });
    }

    fn report(&self, act: Act, kept: &Kept, error: Option<Error>, ttl: Option<Duration>) {
        // Nobody listens any more only when the process is about to end.
        let _ = self.shared.facts.send(kept.fact(act, error, ttl));
    }
}
