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
        answer::Answer,
        endpoint::Request,
        error::{Class, Error},
        limiter::Account,
        session::{Session, State},
    },
};
use arc_swap::ArcSwap;
use serde::Deserialize;
use serde_json::Value;
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
    vault: &'a Vault,
    session: &'a Session,
    merge: &'a Merge,
}

/// What was read there.
#[derive(Debug, Default)]
pub struct Read {
    /// Parts that were not read, since there are too many.
    pub unread: usize,
    /// Parts that are older than the period.
    old: Vec<String>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    data: Option<Value>,
    metadata: Version,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl<'a> Folder<'a> {
    /// With the token of `session`.
    #[must_use]
    pub fn new(vault: &'a Vault, session: &'a Session, merge: &'a Merge) -> Self {
        Self { vault, session, merge }
    }

    async fn call(&self, request: &Request) -> Result<Answer, Error> {
        self.vault.call(&Account::Refresh, self.session, request).await
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.merge.path)
    }

    /// Has `reader` take what all agents left, after it has the record; what was written before `since` is old.
    ///
    /// # Errors
    /// Vault refused, or did not answer: what was read until then is taken.
    pub async fn read(&self, reader: &mut Reader, since: Timestamp) -> Result<Read, Error> {
        let mut names = match self.call(&Request::kv2_list(&self.merge.mount, &self.merge.path)?).await {
            Ok(answer) => answer.data::<Keys>()?.keys,
            Err(error) if error.class() == Class::Missing => Vec::new(),
            Err(error) => return Err(error),
        };
        // They begin with the time of the start.
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut read = Read { unread: names.len().saturating_sub(MOST), old: Vec::new() };
        for name in names.into_iter().take(MOST) {
            let Some((part, _)) = self.part(&name).await? else { continue };
            if part.at < since {
                read.old.push(name);
            }
            reader.join(&part);
        }
        Ok(read)
    }

    async fn part(&self, name: &str) -> Result<Option<(Shared, u64)>, Error> {
        match self.call(&Request::kv2(&self.merge.mount, &self.at(name), None)?).await {
            Ok(answer) => {
                let Data { data, metadata } = answer.data()?;
                Ok(data.and_then(Shared::read).map(|part| (part, metadata.version)))
            }
            Err(error) if error.class() == Class::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes what is old.
    pub async fn tidy(&self, read: Read) {
        for name in read.old {
            let Ok(request) = Request::kv2_delete(&self.merge.mount, &self.at(&name)) else { continue };
            match self.call(&request).await {
                Ok(_) => tracing::info!(ledger = name, "an old ledger of use is deleted in Vault"),
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
            let (name, mount) = (format!("{}-{number:02}", part.chain), &folder.merge.mount);
            let invalid = |_| Error::new(Class::Invalid, "leaving the ledger of use", "it is no JSON");
            let value = serde_json::to_value(&part).map_err(invalid)?;
            let before = known.map_or(0, |(version, _)| version);
            if before == 0 {
                self.few(folder, &name).await;
            }
            let request = Request::kv2_write(mount, &folder.at(&name), &value, before)?;
            let version = match folder.call(&request).await {
                Ok(answer) => answer.data::<Version>()?.version,
                // An answer of ours was lost, or somebody wrote there: it is written over next time.
                Err(error)
                    if error.class() == Class::Invalid && error.to_string().contains("check-and-set") =>
                {
                    let newest = folder.part(&name).await?.map_or(0, |(_, version)| version);
                    self.note(number, (newest, [0; 32]));
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.note(number, (version, content));
        }
        Ok(())
    }

    fn note(&mut self, number: usize, what: (u64, [u8; 32])) {
        match self.parts.get_mut(number) {
            Some(part) => *part = what,
            None => self.parts.push(what),
        }
    }

    /// Keeps few old versions of a part, where we may say so.
    async fn few(&self, folder: &Folder<'_>, name: &str) {
        let path = format!("{}/metadata/{}", folder.merge.mount, folder.at(name));
        let request = Request::write(&path, &serde_json::json!({"max_versions": 2, "cas_required": true}));
        if let Err(error) = folder.call(&request).await {
            tracing::debug!(%error, "ledgers of use keep as many versions as their engine says");
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
