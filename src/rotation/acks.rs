//! `revoke_when: acked` and `both`: the old value ends when enough workloads said that they use the new one.
//!
//! Each replica keeps in Vault what its own workloads said, where no other replica writes, and each counts all of them. A read is
//! no ack. Does not revoke anything.

use super::{
    Settings,
    document::Document,
    fact::{Act, Failure},
    journal::{self, Entry},
    run::Work,
    schedule::plus,
    store::{Place, Store, Written},
    task::{Task, until_then},
};
use crate::{clock::Timestamp, keeper::Keeper, name::WorkloadName, vault::error::Error};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};

/// The share of the grace after which missing acks are told of.
const ALERT: f64 = 0.8;
/// How often acks of other replicas are looked for.
const LOOK: Duration = Duration::from_secs(5);
/// In which field of its KV secret the list is.
const FIELD: &str = "acks";

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// Beside the acks.
    pub and: And,
    /// The old value is valid at least so long, acked or not.
    pub least: Duration,
    /// So many workloads, counted in each replica.
    pub consumers: u32,
    /// The old value ends then, acked or not.
    pub max_grace: Duration,
}

/// What must be over beside the acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum And {
    /// Nothing: `acked`.
    Nothing,
    /// The grace: `both`.
    Grace,
}

/// How a grace stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// It goes on at least until then.
    Until(Timestamp),
    /// It is over: everybody has said so.
    Acked,
    /// It is over all the same.
    Unacked,
}

impl Awaited {
    /// How the grace of a value that was promoted at `promoted` stands, where so many acks are missing.
    pub(super) fn stand(&self, promoted: Timestamp, grace: Duration, missing: u32, now: Timestamp) -> Stand {
        let last = plus(promoted, self.max_grace);
        let first = match self.and {
            And::Nothing => plus(promoted, self.least),
            And::Grace => plus(promoted, grace.max(self.least)),
        };
        match missing {
            0 if first <= now => Stand::Acked,
            0 => Stand::Until(first),
            _ if last <= now => Stand::Unacked,
            _ => Stand::Until(
                [self.alert(promoted, grace), last].into_iter().find(|at| *at > now).unwrap_or(last),
            ),
        }
    }

    /// From when on missing acks are told of.
    pub(super) fn alert(&self, promoted: Timestamp, grace: Duration) -> Timestamp {
        plus(promoted, grace.mul_f64(ALERT))
    }
}

/// What one replica's workloads said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    run: String,
    generation: u64,
    workloads: BTreeSet<String>,
}

/// The way to the acks of one rotation.
pub(super) struct Acks {
    store: Store,
    folder: Place,
    replica: String,
    /// What is known to be there of ours.
    written: Option<Said>,
}

impl Acks {
    /// `replica` is the same after each start of it, and no other replica's: its pod's uid.
    pub(super) fn new(store: Store, settings: &Settings, replica: &str) -> Self {
        let folder = settings.journal.below(&format!("{}/acks", settings.name));
        Self { store, folder, replica: replica.to_owned(), written: None }
    }

    /// Keeps what this replica's workloads said of the run of `document`, and gives how many acks are missing.
    pub(super) async fn count(
        &mut self,
        settings: &Settings,
        awaited: &Awaited,
        keeper: &Keeper,
        document: &Document,
    ) -> Result<u32, Error> {
        let (Some(run), Some(generation)) = (&document.run, document.state.after) else { return Ok(0) };
        let users = settings.serves.iter().flat_map(|name| keeper.users(name, generation));
        let users: BTreeSet<String> = users.map(|workload: WorkloadName| workload.to_string()).collect();
        if !users.is_empty() {
            let said = Said { run: run.id.clone(), generation, workloads: users };
            self.keep(said).await?;
        }
        let mut acked = 0_usize;
        for replica in self.store.kv2().list(&self.folder).await? {
            let said = self.read(&replica).await?.0;
            if replica == self.replica {
                // It may have been taken away.
                self.written.clone_from(&said);
            } else if said.as_ref().is_some_and(|said| said.run != run.id) {
                // Of an earlier run, perhaps by a pod that is gone. Where we may not, it stays.
                let _ = self.store.kv2().delete(&self.folder.below(&replica)).await;
            }
            acked += said.filter(|said| said.run == run.id).map_or(0, |said| said.workloads.len());
        }
        Ok(awaited.consumers.saturating_sub(u32::try_from(acked).unwrap_or(u32::MAX)))
    }

