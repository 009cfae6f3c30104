//! `break_glass` of a rule: for how long it holds once somebody broke its glass.
//!
//! Pure.

use super::super::reader::{Leaf, Map};
use super::seconds;
use crate::{
    approval::glass::LONGEST,
    policy::rule::{AuditMode, Rule},
};
use std::time::Duration;

/// What stands there, and where.
pub(super) struct Given<'a> {
    leaf: Leaf<'a>,
    window: Duration,
}

pub(super) fn read<'a>(map: &mut Map<'a>) -> Option<Option<Given<'a>>> {
    let Some(leaf) = map.find("break_glass") else { return Some(None) };
    let mut inner = leaf.map()?;
    let window =
        inner.or("window", Duration::from_secs(15 * 60), |leaf| leaf.duration(seconds(1, LONGEST.as_secs())));
    inner.finish();
    Some(Some(Given { window: window?, leaf }))
}

impl Given<'_> {
    /// The rule behind that glass, if it is one that may be; `child`: how long the child tokens live that it allows.
    pub(super) fn before(self, rule: Rule, mode: AuditMode, child: Option<Duration>) -> Option<Rule> {
        let Self { leaf, window } = self;
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
        if child.is_some_and(|ttl| ttl > window) {
            leaf.problem(
                "child tokens that outlive the emergency",
                "write a ttl in its vault.tokens that is no longer than the window",
            );
            return None;
        }
        Some(Rule { break_glass: Some(window), ..rule })
    }
}
