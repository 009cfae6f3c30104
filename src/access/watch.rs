//! A watcher's stream: what happens to secrets that the peer may read, and never a value.
//!
//! Before each notice the peer is looked at again and the rules are asked again, and the notice is on record before it is sent.
//! Does not render it: `api` does.

use super::{Access, Arrival, Type, Unaudited, Why};
use crate::{
    audit::event::Resource,
    keeper::notice::{Eye, Notice, What},
    name::SecretName,
    peer::{Peer, Since},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// How often a sign of life is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What is asked for.
#[derive(Debug)]
pub struct Watch {
    /// Which secrets; `None` stands for a name that no secret can have.
    pub names: Vec<Option<SecretName>>,
    /// Where the watcher stopped.
    pub since: Option<String>,
}

/// What became of it; its events are on disk.
pub enum Watched {
    /// The stream.
    Opened(Box<Watching>),
    /// There is none.
    Refused {
        /// Why.
        why: Why,
        /// The event's id.
        id: String,
    },
}

/// An open stream. Dropped when its connection ends.
pub struct Watching {
    access: Arc<Access>,
    peer: Arc<Peer>,
    eye: Eye,
    beat: Instant,
}

/// What is to be sent.
#[derive(Debug)]
pub enum Push {
    /// A notice, and what the watcher gives back to go on after it.
    Notice(Box<Notice>, String),
    /// A sign of life.
    Beat,
}

/// The stream ends, and not as it should: its connection is to be cut.
#[derive(Debug, thiserror::Error)]
#[error("the watcher may not be told any more")]
pub struct Cut;

impl Access {
    /// Opens a stream.
    ///
    /// # Errors
    /// [`Unaudited`]: nothing may be told.
    pub async fn watch(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        wanted: Watch,
        arrival: Arrival,
    ) -> Result<Watched, Unaudited> {
        let mut names = Vec::new();
        for name in wanted.names {
            let decided = self.decide(peer, name.as_ref(), Since::Asked).await;
            match decided.and_then(|permit| self.within_rate(&permit).map(|()| permit)) {
                Ok(permit) => {
                    let resource = Resource { secret: name, ..Resource::default() };
                    let mut event = self.blank(Type::SecretWatchOpened, Some(peer));
                    (event.rule, event.resource) = (Some(self.rule_ref(&permit)), Some(resource));
                    (event.latency, event.trace) = (Some(arrival.at.elapsed()), arrival.trace);
                    self.record(event, Some(peer)).await?;
                    self.observe(Some(peer), Some(permit.rule()), None, Some(arrival.at.elapsed()));
                    names.push(permit.secret().clone());
                }
                Err(refusal) => {
                    let why = refusal.why;
                    if let Why::Rejected(cause) = &why {
                        self.disown(peer, cause);
                    }
                    let kind =
                        if matches!(why, Why::Rejected(_)) { Type::PeerRejected } else { Type::SecretDenied };
                    let mut event = self.blank(kind, Some(peer));
                    event.resource = Some(Resource { secret: name, ..Resource::default() });
                    (event.reason, event.outcome) = (Some(why.reason()), why.reason().outcome());
                    (event.latency, event.trace) = (Some(arrival.at.elapsed()), arrival.trace);
                    event.rule = refusal.rule;
                    let receipt = self.record(event, Some(peer)).await?;
                    self.observe(Some(peer), None, Some(why.reason()), Some(arrival.at.elapsed()));
                    return Ok(Watched::Refused { why, id: receipt.id().to_string() });
                }
            }
        }
        let eye = Eye::new(&self.parts.keeper, names, peer.process(), wanted.since.as_deref());
        let (access, peer) = (Arc::clone(self), Arc::clone(peer));
        Ok(Watched::Opened(Box::new(Watching { access, peer, eye, beat: Instant::now() + HEARTBEAT })))
    }
}

impl Watching {
    /// Waits for what is to be sent next; `None`: the agent stops.
    ///
    /// # Errors
    /// [`Cut`], whose reason is on record.
    pub async fn next(&mut self) -> Result<Option<Push>, Cut> {
        loop {
            if self.access.parts.stopping.is_cancelled() {
                return Ok(None);
            }
            if let Some(notice) = self.eye.notice() {
                self.may_tell(&notice).await?;
                self.beat = Instant::now() + HEARTBEAT;
                return Ok(Some(Push::Notice(Box::new(notice), self.eye.told())));
            }
            tokio::select! {
                biased;
                () = self.access.parts.stopping.cancelled() => return Ok(None),
                () = self.eye.changed() => {}
                () = sleep_until(self.beat) => {
                    self.beat = Instant::now() + HEARTBEAT;
                    self.eye.find();
                    return Ok(Some(Push::Beat));
                }
            }
        }
    }

    /// Asks again, and puts on record what is told.
    async fn may_tell(&self, notice: &Notice) -> Result<(), Cut> {
        let (access, peer) = (&self.access, &self.peer);
        let mut event = access.blank(Type::SecretWatchTold, Some(peer));
        let current = notice.current.as_ref().filter(|_| notice.what == What::Promoted);
        match current {
            Some(value) => super::record::describe(&mut event, value),
            None => {
                event.resource = Some(Resource {
                    secret: Some(notice.name.clone()),
                    kind: notice.current.as_ref().map(|value| value.kind()),
                    version: Some(notice.generation),
                    ..Resource::default()
                });
            }
        }
        if let Some(resource) = &mut event.resource {
            resource.operation = Some(notice.what.word());
        }
        let why = match access.decide(peer, Some(&notice.name), Since::Waited).await {
            Ok(permit) => {
                event.rule = Some(access.rule_ref(&permit));
                None
            }
            Err(refusal) => Some(refusal.why),
        };
        if let Some(why) = why {
            if let Why::Rejected(cause) = &why {
                access.breached(peer, cause).await;
                return Err(Cut);
            }
            event.kind = Type::SecretDenied;
            (event.reason, event.outcome) = (Some(why.reason()), why.reason().outcome());
            access.observe(Some(peer), None, event.reason, None);
            // There is nobody to tell that it is not on record.
            let _ = access.record(event, Some(peer)).await;
            return Err(Cut);
        }
        access.record(event, Some(peer)).await.map(drop).map_err(|_| Cut)
    }
}
