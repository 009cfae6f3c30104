//! The anchor while the agent runs: read back, compared, written behind the version that was seen last.
//!
//! While the journal contradicts what is anchored, the task signs nothing: an anchor that is overwritten proves nothing.

use super::{
    ANCHOR_EVERY, REST,
    anchor::{self, Anchor, Standing},
    task::Task,
    text::Checkpoint,
};
use crate::{
    audit::{
        chain::Position,
        event::{AgentFacts, Event, Outcome, Reason, Type},
    },
    clock,
    vault::{
        error::Error,
        kv2::{Place, Written},
    },
};
use std::{io, time::Duration};
use tokio::{task::spawn_blocking, time::Instant};

/// How the anchor stands.
pub(super) struct Anchored {
    /// The version to write behind; `None` before it was read.
    pub(super) version: Option<u64>,
    /// Whether the newest checkpoint is not in it.
    pub(super) is_behind: bool,
    /// When it is looked after next.
    pub(super) next: Instant,
    /// What was said of it already.
    pub(super) said: Option<Anchor>,
    /// While the journal contradicts it, nothing is signed.
    pub(super) refused: bool,
}

impl Task {
    /// Reads the anchor, and stops signing while the journal contradicts it.
    pub(super) async fn read_anchor(&mut self) {
        self.anchored.next = Instant::now() + REST;
        let (Some(remote), Some(place)) = (&self.remote, &self.place) else { return };
        if !remote.is_live() {
            self.anchored.next = Instant::now() + Duration::from_secs(1);
            return;
        }
        match remote.kv2().newest(place).await {
            Ok(newest) => {
                let anchor = newest.value().as_ref().and_then(Anchor::of);
                if newest.found.is_some() && anchor.is_none() {
                    tracing::warn!(%place, "the anchor in Vault is no checkpoint; it is overwritten");
                }
                let standing = match &anchor {
                    None => Ok(Standing::Agrees),
                    Some(anchor) => self.standing(anchor).await,
                };
                match standing {
                    Ok(standing) => self.stand(standing, anchor, newest.version).await,
                    Err(error) => tracing::warn!(%error, "comparing the journal with its anchor"),
                }
            }
            Err(error) => tracing::warn!(%error, "the anchor of the audit journal"),
        }
    }

    async fn standing(&self, anchor: &Anchor) -> io::Result<Standing> {
        let Checkpoint { size, head, .. } = anchor.checkpoint;
        let own = self.audit.chain();
        if anchor.chain == own {
            // One of ours, whose answer was lost; or somebody else's under our name.
            let known = self.signed.contains(&(size, head));
            return Ok(if known { Standing::Agrees } else { Standing::Contradicts(size) });
        }
        let (dir, wanted) = (self.audit.0.dir.clone(), Position { chain: anchor.chain, seq: size });
        let local =
            spawn_blocking(move || anchor::local(&dir, own, wanted)).await.map_err(io::Error::other)??;
        Ok(anchor::compare(anchor, own, local))
    }

    async fn stand(&mut self, standing: Standing, anchor: Option<Anchor>, version: u64) {
        let said = self.anchored.said == anchor;
        match standing {
            Standing::Agrees => {
                if std::mem::take(&mut self.anchored.refused) {
                    tracing::info!("the anchor agrees again: checkpoints go on");
                }
                self.anchored.version = Some(version);
                self.anchored.next = Instant::now();
                self.look();
            }
            Standing::Lost => {
                if !said {
                    self.declare(anchor.as_ref(), 1, Reason::JournalMissing).await;
                }
                self.anchored.version = Some(version);
                self.anchored.next = Instant::now();
            }
            Standing::Contradicts(from) => {
                self.anchored.refused = true;
                self.anchored.next = Instant::now() + ANCHOR_EVERY;
                if !said {
                    let place = self.place.as_ref().map(Place::to_string);
                    tracing::error!(
                        anchor = place,
                        "the audit journal contradicts what is anchored in Vault: nothing is signed until a person has \
                         looked at it and deleted the anchor"
                    );
                    self.declare(anchor.as_ref(), from, Reason::RolledBack).await;
                }
            }
        }
        self.anchored.said = anchor;
    }

    async fn declare(&self, anchor: Option<&Anchor>, from: u64, reason: Reason) {
        let Some(anchor) = anchor else { return };
        let facts = AgentFacts {
            chain: Some(anchor.chain.to_string()),
            from_seq: Some(from),
            to_seq: Some(anchor.checkpoint.size),
            ..AgentFacts::default()
        };
        let event = Event::new(Type::AuditGap, Outcome::Error, clock::now());
        let event = Event { reason: Some(reason), agent: Some(facts), ..event };
        if let Err(error) = self.record(event).await {
            tracing::error!(error, "the gap that the anchor shows is not on record");
        }
    }

    /// Puts the newest checkpoint in the anchor, behind the version that was read or written last.
    pub(super) async fn write_anchor(&mut self) {
        let (Some(remote), Some(place), Some(signed)) = (&self.remote, &self.place, &self.newest) else {
            return;
        };
        let Some(version) =
            self.anchored.version.filter(|_| self.anchored.is_behind && !self.anchored.refused)
        else {
            return;
        };
        match remote.kv2().write(place, &anchor::document(signed), version).await {
            Ok(Written::As(version)) => {
                self.anchored.version = Some(version);
                self.anchored.is_behind = false;
                self.anchored.next = Instant::now() + ANCHOR_EVERY;
            }
            // Somebody was there before us, or the answer to our own write was lost: it is read again.
            Ok(Written::Overtaken) => {
                tracing::warn!(%place, "the anchor is not as it was left");
                self.anchored.version = None;
                self.anchored.next = Instant::now() + Duration::from_secs(1);
            }
            Err(error) => self.away(&error),
        }
    }

    fn away(&mut self, error: &Error) {
        tracing::warn!(%error, "anchoring a checkpoint has to wait");
        self.anchored.next = Instant::now() + REST.max(error.retry_after().unwrap_or_default());
    }
}
