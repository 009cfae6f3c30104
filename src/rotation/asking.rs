//! A person's yes before a run: asked for ahead of the slot, by all replicas as one, and spent by the one that takes the lease for it.
//!
//! What was asked and what came of it is in the journal, and on record by whoever wrote that. Does not judge votes: `approval` does.

use super::{
    asked::{Asked, Consent, Due, Plan, Question, Stand},
    document::{Document, Run},
    fact::{Act, Failure, Yes},
    group,
    journal::{Entry, Error},
    phase::State,
    run::Work,
    schedule::{self, Past, Skipped, Turn, Why, minus, plus},
    store::Written,
    task::{BUSY_LOOK, Task, until_then},
};
use crate::{
    approval::{
        Id, State as Stands,
        fact::{self, Fact as Told},
        slot::{Asking, Wish},
    },
    clock::{self, Timestamp},
    crypto,
};
use std::time::Duration;

/// How often votes are looked for once a run could begin.
const VOTES: Duration = Duration::from_secs(2);
/// A rotation does not begin while the wall clocks differ by more.
const SKEW: Duration = Duration::from_secs(60);
/// A moment behind the end of a request it is over.
const MOMENT: Duration = Duration::from_millis(20);

type Turned = Result<(Option<Work>, Duration), Error>;

impl Task {
    /// Whether a slot cannot be told for sure.
    pub(super) fn clock_is_off(&self) -> bool {
        self.store.skew() > SKEW
    }

    /// Persons who must say yes first, if there are any.
    pub(super) fn consent(&self) -> Option<Consent> {
        self.settings.consent.clone().filter(|consent| !consent.settings.observe)
    }

    /// No run, and none without a yes.
    pub(super) async fn idle_until_yes(&mut self, entry: Entry, now: Timestamp, consent: &Consent) -> Turned {
        let document = &entry.document;
        let past = Past { settled: document.settled, succeeded: document.succeeded, not_before: None };
        let rested = plus(document.succeeded, self.settings.schedule.min_interval) <= now;
        let question = Question {
            name: &self.settings.name,
            schedule: &self.settings.schedule,
            consent,
            past,
            wish: document.asked.as_deref().filter(|_| rested),
            known: document.approval.as_ref(),
        };
        let (plan, turn) = question.plan(now);
        let next = match turn.act {
            schedule::Act::Wait(until) => until,
            schedule::Act::Begin(_) => now,
        };
        self.stand(document, Some(next));
        self.foretell(document, next, now);
        match (plan, document.approval.clone()) {
            (Plan::Ask { slot, reason, until }, _) => self.ask(entry, consent, (slot, until), reason).await,
            (Plan::Pursue(due), Some(asked)) => self.pursue(entry, consent, (asked, due), &turn).await,
            (Plan::Pursue(_), None) | (Plan::Rest, _) => {
                let asks = minus(next, consent.lead);
                let next = if asks > now { asks } else { next };
                self.wait(entry, &turn.skipped, (next, now)).await
            }
        }
    }

    /// Nothing is to be done but to settle what was missed.
    pub(super) async fn wait(
        &mut self,
        entry: Entry,
        skipped: &[Skipped],
        (until, now): (Timestamp, Timestamp),
    ) -> Turned {
        if let Some(last) = skipped.last() {
            let document = Document { settled: last.slot, ..entry.document };
            if let Written::As(_) = self.journal.write(&document, entry.version).await? {
                self.skipped(&document, skipped);
            }
            return Ok((None, Duration::ZERO));
        }
        if let Some(next) = self.look_for_drift(&entry).await? {
            return Ok(next);
        }
        let notice = self.until_notice(until, now);
        Ok((None, until_then(until, now).min(self.idle_look()).min(self.until_probe()).min(notice)))
    }

    /// Persons are asked, and the journal says so.
    async fn ask(
        &mut self,
        entry: Entry,
        consent: &Consent,
        (slot, until): (Timestamp, Timestamp),
        reason: Option<String>,
    ) -> Turned {
        let Entry { mut document, version } = entry;
        let slot_time = self.settings.schedule.spell(slot);
        let wish = self.wish(consent, (&slot_time, until), reason.as_deref());
        let (asking, told) = Asking::open(&self.approvals, &wish).await?;
        let (id, until, terms) = (asking.id().to_string(), asking.until(), wish.terms());
        let (by, run, why, state) = (Vec::new(), None, None, Stand::Pending);
        document.approval = Some(Asked { id, slot, slot_time, until, terms, reason, state, by, run, why });
        self.asking = Some(asking);
        if let Written::As(_) = self.journal.write(&document, version).await? {
            self.approvals.tell(told);
        }
        Ok((None, Duration::ZERO))
    }

