//! What became of a wish: done or refused, and why; with the receipt that says that it is on record.
//!
//! Does not decide and does not render: `api` does.

use super::{Access, Arrival, Held, Reason, Served, Unheld, Value, Wish};
use crate::{
    approval::{self, Grant},
    audit::{self, Receipt, event::RuleRef},
    broker::{fault::Fault, upstream::reply::ReplyBody},
    forward::{self, stream},
    keeper,
    name::{RuleName, SecretName},
    peer::{self, Peer},
    policy::{Denial, forward::Forwarding},
    upload::Cut,
};
use http::Response;
use std::{sync::Arc, time::Duration};

/// What was permitted and done.
#[derive(Debug)]
pub enum Done {
    /// What the peer may read, each with what is in hand.
    Listed(Vec<(SecretName, Option<Held>)>),
    /// A value, to be sent.
    Read(Grant, Served),
    /// The peer has the newest value already.
    Unchanged(Grant, Served),
    /// The peer says that it uses this value's generation.
    Acked(Grant, Arc<Value>),
    /// What Vault said to a request that was sent on.
    Forwarded(Grant<Forwarding>, forward::Answer),
}

/// What was not done.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    pub(super) rule: Option<RuleRef>,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The settings changed, and the peer may no longer be here.
    #[error(transparent)]
    Rejected(#[from] peer::Cause),
    /// Policy says no.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// Over the rule's own rate, for this long.
    #[error("over the rule's rate")]
    RateLimited(Duration),
    /// There is no value to give.
    #[error("there is no value")]
    NoValue(#[source] Box<keeper::Error>),
    /// A bare value was asked for, and the secret has these fields.
    #[error("the secret has not one field")]
    NotOneField(Vec<String>),
    /// A call of another API is not made, or has no answer that may be handed on.
    #[error(transparent)]
    Call(#[from] Fault),
    /// An ack of a generation that is neither the newest nor the one before it.
    #[error("generation {0} is not served")]
    OtherGeneration(u64),
    /// A request's body is not taken.
    #[error(transparent)]
    Body(#[from] Unheld),
    /// A request was not sent on, or its answer may not come back.
    #[error("there is no answer of Vault")]
    NotForwarded(#[source] Box<forward::Error>),
    /// A rule for emergencies allows it, and nobody broke its glass.
    #[error("the glass of the rule {0} is whole")]
    GlassWhole(RuleName),
    /// A rule for emergencies does not hold any more, since one of them was not reviewed.
    #[error("the rule {0} has disabled itself")]
    GlassDisabled(RuleName),
    /// A rule for emergencies holds, and was to be had again.
    #[error("the rule {0} is not disabled")]
    GlassSound(RuleName),
    /// A person must say yes first.
    #[error(transparent)]
    Unapproved(Box<approval::Refusal>),
    /// What it would have changed could not be put on record before.
    #[error("the intent is not on record")]
    Unrecorded(#[source] Unaudited),
}

/// An answer with the proof that its event is on disk. Only `Access::answer` makes one. Holding one with a value obliges to
/// call [`Answered::delivered`] once the value is written to the client; dropping it without that is an event.
pub struct Answered {
    pub(super) unsent: Unsent,
    pub(super) receipt: Receipt,
}

/// A value that is owed to a client until it is settled. Dropped before, the event `undelivered` is recorded.
pub(super) struct Unsent {
    access: Arc<Access>,
    pub(super) peer: Arc<Peer>,
    pub(super) wish: Wish,
    pub(super) outcome: Result<Done, Refusal>,
    pub(super) arrival: Arrival,
    settled: bool,
}

/// What became of a call; its event is on disk, and in the answer's case its intent: the result follows when the body ends.
pub enum Called {
    /// The upstream's answer, as the client may see it.
    Answered {
        /// With the body on its way.
        response: Box<Response<ReplyBody>>,
        /// The intent's id.
        id: String,
    },
    /// It was not made, or there is no answer that may be handed on.
    Refused {
        /// Why.
        why: Why,
        /// The event's id.
        id: String,
    },
}

/// A refused peer, with the proof that the event is on disk.
#[derive(Debug)]
pub struct TurnedAway {
    /// Who and why.
    pub rejected: peer::Rejected,
    pub(super) receipt: Receipt,
}

/// The event could not be put on disk, so there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("recording the event of a request")]
pub struct Unaudited {
    /// When it is worth asking again.
    pub retry_after: Duration,
    #[source]
    pub(super) source: audit::Error,
}

impl Unaudited {
    /// Whether it is this workload alone that has no room.
    #[must_use]
    pub fn is_of_workload(&self) -> bool {
        matches!(self.source, audit::Error::ShareFull)
    }

    /// Whether the event is on record all the same, and says that a value was given.
    pub(super) fn is_on_record(&self) -> bool {
        matches!(self.source, audit::Error::Unacknowledged)
    }
}

impl Answered {
    /// What was asked for.
    #[must_use]
    pub fn wish(&self) -> &Wish {
        &self.unsent.wish
    }

    /// What became of it.
    ///
    /// # Errors
    /// [`Refusal`], whose event is on disk too.
    pub fn outcome(&self) -> Result<&Done, &Refusal> {
        self.unsent.outcome.as_ref()
    }

    /// The proof that the event is on disk.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Everything that was to be sent is written to the client's socket.
    pub fn delivered(mut self) {
        self.unsent.settle();
    }
}

impl TurnedAway {
    /// The proof that the event is on disk.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

impl Unsent {
    pub(super) fn new(
        access: &Arc<Access>,
        peer: &Arc<Peer>,
        wish: Wish,
        outcome: Result<Done, Refusal>,
        arrival: Arrival,
    ) -> Self {
        let settled = !matches!(outcome, Ok(Done::Read(..) | Done::Forwarded(..)));
        Self { access: Arc::clone(access), peer: Arc::clone(peer), wish, outcome, arrival, settled }
    }

    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    pub(super) fn rule(&self) -> Option<&RuleName> {
        match &self.outcome {
            Ok(Done::Listed(_)) => None,
            Ok(Done::Read(grant, _) | Done::Unchanged(grant, _) | Done::Acked(grant, _)) => {
                Some(grant.permit().rule())
            }
            Ok(Done::Forwarded(grant, _)) => Some(grant.permit().rule()),
            Err(refusal) => refusal.rule.as_ref().map(|rule| &rule.name),
        }
    }

    /// Why an answer of Vault was cut off on its way, if not for its client.
    pub(super) fn why_cut(&self) -> Option<Reason> {
        let Ok(Done::Forwarded(_, answer)) = &self.outcome else { return None };
        answer.stream.as_ref()?.cut().map(|cut| match cut {
            stream::Cut::Tainted => Reason::OwnToken,
            stream::Cut::TooLarge => Reason::VaultNonsense,
            stream::Cut::Broken => Reason::VaultAway,
        })
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        match &self.outcome {
            Ok(Done::Forwarded(_, answer)) => super::forward::reason(answer.status),
            Ok(_) => None,
            Err(refusal) => Some(refusal.why.reason()),
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if !self.settled {
            self.access.undelivered(self);
        }
    }
}

impl Why {
    /// Whether nothing may be said to whoever is at the other end: it may be somebody else than the peer by now.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Rejected(cause) if !cause.is_told())
    }

    /// The word for it in the answer, the event and the metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Rejected(cause) => cause.into(),
            Self::Denied(denial) => denial.into(),
            Self::RateLimited(_) => Reason::RateLimited,
            Self::NoValue(error) => match &**error {
                keeper::Error::Crowded { .. } => Reason::TooManyProcesses,
                keeper::Error::NoProcess(_) => Reason::LevelNotReached,
                error => error.class().map_or(Reason::NotReady, Reason::from),
            },
            Self::Call(fault) => Reason::Upstream(*fault),
            Self::Body(Unheld::OverHeld(_) | Unheld::OverRule(_)) => Reason::TooLarge,
            Self::Body(Unheld::Full) => Reason::Upstream(Fault::BuffersFull),
            Self::Body(Unheld::Cut(cut)) => reason_of(*cut),
            Self::NotOneField(_) | Self::OtherGeneration(_) | Self::GlassSound(_) => Reason::BadRequest,
            Self::NotForwarded(error) => match &**error {
                forward::Error::Tainted => Reason::OwnToken,
                forward::Error::Child(_) => Reason::TokenTerms,
                forward::Error::Upload(cut) => reason_of(*cut),
                error => error.class().map_or(Reason::NotReady, Reason::from),
            },
            Self::GlassWhole(_) => Reason::GlassWhole,
            Self::GlassDisabled(_) => Reason::Approval(approval::Want::Disabled),
            Self::Unapproved(refusal) => super::approve::reason_of(refusal),
            Self::Unrecorded(_) => Reason::AuditUnavailable,
        }
    }
}

fn reason_of(cut: Cut) -> Reason {
    match cut {
        Cut::TooLarge(_) => Reason::TooLarge,
        Cut::Late | Cut::Broken => Reason::BadRequest,
        Cut::Closed => Reason::Undelivered,
    }
}

impl<W: Into<Why>> From<W> for Refusal {
    fn from(why: W) -> Self {
        Self { why: why.into(), rule: None }
    }
}
