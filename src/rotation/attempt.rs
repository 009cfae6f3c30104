//! The steps of a run that another system is told or asked in, and what is done about reads while its one password changes.
//!
//! Does not decide which step comes next (`phase` does), and does not speak to the system itself: a driver does.

use super::{
    Kind,
    document::Document,
    fact::{Act as Did, Failure},
    phase::{Applied, Orphaned, Phase, Probe, State, Works},
    run::{Broken, Next, Work},
    system::{Act, Order, Said, Unknown},
    task::Task,
};
use crate::{clock, crypto, name::SecretName, secret::SecretValue};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The first wait after something that did not work, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(900));

impl Task {
    /// Which candidate the system accepts: all are asked, the newest first.
    pub(super) async fn probe(&mut self, work: &mut Work) -> Result<(), Broken> {
        if self.driver.issue().is_some() {
            return self.find_minted(work).await;
        }
        if self.driver.bootstrap().is_some() {
            return self.find_secret_id(work).await;
        }
        let document = &work.entry.document;
        let mut found = Probe::AcceptsNone;
        for candidate in document.state.candidates.iter().rev() {
            if self.order(document, Act::Test, candidate.number).await? == Said::Done {
                found = Probe::Accepts(candidate.number);
                break;
            }
        }
        match found {
            // It is the login that the next step would try: while the lease is ours it need not be tried twice.
            Probe::Accepts(number) => {
                work.facts.tested = Some(Works::Yes);
                work.facts.dead = self.is_single().then_some(());
                self.hand_out_pending(document, number);
            }
            // The old one still works, or nobody knows.
            Probe::AcceptsNone => self.let_go(),
        }
        work.facts.probe = Some(found);
        Ok(())
    }

    /// Whether a login with candidate `number` works.
    pub(super) async fn try_out(&self, work: &mut Work, number: u32) -> Result<(), Broken> {
        let said = self.order(&work.entry.document, Act::Test, number).await?;
        work.facts.tested = Some(if said == Said::Done { Works::Yes } else { Works::No });
        if said == Said::Done {
            work.facts.dead = self.is_single().then_some(());
            self.hand_out_pending(&work.entry.document, number);
        }
        Ok(())
    }

    /// Gives the user candidate `number`; gives how long to wait then.
    pub(super) async fn set(&mut self, work: &mut Work, number: u32) -> Result<Next, Broken> {
        if self.driver.issue().is_some() {
            return self.mint(work).await;
        }
        if self.driver.bootstrap().is_some() {
            return self.make_secret_id(work).await;
        }
        self.fence(work).await?;
        work.dead_since.get_or_insert_with(Instant::now);
        if !work.entry.document.aim.repairs {
            self.hold();
        }
        let said = self.order(&work.entry.document, Act::Set, number).await;
        // Whatever it said: what it accepts now is seen by asking.
        work.facts.probe = None;
        match said {
            Ok(Said::Done) => {
                work.facts.applied = Some(Applied::Done);
                self.report(&work.entry.document, Did::Set);
                let wait =
                    self.driver.credential().map_or(Duration::ZERO, |credential| credential.propagation);
                if !wait.is_zero() {
                    work.rest_until = Some(Instant::now() + wait);
                }
            }
            Ok(Said::Refused) => {
                work.facts.applied = Some(Applied::Refused);
                self.report(&work.entry.document, Did::Failed(Failure::Refused));
                self.let_go();
            }
            Err(Broken::System(unknown)) => {
                work.facts.applied = Some(Applied::Unknown);
                self.failed_to(work, &unknown);
            }
            Err(broken) => return Err(broken),
        }
        Ok(Next::Step)
    }

    /// One more candidate; the system refused the last one, and all are kept.
    pub(super) async fn regenerate(&mut self, work: &mut Work) -> Result<Next, Broken> {
        let most = self.driver.credential().map_or(1, |credential| credential.cycles);
        if work.entry.document.state.candidates.len() >= most {
            return self.orphan(work, Orphaned::Refused).await;
        }
        let value = Arc::new(self.driver.value().await?);
        let mut document = work.entry.document.clone();
        let newest = document.state.candidates.iter().map(|candidate| candidate.number).max();
        let number = newest.unwrap_or_default().saturating_add(1);
        document.state = document.state.with_another(number);
        document.values.push((number, value));
        self.write(work, document).await?;
        work.facts = super::phase::Facts::default();
        Ok(Next::Step)
    }

    /// As often is the same tried.
    pub(super) fn cycles(&self) -> usize {
        let of_own = || self.driver.bootstrap().map_or(1, |(bootstrap, _)| bootstrap.cycles);
        let of_issue = || self.driver.issue().map_or_else(of_own, |issue| issue.cycles);
        self.driver.credential().map_or_else(of_issue, |credential| credential.cycles)
    }

    /// The system took a value and lets nobody in with it, or no answer came: the same again, later.
    pub(super) async fn again(&mut self, work: &mut Work) -> Result<Next, Broken> {
        if work.facts.applied == Some(Applied::Done) {
            let most = self.cycles();
            let mut document = work.entry.document.clone();
            document.aim.attempts = document.aim.attempts.saturating_add(1);
            self.report(&document, Did::Failed(Failure::NotDone));
            if usize::try_from(document.aim.attempts).is_ok_and(|attempts| attempts >= most) {
                return self.orphan(work, Orphaned::Refused).await;
            }
            self.write(work, document).await?;
        }
        work.facts = super::phase::Facts::default();
        self.rest_a_while(work);
        Ok(Next::Step)
    }

