//! What a person sees of a rotation's journal, and what a person may write in it.
//!
//! Shows no value. Does not rotate: a running agent does.

use super::{
    Kind, Settings,
    asked::Asked,
    document::Document,
    journal::{Error as JournalError, Journal},
    phase::{Phase, State},
    rollback::Rolled,
    store::{Store, Written},
    suspend::{Suspended, Verb},
};
use crate::{
    clock::{self, Timestamp, rfc3339},
    vault::{Vault, session::Identity},
};

/// The way to the journal of one rotation.
pub struct Desk {
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) settings: Settings,
}

/// How a rotation stands, by its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How far it is.
    pub phase: Phase,
    /// The run, if there is one.
    pub id: Option<String>,
    /// Its slot, in local time with its offset.
    pub slot: Option<String>,
    /// Who has the lease.
    pub holder: Option<String>,
    /// Counts the holders.
    pub epoch: u64,
    /// The last promotion, else when the journal was made.
    pub succeeded: Timestamp,
    /// Slots up to this one are settled.
    pub settled: Timestamp,
    /// When the old value is made unusable.
    pub grace_until: Option<Timestamp>,
    /// Somebody asked for a run.
    pub asked: Option<String>,
    /// The newest request for a person's yes.
    pub approval: Option<Asked>,
    /// Why it waits for a person.
    pub orphaned: Option<String>,
    /// Whose credential the run changes, where it is one of a user.
    pub user: Option<String>,
    /// Who lets no run begin, since when and why.
    pub suspended: Option<Suspended>,
}

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Vault refused, did not answer, or has something else there.
    #[error("{0}")]
    Journal(String),
    /// No agent has begun it.
    #[error("there is no journal: no agent has run this rotation yet")]
    Missing,
    /// An agent writes it at the same time.
    #[error("the journal changes all the time; try again")]
    Busy,
    /// There is nothing to go back to, or it is no longer valid.
    #[error("{0}")]
    NotInGrace(&'static str),
    /// Whoever works on it reads the journal as it is.
    #[error("{0} works on it: wait for the end of its run (claviger rotation status)")]
    Held(String),
    /// There is nothing to have back.
    #[error("the rotation is {0}, and not in quarantine: there is nothing to have back")]
    NotInQuarantine(&'static str),
    /// No run begins.
    #[error("{by} suspended it at {since}: {reason}; to let runs begin again: claviger rotation resume NAME")]
    Suspended {
        /// Who did it.
        by: String,
        /// Since when.
        since: String,
        /// Why.
        reason: String,
    },
    /// It is not suspended.
    #[error("it is not suspended: runs begin as scheduled")]
    NotSuspended,
    /// There is no system that could be given a value.
    #[error("of kind {0} no system is given what a person wrote: only of two-slot and single")]
    NotAdopted(&'static str),
    /// Nothing of it can be looked at from here.
    #[error("of kind bootstrap nothing can be looked at without the agent's own login: see rotation status")]
    Unrehearsed,
    /// It cannot be suspended.
    #[error(
        "a secret id that is not replaced before its end takes the agent's login with it: remove the rotation from the config instead"
    )]
    Bootstrap,
    /// There is nothing that waits for a person.
    #[error("the rotation is {0}, and not orphaned")]
    NotOrphaned(&'static str),
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Journal(format!("{error}{cause}"))
    }
}

/// As often is a write tried that somebody else was faster than.
const TRIES: usize = 5;

impl Desk {
    /// The journal of `settings`, read and written as `identity`.
    #[must_use]
    pub fn new(settings: &Settings, vault: Vault, identity: Identity) -> Self {
        let store = Store::new(vault, identity, settings.lease.call);
        Self { journal: Journal::new(store.clone(), settings), store, settings: settings.clone() }
    }

