//! What a replica passes before the lease in the journal: nothing, or a Lease of Kubernetes that nobody else has.
//!
//! Whoever has it says until when it counts, by this machine's clock, from before the request that renewed it. Does not write the
//! journal: whoever passes does, by check-and-set, before anything else.

use super::{
    super::{
        coordination::Coordination,
        lease::{Deadline, Terms},
    },
    Error, Trouble,
    client::{Answer, Client},
    object::{self, Record},
};
use crate::clock::{now, rfc3339, since_boot};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How often a Lease of ours is written again that somebody else wrote, without taking it.
const TRIES: usize = 3;

/// What is passed.
pub(in crate::rotation) struct Gate(Option<Lease>);

/// One Lease, as this replica sees it.
struct Lease {
    client: Client,
    holder: Arc<str>,
    terms: Terms,
    /// What we wrote last while it is ours.
    ours: Option<Ours>,
    /// What was last seen of others, and since when.
    seen: Option<(Record, Duration)>,
    /// Whose it was when we wanted it in vain, as which of its holders, and since when.
    wanted: Option<((Option<String>, u64), Duration)>,
}

struct Ours {
    object: Value,
    /// Before the request that wrote it, since the machine booted.
    asked: Duration,
}

impl Gate {
    /// Nothing is sent before somebody wants to pass.
    pub(in crate::rotation) fn new(coordination: &Coordination, holder: &Arc<str>, terms: Terms) -> Self {
        Self(coordination.kubernetes().map(|settings| Lease {
            client: Client::new(settings.clone(), terms.call),
            holder: Arc::clone(holder),
            terms,
            ours: None,
            seen: None,
            wanted: None,
        }))
    }

    /// Takes what must be had before a run is begun or gone on with; gives the epoch of it, which follows `before`. `None`: it is
    /// somebody else's.
    pub(in crate::rotation) async fn pass(&mut self, before: u64) -> Result<Option<u64>, Error> {
        match &mut self.0 {
            None => Ok(Some(before.saturating_add(1))),
            Some(lease) => lease.take(before).await,
        }
    }

    /// Renews what is had, where `deadline` is near; gives since when the next write of the journal counts. `None`: it is no
    /// longer ours.
    pub(in crate::rotation) async fn keep(&mut self, deadline: Deadline) -> Result<Option<Duration>, Error> {
        match &mut self.0 {
            None => Ok(Some(since_boot())),
            Some(lease) => match &lease.ours {
                None => Ok(None),
                Some(ours) if deadline.allows(since_boot(), lease.terms) => Ok(Some(ours.asked)),
                Some(_) => lease.renew().await,
            },
        }
    }

    /// Since when what was passed counts; where nothing is, `else_since`.
    pub(in crate::rotation) fn since(&self, else_since: Duration) -> Duration {
        let ours = self.0.as_ref().and_then(|lease| lease.ours.as_ref());
        ours.map_or(else_since, |ours| ours.asked)
    }

    /// Looks at it, so that a holder that falls silent is known to be from when on.
    pub(in crate::rotation) async fn watch(&mut self) {
        if let Some(lease) = &mut self.0 {
            // Whoever wants to pass later is told what is wrong.
            let _ = lease.look().await;
        }
    }

    /// Gives back what is had, so that nobody has to wait for its end. No call of ours is under way.
    pub(in crate::rotation) async fn leave(&mut self) {
        if let Some(lease) = &mut self.0 {
            lease.give_back().await;
        }
    }
}

impl Lease {
    async fn take(&mut self, before: u64) -> Result<Option<u64>, Error> {
        let (found, may_take) = self.look().await?;
        let record = found.as_ref().map(Record::of).unwrap_or_default();
        if !may_take {
            return self.wait(&record);
        }
        self.wanted = None;
        let epoch = before.max(record.transitions).saturating_add(1);
        let asked = since_boot();
        let (settings, holder) = (self.client.settings(), (&*self.holder, epoch));
        let is_there = found.is_some();
        let object = object::taken(found, settings, holder, self.terms, &rfc3339(now()));
        let answer =
            if is_there { self.client.change(&object).await? } else { self.client.make(&object).await? };
        let Answer::Is(object) = answer else { return Ok(None) };
        self.ours = Some(Ours { object, asked });
        Ok(Some(epoch))
    }

