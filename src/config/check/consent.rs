//! A rotation's `approval` and `lead_time`: who must say yes to each run, and how long before it they are asked.
//!
//! Pure.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, group, schedule::nearest, seconds};
use crate::{
    approval,
    name::ApprovalName,
    rotation::{asked::Consent, schedule::Schedule},
};
use std::time::Duration;

/// What stands there, before the schedule is known.
pub(super) struct Given<'a> {
    settings: Option<approval::Settings>,
    lead: Option<(Leaf<'a>, Duration)>,
}

pub(super) fn read<'a>(
    map: &mut Map<'a>,
    context: &Context<'_>,
    approvals: &[approval::Settings],
) -> Option<Given<'a>> {
    let named = map.given("approval", |leaf| leaf.refers(&context.approvals, ApprovalName::new));
    let leaf = map.find("lead_time");
    let lead = map.given("lead_time", |leaf| leaf.duration(seconds(0, 7 * DAY)));
    if let (Some(None), Some(leaf)) = (&named, &leaf) {
        leaf.problem("a lead_time, and nobody who is asked", "write approval: NAME, or remove it");
        return None;
    }
    let settings = match named? {
        Some(named) => {
            let settings = approvals.iter().find(|approval| approval.name == named)?.clone();
            group::of_rotation(&map.find("approval")?, &settings)?;
            Some(settings)
        }
        None => None,
    };
    Some(Given { settings, lead: leaf.zip(lead?) })
}

impl Given<'_> {
    /// Persons are asked an hour before a run may begin, unless the config says otherwise or slots are too near for that.
    pub(super) fn with(self, schedule: &Schedule) -> Option<Option<Consent>> {
        const USUAL: Duration = Duration::from_secs(3600);
        let nearest = nearest(schedule);
        if let (Some((leaf, lead)), Some(nearest)) = (&self.lead, nearest)
            && *lead >= nearest
        {
            leaf.problem(
                "a lead_time as long as the time between two slots",
                "make it shorter: persons are asked for one slot at a time",
            );
            return None;
        }
        let usual = nearest.map_or(USUAL, |nearest| USUAL.min(nearest / 2));
        let lead = self.lead.map_or(usual, |(_, lead)| lead);
        Some(self.settings.map(|settings| Consent { settings, lead }))
    }
}

/// Of what each agent does for itself there is nothing to ask.
pub(super) fn none(map: &mut Map<'_>) -> Option<()> {
    // It is no key that is known there: only where it stands it is asked for.
    let is_there = map.leaf().map().is_some_and(|map| map.children().any(|(key, _)| key == "approval"));
    let leaf = if is_there { map.find("approval") } else { None };
    match leaf {
        None => Some(()),
        Some(leaf) => {
            leaf.problem(
                "a rotation that each agent does for itself, and changes nothing that others have",
                "remove it: only what claviger rotates waits for a person's yes",
            );
            None
        }
    }
}