    /// How the rotation stands; `None`: no agent has begun it.
    ///
    /// # Errors
    /// The journal could not be read.
    pub async fn status(&self) -> Result<Option<Status>, Error> {
        Ok(self.journal.read().await?.0.map(|document| {
            let Document {
                state,
                run,
                lease,
                settled,
                succeeded,
                grace_until,
                asked,
                approval,
                orphaned,
                aim,
                own: _,
                rolled: _,
                values: _,
                sealed: _,
                suspended,
                said: _,
            } = document;
            let (id, slot) = run.map(|run| (run.id, run.spelled)).unzip();
            Status {
                phase: state.phase,
                id,
                slot,
                holder: lease.holder,
                epoch: lease.epoch,
                succeeded,
                settled,
                grace_until,
                asked,
                approval,
                orphaned,
                user: aim.user,
                suspended,
            }
        }))
    }

    /// Asks the agents for a run as soon as `min_interval` allows, for `reason`.
    ///
    /// # Errors
    /// It is suspended, or the journal could not be written.
    pub async fn ask(&self, reason: &str) -> Result<(), Error> {
        self.change(|document| {
            refuse_suspended(document)?;
            document.asked = Some(reason.to_owned());
            Ok(())
        })
        .await
    }

    /// From now on no agent begins a run; gives how far the one under way is, which goes on to its end.
    ///
    /// # Errors
    /// It is suspended already, of kind `bootstrap`, or the journal could not be written.
    pub async fn suspend(&self, by: &str, reason: &str) -> Result<Phase, Error> {
        if matches!(self.settings.kind, Kind::Bootstrap(_)) {
            return Err(Error::Bootstrap);
        }
        for _ in 0..TRIES {
            let (document, version) = self.journal.read().await?;
            let is_new = document.is_none();
            let mut document = document.unwrap_or_else(|| Document::new(clock::now()));
            refuse_suspended(&document)?;
            let (by_whom, why) = (by.to_owned(), reason.to_owned());
            document.suspended =
                Some(Suspended { by: by_whom, reason: why, at: clock::now(), over_age: false });
            document.say(Verb::Suspended, by, Some(reason));
            if let Written::As(_) = self.journal.write(&document, version).await? {
                if is_new {
                    self.journal.set_up().await;
                }
                return Ok(document.state.phase);
            }
        }
        Err(Error::Busy)
    }

    /// Agents begin runs again: what is due then, within half a minute.
    ///
    /// # Errors
    /// It is not suspended, or the journal could not be written.
    pub async fn resume(&self, by: &str, reason: Option<&str>) -> Result<(), Error> {
        self.change(|document| {
            document.suspended.take().ok_or(Error::NotSuspended)?;
            document.say(Verb::Resumed, by, reason);
            Ok(())
        })
        .await
    }

    /// A person has looked: the run is dropped, its slot is settled, what consumers read stays.
    ///
    /// # Errors
    /// It is not orphaned, or the journal could not be written.
    pub async fn unorphan(&self, by: &str, reason: Option<&str>) -> Result<(), Error> {
        self.change(|document| {
            refuse_unorphaned(document)?;
            document.say(Verb::Unorphaned, by, reason);
            document.settled =
                document.run.take().map_or(document.settled, |run| run.slot.max(document.settled));
            document.state = State::idle();
            document.values.clear();
            document.grace_until = None;
            document.orphaned = None;
            document.aim = super::document::Aim::default();
            Ok(())
        })
        .await
    }

    /// A person has looked: an agent gives the system what consumers read, and tries it; then the run is over.
    ///
    /// # Errors
    /// It is not orphaned, of a kind whose system cannot be given a value, or the journal could not be written.
    pub async fn adopt(&self, by: &str, reason: Option<&str>) -> Result<(), Error> {
        if !matches!(self.settings.kind, Kind::Credential(_)) {
            return Err(Error::NotAdopted(self.settings.kind.word()));
        }
        self.change(|document| {
            refuse_unorphaned(document)?;
            document.say(Verb::Adopted, by, reason);
            document.aim.adopt = true;
            Ok(())
        })
        .await
    }

