//! The identities and secrets that run, and how a changed config is taken over without a gap.
//!
//! Does not keep anything itself: `vault::session` and `keeper::task` do.

use super::record::Recorder;
use crate::{
    config::Config,
    crypto,
    keeper::{self, Holding, Keeper, Kind, Shared, kv::Engines, own, task},
    name::{IdentityName, SecretName},
    vault::{
        Vault, keepalive, login,
        session::{self, Identity, Start, Terms},
    },
};
use anyhow::Context;
use arc_swap::ArcSwap;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How long a changed secret's old value is served while the new task has none.
const HANDOVER: Duration = Duration::from_secs(60);

/// Every identity that runs.
pub(super) type Identities = BTreeMap<IdentityName, Identity>;

pub(super) struct Kept {
    vault: Vault,
    keeper: Keeper,
    shared: Shared,
    sessions: mpsc::UnboundedSender<session::Fact>,
    start: Start,
    exit: CancellationToken,
    identities: Arc<ArcSwap<Identities>>,
    secrets: BTreeMap<SecretName, Running>,
    /// Tasks of secrets that changed or went: each ends at its time.
    leaving: Vec<Leaving>,
    changed: Arc<Notify>,
    tasks: JoinSet<()>,
    fail_back: JoinSet<()>,
}

struct Running {
    settings: keeper::Settings,
    holding: Holding,
    stop: CancellationToken,
    /// What it was before a change, served until there is a new value.
    before: Option<(Holding, Instant)>,
}

struct Leaving {
    stop: CancellationToken,
    at: Instant,
}

impl Kept {
    pub(super) fn new(
        vault: Vault,
        recorder: &mut Recorder,
        exit: CancellationToken,
        start: Start,
    ) -> anyhow::Result<Self> {
        let boot = crypto::hex(&crypto::random::<6>().context("making an id of this start")?);
        let shared = Shared {
            vault: vault.clone(),
            engines: Engines::default(),
            fingerprint_key: Arc::default(),
            boot: boot.into(),
            tags: Arc::default(),
            facts: recorder.leases(),
            exit: exit.clone(),
        };
        Ok(Self {
            vault,
            keeper: Keeper::default(),
            shared,
            sessions: recorder.sessions(),
            start,
            exit,
            identities: Arc::default(),
            secrets: BTreeMap::new(),
            leaving: Vec::new(),
            changed: Arc::new(Notify::new()),
            tasks: JoinSet::new(),
            fail_back: JoinSet::new(),
        })
    }

    pub(super) fn keeper(&self) -> Keeper {
        self.keeper.clone()
    }

    /// One identity, as its users see it.
    pub(super) fn identity(&self, name: &IdentityName) -> Option<Identity> {
        self.identities.load().get(name).cloned()
    }

    /// How each identity stands; later ones appear in it too.
    pub(super) fn identities(&self) -> Arc<ArcSwap<Identities>> {
        Arc::clone(&self.identities)
    }

    /// Waits until an identity or a secret stands otherwise than before.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Makes what runs fit `config`: the first one, or a changed one.
    pub(super) fn take_over(&mut self, config: &Config) {
        self.shared.fingerprint_key.store(config.audit.fingerprint_key.clone().map(Arc::new));
        for settings in &config.identities {
            let overlap = config.secrets.iter().filter(|secret| secret.identity == settings.name);
            let overlap = overlap.map(|secret| secret.grace).max().unwrap_or_default();
            match self.identities.load().get(&settings.name) {
                Some(identity) => identity.terms.set(overlap, settings.revoke_on_exit),
                None => self.start_identity(settings.clone(), overlap),
            }
        }
        let now = Instant::now();
        let gone: Vec<SecretName> = self
            .secrets
            .keys()
            .filter(|name| config.secrets.iter().all(|s| s.name != **name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(running) = self.secrets.remove(&name) {
                // Nothing serves it any more; what holds it may still use it for its grace.
                self.leaving.push(Leaving { at: now + running.settings.grace, stop: running.stop });
            }
        }
        for settings in &config.secrets {
            if self.secrets.get(&settings.name).is_none_or(|running| running.settings != *settings) {
                self.start_secret(settings.clone());
            }
        }
        self.publish();
    }

    /// Lets go of what has had its time, and serves new values of changed secrets.
    pub(super) fn turn(&mut self) {
        let now = Instant::now();
        self.leaving.retain(|leaving| {
            let over = leaving.at <= now;
            if over {
                leaving.stop.cancel();
            }
            !over
        });
        let mut moved = false;
        for running in self.secrets.values_mut() {
            let has_value = match &running.holding {
                Holding::Shared(slot) => slot.shelf().borrow().served(now).is_some(),
                // Made when it is asked for, and not before.
                Holding::Own(_) => true,
            };
            if running.before.as_ref().is_some_and(|(_, until)| has_value || *until <= now) {
                running.before = None;
                moved = true;
            }
        }
        if moved {
            self.publish();
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Asks, beside everything else, whether an earlier address of Vault is active again.
    pub(super) fn fail_back(&mut self) {
        while self.fail_back.try_join_next().is_some() {}
        if self.fail_back.is_empty() {
            let vault = self.vault.clone();
            self.fail_back.spawn(async move { vault.fail_back().await });
        }
    }

    /// Waits until everything that was started has ended; `exit` was cancelled before.
    pub(super) async fn end(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    fn start_identity(&mut self, settings: login::Settings, overlap: Duration) {
        let name = settings.name.clone();
        let terms = Terms::new(overlap, settings.revoke_on_exit);
        let (identity, keepalive) =
            keepalive::identity(settings, self.vault.clone(), terms, self.start, self.sessions.clone());
        self.tasks.spawn(keepalive.run(self.exit.clone()));
        self.tell(identity.state.clone());
        let mut identities = Identities::clone(&self.identities.load());
        identities.insert(name, identity);
        self.identities.store(Arc::new(identities));
    }

    fn start_secret(&mut self, settings: keeper::Settings) {
        let identities = self.identities.load_full();
        let Some(identity) = identities.get(&settings.identity) else { return };
        let (stop, now) = (self.exit.child_token(), Instant::now());
        let (identity, shared) = (identity.clone(), self.shared.clone());
        let (holding, handover) = if let Kind::Token { per_process: true, .. } = settings.kind {
            let (own, group) = own::keep(settings.clone(), identity, shared);
            self.tasks.spawn(group.run(stop.clone()));
            (Holding::Own(own), None)
        } else {
            let (slot, task) = task::keep(settings.clone(), identity, shared);
            self.tasks.spawn(task.run(stop.clone()));
            self.tell(slot.shelf());
            (Holding::Shared(slot), Some(now + HANDOVER))
        };
        let before = self.secrets.remove(&settings.name).and_then(|before| {
            let at = handover.unwrap_or(now) + before.settings.grace;
            self.leaving.push(Leaving { at, stop: before.stop });
            handover.map(|until| (before.holding, until))
        });
        self.secrets.insert(settings.name.clone(), Running { settings, holding, stop, before });
    }

    /// Wakes whoever waits in `changed` whenever `state` changes.
    fn tell<T: Send + Sync + 'static>(&mut self, mut state: watch::Receiver<T>) {
        let changed = Arc::clone(&self.changed);
        self.tasks.spawn(async move {
            while state.changed().await.is_ok() {
                changed.notify_one();
            }
        });
    }

    fn publish(&self) {
        let holding = |running: &Running| match &running.before {
            Some((before, _)) => before.clone(),
            None => running.holding.clone(),
        };
        self.keeper
            .replace(self.secrets.iter().map(|(name, running)| (name.clone(), holding(running))).collect());
    }
}