    /// Adds `said` to what an earlier start of this replica may have written.
    async fn keep(&mut self, mut said: Said) -> Result<(), Error> {
        if self.written.as_ref() == Some(&said) {
            return Ok(());
        }
        let (before, version) = self.read(&self.replica).await?;
        if let Some(before) = before.filter(|before| before.run == said.run) {
            said.workloads.extend(before.workloads.iter().cloned());
            if before == said {
                self.written = Some(said);
                return Ok(());
            }
        }
        let object = serde_json::json!({FIELD: said}).to_string();
        let place = self.folder.below(&self.replica);
        // Overtaken by an earlier start of ours that has not ended yet: it is read again next time.
        if let Written::As(_) = self.store.write(&place, object.as_bytes(), version).await? {
            self.written = Some(said);
        }
        Ok(())
    }

    async fn read(&self, replica: &str) -> Result<(Option<Said>, u64), Error> {
        let newest = self.store.read(&self.folder.below(replica)).await?;
        let text = newest.fields.and_then(|fields| journal::json_of(&fields, FIELD));
        Ok((text.and_then(|text| serde_json::from_str(&text).ok()), newest.version))
    }
}

impl Task {
    /// During a grace that waits for acks: ends it when they are there, and tells when they are not.
    pub(super) async fn await_acks(
        &mut self,
        entry: Entry,
        may_take: bool,
        now: Timestamp,
    ) -> Result<(Option<Work>, Duration), journal::Error> {
        let Entry { mut document, version } = entry;
        let Some(awaited) = self.settings.acks else { return Ok((None, LOOK)) };
        let missing = self.acks.count(&self.settings, &awaited, &self.keeper, &document).await?;
        self.board.missing(&self.settings.name, missing);
        let (promoted, grace) = (document.succeeded, self.settings.grace);
        let run = document.run.as_ref().map(|run| run.id.clone());
        if missing > 0 && awaited.alert(promoted, grace) <= now && self.told != run {
            self.told = run;
            tracing::warn!(rotation = %self.settings.name, missing, "workloads have not said that they use the new value");
            self.report(&document, Act::Failed(Failure::Unacked));
        }
        match awaited.stand(promoted, grace, missing, now) {
            Stand::Until(until) => Ok((None, until_then(until, now).min(LOOK))),
            _ if !may_take => Ok((None, LOOK)),
            _ => {
                document.grace_until = Some(now);
                self.take_over(Entry { document, version }).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        plus(Timestamp::UNIX_EPOCH, Duration::from_secs(second))
    }

    /// A grace of 100 s, which may last 300 s.
    fn check(and: And, missing: u32, now: u64, expected: Stand) {
        check_with(0, and, missing, now, expected);
    }

    /// The same, of which at least so much is kept.
    fn check_with(least: u64, and: And, missing: u32, now: u64, expected: Stand) {
        let least = Duration::from_secs(least);
        let awaited = Awaited { and, least, consumers: 3, max_grace: Duration::from_secs(300) };
        let stand = awaited.stand(at(0), Duration::from_secs(100), missing, at(now));
        assert_eq!(stand, expected, "{and:?} {missing} {now}");
    }

    #[test]
    fn an_old_value_ends_by_acks_by_both_and_at_the_latest_after_max_grace() {
        check(And::Nothing, 0, 1, Stand::Acked);
        check(And::Nothing, 1, 1, Stand::Until(at(80)));
        check(And::Nothing, 1, 80, Stand::Until(at(300)));
        check(And::Grace, 0, 1, Stand::Until(at(100)));
        check(And::Grace, 0, 100, Stand::Acked);
        check(And::Grace, 1, 299, Stand::Until(at(300)));
        check(And::Grace, 1, 300, Stand::Unacked);
        // Everybody was quick: the old value is kept for a while all the same.
        check_with(20, And::Nothing, 0, 1, Stand::Until(at(20)));
        check_with(20, And::Nothing, 0, 20, Stand::Acked);
        check_with(20, And::Nothing, 1, 20, Stand::Until(at(80)));
        check_with(20, And::Grace, 0, 20, Stand::Until(at(100)));
    }
}
