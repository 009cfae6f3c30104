//! A drill: whether a rule for emergencies would hold if somebody broke its glass now.
//!
//! Opens nothing, gives nothing, asks nobody. What it finds out is on record where an emergency would be.

use super::{
    super::{Access, Arrival, Outcome, Reason, Refusal, Rules, Unaudited, Want, approve},
    Emergency, Glass,
};
use crate::{
    approval::{
        self,
        review::{Drilled, Reviewed, Service},
    },
    audit::event::{ApprovalRef, RuleRef, Type},
    name::{ApprovalName, RuleName, SecretName},
    peer::{Peer, Since},
    policy::{Denial, rule::AuditMode},
};
use std::time::Duration;

/// What was found out.
#[derive(Debug)]
pub struct Drill {
    /// Of which rule.
    pub rule: RuleName,
    /// How long it would hold.
    pub window: Duration,
    /// Each thing that must be right.
    pub checks: Vec<Check>,
    /// The event's id; `None` where the receivers elsewhere do not have it.
    pub id: Option<String>,
}

/// One thing that must be right.
#[derive(Debug)]
pub struct Check {
    /// `rule`, `values`, `review`, `approvers`, `service` or `receiver`.
    pub name: &'static str,
    /// What was found, for people.
    pub said: String,
    /// Why it is not right.
    pub wrong: Option<Reason>,
}

impl Check {
    fn good(name: &'static str, said: impl Into<String>) -> Self {
        Self { name, said: said.into(), wrong: None }
    }

    fn bad(name: &'static str, said: impl Into<String>, why: Reason) -> Self {
        Self { name, said: said.into(), wrong: Some(why) }
    }
}

impl Drill {
    /// Whether the rule would hold.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.wrong.is_none())
    }
}

impl Access {
    /// Tries all that a broken glass needs, the receivers elsewhere last: by the event that says what came of it.
    ///
    /// # Errors
    /// [`Unaudited`]: that cannot be put on record here.
    pub async fn drill(&self, peer: &Peer, wanted: Emergency, arrival: Arrival) -> Result<Glass, Unaudited> {
        let mut event = self.emergency(Type::ApprovalDrill, peer, arrival);
        let (mut drill, revision) = match self.try_all(peer, wanted.rule).await {
            Ok(tried) => tried,
            Err(refusal) => return self.whole(peer, event, refusal).await,
        };
        let wrong: Vec<&Check> = drill.checks.iter().filter(|check| check.wrong.is_some()).collect();
        let reason = wrong.first().and_then(|check| check.wrong);
        let said = wrong.iter().map(|check| format!("{}: {}", check.name, check.said));
        let approval = ApprovalName::new(approve::GLASS).ok().map(|name| {
            Box::new(ApprovalRef {
                name,
                id: None,
                digest: None,
                by: Vec::new(),
                said: Some(wanted.reason)
                    .filter(|reason| !reason.is_empty())
                    .into_iter()
                    .chain(said)
                    .collect(),
                how: Some("drill"),
                ticket: Some(wanted.ticket).filter(|ticket| !ticket.is_empty()),
            })
        });
        let rule = RuleRef { name: drill.rule.clone(), revision, mode: AuditMode::StrictRemote };
        let outcome = if reason.is_some() { Outcome::Error } else { Outcome::Allow };
        (event.outcome, event.reason, event.rule, event.approval) = (outcome, reason, Some(rule), approval);
        match self.record(event.clone(), Some(peer)).await {
            Ok(receipt) => {
                drill.id = Some(receipt.id().to_string());
                let said = "a receiver elsewhere has the event of this drill";
                drill.checks.push(Check::good("receiver", said));
            }
            Err(unaudited) if unaudited.is_on_record() => {
                self.unbroken(event, &unaudited);
                let said = "no required receiver elsewhere acknowledged the event of this drill in time";
                drill.checks.push(Check::bad("receiver", said, Reason::AuditUnavailable));
            }
            Err(unaudited) => return Err(unaudited),
        }
        let reason = drill.checks.iter().find_map(|check| check.wrong);
        self.observe(Some(peer), Some(&drill.rule), reason, Some(arrival.at.elapsed()));
        Ok(Glass::Drilled(drill))
    }

