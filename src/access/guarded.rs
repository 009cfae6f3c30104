//! A request that Vault itself asks persons about, by a control group of its policy: sent so that it asks, and given once it was.
//!
//! What Vault answers without having asked anybody is not given. What may change something is on record before it is sent: whether a
//! control group stands before it is known from the answer alone.

use super::{
    Access, Arrival, Call, Reason, Refusal, Type, Unaudited, Why, approve,
    forward::{Pending, describe},
};
use crate::{
    approval::{self, Grant, Want, group},
    audit::event::{Event, Outcome},
    forward::{
        Answer, Error,
        guarded::{Asked, Asking},
    },
    peer::Peer,
    policy::{Permit, forward::Forwarding},
};
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

/// What became of the asking.
pub(super) enum Guarded {
    /// Persons said yes in Vault, and this request may be unwrapped.
    Granted(Grant<Forwarding>),
    /// Vault refused it, whoever might say yes.
    Answered(Grant<Forwarding>, Box<Answer>),
    /// Its rule names no control group.
    NotOfGroup(Permit<Forwarding>),
}

/// The way to have Vault ask.
struct Knock {
    access: Arc<Access>,
    asking: Asking,
    /// The intent, of what may change something.
    intent: Option<Box<Event>>,
    heard: Mutex<Option<Heard>>,
}

/// Why nobody is asked.
enum Heard {
    Unrecorded(Unaudited),
    Failed(Error),
    Answered(Answer),
}

impl Access {
    /// A grant of what waits in Vault, or what there is in its place.
    pub(super) async fn obtain_guarded(
        self: &Arc<Self>,
        peer: &Peer,
        permit: Permit<Forwarding>,
        call: &Call,
        arrival: Arrival,
    ) -> Result<Guarded, Refusal> {
        let approvals = &self.parts.approvals;
        let Some(forward) = self
            .parts
            .forward
            .as_ref()
            .filter(|_| permit.subject().own.is_none() && approvals.is_of_group(&permit))
        else {
            return Ok(Guarded::NotOfGroup(permit));
        };
        let knock = Arc::new(Knock {
            access: Arc::clone(self),
            asking: forward.asking(&permit, call),
            intent: permit.subject().operation.changes().then(|| self.intent(peer, call, &permit, arrival)),
            heard: Mutex::default(),
        });
        let door: Arc<dyn group::Door> = Arc::<Knock>::clone(&knock);
        let asked = |permit: &Permit<Forwarding>| approval::Asked {
            door: Some(door),
            ..approve::asked_of_vault(peer, permit, call)
        };
        let (permit, refusal) = match approvals.obtain(permit, asked, None).await {
            Ok(grant) => return Ok(Guarded::Granted(grant)),
            Err(refused) => refused,
        };
        let why = match (refusal, knock.take()) {
            (approval::Refusal::Unguarded { .. }, Some(Heard::Unrecorded(unaudited))) => {
                Why::Unrecorded(unaudited)
            }
            (approval::Refusal::Unguarded { .. }, Some(Heard::Failed(error))) => {
                Why::NotForwarded(Box::new(error))
            }
            // It gives nothing but that.
            (approval::Refusal::Unguarded { .. }, Some(Heard::Answered(answer))) if answer.status >= 400 => {
                return Ok(Guarded::Answered(approval::waive(permit), Box::new(answer)));
            }
            (refusal, heard) => {
                if let Some(Heard::Answered(Answer { lease: Some(lease), .. })) = heard {
                    self.bind(None, permit.subject().path.as_str(), Arc::clone(&lease));
                    self.abandon(&lease.id_hash);
                }
                Why::Unapproved(Box::new(refusal))
            }
        };
        Err(self.refuse(&permit, why))
    }

    fn intent(&self, peer: &Peer, call: &Call, permit: &Permit<Forwarding>, arrival: Arrival) -> Box<Event> {
        let mut event = self.blank(Type::VaultIntent, Some(peer));
        event.trace = arrival.trace;
        event.rule = Some(self.rule_ref(permit));
        event.approval = permit.approval().map(|name| Box::new(approve::about(name, None)));
        describe(&mut event, call, Some(permit.subject()));
        event
    }
}

impl Knock {
    fn take(&self) -> Option<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn ask(&self) -> Result<group::Wrapped, Heard> {
        let mut owed = Pending { access: Arc::clone(&self.access), event: None, upload: None };
        if let Some(intent) = &self.intent {
            let mut event = intent.clone();
            event.time = crate::clock::now();
            let mut result = event.clone();
            (result.kind, result.outcome, result.reason) =
                (Type::VaultResult, Outcome::Error, Some(Reason::Undelivered));
            owed.event = Some(result);
            // Of what cannot be put on record nothing is sent.
            if let Err(unaudited) = self.access.record(event, None).await {
                owed.settle();
                return Err(Heard::Unrecorded(unaudited));
            }
        }
        let (waits, want) = match self.asking.ask().await {
            Ok(Asked::Waits(wrapped)) => (Ok(wrapped), Want::Pending),
            Ok(Asked::Answered(answer)) if answer.status < 400 => {
                (Err(Heard::Answered(answer)), Want::Unguarded)
            }
            Ok(Asked::Answered(answer)) => {
                owed.settle();
                return Err(Heard::Answered(answer));
            }
            Err(error) => {
                owed.settle();
                return Err(Heard::Failed(error));
            }
        };
        if let Some(result) = &mut owed.event {
            let reason = Reason::Approval(want);
            (result.outcome, result.reason) = (reason.outcome(), Some(reason));
        }
        waits
    }
}

impl group::Door for Knock {
    fn knock(&self) -> Pin<Box<dyn Future<Output = Option<group::Wrapped>> + Send + '_>> {
        Box::pin(async move {
            match self.ask().await {
                Ok(wrapped) => Some(wrapped),
                Err(heard) => {
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
                    None
                }
            }
        })
    }
}

impl fmt::Debug for Knock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Knock").finish_non_exhaustive()
    }
}
