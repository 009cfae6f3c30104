//! At start: what earlier agents of the workload handed over comes into our journal, and leaves Vault once the sinks have it.

use super::{Error, Handoff, HeldPart, part};
use crate::{
    audit::{
        chain::{ChainId, Position},
        journal::walk::{Walk, list},
        queue::{Adoption, Ask, lock},
        sink,
    },
    vault::{
        error::{Class, Error as VaultError},
        kv2::Place,
    },
};
use std::{collections::BTreeMap, io, path::Path, time::Duration};
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep},
};

/// The most parts of one start; more wait for the next one.
const MOST: usize = 1_000;
/// The most folders that are looked into.
const FOLDERS: usize = 1_000;
/// Between two looks whether the sinks have come further.
const LOOK: Duration = Duration::from_secs(1);
/// Before a call that failed is made again.
const REST: Duration = Duration::from_millis(500);

/// How far the chains of our journal's directory go, once asked.
#[derive(Default)]
struct Here(BTreeMap<ChainId, Option<u64>>);

impl Here {
    /// The last event of `chain`; `None` if nothing of it is here.
    fn end(&mut self, dir: &Path, chain: ChainId) -> io::Result<Option<u64>> {
        if let Some(known) = self.0.get(&chain) {
            return Ok(*known);
        }
        let names = list(dir)?;
        let newest = names.iter().rev().find(|name| name.chain == chain);
        let end = match newest {
            None => None,
            Some(newest) => {
                let mut walk = Walk::new(dir, Some(newest.before().last));
                let whole = Position { chain, seq: u64::MAX };
                let mut end = newest.before().last.seq;
                while walk.next(&names, Some(whole))?.is_some() {
                    end = walk.last().map_or(end, |last| last.seq);
                }
                Some(end)
            }
        };
        self.0.insert(chain, end);
        Ok(end)
    }
}

impl Handoff {
    /// Takes every part below the shared path into the journal. Waits for the identity's login. Must end before the sinks
    /// begin: they read forwards only. Gives the number of events taken.
    ///
    /// # Errors
    /// Vault refuses, or the journal takes no more: what is not taken stays in Vault.
    pub async fn take(&self, sinks: &[sink::Settings]) -> Result<u64, Error> {
        let own = self.audit.chain();
        let mut here = Here::default();
        let delivered = self.delivered(sinks)?;
        let mut taken = 0_u64;
        for place in self.parts(own).await? {
            let newest = self.patiently(|| self.remote.kv2().newest(&place)).await?;
            let Some(runs) = newest.value().as_ref().and_then(part::runs) else {
                tracing::warn!(%place, "what is handed over in Vault is no part of a journal; it stays there");
                continue;
            };
            let mut new = Vec::new();
            for run in &runs {
                let end = here.end(&self.audit.0.dir, run.after.last.chain)?;
                new.push(end.is_none_or(|end| run.after.last.seq > end));
            }
            // A sink that has gone on to a later chain never comes back.
            let is_late = |chain: ChainId| chain >= own || delivered.is_some_and(|place| place.chain > chain);
            if runs.iter().zip(&new).any(|(run, is_new)| *is_new && is_late(run.after.last.chain)) {
                tracing::warn!(
                    %place,
                    "events of an earlier agent stay in Vault: our sinks have gone on already"
                );
                continue;
            }
            let mut spans = Vec::new();
            for (run, is_new) in runs.into_iter().zip(new) {
                let part::Run { before, after, events } = run;
                spans.push((before.last, after.last));
                if is_new {
                    taken = taken.saturating_add(events.len() as u64);
                    self.adopt(Adoption { before, events }).await?;
                    here.0.insert(after.last.chain, Some(after.last.seq));
                }
            }
            lock(&self.held.0).push(HeldPart { place, runs: spans });
        }
        Ok(taken)
    }

    /// Deletes each part once the ones of `sinks` that count have all of it; ends when none is left.
    pub async fn forget(&self, sinks: &[sink::Settings]) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !lock(&self.held.0).is_empty() {
            looks.tick().await;
            let Ok(Some(delivered)) = self.delivered(sinks) else { continue };
            let passed =
                |part: &HeldPart| part.runs.iter().all(|(_, last): &(_, Position)| *last <= delivered);
            let done: Vec<Place> = lock(&self.held.0)
                .iter()
                .filter(|part| passed(part))
                .map(|part| part.place.clone())
                .collect();
            for place in done {
                match self.remote.kv2().delete(&place).await {
                    Ok(()) => lock(&self.held.0).retain(|part| part.place != place),
                    Err(error) => {
                        tracing::warn!(%error, %place, "a part that was delivered stays in Vault for now");
                        break;
                    }
                }
            }
        }
    }

    /// The places of all parts but our own, oldest chain first.
    async fn parts(&self, own: ChainId) -> Result<Vec<Place>, VaultError> {
        let mut found = Vec::new();
        let mut folders = vec![self.shared.clone()];
        let mut looked = 0_usize;
        while let Some(folder) = folders.pop() {
            looked = looked.saturating_add(1);
            if looked > FOLDERS || found.len() >= MOST {
                tracing::warn!("more is handed over in Vault than one start takes");
                break;
            }
            let chain = folder.path.rsplit('/').next().and_then(|name| ChainId::parse(name.as_bytes()));
            for key in self.patiently(|| self.remote.kv2().list(&folder)).await? {
                match (key.strip_suffix('/'), chain) {
                    (Some(name), _) => folders.push(folder.below(name)),
                    (None, Some(chain)) if chain != own && key.parse::<u32>().is_ok() => {
                        found.push((chain, folder.below(&key)));
                    }
                    (None, _) => {}
                }
            }
        }
        found.sort_unstable_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
        Ok(found.into_iter().map(|(_, place)| place).collect())
    }

    /// Calls until Vault answers, or says no for good.
    async fn patiently<T, F: Future<Output = Result<T, VaultError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, VaultError> {
        loop {
            match call().await {
                Err(error) if !matches!(error.class(), Class::Invalid | Class::Denied | Class::Missing) => {
                    tracing::debug!(%error, "looking for a handoff");
                    sleep(error.retry_after().unwrap_or(REST).max(REST)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn adopt(&self, adoption: Adoption) -> Result<(), Error> {
        let (ack, answer) = oneshot::channel();
        self.audit.0.queue.push(Ask::Adopt(Box::new(adoption), ack));
        let answer = answer.await.unwrap_or(Err(crate::audit::Error::Closed));
        answer.map_err(|error| Error::Journal { source: io::Error::other(error) })
    }
}
