//! An emergency: a peer breaks the glass of a rule, and the rule holds for its user for a while.
//!
//! Nothing holds before a receiver elsewhere has the event that says who did it and why. Does not rotate what was taken: `app` sees to that.

use super::{Access, Arrival, Outcome, Reason, Refusal, Rules, Unaudited, Why};
use crate::{
    approval::glass::Broken,
    audit::event::{Event, RuleRef, Type},
    clock::{self, Timestamp},
    name::RuleName,
    peer::{Peer, Since},
    policy::{Denial, Permit, Policy, rule::AuditMode},
};
use std::{ops::Deref, time::Duration};
use tokio::runtime::Handle;

/// What somebody says who breaks a glass. Both texts are one line with something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emergency {
    /// Which rule is needed; `None`: a name that no rule has.
    pub rule: Option<RuleName>,
    /// Why.
    pub reason: String,
    /// Where that is written down: a ticket, an incident.
    pub ticket: String,
}

/// What came of it; the event is on disk.
#[derive(Debug)]
pub enum Glass {
    /// The rule holds.
    Broken(Broken),
    /// It does not.
    Whole {
        /// Why.
        why: Why,
        /// The event's id.
        id: String,
    },
}

/// The rules that hold for one peer at one moment.
pub(super) enum InForce<'a> {
    Usual(&'a Policy),
    Broken(Box<Policy>),
}

impl Deref for InForce<'_> {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        match self {
            Self::Usual(policy) => policy,
            Self::Broken(policy) => policy,
        }
    }
}

impl Access {
    /// Breaks the glass of a rule.
    ///
    /// # Errors
    /// [`Unaudited`]: that cannot be put on record elsewhere, and the glass is whole.
    pub async fn break_glass(
        &self,
        peer: &Peer,
        wanted: Emergency,
        arrival: Arrival,
    ) -> Result<Glass, Unaudited> {
        let mut event = self.blank(Type::ApprovalBreakGlass, Some(peer));
        (event.latency, event.trace) = (Some(arrival.at.elapsed()), arrival.trace);
        let (broken, window, revision) = match self.may_break(peer, wanted).await {
            Ok(may) => may,
            Err(Refusal { why, rule }) => {
                if let Why::Rejected(cause) = &why {
                    self.disown(peer, cause);
                    event.kind = Type::PeerRejected;
                }
                (event.reason, event.outcome) = (Some(why.reason()), why.reason().outcome());
                event.rule = rule;
                let id = self.record(event, Some(peer)).await?.id().to_string();
                self.observe(Some(peer), None, Some(why.reason()), Some(arrival.at.elapsed()));
                return Ok(Glass::Whole { why, id });
            }
        };
        event.rule = Some(RuleRef { name: broken.rule.clone(), revision, mode: AuditMode::StrictRemote });
        event.approval = super::approve::about_glass(&broken, "opened");
        let mut undone = event.clone();
        undone.kind = Type::ApprovalRefused;
        let recorded = self.record(event, Some(peer)).await;
        recorded.inspect_err(|unaudited| self.unbroken(undone, unaudited))?;
        self.observe(Some(peer), Some(&broken.rule), None, Some(arrival.at.elapsed()));
        self.parts.approvals.break_glass(broken.clone(), window);
        Ok(Glass::Broken(broken))
    }

    /// What is on record here and not elsewhere did not happen: that is on record too.
    fn unbroken(&self, mut event: Box<Event>, unaudited: &Unaudited) {
        let Ok(runtime) = Handle::try_current() else { return };
        if unaudited.is_on_record() {
            (event.outcome, event.reason) = (Outcome::Error, Some(Reason::AuditUnavailable));
            let audit = self.parts.audit.clone();
            // That there is no room for it is what the journal itself reports.
            let recording = async move { drop(audit.record(event, AuditMode::Strict).await) };
            self.parts.unfinished.spawn_on(recording, &runtime);
        }
    }

    async fn may_break(&self, peer: &Peer, wanted: Emergency) -> Result<(Broken, Duration, String), Refusal> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        let rule = wanted.rule.ok_or(Denial::NoRule)?;
        let window = rules.policy.window(&rule).ok_or(Denial::NoRule)?;
        if self.parts.approvals.are_glasses_many(peer.workload()) {
            return Err(Why::RateLimited(window).into());
        }
        let now = clock::now();
        let id = self.parts.approvals.glass_id(now).map_err(|_| Why::RateLimited(Duration::from_secs(1)))?;
        let Emergency { rule: _, reason, ticket } = wanted;
        let (workload, uid, until) = (peer.workload().clone(), peer.uid(), plus(now, window));
        let broken = Broken { id, rule, workload, uid, reason, ticket, until };
        Ok((broken, window, rules.policy.revision().to_owned()))
    }

    /// The rules that hold for this peer now.
    pub(super) fn in_force<'a>(&self, rules: &'a Rules, peer: &Peer) -> InForce<'a> {
        let usual = InForce::Usual(&rules.policy);
        if rules.policy.behind_glass().is_none() {
            return usual;
        }
        let broken = self.parts.approvals.broken(peer.workload(), peer.uid());
        if broken.is_empty() {
            return usual;
        }
        rules.policy.broken(&broken).map_or(usual, |policy| InForce::Broken(Box::new(policy)))
    }

    /// What the rules that hold say. Where only a rule behind glass allows it, the refusal names that one.
    pub(super) fn by_rules<T, S>(
        &self,
        rules: &Rules,
        peer: &Peer,
        ask: impl Fn(&Policy) -> Result<T, Denial>,
        permit: impl Fn(&T) -> &Permit<S>,
    ) -> Result<T, Refusal> {
        match ask(&self.in_force(rules, peer)) {
            Err(Denial::NoRule) => {
                let behind = rules.policy.behind_glass().and_then(|all| ask(all).ok());
                Err(behind.map_or_else(
                    || Denial::NoRule.into(),
                    |behind| {
                        let permit = permit(&behind);
                        self.refuse(permit, Why::GlassWhole(permit.rule().clone()))
                    },
                ))
            }
            decided => Ok(decided?),
        }
    }
}

fn plus(now: Timestamp, window: Duration) -> Timestamp {
    now + jiff::SignedDuration::try_from(window).unwrap_or_default()
}
