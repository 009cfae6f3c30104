//! A service that is told of a request which no caller waits for, a slot of a rotation: told and asked when that is looked at.
//!
//! Runs nothing by itself, and holds up whoever looks for some seconds at most.

use super::{
    Approvals,
    fact::{Act, Call},
    hook::{Fault, Hook, in_time},
    request::{Around, Request},
    told::{Teller, somebody},
    webhook::{Answered, Brought, Message},
};
use crate::{clock, crypto::hex};
use tokio::time::Instant;

/// What one replica knows of the service.
#[derive(Debug)]
pub(super) struct Bell {
    us: String,
    heard: bool,
    failures: u32,
    again: Option<Instant>,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self { us: somebody(), heard: false, failures: 0, again: None }
    }

    /// Whether it has been told, as far as we know.
    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    /// Tells it, if it has not been; else asks it. What it says goes into the store; what it does not say is no fault of the request.
    pub(super) async fn ring(&mut self, approvals: &Approvals, around: &Around<'_>, request: &mut Request) {
        let Some(hook) = approvals.hook(&around.settings.name) else { return };
        if self.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        let call = if self.heard { Call::Ask } else { Call::Tell };
        let rung = match self.answer(approvals, &hook, around, request).await {
            Ok(None) => return,
            Ok(Some((call, votes))) => {
                approvals.tell(vec![request.fact(around, Act::Called { call, result: "ok" })]);
                match request.bring(around, &votes).await {
                    Ok(()) if call == Call::Tell => request.told(around, &self.us).await,
                    brought => brought,
                }
            }
            Err(fault) => {
                self.failed(approvals, around, request, (call, &fault));
                return;
            }
        };
        self.failures = 0;
        if let Err(error) = rung {
            // Then it is told or asked again, and says the same.
            self.heard = call == Call::Ask;
            tracing::debug!(%error, "keeping what a webhook said");
        }
    }

    async fn answer(
        &mut self,
        approvals: &Approvals,
        hook: &Hook,
        around: &Around<'_>,
        request: &Request,
    ) -> Result<Option<(Call, Vec<Brought>)>, Fault> {
        if !self.heard {
            match request.teller(around, &self.us).await {
                Ok(Teller::Us) => {}
                Ok(Teller::Done) => self.heard = true,
                Ok(Teller::Another) | Err(_) => return Ok(None),
            }
            if !self.heard {
                let body = Message::of(around.settings, request, clock::now()).body();
                let digest = hex(request.digest());
                let told = hook.tell((&request.id, &digest), &around.settings.approvers, body);
                let answered = in_time(told).await?;
                self.heard = true;
                warn(approvals, around, request, &answered);
                return Ok(Some((Call::Tell, answered.votes)));
            }
        }
        if hook.settings().status_url.is_none() {
            return Ok(None);
        }
        Ok(Some((Call::Ask, ask(approvals, hook, around, request).await?)))
    }

    fn failed(
        &mut self,
        approvals: &Approvals,
        around: &Around<'_>,
        request: &Request,
        (call, fault): (Call, &Fault),
    ) {
        self.failures = self.failures.saturating_add(1);
        self.again = Some(Instant::now() + fault.wait(self.failures));
        let (approval, why) = (&around.settings.name, &fault.why);
        tracing::warn!(%approval, call = call.word(), why, "the webhook does not answer");
        approvals.tell(vec![request.fact(around, Act::Called { call, result: fault.word })]);
    }
}

/// What the service says at this moment.
///
/// # Errors
/// It does not answer.
pub(super) async fn ask(
    approvals: &Approvals,
    hook: &Hook,
    around: &Around<'_>,
    request: &Request,
) -> Result<Vec<Brought>, Fault> {
    let digest = hex(request.digest());
    let answered = in_time(hook.ask((&request.id, &digest), &around.settings.approvers)).await?;
    warn(approvals, around, request, &answered);
    Ok(answered.votes)
}

/// Says that the service brings the word of nobody who may say yes.
fn warn(approvals: &Approvals, around: &Around<'_>, request: &Request, answered: &Answered) {
    if answered.strangers > 0 {
        let approval = &around.settings.name;
        tracing::warn!(%approval, count = answered.strangers, "the webhook brings votes of nobody who may say yes");
        let act = Act::Called { call: Call::Ask, result: "stranger" };
        approvals.tell(vec![request.fact(around, act)]);
    }
}
