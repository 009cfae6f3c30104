//! A yes to one slot of a rotation: all replicas ask for it as one, and whoever then runs the slot spends it.
//!
//! Does not say when to ask, to look or to spend: `rotation` does, and it says who may put on record what happened.

use super::{
    Approvals, Id, Settings, Spent, State,
    bell::{self, Bell},
    fact::{Act, Fact, Joined},
    hook::Fault,
    request::{Around, Look, Request},
    ticket::{Asker, Constraints, Resource, Ticket},
};
use crate::{
    clock::{self, Timestamp},
    crypto::hex,
    name::{IdentityName, RotationName},
    vault::error::{Class, Error},
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What is asked. It is the same on all replicas but for `until`, which the first one who asks decides.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Who must say yes.
    pub settings: Settings,
    /// With whose token the rotation is done.
    pub identity: IdentityName,
    /// The key in `rotations`.
    pub rotation: RotationName,
    /// Its kind.
    pub kind: &'static str,
    /// Where in Vault the secret is.
    pub path: String,
    /// The slot, in local time with its offset.
    pub slot: String,
    /// Why a person asked for it, if one did.
    pub reason: Option<String>,
    /// The journal that the replicas share: what a yes is bound to, in place of a pod.
    pub journal: String,
    /// Until when a yes may be said.
    pub until: Timestamp,
    /// How long it then holds.
    pub valid_for: Duration,
}

/// One request for that.
#[derive(Debug)]
pub struct Asking {
    request: Request,
    settings: Settings,
    identity: IdentityName,
    bell: Bell,
}

/// What happened meanwhile.
struct Heard(Mutex<Vec<Fact>>);

impl Heard {
    fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn hear(&self, fact: Fact) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fact);
    }

    fn take(self) -> Vec<Fact> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wish {
    /// The same for equal wishes, whoever has them.
    #[must_use]
    pub fn terms(&self) -> String {
        hex(&self.ticket().fingerprint())
    }

    fn ticket(&self) -> Ticket {
        Ticket {
            approval: self.settings.name.to_string(),
            constraints: Constraints {
                quorum: self.settings.quorum as u64,
                uses: 1,
                valid_for: self.valid_for.as_secs(),
            },
            identity: self.identity.to_string(),
            nonce: String::new(),
            not_after: String::new(),
            op: self.kind.to_owned(),
            resource: Resource {
                kind: "rotation".to_owned(),
                name: Some(self.rotation.to_string()),
                path: Some(self.path.clone()),
                reason: self.reason.clone(),
                slot: Some(self.slot.clone()),
                ..Resource::default()
            },
            rule: format!("rotations.{}", self.rotation),
            workload: Asker {
                exe_sha256: None,
                name: "claviger".to_owned(),
                namespace: None,
                place: self.journal.clone(),
                service_account: None,
                uid: None,
            },
        }
    }

    /// What another replica asked may end a little later than what we would ask: its clock is another.
    fn settings(&self) -> Settings {
        let left = Duration::try_from(self.until.duration_since(clock::now())).unwrap_or_default();
        let ttl = left.saturating_add(Duration::from_secs(60));
        Settings { ttl, valid_for: self.valid_for, uses: 1, ..self.settings.clone() }
    }
}

impl Asking {
    /// Asks, or joins what another replica asked; gives what is to be put on record now, and what only if this replica is the one
    /// that writes the request's id down.
    ///
    /// # Errors
    /// The store could not be read or written: nobody was asked.
    pub async fn open(approvals: &Approvals, wish: &Wish) -> Result<(Self, Vec<Fact>), Error> {
        let (ticket, identity) = (wish.ticket(), wish.identity.clone());
        let (asking, facts) = Self::begin(approvals, wish.settings(), identity, &ticket, wish.until).await?;
        let is_new = |fact: &Fact| matches!(fact.act, Act::Requested { joined: Joined::New });
        let (now, later) = facts.into_iter().partition(is_new);
        approvals.tell(now);
        Ok((asking, later))
    }

    /// Asks what `ticket` says until that moment, or joins whoever did; gives what happened.
    pub(super) async fn begin(
        approvals: &Approvals,
        settings: Settings,
        identity: IdentityName,
        ticket: &Ticket,
        until: Timestamp,
    ) -> Result<(Self, Vec<Fact>), Error> {
        let heard = Heard::new();
        let tell = |fact| heard.hear(fact);
        let around = approvals.around((&settings, &identity), &tell)?;
        let request = Request::open(&Around { until: Some(until), ..around }, ticket).await?;
        Ok((Self { request, identity, settings, bell: Bell::new() }, heard.take()))
    }

    /// What another replica, or an earlier start, asked; `None`: what stands in the store is something else.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn find(approvals: &Approvals, wish: &Wish, id: Id) -> Result<Option<Self>, Error> {
        Self::resume(approvals, wish.settings(), wish.identity.clone(), &wish.ticket(), id).await
    }

    /// What somebody asked by this ticket.
    pub(super) async fn resume(
        approvals: &Approvals,
        settings: Settings,
        identity: IdentityName,
        ticket: &Ticket,
        id: Id,
    ) -> Result<Option<Self>, Error> {
        let around = approvals.around((&settings, &identity), &|_| {})?;
        let found = Request::find(&around, ticket, id).await?;
        Ok(found.map(|request| Self { request, identity, settings, bell: Bell::new() }))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.request.id
    }

    /// Until when persons may answer.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.request.not_after
    }

    /// Who said yes so far.
    #[must_use]
    pub fn by(&self) -> Vec<String> {
        self.request.yes.keys().cloned().collect()
    }

    /// Looks at all votes anew, and gives how it stands, and what happened since.
    ///
    /// # Errors
    /// The store could not be read: nothing is known to have changed.
    pub async fn look(&mut self, approvals: &Approvals) -> Result<(State, Vec<Fact>), Error> {
        let heard = Heard::new();
        let tell = |fact| heard.hear(fact);
        let around = approvals.around((&self.settings, &self.identity), &tell)?;
        if self.settings.webhook.is_some() && self.request.ended.is_none() {
            self.bell.ring(approvals, &around, &mut self.request).await;
        }
        let notified = self.settings.webhook.as_ref().map(|_| self.bell.is_heard());
        self.request.look(&Around { notified, ..around }, Look::All).await?;
        Ok((self.state(), heard.take()))
    }

    /// Spends it on `run`, which may come again after a crash. Only the holder of the rotation's lease may.
    ///
    /// # Errors
    /// The store could not be read or written: whether it is spent is not known, and the same `run` may ask again.
    pub async fn spend(&mut self, approvals: &Approvals, run: &str) -> Result<Option<Spent>, Error> {
        let tell = |fact| approvals.tell(vec![fact]);
        let around = approvals.around((&self.settings, &self.identity), &tell)?;
        if let Some(hook) = approvals.hook(&self.settings.name) {
            // A no that came since is one.
            let away = |fault: Fault| Error::new(Class::Away, "asking whether a yes still stands", fault.why);
            let votes = bell::ask(approvals, &hook, &around, &self.request).await.map_err(away)?;
            self.request.bring(&around, &votes).await?;
        }
        self.request.spend(&around, Some(run)).await
    }

    /// How it stood when it was last looked at.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.request.ended, self.request.granted) {
            (Some(why), _) => State::Ended(why),
            (None, Some(_)) => State::Granted,
            (None, None) => State::Pending,
        }
    }
}
