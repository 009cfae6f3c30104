//! The ledgers of all pods in one folder of Vault: each agent leaves its own there by check-and-set, and whoever makes a report reads all.
//!
//! Only where the config says so (`report.merge`). What is older than the period of reports is deleted by the agents that make them.

use super::kept::{Identities, Kept};
use crate::{
    audit::Audit,
    clock::{self, Timestamp},
    config::Config,
    report::Merge,
    usage::{
        reader::Reader,
        shared::{PARTS, Paths, Shared},
    },
    vault::{
        Vault,
        caller::BySession,
        error::Error,
        kv2::{self, Kv2, Place},
        limiter::Account,
        session::{Session, State},
    },
};
use arc_swap::ArcSwap;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, interval_at, timeout},
};

/// Between two writes, unless reports are made more often.
const EVERY: Duration = Duration::from_secs(600);
/// As long may the last write hold up the end.
const LAST: Duration = Duration::from_millis(300);
/// Parts that one report reads, those of the newest starts first.
const MOST: usize = 1_000;

/// The way to the folder.
pub struct Folder<'a> {
    caller: BySession<'a>,
    place: Place,
}

/// What was read there.
#[derive(Debug, Default)]
pub struct Read {
    /// Parts that were not read, since there are too many.
    pub unread: usize,
    /// Parts that are older than the period.
    old: Vec<String>,
}

impl<'a> Folder<'a> {
    /// With the token of `session`.
    #[must_use]
    pub fn new(vault: &'a Vault, session: &'a Session, merge: &Merge) -> Self {
        let caller = BySession { vault, session, account: Account::Refresh };
        Self { caller, place: Place { mount: merge.mount.clone(), path: merge.path.clone() } }
    }

    fn kv2(&self) -> Kv2<'_> {
        Kv2::by(&self.caller)
    }

    /// Has `reader` take what all agents left, after it has the record; what was written before `since` is old.
    ///
    /// # Errors
    /// Vault refused, or did not answer: what was read until then is taken.
    pub async fn read(&self, reader: &mut Reader, since: Timestamp) -> Result<Read, Error> {
        let mut names = self.kv2().list(&self.place).await?;
        // They begin with the time of the start.
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut read = Read { unread: names.len().saturating_sub(MOST), old: Vec::new() };
        for name in names.into_iter().take(MOST) {
            let found = self.kv2().read(&self.place.below(&name)).await?;
            let Some(part) = found.and_then(|found| Shared::read(found.value()?)) else { continue };
            if part.at < since {
                read.old.push(name);
            }
            reader.join(&part);
        }
        Ok(read)
    }

    /// Deletes what is old.
    pub async fn tidy(&self, read: Read) {
        for name in read.old {
            match self.kv2().delete(&self.place.below(&name)).await {
                Ok(()) => tracing::info!(ledger = name, "an old ledger of use is deleted in Vault"),
                Err(error) => return tracing::warn!(%error, "old ledgers of use stay in Vault"),
            }
        }
    }
}

/// What this agent has written.
#[derive(Default)]
struct Written {
    /// Of each part, its version in Vault and the hash of what it says.
    parts: Vec<(u64, [u8; 32])>,
}

impl Written {
    async fn write(&mut self, folder: &Folder<'_>, parts: Vec<Shared>) -> Result<(), Error> {
        for (number, part) in parts.into_iter().enumerate().take(PARTS) {
            let content = part.content();
            let known = self.parts.get(number).copied();
            if known.is_some_and(|(_, known)| known == content) {
                continue;
            }
            let (place, kv2) = (folder.place.below(&format!("{}-{number:02}", part.chain)), folder.kv2());
            let before = known.map_or(0, |(version, _)| version);
            if before == 0 {
                // Few old versions are kept of a part, where we may say so.
                if let Err(error) = kv2.keep(&place, 2).await {
                    tracing::debug!(%error, "ledgers of use keep as many versions as their engine says");
                }
            }
            match kv2.write(&place, &part, before).await? {
                kv2::Written::As(version) => self.note(number, (version, content)),
                // An answer of ours was lost, or somebody wrote there: it is written over next time.
                kv2::Written::Overtaken => {
                    let newest = kv2.read(&place).await?.map_or(0, |found| found.version);
                    self.note(number, (newest, [0; 32]));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, number: usize, what: (u64, [u8; 32])) {
        match self.parts.get_mut(number) {
            Some(part) => *part = what,
            None => self.parts.push(what),
        }
    }
}

/// The task that leaves this agent's ledger in Vault, if the config asks for it.
pub(super) struct Ledgers {
    shared: Leaving,
    tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Leaving {
    audit: Audit,
    vault: Vault,
    identities: Arc<ArcSwap<Identities>>,
    written: Arc<Mutex<Written>>,
    /// What is written, and where.
    terms: Option<Terms>,
}

#[derive(Clone)]
struct Terms {
    merge: Merge,
    source: String,
    paths: Paths,
}

impl Ledgers {
    /// Starts it.
    pub(super) fn start(config: &Config, audit: &Audit, (kept, vault): (&Kept, &Vault)) -> Self {
        let (audit, vault, identities) = (audit.clone(), vault.clone(), kept.identities());
        let shared = Leaving { audit, vault, identities, written: Arc::default(), terms: None };
        let mut ledgers = Self { shared, tasks: JoinSet::new() };
        ledgers.take_over(config);
        ledgers
    }

    /// Goes by this config from now on.
    pub(super) fn take_over(&mut self, config: &Config) {
        self.tasks.abort_all();
        while self.tasks.try_join_next().is_some() {}
        let report = config.report.as_ref();
        self.shared.terms = report.and_then(|report| report.merge.clone()).map(|merge| Terms {
            merge,
            source: config.audit.source.clone(),
            paths: if config.audit.hash_paths { Paths::Hashed } else { Paths::Clear },
        });
        let every = report.map_or(EVERY, |report| report.every.min(EVERY));
        if self.shared.terms.is_none() {
            return;
        }
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            let mut turns = interval_at(Instant::now() + every / 2, every);
            loop {
                turns.tick().await;
                shared.leave().await;
            }
        });
    }

    /// The last write, while there is a token to do it with.
    pub(super) async fn last(&self) {
        if self.shared.terms.is_some() && timeout(LAST, self.shared.leave()).await.is_err() {
            tracing::warn!("no time to leave the ledger of use in Vault");
        }
    }
}

impl Leaving {
    async fn leave(&self) {
        let Some(Terms { merge, source, paths }) = &self.terms else { return };
        let identity = self.identities.load().get(&merge.identity).cloned();
        let Some(State::Live(session)) = identity.map(|identity| identity.state.borrow().clone()) else {
            return;
        };
        let chain = self.audit.chain().to_string();
        let whole = self.audit.ledger().whole();
        let parts = Shared::parts(whole, (source, &chain), clock::now(), *paths);
        let folder = Folder::new(&self.vault, &session, merge);
        if let Err(error) = self.written.lock().await.write(&folder, parts).await {
            tracing::warn!(%error, "the ledger of use is not in Vault; it is written again");
        }
    }
}