    /// From now on replicas are coordinated as the config says. Every agent whose config says otherwise has been stopped: it is refused
    /// the journal from now on.
    ///
    /// # Errors
    /// A run is under way, or the journal could not be written.
    pub async fn coordinate(&self) -> Result<(), Error> {
        for _ in 0..TRIES {
            let (document, version) = self.journal.read_of_any().await?;
            let mut document = document.ok_or(Error::Missing)?;
            if let Some(holder) = document.lease.holder.take() {
                return Err(Error::Held(holder));
            }
            if let Written::As(_) = self.journal.write(&document, version).await? {
                return Ok(());
            }
        }
        Err(Error::Busy)
    }

    /// Asks the agents to let the user in again whom consumers read before the last run; for another grace.
    ///
    /// # Errors
    /// It is not in quarantine, or the journal could not be written.
    pub async fn re_enable(&self) -> Result<(), Error> {
        self.change(|document| {
            if document.state.phase != Phase::Quarantine {
                return Err(Error::NotInQuarantine(document.state.phase.word()));
            }
            document.aim.reenable = true;
            Ok(())
        })
        .await
    }

    /// Consumers read again what they read before the last run, which is still valid: of two users, during the grace. The new
    /// value stays valid too, and the next run replaces it.
    ///
    /// # Errors
    /// It is not in its grace, somebody wrote since, or Vault could not be written.
    pub async fn roll_back(&self, reason: Option<&str>) -> Result<(), Error> {
        if self.settings.kind.word() != "two-slot" {
            return Err(Error::NotInGrace(
                "only of two users the one before is still valid: there is no way back",
            ));
        }
        let (document, version) = self.journal.read().await?;
        let mut document = document.ok_or(Error::Missing)?;
        let (Phase::Grace, Some(after)) = (document.state.phase, document.state.after) else {
            return Err(Error::NotInGrace(
                "the rotation is not in its grace: there is nothing to go back to",
            ));
        };
        let vault = |error: crate::vault::error::Error| Error::Journal(error.to_string());
        let place = self.store.place(self.settings.kind.path()).await.map_err(vault)?;
        let fields = self.store.version(&place, document.state.before).await.map_err(vault)?;
        let fields = fields.ok_or(Error::NotInGrace("the version before can no longer be read"))?;
        if self.store.read(&place).await.map_err(vault)?.version != after {
            return Err(Error::NotInGrace("somebody wrote the secret since: it stays as it is"));
        }
        // The journal first: from now on nobody takes the value before out of use. An agent has it put on record.
        if let Some(super::document::Run { id, slot, spelled: slot_time, .. }) = document.run.take() {
            document.settled = slot.max(document.settled);
            let (reason, to) = (reason.map(str::to_owned), after.saturating_add(1));
            document.rolled = Some(Rolled { id, slot, slot_time, reason, from: after, to, told: false });
        }
        document.state = State::idle();
        document.values.clear();
        document.grace_until = None;
        document.aim = super::document::Aim::default();
        document.lease.holder = None;
        document.lease.beat = document.lease.beat.saturating_add(1);
        let Written::As(_) = self.journal.write(&document, version).await? else { return Err(Error::Busy) };
        match self.store.write(&place, &super::object::all(&fields), after).await.map_err(vault)? {
            Written::As(_) => Ok(()),
            Written::Overtaken => {
                Err(Error::NotInGrace("somebody wrote the secret meanwhile: it stays as it is"))
            }
        }
    }

    async fn change(&self, change: impl Fn(&mut Document) -> Result<(), Error>) -> Result<(), Error> {
        for _ in 0..TRIES {
            let (document, version) = self.journal.read().await?;
            let mut document = document.ok_or(Error::Missing)?;
            change(&mut document)?;
            if let Written::As(_) = self.journal.write(&document, version).await? {
                return Ok(());
            }
        }
        Err(Error::Busy)
    }
}

fn refuse_suspended(document: &Document) -> Result<(), Error> {
    match &document.suspended {
        Some(Suspended { by, reason, at, .. }) => {
            Err(Error::Suspended { by: by.clone(), since: rfc3339(*at), reason: reason.clone() })
        }
        None => Ok(()),
    }
}

fn refuse_unorphaned(document: &Document) -> Result<(), Error> {
    match document.state.phase {
        Phase::Orphaned => Ok(()),
        phase => Err(Error::NotOrphaned(phase.word())),
    }
}
