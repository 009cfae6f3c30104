//! The task behind one rotation: waits for its slot, begins it or watches who did, and goes on with what others left.
//!
//! One task a rotation, on every replica. Does not keep secrets: whoever keeps one is told to look again.

use super::{
    Settings,
    acks::Acks,
    asking,
    document::{Aim, Document, Lease, Run},
    driver::{Driver, Prepared},
    fact::{Act, Fact, Failure},
    group,
    journal::{Entry, Error, Journal},
    kubernetes::{self, gate::Gate},
    lease::{Deadline, Watch},
    phase::{Phase, State},
    run::Work,
    schedule::{self, Past, Skipped, Turn},
    standing::Board,
    store::{Store, Written},
    system::Ask,
};
use crate::{
    approval::{Approvals, slot::Asking},
    clock::{self, Timestamp},
    crypto,
    keeper::Keeper,
    vault::{self, Vault, backoff, session::Identity},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// How often the journal of a rotation at rest is read at least.
const IDLE_LOOK: Duration = Duration::from_secs(30);
/// How often the journal is read while another replica works.
pub(super) const BUSY_LOOK: Duration = Duration::from_secs(1);

/// What all rotations share.
#[derive(Clone)]
pub struct Shared {
    /// The way to Vault.
    pub vault: Vault,
    /// Whoever keeps the secrets.
    pub keeper: Keeper,
    /// Names this process among all replicas, and no earlier start of it.
    pub holder: Arc<str>,
    /// Where facts go.
    pub facts: mpsc::UnboundedSender<Fact>,
    /// Where it is seen how rotations stand.
    pub board: Board,
    /// The way to systems outside of Vault.
    pub outside: Arc<dyn Ask>,
    /// Names this agent among all replicas, the same after each start.
    pub replica: Arc<str>,
    /// The way to persons.
    pub approvals: Approvals,
}

/// The task of one rotation.
pub struct Task {
    pub(super) settings: Settings,
    pub(super) driver: Driver,
    pub(super) journal: Journal,
    pub(super) facts: mpsc::UnboundedSender<Fact>,
    pub(super) board: Board,
    pub(super) store: Store,
    pub(super) keeper: Keeper,
    holder: Arc<str>,
    pub(super) gate: Gate,
    watch: Watch,
    /// The last lease that we took.
    ours: Option<u64>,
    /// The last promotion that is known here.
    pub(super) promoted: Option<Timestamp>,
    /// The run that a person went back from, as far as it is known here.
    pub(super) rolled: Option<String>,
    pub(super) failures: u32,
    pub(super) acks: Acks,
    /// The run whose missing acks were told of.
    pub(super) told: Option<String>,
    pub(super) approvals: Approvals,
    /// What persons are asked of the next run, as far as this replica knows.
    pub(super) asking: Option<Asking>,
    /// When the system is asked next whether it accepts what consumers read.
    pub(super) probe_at: Option<Instant>,
}

impl Task {
    /// A rotation that is done as `identity`; nothing is sent before it runs.
    #[must_use]
    pub fn new(settings: Settings, identity: Identity, shared: Shared) -> Self {
        let Shared { vault, keeper, holder, facts, board, outside, replica, approvals } = shared;
        let store = Store::new(vault, identity, settings.lease.call);
        Self {
            driver: Driver::new(settings.kind.clone(), store.clone(), outside),
            journal: Journal::new(store.clone(), &settings),
            acks: Acks::new(store.clone(), &settings, &replica),
            gate: Gate::new(&settings.coordination, &holder, settings.lease),
            told: None,
            approvals,
            asking: None,
            settings,
            facts,
            board,
            store,
            keeper,
            holder,
            watch: Watch::default(),
            ours: None,
            promoted: None,
            rolled: None,
            failures: 0,
            probe_at: None,
        }
    }

    /// Runs until `stop`. What is under way then is left to the next replica, or to the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut state, mut acks) = (self.store.state(), self.keeper.acks_heard());
        let mut work = None;
        loop {
            let turn = async {
                match work.take() {
                    Some(work) => self.advance(work).await,
                    None => self.look().await,
                }
            };
            let wait = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                (kept, wait) = turn => {
                    work = kept;
                    wait
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    if let Some(work) = work.take() {
                        self.release(work).await;
                    }
                    return;
                }
                Ok(()) = state.changed() => {}
                Ok(()) = acks.changed(), if self.settings.acks.is_some() && work.is_none() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Looks at the journal, and does what is to be done; gives what is ours then, and how long to wait.
    pub(super) async fn look(&mut self) -> (Option<Work>, Duration) {
        let turn = self.turn().await;
        // Nobody waits for the end of what is of no use now.
        if !matches!(&turn, Ok((work, wait)) if work.is_some() || wait.is_zero()) {
            self.gate.leave().await;
        }
        match turn {
            Ok(next) => {
                self.failures = 0;
                next
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                (None, self.failed(&error))
            }
        }
    }

    async fn turn(&mut self) -> Result<(Option<Work>, Duration), Error> {
        self.journal.hold()?;
        let asked = clock::since_boot();
        let (document, version) = self.journal.read().await?;
        let now = clock::now();
        let Some(document) = document else {
            self.journal.write(&self.driver.first(now).await?, version).await?;
            self.journal.set_up().await;
            return Ok((None, Duration::ZERO));
        };
        self.notice(&document);
        if self.mind_rollback(&document, version).await? || self.mind_said(&document, version).await? {
            return Ok((None, Duration::ZERO));
        }
        self.mind(&document.state);
        let lease = &document.lease;
        // What we wrote and had no answer to: no call of ours is under way.
        let is_ours = lease.holder.as_deref() == Some(&*self.holder) && Some(lease.epoch) == self.ours
            || self.journal.is_alone();
        let may_take = self.watch.may_take(lease, asked, clock::since_boot(), self.settings.lease) || is_ours;
        if document.state.phase == Phase::Idle {
            let is_held = asking::is_held(&document) && !may_take;
            return if is_held {
                Ok((None, BUSY_LOOK))
            } else {
                self.idle(Entry { document, version }, now).await
            };
        }
        self.stand(&document, None);
        let entry = Entry { document, version };
        if may_take && let Some(next) = self.look_in_grace(&entry, now).await? {
            return Ok(next);
        }
        match (entry.document.state.phase, entry.document.grace_until) {
            (Phase::Orphaned, _) if entry.document.is_to_be_adopted() => self.adopt(entry).await,
            (Phase::Orphaned, _) => Ok((None, self.idle_look())),
            (Phase::Grace, _) if self.waits_for_acks(&entry) => self.await_acks(entry, may_take, now).await,
            (Phase::Grace | Phase::Quarantine, Some(until))
                if until > now && !entry.document.aim.reenable =>
            {
                Ok((None, until_then(until, now).min(self.idle_look()).min(self.until_probe())))
            }
            _ if may_take => self.take_over(entry).await,
            _ => {
                self.gate.watch().await;
                Ok((None, BUSY_LOOK))
            }
        }
    }

    /// No run: begins the next one if it is due.
    async fn idle(&mut self, entry: Entry, now: Timestamp) -> Result<(Option<Work>, Duration), Error> {
        if let Some(suspended) = entry.document.suspended.clone() {
            return self.idle_suspended(entry, suspended, now).await;
        }
        if self.mind_secret_id(&entry).await? {
            return Ok((None, Duration::ZERO));
        }
        if let Some(consent) = self.consent() {
            return self.idle_until_yes(entry, now, &consent).await;
        }
        let document = &entry.document;
        let (name, schedule) = (&self.settings.name, &self.settings.schedule);
        let mut past = Past { settled: document.settled, succeeded: document.succeeded, not_before: None };
        let mut turn = schedule.decide(name, &past, now);
        let rested = schedule::plus(document.succeeded, schedule.min_interval);
        if document.asked.is_some() && rested <= now || document.is_overdue() {
            turn.act = schedule::Act::Begin(now);
        }
        if let schedule::Act::Begin(slot) = turn.act
            && let Some(free) = group::claim(&self.store, &self.settings, slot, now).await?
        {
            past.not_before = Some(free);
            turn = schedule.decide(name, &past, now);
        }
        let Turn { skipped, act } = turn;
        let until = match act {
            schedule::Act::Begin(slot) => return self.begin(entry, slot, &skipped).await,
            schedule::Act::Wait(until) => document.due().map_or(until, |due| due.min(until)),
        };
        self.stand(document, Some(until));
        self.foretell(document, until, now);
        self.wait(entry, &skipped, (until, now)).await
    }

    /// Begins a run for `slot`: its value is in the journal before anything else changes.
    pub(super) async fn begin(
        &mut self,
        entry: Entry,
        slot: Timestamp,
        skipped: &[Skipped],
    ) -> Result<(Option<Work>, Duration), Error> {
        let Entry { mut document, version } = entry;
        if self.clock_is_off() {
            self.report(&document, Act::Failed(Failure::Clock));
            return Ok((None, self.idle_look()));
        }
        let Some(epoch) = self.gate.pass(document.lease.epoch).await? else { return Ok((None, BUSY_LOOK)) };
        let Prepared { before, value, user, ids } = self.driver.prepare().await?;
        document.state = State::begun(value.is_some().then_some(1), before);
        document.values = value.map(|value| (1, Arc::new(value))).into_iter().collect();
        let spelled = self.settings.schedule.spell(slot);
        let fresh = || crypto::random::<8>().map(|bytes| crypto::hex(&bytes)).unwrap_or_default();
        let id = asking::run_of(&document, slot).unwrap_or_else(fresh);
        document.run = Some(Run { id, slot, spelled, reason: document.asked.take() });
        (document.orphaned, document.rolled) = (None, None);
        document.aim = Aim { user, ids, ..Aim::default() };
        match self.claim(document, version, epoch).await? {
            Some(work) => {
                self.skipped(&work.entry.document, skipped);
                self.report(&work.entry.document, Act::Started);
                Ok(self.advance(work).await)
            }
            None => Ok((None, Duration::ZERO)),
        }
    }

    /// Goes on with what another holder left, or with the end of a grace.
    pub(super) async fn take_over(&mut self, entry: Entry) -> Result<(Option<Work>, Duration), Error> {
        let Entry { document, version } = entry;
        let from_grace = matches!(document.state.phase, Phase::Grace | Phase::Quarantine);
        let Some(epoch) = self.gate.pass(document.lease.epoch).await? else { return Ok((None, BUSY_LOOK)) };
        match self.claim(document, version, epoch).await? {
            Some(work) => {
                if !from_grace {
                    self.report(&work.entry.document, Act::TakenOver);
                }
                Ok(self.advance(work).await)
            }
            None => Ok((None, Duration::ZERO)),
        }
    }

    /// Takes the lease and writes `document`, in one: `None`: somebody else was faster.
    pub(super) async fn claim(
        &mut self,
        mut document: Document,
        version: u64,
        epoch: u64,
    ) -> Result<Option<Work>, Error> {
        document.lease = Lease { epoch, holder: Some(self.holder.to_string()), beat: 0 };
        let asked = self.gate.since(clock::since_boot());
        self.ours = Some(epoch);
        match self.journal.write(&document, version).await? {
            Written::Overtaken => Ok(None),
            Written::As(version) => {
                self.stand(&document, None);
                let deadline = Deadline::of(asked, self.settings.lease);
                let entry = Entry { document, version };
                Ok(Some(Work::new(entry, deadline)))
            }
        }
    }

    pub(super) fn idle_look(&self) -> Duration {
        IDLE_LOOK.min(self.settings.lease.ttl)
    }
}

/// As after a failure of Vault.
pub(super) fn lease_wait(error: &kubernetes::Error, failures: u32) -> Duration {
    let class = vault::error::Error::new(error.class(), "the Lease", "");
    backoff::wait(&class, failures, crypto::chance())
}

pub(super) fn until_then(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}