    async fn try_all(&self, peer: &Peer, rule: Option<RuleName>) -> Result<(Drill, String), Refusal> {
        let rules = self.rules.load_full();
        peer.attest(&rules.peer, &self.provers, Since::Asked).await?;
        let rule = rule.ok_or(Denial::NoRule)?;
        let window = rules.policy.behind(&rule).ok_or(Denial::NoRule)?.window;
        let mut checks = vec![self.try_rule(peer, window), self.try_values(&rules, &rule)];
        if let Some(review) = self.review_of(&rules, peer, &rule)? {
            checks.extend(self.try_review(&review).await);
        }
        Ok((Drill { rule, window, checks, id: None }, rules.policy.revision().to_owned()))
    }

    fn try_rule(&self, peer: &Peer, window: Duration) -> Check {
        if self.parts.approvals.are_glasses_many(peer.workload()) {
            let said = "as many rules of this workload as may be are broken";
            return Check::bad("rule", said, Reason::RateLimited);
        }
        Check::good("rule", format!("would hold for {}s", window.as_secs()))
    }

    /// Whether there is something to give.
    fn try_values(&self, rules: &Rules, rule: &RuleName) -> Check {
        let secrets = rules.policy.secrets_behind(rule);
        if secrets.is_empty() {
            return Check::good("values", "it is for Vault's own API: what Vault gives is Vault's to say");
        }
        // What is made for each process has no value before one asks.
        let shelves = self.parts.keeper.shelves();
        let lacks = |name: &&SecretName| {
            shelves.iter().any(|(shelved, shelf)| shelved == *name && shelf.current.is_none())
        };
        let missing: Vec<&str> = secrets.iter().filter(lacks).map(SecretName::as_str).collect();
        if missing.is_empty() {
            return Check::good("values", format!("in hand: {}", secrets.len()));
        }
        Check::bad("values", format!("there is no value of {}", missing.join(", ")), Reason::NotReady)
    }

    async fn try_review(&self, review: &Reviewed) -> Vec<Check> {
        let approval::Settings { name, quorum, approvers, .. } = &review.settings;
        match self.parts.approvals.try_review(review).await {
            Ok(Drilled { holds: false, .. }) => {
                let said = format!(
                    "the rule has disabled itself: claviger break-glass {} --enable --reason … --ticket …",
                    review.rule
                );
                vec![Check::bad("review", said, Reason::Approval(Want::Disabled))]
            }
            Ok(Drilled { unknown, service, .. }) => {
                let said = format!(
                    "{quorum} of approvals.{name} would be asked, and have {}s",
                    review.within.as_secs()
                );
                let approvers = if unknown.is_empty() {
                    Check::good("approvers", format!("known: {}", approvers.len()))
                } else {
                    let said = format!(
                        "no key in Vault of {}: vault write transit/keys/approver-ENTITY type=ed25519",
                        unknown.join(", ")
                    );
                    Check::bad("approvers", said, Reason::NotReady)
                };
                [Check::good("review", said), approvers].into_iter().chain(service.map(heard)).collect()
            }
            Err(error) => {
                let said = format!("the store of approvals.{name} cannot be used: {error}");
                vec![Check::bad("review", said, error.class().into())]
            }
        }
    }
}

/// Whether the service would hear of it that is told of requests.
fn heard(service: Service) -> Check {
    match service {
        Service::Answers => Check::good("service", "answers"),
        Service::Unasked => {
            Check::good("service", "has no status_url: that it hears is seen by a request alone")
        }
        Service::Silent(why) => {
            let said = format!("the webhook does not answer: {why}");
            Check::bad("service", said, Reason::Approval(Want::Unreachable))
        }
    }
}
