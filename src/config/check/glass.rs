//! `break_glass` of a rule: for how long it holds once somebody broke its glass, and who must look at that afterwards.
//!
//! Pure.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, group, seconds};
use crate::{
    approval::{self, glass::LONGEST},
    name::ApprovalName,
    policy::rule::{AuditMode, Behind, Review, Rule},
};
use std::time::Duration;

/// What stands there, and where.
pub(super) struct Given<'a> {
    leaf: Leaf<'a>,
    behind: Behind,
}

pub(super) fn read<'a>(
    map: &mut Map<'a>,
    context: &Context<'_>,
    approvals: Option<&[approval::Settings]>,
) -> Option<Option<Given<'a>>> {
    let Some(leaf) = map.find("break_glass") else { return Some(None) };
    let mut inner = leaf.map()?;
    let window =
        inner.or("window", Duration::from_secs(15 * 60), |leaf| leaf.duration(seconds(1, LONGEST.as_secs())));
    let review = review(&mut inner, context, approvals);
    inner.finish();
    Some(Some(Given { behind: Behind { window: window?, review: review? }, leaf }))
}

/// Who must look at it afterwards.
fn review(
    map: &mut Map<'_>,
    context: &Context<'_>,
    approvals: Option<&[approval::Settings]>,
) -> Option<Option<Review>> {
    let named = map.given("review", |leaf| {
        let name: ApprovalName = leaf.refers(&context.approvals, ApprovalName::new)?;
        let settings = approvals.and_then(|all| all.iter().find(|one| one.name == name));
        if let Some(settings) = settings {
            group::of_review(leaf, settings)?;
        }
        if settings.is_some_and(|settings| settings.observe) {
            leaf.problem(
                "a review by an approval that only observes: nobody is asked, and the rule would disable itself each time",
                "name an approval without observe: true",
            );
            return None;
        }
        Some(name)
    });
    let stands = map.find("review_within");
    let within = map.given("review_within", |leaf| leaf.duration(seconds(1, DAY)));
    if let (Some(None), Some(leaf)) = (&named, &stands) {
        leaf.problem("a review_within, and no review", "write review: NAME, of approvals, or remove it");
        return None;
    }
    let within = within?.unwrap_or(Duration::from_secs(3600));
    Some(named?.map(|approval| Review { approval, within }))
}

impl Given<'_> {
    /// The rule behind that glass, if it is one that may be; `child`: how long the child tokens live that it allows.
    pub(super) fn before(self, rule: Rule, mode: AuditMode, child: Option<Duration>) -> Option<Rule> {
        let Self { leaf, behind } = self;
        if rule.approval.is_some() {
            leaf.problem(
                "break_glass beside approval",
                "make a rule of its own for emergencies: it comes before the one with the approval once its glass is broken",
            );
            return None;
        }
        if rule.audit.unwrap_or(mode) != AuditMode::StrictRemote {
            leaf.problem(
                "break_glass without audit: strict-remote",
                "write audit: strict-remote beside it, and a required sink that is on another machine in audit.sinks",
            );
            return None;
        }
        if child.is_some_and(|ttl| ttl > behind.window) {
            leaf.problem(
                "child tokens that outlive the emergency",
                "write a ttl in its vault.tokens that is no longer than the window",
            );
            return None;
        }
        Some(Rule { break_glass: Some(behind), ..rule })
    }
}