    /// The value that consumers read before is taken out of use, and seen to be.
    pub(super) async fn retire(&mut self, work: &mut Work) -> Result<(), Broken> {
        if self.driver.issue().is_some() {
            return self.delete_former(work).await;
        }
        if self.driver.bootstrap().is_some() {
            return self.destroy_former(work).await;
        }
        let Some(former) = self.driver.former(&work.entry.document).await? else { return Ok(()) };
        let nobodys = self.driver.value().await?;
        let document = &work.entry.document;
        let revoke = self.put(document, Act::Revoke, &former.user, &nobodys).await?;
        let still = match &former.value {
            Some(value) => self.put(document, Act::Test, &former.user, value).await?,
            None => Said::Refused,
        };
        match (revoke, still) {
            (Said::Refused, _) => Err(Broken::System(unknown(Act::Revoke, "it refuses to"))),
            (_, Said::Done) => Err(Broken::System(unknown(Act::Revoke, "the old value still works"))),
            _ => Ok(()),
        }
    }

    /// It did not answer; the log says what came instead.
    pub(super) fn failed_to(&self, work: &mut Work, unknown: &Unknown) {
        tracing::warn!(rotation = %self.settings.name, error = %unknown, "a step of a rotation failed");
        self.report(&work.entry.document, Did::Failed(Failure::Target));
        self.rest_a_while(work);
    }

    /// The next step comes later: full jitter, from a second to a quarter of an hour.
    pub(super) fn rest_a_while(&self, work: &mut Work) {
        work.failures = work.failures.saturating_add(1);
        let (first, longest) = WAITS;
        let ceiling = first.saturating_mul(1 << work.failures.saturating_sub(1).min(10)).min(longest);
        // A dead password is worse than many questions.
        let ceiling = if self.is_dead(&work.entry.document) { ceiling.min(first) } else { ceiling };
        work.rest_until = Some(Instant::now() + ceiling.mul_f64(crypto::chance().max(0.1)));
    }

    pub(super) async fn order(&self, document: &Document, act: Act, number: u32) -> Result<Said, Broken> {
        let user = document.aim.user.as_deref().unwrap_or_default();
        match document.value(number) {
            Some(value) => self.put(document, act, user, value).await,
            None => Err(Broken::System(unknown(act, "its value is not in the journal"))),
        }
    }

    pub(super) async fn put(
        &self,
        document: &Document,
        act: Act,
        user: &str,
        value: &SecretValue,
    ) -> Result<Said, Broken> {
        let until = clock::since_boot().saturating_add(self.settings.lease.call);
        let id = document.run.as_ref().map_or("", |run| run.id.as_str());
        let order = Order { act, rotation: &self.settings.name, id, user, value, until };
        self.driver.ask(order).await.map_err(Broken::System)
    }

    /// Whether consumers read what the system no longer accepts.
    pub(super) fn is_dead(&self, document: &Document) -> bool {
        self.single().is_some() && matches!(document.state.phase, Phase::Set | Phase::Tested)
    }

    /// What is done about reads here, by how far the run of another replica is.
    pub(super) fn mind(&self, state: &State) {
        match state.phase {
            Phase::Set | Phase::Tested => self.hold(),
            Phase::Pending | Phase::Promoted => {}
            // Consumers read what Vault has, which may have come a moment ago.
            Phase::Idle | Phase::Grace | Phase::Quarantine => self.settle(),
            Phase::Orphaned => self.let_go(),
        }
    }

    /// Reads of what consumers have wait.
    pub(super) fn hold(&self) {
        if let Some((field, limit)) = self.single().or(self.driver.held()) {
            self.settings.serves.iter().for_each(|name| self.keeper.hold(name, field, limit));
            if let (Some(place), Ok(name)) = (self.place(), SecretName::new(self.settings.name.as_str())) {
                self.keeper.hold_place(place, &name, limit);
            }
        }
    }

    /// Where what is dead for a while is read in Vault's own API.
    fn place(&self) -> Option<&str> {
        match &self.settings.kind {
            Kind::Credential(credential) => Some(&credential.consumer.path),
            Kind::Trigger(trigger) => trigger.evidence.as_ref().map(|evidence| evidence.path.as_str()),
            _ => None,
        }
    }

    /// Vault has what is alive.
    pub(super) fn free_place(&self) {
        if let Some(place) = self.place() {
            self.keeper.free_place(place);
        }
    }

    /// They need not, as soon as Vault was asked again.
    pub(super) fn settle(&self) {
        if self.single().or(self.driver.held()).is_some() {
            self.settings.serves.iter().for_each(|name| self.keeper.settle(name));
            self.free_place();
        }
    }

    /// They need not.
    pub(super) fn let_go(&self) {
        if self.single().or(self.driver.held()).is_some() {
            self.settings.serves.iter().for_each(|name| self.keeper.let_go(name));
            self.free_place();
        }
    }

    fn hand_out_pending(&self, document: &Document, number: u32) {
        if let (Some((field, _)), Some(value)) = (self.single(), document.value(number)) {
            let generation = document.state.before.saturating_add(1);
            for name in &self.settings.serves {
                self.keeper.hand_out_pending(name, field, value, generation);
            }
        }
    }

    /// Whether one user's password is changed, so that there is a gap.
    pub(super) fn is_single(&self) -> bool {
        self.single().is_some()
    }

    /// The field whose value is dead for a while, and how long a read waits for it.
    fn single(&self) -> Option<(&str, Duration)> {
        let credential = self.driver.credential()?;
        let is_single = matches!(credential.users, super::credential::Users::One(_));
        is_single.then_some((credential.consumer.field.as_str(), credential.hold))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.let_go();
    }
}

fn unknown(act: Act, said: &str) -> Unknown {
    Unknown { act: act.word(), said: said.to_owned() }
}
