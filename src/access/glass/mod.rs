//! An emergency: a peer breaks the glass of a rule, and the rule holds for its user for a while.
//!
//! Nothing holds before a receiver elsewhere has the event that says who did it and why, and before persons are asked for the review that the rule
//! may want. Does not rotate what was taken: `app` sees to that.

mod drill;

pub use drill::Drill;
// The words of an answer.
pub use crate::approval::review::Opened as Review;

use super::{Access, Arrival, Outcome, Reason, Refusal, Rules, Unapproved, Unaudited, Why};
use crate::{
    approval::{
        glass::Broken,
        review::{Reviewed, Said},
    },
    audit::event::{Event, RuleRef, Type},
    clock::{self, Timestamp},
    name::{ApprovalName, RuleName},
    peer::{Peer, Since},
    policy::{Denial, Permit, Policy, rule::AuditMode},
};
use std::{ops::Deref, sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// What somebody says who breaks a glass. Both texts are one line; only for a drill they may be empty.
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
    /// Persons are asked whether a rule may hold again that is disabled.
    Asked(Review, ApprovalName),
    /// Nothing was to be opened.
    Drilled(Drill),
}

/// What may be broken.
struct May {
    broken: Broken,
    window: Duration,
    revision: String,
    review: Option<Arc<Reviewed>>,
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
        let mut event = self.emergency(Type::ApprovalBreakGlass, peer, arrival);
        let May { mut broken, window, revision, review } = match self.may_break(peer, wanted).await {
            Ok(may) => may,
            Err(refusal) => return self.whole(peer, event, refusal).await,
        };
        event.rule = Some(RuleRef { name: broken.rule.clone(), revision, mode: AuditMode::StrictRemote });
        event.approval = super::approve::about_glass(&broken, "opened");
        let mut undone = event.clone();
        undone.kind = Type::ApprovalRefused;
        let recorded = self.record(event, Some(peer)).await;
        recorded.inspect_err(|unaudited| self.unbroken(undone.clone(), unaudited))?;
        if let Some(review) = review {
            match self.parts.approvals.open_review(&review, &broken).await {
                Ok(opened) => broken.review = Some(opened),
                Err(error) => {
                    let rule = undone.rule.clone();
                    let why = Why::Unapproved(Box::new(Unapproved::Vault(error)));
                    return self.whole(peer, undone, Refusal { why, rule }).await;
                }
            }
        }
        self.observe(Some(peer), Some(&broken.rule), None, Some(arrival.at.elapsed()));
        self.parts.approvals.break_glass(broken.clone(), window);
        Ok(Glass::Broken(broken))
    }

    /// Asks persons whether a rule may hold again that has disabled itself. What they are asked is on record by the request's own event.
    ///
    /// # Errors
    /// [`Unaudited`]: that it is refused cannot be put on record.
    pub async fn ask_to_enable(
        &self,
        peer: &Peer,
        wanted: Emergency,
        arrival: Arrival,
    ) -> Result<Glass, Unaudited> {
        match self.may_ask_to_enable(peer, &wanted).await {
            Ok((opened, name)) => {
                self.observe(Some(peer), wanted.rule.as_ref(), None, Some(arrival.at.elapsed()));
                Ok(Glass::Asked(opened, name))
            }
            Err(refusal) => {
                let event = self.emergency(Type::ApprovalRefused, peer, arrival);
                self.whole(peer, event, refusal).await
            }
        }
    }

    fn emergency(&self, kind: Type, peer: &Peer, arrival: Arrival) -> Box<Event> {
        let mut event = self.blank(kind, Some(peer));
        (event.latency, event.trace) = (Some(arrival.at.elapsed()), arrival.trace);
        event
    }

    /// Puts on record why nothing holds.
    async fn whole(
        &self,
        peer: &Peer,
        mut event: Box<Event>,
        Refusal { why, rule }: Refusal,
    ) -> Result<Glass, Unaudited> {
        if let Why::Rejected(cause) = &why {
            self.disown(peer, cause);
            event.kind = Type::PeerRejected;
        }
        (event.reason, event.outcome) = (Some(why.reason()), why.reason().outcome());
        event.rule = rule;
        let took = event.latency;
        let id = self.record(event, Some(peer)).await?.id().to_string();
        self.observe(Some(peer), None, Some(why.reason()), took);
        Ok(Glass::Whole { why, id })
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

    async fn may_break(&self, peer: &Peer, wanted: Emergency) -> Result<May, Refusal> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        let Emergency { rule, reason, ticket } = wanted;
        let rule = rule.ok_or(Denial::NoRule)?;
        let window = rules.policy.behind(&rule).ok_or(Denial::NoRule)?.window;
        if self.parts.approvals.are_glasses_many(peer.workload()) {
            return Err(Why::RateLimited(window).into());
        }
        let review = self.review_of(&rules, peer, &rule)?;
        if let Some(review) = &review {
            let unknown = |error| Why::Unapproved(Box::new(Unapproved::Vault(error)));
            if !self.parts.approvals.holds(review).await.map_err(unknown)? {
                return Err(Why::GlassDisabled(rule).into());
            }
        }
        let now = clock::now();
        let id = self.parts.approvals.glass_id(now).map_err(|_| Why::RateLimited(Duration::from_secs(1)))?;
        let (workload, uid, until) = (peer.workload().clone(), peer.uid(), plus(now, window));
        let broken = Broken { id, rule, workload, uid, reason, ticket, until, review: None };
        Ok(May { broken, window, revision: rules.policy.revision().to_owned(), review })
    }

    /// How the rule is reviewed, if it is.
    fn review_of(
        &self,
        rules: &Rules,
        peer: &Peer,
        rule: &RuleName,
    ) -> Result<Option<Arc<Reviewed>>, Refusal> {
        if rules.policy.behind(rule).is_none_or(|behind| behind.review.is_none()) {
            return Ok(None);
        }
        // The rules and the approvals are taken over one after the other.
        let review = self.parts.approvals.reviewed(peer.workload(), rule);
        review.map(Some).ok_or_else(|| Why::Unapproved(Box::new(Unapproved::Missing)).into())
    }

    async fn may_ask_to_enable(
        &self,
        peer: &Peer,
        wanted: &Emergency,
    ) -> Result<(Review, ApprovalName), Refusal> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        let rule = wanted.rule.clone().ok_or(Denial::NoRule)?;
        rules.policy.behind(&rule).ok_or(Denial::NoRule)?;
        let Some(review) = self.review_of(&rules, peer, &rule)? else {
            return Err(Why::GlassSound(rule).into());
        };
        let said = Said { uid: peer.uid(), reason: &wanted.reason, ticket: &wanted.ticket };
        let asked = self.parts.approvals.ask_to_enable(&review, said).await;
        let asked = asked.map_err(|error| Why::Unapproved(Box::new(Unapproved::Vault(error))))?;
        let opened = asked.ok_or(Why::GlassSound(rule))?;
        Ok((opened, review.settings.name.clone()))
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
