//! The requests of all workloads: equal calls join one, a few may wait, and a yes is spent by whoever asks first.
//!
//! Does not judge votes: `request` does. What is kept here is lost at a restart; who asks again joins what still waits in the store.

use super::{
    Approved, Asked, Ended, Grant, Id, Place, Refusal, Settings, Spent, State, Status, courier,
    entry::{EVERY, Entry, Requests},
    fact::Fact,
    glass::Glasses,
    hook::Hook,
    outcome::Outcomes,
    request::Around,
    review::{self, Reviews},
    store::{Entities, Identities, Store},
};
use crate::{
    name::{ApprovalName, IdentityName, SecretName, WorkloadName},
    policy::Permit,
    vault::{
        Vault,
        error::{Class, Error},
    },
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// What each request that waits adds to that.
const EACH: Duration = Duration::from_millis(250);

/// Keeps what was asked. Cheap to clone.
#[derive(Clone)]
pub struct Approvals {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) vault: Option<Vault>,
    identities: Identities,
    pub(super) place: Place,
    table: ArcSwap<Table>,
    requests: Mutex<Requests>,
    entities: Entities,
    facts: Mutex<Option<mpsc::UnboundedSender<Fact>>>,
    /// A request is there that was not before.
    pub(super) opened: Notify,
    pub(super) glasses: Glasses,
    pub(super) reviews: Reviews,
    pub(super) outcomes: Outcomes,
}

#[derive(Default)]
struct Table {
    settings: BTreeMap<ApprovalName, Arc<Settings>>,
    identity_of: BTreeMap<SecretName, IdentityName>,
    hooks: BTreeMap<ApprovalName, Arc<Hook>>,
}

impl Approvals {
    /// Asks by `vault`, in `place`; what happens is told to `facts`.
    #[must_use]
    pub fn new(
        vault: Vault,
        identities: Identities,
        place: Place,
        facts: mpsc::UnboundedSender<Fact>,
    ) -> Self {
        Self::with(Some(vault), identities, place, facts)
    }

    /// Asks nobody: a rule that names an approval gives nothing.
    #[must_use]
    pub fn none() -> Self {
        let (facts, _) = mpsc::unbounded_channel();
        Self::with(None, Identities::default(), Place::default(), facts)
    }

    fn with(
        vault: Option<Vault>,
        identities: Identities,
        place: Place,
        facts: mpsc::UnboundedSender<Fact>,
    ) -> Self {
        let facts = Mutex::new(Some(facts));
        let (table, requests, entities) = (ArcSwap::default(), Mutex::default(), Entities::default());
        let inner = Inner {
            vault,
            identities,
            place,
            table,
            requests,
            entities,
            facts,
            opened: Notify::new(),
            glasses: Glasses::default(),
            reviews: Reviews::default(),
            outcomes: Outcomes::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Tells nothing any more: whoever listens may end.
    pub fn close(&self) {
        self.inner.facts.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Takes over changed settings. What was asked by an approval that changed is asked anew.
    pub fn replace(&self, all: &[Settings], secrets: impl Iterator<Item = (SecretName, IdentityName)>) {
        let before = self.inner.table.load();
        let hook = |one: &Settings| {
            let kept =
                before.hooks.get(&one.name).filter(|hook| one.webhook.as_ref() == Some(hook.settings()));
            let hook = kept.cloned().or_else(|| Some(Arc::new(Hook::new(one.webhook.as_ref()?))))?;
            Some((one.name.clone(), hook))
        };
        let hooks = all.iter().filter_map(hook).collect();
        let settings = all.iter().map(|one| (one.name.clone(), Arc::new(one.clone()))).collect();
        let table = Table { settings, identity_of: secrets.collect(), hooks };
        let stays = |entry: &Entry| table.settings.get(&entry.settings.name) == Some(&entry.settings);
        self.inner.lock().open.retain(|_, entry| stays(entry));
        self.inner.table.store(Arc::new(table));
    }

    /// What a request that no workload makes needs.
    pub(super) fn around<'a>(
        &'a self,
        about: (&'a Settings, &'a IdentityName),
        tell: &'a (dyn Fn(Fact) + Sync),
    ) -> Result<Around<'a>, Error> {
        self.inner.around_any(about, None, tell)
    }

    /// The service that is told of requests by this approval.
    pub(super) fn hook(&self, name: &ApprovalName) -> Option<Arc<Hook>> {
        self.inner.hook(name)
    }

    /// Puts on record what happened to such a request.
    pub fn tell(&self, facts: Vec<Fact>) {
        facts.into_iter().for_each(|fact| self.inner.tell(fact));
    }

    /// Turns a permit into a grant: at once where its rule names no approval, else once enough persons have said yes, of which one use
    /// is spent. Waits at most `patience`, or as long as the config says.
    ///
    /// # Errors
    /// The permit, and why there is no grant.
    pub async fn obtain<T>(
        &self,
        permit: Permit<T>,
        asked: impl FnOnce(&Permit<T>) -> Asked,
        patience: Option<Duration>,
    ) -> Result<Grant<T>, (Permit<T>, Refusal)> {
        if permit.break_glass().is_some() {
            // That is granted by its glass alone.
            return Err((permit, Refusal::Missing));
        }
        let Some(name) = permit.approval() else {
            return Ok(Grant { permit, approved: Approved::Unneeded });
        };
        let Some(settings) = self.inner.table.load().settings.get(name).cloned() else {
            return Err((permit, Refusal::Missing));
        };
        if settings.observe {
            return Ok(Grant { permit, approved: Approved::Observed(settings.name.clone()) });
        }
        let asked = asked(&permit);
        let until = Instant::now() + patience.unwrap_or_default().max(settings.hold);
        match self.inner.wait(&settings, &permit, asked, until).await {
            Ok(spent) => Ok(Grant { permit, approved: Approved::Spent(Arc::new(spent)) }),
            Err(refusal) => Err((permit, refusal)),
        }
    }

    /// With whose token the secret is fetched.
    #[must_use]
    pub fn identity_of(&self, secret: &SecretName) -> Option<IdentityName> {
        self.inner.table.load().identity_of.get(secret).cloned()
    }

    /// How a request of `workload` stands; `None`: it has none of that id.
    #[must_use]
    pub fn status(&self, workload: &WorkloadName, id: &Id) -> Option<Status> {
        let entry = self.inner.lock().known.get(id).cloned()?;
        entry.status().filter(|_| entry.workload == *workload)
    }

    /// How many requests of each approval wait.
    #[must_use]
    pub fn pending(&self) -> Vec<(ApprovalName, u64)> {
        let table = self.inner.table.load();
        let requests = self.inner.lock();
        let waiting =
            |name: &ApprovalName| requests.open.values().filter(|entry| entry.waits_by(name)).count() as u64;
        table.settings.keys().map(|name| (name.clone(), waiting(name))).collect()
    }

    /// Looks for votes, and has services told and asked, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let reviews = review::run(self.clone(), stop.clone());
        tokio::join!(courier::run(Arc::clone(&self.inner), stop.clone()), reviews, self.look(stop));
        self.inner.let_go().await;
    }

