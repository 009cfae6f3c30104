//! Between the changes of a run: whether the system still accepts what consumers read, asked now and then.
//!
//! A backup that was restored, a person, or a call that the system held back for longer than any may take can have changed it. Then the
//! system is given once more what consumers read, under the lease and through the steps of a run; consumers read what they did. Of
//! a key that a provider minted another one is asked for. A system that does not answer has not drifted.

use super::{
    document::{Aim, Document, Run},
    driver::Current,
    fact::Act as Did,
    journal::{self, Entry},
    phase::{Phase, State, Step},
    run::{Broken, Next, Work, end},
    system::{Act, Said},
    task::Task,
};
use crate::{
    clock::{self, Timestamp},
    crypto,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// What is ours then, and how long to wait; `None`: there is nothing to do.
type Turned = Result<Option<(Option<Work>, Duration)>, journal::Error>;

/// Why a run is asked for.
const WHY: &str = "drift: the system no longer accepts what consumers read";

impl Task {
    /// How long until the system is asked next.
    pub(super) fn until_probe(&self) -> Duration {
        let at = self.probe_at.filter(|_| self.driver.probe().is_some());
        at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    /// The same while a run is in its grace.
    pub(super) async fn look_in_grace(&mut self, entry: &Entry, now: Timestamp) -> Turned {
        let Document { state, grace_until, .. } = &entry.document;
        if state.phase != Phase::Grace || grace_until.is_none_or(|until| until <= now) {
            return Ok(None);
        }
        self.look_for_drift(entry).await
    }

    /// Asks the system, if it is time, whether it accepts what consumers read; `None`: there is nothing to do about it. `entry` is
    /// of no run, or of one in its grace.
    pub(super) async fn look_for_drift(&mut self, entry: &Entry) -> Turned {
        let Some(every) = self.driver.probe() else { return Ok(None) };
        let now = Instant::now();
        // Replicas that start together do not ask together.
        let at = *self.probe_at.get_or_insert_with(|| now + every.mul_f64(crypto::chance()));
        if now < at {
            return Ok(None);
        }
        self.probe_at = Some(now + every.mul_f64(0.9 + 0.2 * crypto::chance()));
        let Some(current) = self.driver.current().await? else { return Ok(None) };
        match self.put(&entry.document, Act::Test, &current.user, &current.value).await {
            Ok(Said::Refused) => {}
            Err(Broken::System(unknown)) => {
                tracing::info!(rotation = %self.settings.name, error = %unknown, "not known whether it has drifted");
                return Ok(None);
            }
            _ => return Ok(None),
        }
        // Who wrote meanwhile may have changed the system too.
        let again = self.driver.current().await?;
        if again.is_none_or(|again| again.version != current.version) {
            return Ok(None);
        }
        tracing::warn!(rotation = %self.settings.name, "the system no longer accepts what consumers read");
        self.drifted(entry, current).await
    }

    async fn drifted(&mut self, entry: &Entry, current: Current) -> Turned {
        let mut document = entry.document.clone();
        let rests = document.state.phase == Phase::Idle;
        if document.suspended.is_some() {
            // Nothing is begun: it is told, and set right when a person resumes.
            self.report(&document, Did::Drifted);
            return Ok(None);
        }
        if self.driver.issue().is_some() {
            self.report(&document, Did::Drifted);
            if rests && document.asked.is_none() {
                document.asked = Some(WHY.to_owned());
                self.journal.write(&document, entry.version).await?;
                return Ok(Some((None, Duration::ZERO)));
            }
            return Ok(None);
        }
        if rests {
            let now = clock::now();
            let spelled = self.settings.schedule.spell(now);
            let id = crypto::random::<8>().map(|bytes| crypto::hex(&bytes)).unwrap_or_default();
            document.state = State::begun(Some(1), current.version);
            document.values = vec![(1, Arc::new(current.value))];
            document.run = Some(Run { id, slot: now, spelled, reason: Some(WHY.to_owned()) });
            document.aim = Aim { user: Some(current.user), ..Aim::default() };
        } else if document.state.after == Some(current.version) {
            // The run's own value: no other that was tried is given to the system again.
            let chosen = document.state.chosen;
            document.state.candidates.retain(|candidate| Some(candidate.number) == chosen);
            document.values.retain(|(number, _)| Some(*number) == chosen);
            document.state.phase = Phase::Pending;
        } else {
            // A person wrote it during the grace: it is told, and set right when the run is over.
            self.report(&document, Did::Drifted);
            return Ok(None);
        }
        document.aim.repairs = true;
        let Some(epoch) = self.gate.pass(document.lease.epoch).await? else { return Ok(None) };
        match self.claim(document, entry.version, epoch).await? {
            Some(work) => {
                self.report(&work.entry.document, Did::Drifted);
                Ok(Some(self.advance(work).await))
            }
            // Another replica was faster, or a run began.
            None => Ok(Some((None, Duration::ZERO))),
        }
    }

    /// Whether `step` is one that only a run takes: the system has what consumers read, or will not have it.
    pub(super) fn is_repaired(work: &Work, step: &Step) -> bool {
        work.entry.document.aim.repairs
            && matches!(step, Step::Look | Step::Promote(_) | Step::Regenerate | Step::Orphan(_))
    }

    /// Leaves the journal as it was before; where the system will not have what consumers read, a run is asked for.
    pub(super) async fn end_repair(&mut self, work: &mut Work, step: &Step) -> Result<Next, Broken> {
        let before = work.entry.document.clone();
        let mut document = before.clone();
        let is_set = matches!(step, Step::Look | Step::Promote(_));
        if document.aim.adopted && !is_set {
            return self.refuse_adopted(work).await;
        }
        if document.aim.adopted {
            self.settle_adopted(&mut document);
        }
        document.aim.repairs = false;
        if document.state.after.is_some() {
            document.state.phase = Phase::Grace;
            document.lease.holder = None;
        } else {
            document.state = State::idle();
            end(&mut document);
        }
        if !is_set {
            document.asked.get_or_insert_with(|| WHY.to_owned());
        }
        self.write(work, document).await?;
        if is_set {
            self.report(&before, Did::Repaired);
        }
        Ok(Next::Leave(Duration::ZERO))
    }
}
