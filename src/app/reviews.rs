//! Which rules for emergencies are reviewed afterwards, by whom, and with whose token that is asked for.
//!
//! Does not ask: `approval` does.

use crate::{
    approval::review::Reviewed,
    config::Config,
    name::{IdentityName, SecretName},
    policy::{self, rule::Rule},
};

/// Those of `config`.
pub(super) fn reviewed(config: &Config) -> Vec<Reviewed> {
    let of = |policy: &policy::Settings| {
        acting(config, policy)
            .filter_map(|(rule, identity)| reviewed_rule(config, policy, rule, identity))
            .collect::<Vec<_>>()
    };
    config.workloads.iter().flat_map(|workload| of(&workload.policy)).collect()
}

fn reviewed_rule(
    config: &Config,
    policy: &policy::Settings,
    rule: &Rule,
    identity: &IdentityName,
) -> Option<Reviewed> {
    let review = rule.break_glass.as_ref()?.review.as_ref()?;
    let settings = config.approvals.iter().find(|approval| approval.name == review.approval)?;
    Some(Reviewed {
        workload: policy.workload.clone(),
        rule: rule.name.clone(),
        settings: settings.clone(),
        within: review.within,
        identity: identity.clone(),
    })
}

/// Each rule, with one identity that acts by it.
fn acting<'a>(
    config: &'a Config,
    policy: &'a policy::Settings,
) -> impl Iterator<Item = (&'a Rule, &'a IdentityName)> {
    let identity_of =
        |secret: &SecretName| config.secrets.iter().find(|one| one.name == *secret).map(|one| &one.identity);
    let rules = policy.rules.iter().filter_map(move |rule| Some((rule, identity_of(rule.secrets.first()?)?)));
    let forwards = policy.forwards.iter().map(|forward| (&forward.rule, &forward.identity));
    let calls = policy.calls.iter().filter_map(move |call| Some((&call.rule, identity_of(&call.secret)?)));
    rules.chain(forwards).chain(calls)
}