    async fn look(&self, stop: CancellationToken) {
        loop {
            let waiting = self.inner.waiting();
            let pause = EVERY.max(EACH * u32::try_from(waiting.len()).unwrap_or(u32::MAX));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            for entry in self.inner.waiting() {
                let looked = tokio::select! {
                    () = stop.cancelled() => return,
                    looked = self.inner.look(&entry) => looked,
                };
                if let Err(error) = looked {
                    tracing::debug!(%error, "looking for votes");
                }
            }
        }
    }
}

impl Inner {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self, name: &ApprovalName) -> Option<Arc<Settings>> {
        self.table.load().settings.get(name).cloned()
    }

    /// The service that is told of requests by this approval.
    pub(super) fn hook(&self, name: &ApprovalName) -> Option<Arc<Hook>> {
        self.table.load().hooks.get(name).cloned()
    }

    pub(super) fn tell(&self, fact: Fact) {
        self.follow(&fact);
        if let Some(facts) = &*self.facts.lock().unwrap_or_else(PoisonError::into_inner) {
            // Nobody hears the last words of an agent that stops.
            let _ = facts.send(fact);
        }
    }

    pub(super) fn waiting(&self) -> Vec<Arc<Entry>> {
        let requests = self.lock();
        // Also what is granted: its time may be over.
        requests.open.values().filter(|entry| entry.status().is_some()).map(Arc::clone).collect()
    }

    async fn wait<T>(
        &self,
        settings: &Arc<Settings>,
        permit: &Permit<T>,
        asked: Asked,
        until: Instant,
    ) -> Result<Spent, Refusal> {
        let identity = asked.identity.clone().ok_or(Refusal::Missing)?;
        let door = asked.door.clone();
        let ticket = self.ticket(settings, permit, asked, &identity);
        let mut is_new_here = true;
        loop {
            let entry = self.lock().entry(settings, (permit.workload(), &identity), &ticket)?;
            loop {
                let changed = entry.changed.notified();
                let (status, spent) = match entry.fresh() {
                    Some(status) => (status, None),
                    None => {
                        self.charge(&entry)?;
                        self.step(&entry, door.as_deref()).await?
                    }
                };
                if let Some(spent) = spent {
                    return Ok(spent);
                }
                match status.state {
                    // Nobody had asked since its time was over: this is the first who does.
                    State::Ended(Ended::Expired) if is_new_here => break,
                    State::Ended(why) => {
                        return Err(Refusal::Ended { id: status.id, name: status.name, why });
                    }
                    State::Pending | State::Granted if Instant::now() >= until => {
                        let Status { id, name, until, .. } = status;
                        return Err(Refusal::Pending { id, name, until });
                    }
                    State::Pending | State::Granted => {}
                }
                is_new_here = false;
                // The one who looks for all tells; a little later we look ourselves, should it be slow.
                let _ = tokio::time::timeout_at(until.min(Instant::now() + 5 * EVERY), changed).await;
            }
            is_new_here = false;
        }
    }

    pub(super) fn around<'a>(
        &'a self,
        entry: &'a Entry,
        tell: &'a (dyn Fn(Fact) + Sync),
    ) -> Result<Around<'a>, Error> {
        let around = self.around_any((&entry.settings, &entry.identity), Some(&entry.workload), tell)?;
        Ok(Around { notified: entry.notified(), ..around })
    }

    pub(super) fn around_any<'a>(
        &'a self,
        (settings, acting): (&'a Settings, &'a IdentityName),
        workload: Option<&'a WorkloadName>,
        tell: &'a (dyn Fn(Fact) + Sync),
    ) -> Result<Around<'a>, Error> {
        let away = || Error::new(Class::Away, "asking for a person's yes", "there is no way to Vault");
        let vault = self.vault.as_ref().ok_or_else(away)?;
        let Settings { identity, store: folder, .. } = settings;
        let identity = identity.as_ref().unwrap_or(acting);
        Ok(Around {
            store: Store { vault, identities: &self.identities, identity, folder },
            settings,
            workload,
            entities: &self.entities,
            tell,
            until: None,
            notified: None,
        })
    }
}