    fn wish(&self, consent: &Consent, (slot, until): (&str, Timestamp), reason: Option<&str>) -> Wish {
        let journal = &self.settings.journal;
        Wish {
            settings: consent.settings.clone(),
            identity: self.settings.identity.clone(),
            rotation: self.settings.name.clone(),
            kind: self.settings.kind.word(),
            path: self.settings.kind.path().to_owned(),
            slot: slot.to_owned(),
            reason: reason.map(str::to_owned),
            journal: format!("{}/{}", journal.mount, journal.path),
            until,
            valid_for: consent.valid_for(&self.settings.schedule, reason),
        }
    }

    /// Looks at the votes, and begins the run if enough said yes and it is due.
    async fn pursue(
        &mut self,
        entry: Entry,
        consent: &Consent,
        (asked, due): (Asked, Due),
        turn: &Turn,
    ) -> Turned {
        let wish = self.wish(consent, (&asked.slot_time, asked.until), asked.reason.as_deref());
        if asked.terms != wish.terms() && asked.state != Stand::Spending {
            // The config changed: what was asked is not what is asked now.
            self.asking = None;
            return self.ask(entry, consent, (asked.slot, asked.until), asked.reason).await;
        }
        let Some(mut asking) = self.asking(&wish, &asked).await? else {
            return self.without(entry, "approval_changed", turn, Vec::new()).await;
        };
        let looked = asking.look(&self.approvals).await;
        let (by, now) = (asking.by(), clock::now());
        let (state, told) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                self.asking = Some(asking);
                return Err(error.into());
            }
        };
        let next = match turn.act {
            schedule::Act::Wait(until) => until,
            schedule::Act::Begin(_) => now,
        };
        match (state, due) {
            (Stands::Ended(why), _) => self.without(entry, why.word(), turn, told).await,
            (Stands::Granted, Due::Now) => self.spend(entry, (asking, asked), turn, told).await,
            (Stands::Granted, Due::Later) if asked.state == Stand::Spending && asked.slot <= now => {
                // Whoever spent it came no further, and the slot's time is over.
                self.without(entry, "approval_used", turn, told).await
            }
            (Stands::Granted, Due::Later) if asked.state == Stand::Pending => {
                self.asking = Some(asking);
                self.note(entry, Asked { state: Stand::Granted, by, ..asked }, told).await?;
                Ok((None, Duration::ZERO))
            }
            (Stands::Pending, Due::Later) if by != asked.by => {
                self.asking = Some(asking);
                self.note(entry, Asked { by, ..asked }, told).await?;
                Ok((None, Duration::ZERO))
            }
            (Stands::Pending, Due::Now) => {
                self.asking = Some(asking);
                Ok((None, VOTES.min(until_then(asked.until, now).saturating_add(MOMENT))))
            }
            (Stands::Pending | Stands::Granted, Due::Later) => {
                self.asking = Some(asking);
                let end = until_then(asked.until, now).saturating_add(MOMENT);
                Ok((None, self.idle_look().min(end).min(until_then(next, now).max(MOMENT))))
            }
        }
    }

    async fn asking(&mut self, wish: &Wish, asked: &Asked) -> Result<Option<Asking>, Error> {
        if let Some(asking) = self.asking.take().filter(|asking| asking.id().as_str() == asked.id) {
            return Ok(Some(asking));
        }
        let Some(id) = Id::parse(&asked.id) else { return Ok(None) };
        Ok(Asking::find(&self.approvals, wish, id).await?)
    }

    /// Writes how it stands; whoever did says what happened.
    async fn note(&self, entry: Entry, asked: Asked, told: Vec<Told>) -> Result<(), Error> {
        let document = Document { approval: Some(asked), ..entry.document };
        if let Written::As(_) = self.journal.write(&document, entry.version).await? {
            self.approvals.tell(told);
        }
        Ok(())
    }

    /// Takes the lease, spends the yes, and begins. After a crash in between the same run spends it again, and it counts once.
    async fn spend(
        &mut self,
        entry: Entry,
        (mut asking, asked): (Asking, Asked),
        turn: &Turn,
        told: Vec<Told>,
    ) -> Turned {
        let now = clock::now();
        if self.clock_is_off() {
            self.asking = Some(asking);
            self.report(&entry.document, Act::Failed(Failure::Clock));
            return Ok((None, self.idle_look()));
        }
        if let Some(free) = group::claim(&self.store, &self.settings, asked.slot, now).await? {
            self.asking = Some(asking);
            return Ok((None, until_then(free, now).min(self.idle_look())));
        }
        let Some(epoch) = self.gate.pass(entry.document.lease.epoch).await? else {
            self.asking = Some(asking);
            return Ok((None, BUSY_LOOK));
        };
        let fresh = || crypto::random::<8>().map(|bytes| crypto::hex(&bytes)).unwrap_or_default();
        let run = asked.run.clone().unwrap_or_else(fresh);
        let was = asked.state;
        let asked = Asked { state: Stand::Spending, by: asking.by(), run: Some(run.clone()), ..asked };
        let document = Document { approval: Some(asked.clone()), ..entry.document };
        let Some(work) = self.claim(document, entry.version, epoch).await? else {
            return Ok((None, Duration::ZERO));
        };
        if was == Stand::Pending {
            self.approvals.tell(told);
        }
        let mut entry = work.entry;
        match asking.spend(&self.approvals, &run).await? {
            Some(_) => {
                let slot = asked.slot;
                entry.document.approval = Some(Asked { state: Stand::Used, ..asked });
                self.begin(entry, slot, &turn.skipped).await
            }
            None => {
                let why = match asking.state() {
                    Stands::Ended(why) => why.word(),
                    Stands::Pending | Stands::Granted => "approval_used",
                };
                self.without(entry, why, turn, Vec::new()).await
            }
        }
    }

    /// There is no yes: the slot, or a person's wish, is settled without a run.
    async fn without(&mut self, entry: Entry, why: &str, turn: &Turn, told: Vec<Told>) -> Turned {
        let Entry { mut document, version } = entry;
        let Some(asked) = document.approval.take() else { return Ok((None, Duration::ZERO)) };
        let said_no = told.iter().filter_map(|told| match &told.act {
            fact::Act::Ended { by, .. } => Some(by.iter().map(|said| said.by.clone())),
            _ => None,
        });
        let by: Vec<String> = said_no.flatten().collect();
        let by = if by.is_empty() { asked.by.clone() } else { by };
        let (slot, reason) = (asked.slot, asked.reason.clone());
        let asked = Asked { state: Stand::Ended, by, why: Some(why.to_owned()), ..asked };
        let (id, spelled) = (String::new(), asked.slot_time.clone());
        let run = Run { id, slot, spelled, reason: reason.clone() };
        let missed: Vec<Skipped> = match reason {
            Some(_) => {
                document.asked = None;
                Vec::new()
            }
            None => {
                document.settled = document.settled.max(slot);
                turn.skipped.iter().filter(|skipped| skipped.slot < slot).copied().collect()
            }
        };
        document.approval = Some(asked);
        document.lease.holder = None;
        self.asking = None;
        if let Written::As(_) = self.journal.write(&document, version).await? {
            self.approvals.tell(told);
            self.skipped(&document, &missed);
            let of = Document { run: Some(run), state: State::idle(), ..document };
            self.report(&of, Act::Skipped(Why::Approval));
        }
        self.gate.leave().await;
        Ok((None, Duration::ZERO))
    }

    /// By whose yes a run begins, or for want of whose it does not.
    pub(super) fn yes(&self, document: &Document, act: Act) -> Option<Box<Yes>> {
        let consent = self.settings.consent.as_ref()?;
        if !matches!(act, Act::Started | Act::Skipped(Why::Approval)) {
            return None;
        }
        let name = consent.settings.name.clone();
        if consent.settings.observe {
            return Some(Box::new(Yes { name, id: None, by: Vec::new() }));
        }
        let asked = document.approval.as_ref()?;
        Some(Box::new(Yes { name, id: Some(asked.id.clone()), by: asked.by.clone() }))
    }
}

/// Whether somebody else of the replicas is spending a yes.
pub(super) fn is_held(document: &Document) -> bool {
    document.lease.holder.is_some()
        && document.approval.as_ref().is_some_and(|asked| asked.state == Stand::Spending)
}

/// The run that a yes was spent on, for `slot`.
pub(super) fn run_of(document: &Document, slot: Timestamp) -> Option<String> {
    let asked = document.approval.as_ref().filter(|asked| asked.state == Stand::Used && asked.slot == slot);
    asked?.run.clone()
}