    /// What is there, and whether it may be taken.
    async fn look(&mut self) -> Result<(Option<Value>, bool), Error> {
        let asked = since_boot();
        let found = match self.client.read().await? {
            Answer::Is(object) => Some(object),
            Answer::Missing | Answer::Conflict => None,
        };
        let record = found.as_ref().map(Record::of).unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != record) {
            // It may have been written at the very end of the request.
            self.seen = Some((record.clone(), since_boot().max(asked)));
        }
        let since = self.seen.as_ref().map_or(asked, |(_, since)| *since);
        let silent = asked.saturating_sub(since) >= record.takeover(self.terms);
        let is_ours = record.holder.as_deref() == Some(&*self.holder);
        Ok((found, record.holder.is_none() || is_ours || silent))
    }

    /// It is somebody else's: that is told once it cannot be of a run.
    fn wait(&mut self, record: &Record) -> Result<Option<u64>, Error> {
        let theirs = (record.holder.clone(), record.transitions);
        if self.wanted.as_ref().is_none_or(|(known, _)| *known != theirs) {
            self.wanted = Some((theirs, since_boot()));
        }
        let since = self.wanted.as_ref().map_or(Duration::ZERO, |(_, since)| *since);
        let patience = record.takeover(self.terms).saturating_mul(2);
        if since_boot().saturating_sub(since) < patience {
            return Ok(None);
        }
        self.wanted = None;
        let (place, holder) = (self.client.settings().place(), record.holder.as_deref().unwrap_or_default());
        Err(Error::new(
            Trouble::Held,
            format!("taking the Lease {place}"),
            format!(
                "{holder} has it all the time, and does not work on the rotation; name a Lease that nobody else uses"
            ),
        ))
    }

    async fn renew(&mut self) -> Result<Option<Duration>, Error> {
        for _ in 0..TRIES {
            let Some(ours) = &self.ours else { return Ok(None) };
            let asked = since_boot();
            let object = object::renewed(ours.object.clone(), &rfc3339(now()));
            let answer = match self.client.change(&object).await? {
                // Somebody deleted it. While the journal's lease is ours, nobody else goes on.
                Answer::Missing => self.client.make(&object::anew(object)).await?,
                answer => answer,
            };
            if let Answer::Is(object) = answer {
                self.ours = Some(Ours { object, asked });
                return Ok(Some(asked));
            }
            self.read_again().await?;
        }
        Ok(None)
    }

    /// Somebody wrote it: it stays ours if they did not take it.
    async fn read_again(&mut self) -> Result<(), Error> {
        let found = self.client.read().await?;
        let Some(ours) = &mut self.ours else { return Ok(()) };
        match found {
            Answer::Is(object) if Record::of(&object).holder.as_deref() == Some(&*self.holder) => {
                ours.object = object;
            }
            _ => self.ours = None,
        }
        Ok(())
    }

    async fn give_back(&mut self) {
        for _ in 0..TRIES {
            let Some(ours) = &self.ours else { return };
            let object = object::given_back(ours.object.clone(), &rfc3339(now()));
            let end = ours.asked.saturating_add(self.terms.takeover());
            let failed = match self.client.change(&object).await {
                Ok(Answer::Is(_) | Answer::Missing) => {
                    self.ours = None;
                    return;
                }
                Ok(Answer::Conflict) => self.read_again().await.err(),
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                // It ends by itself.
                tracing::info!(%error, "a Lease was not given back: others wait for its end");
                if end <= since_boot() {
                    self.ours = None;
                }
                return;
            }
        }
    }
}
