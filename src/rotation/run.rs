//! One run, step by step, by whoever has its lease: each step is journalled before the next one changes anything.
//!
//! Does not decide which step comes next (`phase` does) or whether to begin (`task` does).

pub(super) use super::work::{Broken, Next, Work};

use super::{
    document::{Aim, Document, Lease},
    fact::{Act, Fact, Failure},
    journal::Entry,
    lease::Deadline,
    phase::{self, Applied, Facts, Over, Phase, Place, Revoked, State, Step, Target},
    schedule::plus,
    store::Written,
    task::{Task, lease_wait},
};
use crate::{
    clock, crypto,
    vault::{backoff, error::Class, error::Error as VaultError},
};
use std::time::Duration;
use tokio::time::Instant;

/// As often Vault is told to rotate in one run before the run is given up.
const TRIES: u32 = 3;
/// How soon a step is tried again while consumers read what is dead.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Task {
    /// Goes on until there is something to wait for; gives what is still ours, and how long to wait.
    pub(super) async fn advance(&mut self, mut work: Work) -> (Option<Work>, Duration) {
        loop {
            if let Some(left) = self.rests(&work) {
                // Nobody else need come while we wait.
                if let Err(Broken::Overtaken) = self.fence(&mut work).await {
                    return self.lost();
                }
                return (Some(work), left.min(self.settings.lease.ttl / 3));
            }
            if self.is_dead(&work.entry.document) {
                self.hold();
            }
            let step = phase::next(self.driver.target(), &work.entry.document.state, &work.facts);
            match self.take(&mut work, step).await {
                Ok(Next::Step) => {}
                Ok(Next::Pause(wait)) => return (Some(work), wait),
                Ok(Next::Leave(wait)) => {
                    self.driver.forget();
                    return (None, wait);
                }
                Err(Broken::Overtaken) => return self.lost(),
                Err(Broken::System(unknown)) => self.failed_to(&mut work, &unknown),
                Err(Broken::Lease(error)) => {
                    work.failures = work.failures.saturating_add(1);
                    tracing::warn!(rotation = %self.settings.name, %error, "a step of a rotation failed");
                    self.report(&work.entry.document, Act::Failed(Failure::Lease(error.trouble())));
                    let wait = lease_wait(&error, work.failures);
                    return (Some(work), wait);
                }
                Err(Broken::Vault(error)) => {
                    work.failures = work.failures.saturating_add(1);
                    tracing::warn!(rotation = %self.settings.name, %error, "a step of a rotation failed");
                    self.report(&work.entry.document, Act::Failed(Failure::Vault(error.class())));
                    let wait = backoff::wait(&error, work.failures, crypto::chance());
                    // A dead password is worse than many questions.
                    let is_dead = self.is_dead(&work.entry.document);
                    return (Some(work), if is_dead { wait.min(AT_ONCE) } else { wait });
                }
            }
        }
    }

    /// How long until the next step may be taken.
    fn rests(&self, work: &Work) -> Option<Duration> {
        let until = work.rest_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Somebody else wrote the journal, which is looked at at once: reads that wait go on to, since it may have been a person's word,
    /// and the run still ours.
    fn lost(&mut self) -> (Option<Work>, Duration) {
        self.driver.forget();
        (None, Duration::ZERO)
    }

    async fn take(&mut self, work: &mut Work, step: Step) -> Result<Next, Broken> {
        match step {
            _ if Self::is_wanted_back(work) => return self.give_back(work).await,
            step if Self::is_repaired(work, &step) => return self.end_repair(work, &step).await,
            Step::Look => work.facts.place = Some(self.driver.look(&work.entry.document).await?),
            Step::Apply(number) if self.driver.target() == Target::Credential => {
                return self.set(work, number).await;
            }
            Step::Apply(_) => self.apply(work).await?,
            Step::Promote(number) => {
                self.fence(work).await?;
                self.give_out(work, number).await?;
            }
            Step::Revoke => self.revoke(work).await?,
            Step::Rest => return self.rest(work).await,
            Step::Record(state) => return self.record(work, state).await,
            Step::Retry if self.driver.target() == Target::Credential => return self.again(work).await,
            Step::Retry => {
                work.failures = work.failures.saturating_add(1);
                self.report(&work.entry.document, Act::Failed(Failure::NotDone));
                if self.driver.target() == Target::Vault && work.failures >= TRIES {
                    return self.give_up(work).await;
                }
                work.facts = Facts::default();
                let error = VaultError::new(Class::Away, "rotating", "not done");
                return Ok(Next::Pause(backoff::wait(&error, work.failures, crypto::chance())));
            }
            Step::GiveUp => {
                self.report(&work.entry.document, Act::Failed(Failure::Conflict));
                return self.give_up(work).await;
            }
            Step::Orphan(why) => return self.orphan_or_give_way(work, why).await,
            Step::Probe => self.probe(work).await?,
            Step::Test(_) if self.driver.bootstrap().is_some() => return self.try_secret_id(work).await,
            Step::Test(number) => self.try_out(work, number).await?,
            Step::Regenerate => return self.regenerate(work).await,
            Step::Nothing => return Ok(Next::Leave(Duration::ZERO)),
        }
        Ok(Next::Step)
    }

    /// Lets consumers read candidate `number`, if nobody else wrote.
    async fn give_out(&mut self, work: &mut Work, number: u32) -> Result<(), Broken> {
        let document = &work.entry.document;
        work.facts.place = Some(match self.driver.promote(document, number).await? {
            Written::As(version) => {
                work.gap = work.dead_since.take().map(|since| since.elapsed());
                self.look_again(document, Some(version));
                work.told = true;
                Place::New(version)
            }
            // What is there now says whether it was us.
            Written::Overtaken => self.driver.look(document).await?,
        });
        Ok(())
    }

    async fn apply(&mut self, work: &mut Work) -> Result<(), Broken> {
        self.fence(work).await?;
        match self.tell_vault().await {
            Ok(()) => {
                work.facts.applied = Some(Applied::Done);
                self.report(&work.entry.document, Act::Set);
                // It has the new one already: whoever waits for it need not wait for the journal.
                self.look_again(&work.entry.document, None);
                self.settle();
                work.told = true;
            }
            Err(error) => {
                self.let_go();
                let refused = matches!(error.class(), Class::Denied | Class::Missing | Class::Invalid);
                work.facts.applied = Some(if refused { Applied::Refused } else { Applied::Unknown });
                tracing::warn!(rotation = %self.settings.name, %error, "Vault did not say that it rotated");
                self.report(&work.entry.document, Act::Failed(Failure::Vault(error.class())));
            }
        }
        work.facts.place = None;
        Ok(())
    }

    /// Tells Vault to rotate. Reads of a static role wait meanwhile, since it has one password; not for long.
    async fn tell_vault(&self) -> Result<(), VaultError> {
        self.hold();
        let mut told = std::pin::pin!(self.driver.trigger());
        let limit = self.driver.held().map_or(Duration::MAX, |(_, limit)| limit);
        match tokio::time::timeout(limit, &mut told).await {
            Ok(answer) => answer,
            Err(_) => {
                // It may be the old one for longer than anybody waits.
                self.let_go();
                told.await
            }
        }
    }

    async fn revoke(&mut self, work: &mut Work) -> Result<(), Broken> {
        self.fence(work).await?;
        if work.entry.document.state.phase == Phase::Grace {
            if !std::mem::replace(&mut work.told_end, true) {
                self.report(&work.entry.document, Act::GraceEnded);
            }
            self.retire(work).await?;
            if self.driver.quarantine().is_some() {
                self.report(&work.entry.document, Act::Quarantined);
                work.facts.revoked = Some(Revoked::ForNow);
                return Ok(());
            }
        }
        match self.driver.revoke(&work.entry.document).await {
            Ok(()) => self.report(&work.entry.document, Act::Revoked),
            // It will be refused again, and must not hold up the next run.
            Err(error) if matches!(error.class(), Class::Denied | Class::Missing | Class::Invalid) => {
                tracing::warn!(rotation = %self.settings.name, %error, "the old value stays readable");
                self.report(&work.entry.document, Act::Failed(Failure::Vault(error.class())));
            }
            Err(error) => return Err(error.into()),
        }
        work.facts.revoked = Some(Revoked::ForGood);
        Ok(())
    }

    /// During the grace nobody needs the lease.
    async fn rest(&mut self, work: &mut Work) -> Result<Next, Broken> {
        let (now, until) = (clock::now(), work.entry.document.grace_until);
        match until.filter(|until| *until > now) {
            None => {
                work.facts.grace = Some(Over::Yes);
                Ok(Next::Step)
            }
            Some(_) => {
                let mut document = work.entry.document.clone();
                document.lease.holder = None;
                self.write(work, document).await?;
                Ok(Next::Leave(Duration::ZERO))
            }
        }
    }

    async fn record(&mut self, work: &mut Work, state: State) -> Result<Next, Broken> {
        let left = work.entry.document.clone();
        let mut document = left.clone();
        let now = clock::now();
        let phase = state.phase;
        document.state = state;
        match phase {
            Phase::Promoted => {
                document.succeeded = now;
                document.settled = document.run.as_ref().map_or(now, |run| run.slot.max(document.settled));
                document.grace_until = Some(plus(now, self.settings.longest_grace()));
                document.own = self.driver.promoted(&document).or(document.own);
                self.write(work, document).await?;
                let seen = || work.dead_since.take().map(|since| since.elapsed());
                let gap = work.gap.take().or_else(seen);
                if !std::mem::take(&mut work.told) {
                    self.look_again(&work.entry.document, work.entry.document.state.after);
                }
                self.promoted(&work.entry.document, gap.filter(|_| self.is_single()));
            }
            Phase::Quarantine => {
                document.grace_until = self.driver.quarantine().map(|quarantine| plus(now, quarantine));
                self.write(work, document).await?;
            }
            Phase::Idle => {
                end(&mut document);
                self.write(work, document).await?;
                self.pass(work, &left);
                return Ok(Next::Leave(Duration::ZERO));
            }
            _ => self.write(work, document).await?,
        }
        self.pass(work, &left);
        work.facts = Facts { tested: work.facts.tested, ..Facts::default() };
        work.failures = 0;
        Ok(Next::Step)
    }

    /// The run ends without a promotion; its slot is settled.
    pub(super) async fn give_up(&mut self, work: &mut Work) -> Result<Next, Broken> {
        let mut document = work.entry.document.clone();
        document.settled =
            document.run.as_ref().map_or(document.settled, |run| run.slot.max(document.settled));
        document.state = State::idle();
        end(&mut document);
        self.write(work, document).await?;
        Ok(Next::Leave(Duration::ZERO))
    }

    pub(super) async fn orphan(&mut self, work: &mut Work, why: phase::Orphaned) -> Result<Next, Broken> {
        let mut document = work.entry.document.clone();
        document.state.phase = Phase::Orphaned;
        document.orphaned = Some(why.word().to_owned());
        document.lease.holder = None;
        self.write(work, document).await?;
        self.let_go();
        if why == phase::Orphaned::Conflict {
            self.report(&work.entry.document, Act::Failed(Failure::Conflict));
        }
        self.report(&work.entry.document, Act::Orphaned(why));
        Ok(Next::Leave(Duration::ZERO))
    }

    /// Makes sure that the next call is over before anybody else may begin one.
    pub(super) async fn fence(&mut self, work: &mut Work) -> Result<(), Broken> {
        if work.deadline.allows(clock::since_boot(), self.settings.lease) {
            return Ok(());
        }
        self.write(work, work.entry.document.clone()).await
    }

    /// Writes the journal, which renews the lease.
    pub(super) async fn write(&mut self, work: &mut Work, mut document: Document) -> Result<(), Broken> {
        document.lease.beat = document.lease.beat.saturating_add(1);
        let kept = self.gate.keep(work.deadline).await.map_err(Broken::Lease)?;
        let asked = kept.ok_or(Broken::Overtaken)?;
        match self.journal.write(&document, work.entry.version).await? {
            Written::As(version) => {
                work.entry = Entry { document, version };
                work.deadline = Deadline::of(asked, self.settings.lease);
                self.stand(&work.entry.document, None);
                Ok(())
            }
            Written::Overtaken => Err(Broken::Overtaken),
        }
    }

    /// Gives the lease up, so that nobody has to wait for its end. No call of ours is under way.
    pub(super) async fn release(&mut self, mut work: Work) {
        let mut document = work.entry.document.clone();
        document.lease.holder = None;
        if self.write(&mut work, document).await.is_err() {
            tracing::info!(rotation = %self.settings.name, "another replica goes on when the lease is over");
        }
        self.gate.leave().await;
    }

    /// What happened to the run of `document`.
    pub(super) fn report(&self, document: &Document, act: Act) {
        self.report_with(document, act, None);
    }

    /// The same of a promotion, after which `gap` is known.
    pub(super) fn report_with(&self, document: &Document, act: Act, gap: Option<Duration>) {
        self.send(self.fact(document, act, gap));
    }

    pub(super) fn fact(&self, document: &Document, act: Act, gap: Option<Duration>) -> Fact {
        let run = document.run.as_ref();
        let before = document.state.before;
        Fact {
            rotation: self.settings.name.clone(),
            kind: self.settings.kind.word(),
            path: self.settings.kind.path().to_owned(),
            act,
            phase: document.state.phase,
            id: run.map(|run| run.id.clone()),
            reason: run.and_then(|run| run.reason.clone()),
            by: None,
            slot: run.map(|run| run.spelled.clone()),
            from: Some(before).filter(|before| *before > 0 && run.is_some()),
            to: document.state.after,
            epoch: document.lease.epoch,
            gap,
            yes: self.yes(document, act),
        }
    }

    pub(super) fn send(&self, fact: Fact) {
        // Nobody listens any more only when the process is about to end.
        let _ = self.facts.send(fact);
    }
}

/// No run any more.
pub(super) fn end(document: &mut Document) {
    document.run = None;
    document.values.clear();
    document.grace_until = None;
    document.orphaned = None;
    document.aim = Aim::default();
    document.lease = Lease { holder: None, ..document.lease.clone() };
}
