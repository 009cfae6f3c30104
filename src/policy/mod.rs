//! What a workload may ask for. No matching rule means no.
//!
//! Pure. Does not know whether a secret has a value, and never sees one.

pub mod child;
pub mod forward;
mod glass;
pub mod pattern;
pub mod rate;
pub mod rule;
pub mod upstream;
pub mod wish;

use crate::{
    name::{ApprovalName, RuleName, SecretName, WorkloadName},
    peer::{Peer, process::Process},
};
use forward::{ForwardRule, Forwarding, Own, Target};
use rule::{AuditMode, Rule};
use std::{collections::BTreeMap, sync::Arc};
use upstream::{CallRule, Match};

/// The rules of one workload; may change while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose rules they are.
    pub workload: WorkloadName,
    /// In the order of the config; names are unique.
    pub rules: Vec<Rule>,
    /// Those that allow calls of other APIs, in the order of the config; their names are unique among all.
    pub calls: Vec<CallRule>,
    /// Those that allow parts of Vault's API, in the order of the config; their names are unique among all.
    pub forwards: Vec<ForwardRule>,
    /// Whether it may have a bridge.
    pub bridge: Bridge,
    /// `sha256:` and the first 16 hex digits of the config's hash: the revision that events name.
    pub revision: String,
}

/// Whether a workload may open a loopback port to its own socket: advice that `claviger bridge` obeys, and no boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bridge {
    /// It may not.
    #[default]
    Deny,
    /// It may.
    Allow,
}

impl Bridge {
    /// The word of the config and of `/whoami`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

/// The rules of one workload, arranged for asking.
#[derive(Debug)]
pub struct Policy {
    workload: WorkloadName,
    revision: Arc<str>,
    bridge: Bridge,
    rules: Vec<Arc<Rule>>,
    by_secret: BTreeMap<SecretName, Arc<Rule>>,
    forwards: Vec<(Arc<Rule>, ForwardRule)>,
    calls: Vec<Call>,
    /// Rules for emergencies, which are in none of these.
    glass: Option<glass::Glass>,
}

/// A rule that allows calls, its part that permits hold shared.
#[derive(Debug)]
struct Call {
    rule: Arc<Rule>,
    of: CallRule,
}

/// Proof that a rule matched, for one thing: a secret, or a request to Vault's API. Only this module makes one.
#[derive(Debug)]
pub struct Permit<T = SecretName> {
    workload: WorkloadName,
    process: Option<Process>,
    subject: T,
    rule: Arc<Rule>,
    revision: Arc<str>,
}

/// Why there is no permit. A secret that does not exist and one that no rule names are one and the same here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No rule of the workload names it.
    #[error("no rule allows it")]
    NoRule,
    /// What a rule looks at is there twice: whoever gets the request could look at the other one.
    #[error("a part of the query that the rule looks at is there twice")]
    Ambiguous,
    /// No rule can allow it.
    #[error("no rule can allow it")]
    Never,
    /// It asks for its answer to be wrapped, which would take it out of our sight, and no rule allows that, for that long, or there.
    #[error("its answer may not be wrapped")]
    Wrapped,
    /// It asks for a child token that is more than the rule's terms.
    #[error("{0}")]
    Terms(&'static str),
    /// It could mean one thing to us and another to Vault.
    #[error(transparent)]
    Malformed(#[from] pattern::Malformed),
}

/// Whether `peer` may have `secret`. `None` is a name that no secret can have; no rule names it either.
///
/// # Errors
/// [`Denial`]; also for a peer of another workload.
pub fn decide(policy: &Policy, peer: &Peer, secret: Option<&SecretName>) -> Result<Permit, Denial> {
    if *peer.workload() != policy.workload {
        return Err(Denial::NoRule);
    }
    let (name, rule) =
        secret.and_then(|secret| policy.by_secret.get_key_value(secret)).ok_or(Denial::NoRule)?;
    Ok(policy.permit(peer.process(), name.clone(), rule))
}

/// Whether `peer` may do `target` in Vault. The first rule in the order of the config that allows it is the one. What is asked about
/// the token itself is answered to whoever has a rule in that namespace, and never sent. Of a `body`, that of a request for a child token
/// alone is looked at.
///
/// # Errors
/// [`Denial`]; also for a peer of another workload.
pub fn decide_forward(
    policy: &Policy,
    peer: &Peer,
    target: &Target,
    body: &[u8],
) -> Result<Permit<Forwarding>, Denial> {
    if *peer.workload() != policy.workload {
        return Err(Denial::NoRule);
    }
    let permit = |(rule, of): &(Arc<Rule>, ForwardRule), path, own| {
        let (identity, namespace) = (of.identity.clone(), of.namespace.clone());
        let (operation, cache, max_request, wrap) = (target.operation, of.cache, of.max_request, of.wrap);
        let child = None;
        let subject =
            Forwarding { identity, namespace, operation, path, own, child, cache, max_request, wrap };
        policy.permit(peer.process(), subject, rule)
    };
    if let Some(control) = target.control {
        let rule = policy.forwards.iter().find(|rule| rule.1.controls.contains(&control));
        let rule = rule.ok_or(Denial::NoRule)?;
        return Ok(permit(rule, target.path.clone(), Some(Own::Control(control))));
    }
    let own = policy.forwards.iter().find_map(|rule| {
        let path = rule.1.within(target)?;
        let own = forward::own(target.operation, &path)?;
        Some(permit(rule, path, Some(own)))
    });
    if let Some(own) = own {
        return Ok(own);
    }
    if let Some((rule, (path, terms))) =
        policy.forwards.iter().find_map(|rule| Some((rule, rule.1.makes(target)?)))
    {
        let child = Some(terms.narrow(body)?);
        let permit = permit(rule, path, None);
        return Ok(Permit { subject: Forwarding { child, ..permit.subject }, ..permit });
    }
    if forward::is_never(target.path.as_str()) {
        return Err(Denial::Never);
    }
    let allowed = policy.forwards.iter().find_map(|rule| Some(permit(rule, rule.1.allows(target)?, None)));
    // Without the namespace it is looked at once more.
    match allowed {
        Some(permit) if forward::is_never(permit.subject.path.as_str()) => Err(Denial::Never),
        allowed => allowed.ok_or(Denial::NoRule),
    }
}

/// Whether `peer` may call `target`, and how often a day. The permit is for using the upstream's secret, not for having it. The first
/// rule in the order of the config that allows it is the one.
///
/// # Errors
/// [`Denial`]; also for a peer of another workload.
pub fn decide_call(
    policy: &Policy,
    peer: &Peer,
    target: &upstream::Target<'_>,
) -> Result<(Permit, Option<u64>), Denial> {
    if *peer.workload() != policy.workload {
        return Err(Denial::NoRule);
    }
    for Call { rule, of } in &policy.calls {
        match of.matches(target) {
            Match::Yes => {
                return Ok((policy.permit(peer.process(), of.secret.clone(), rule), of.calls_per_day));
            }
            Match::Ambiguous => return Err(Denial::Ambiguous),
            Match::No => {}
        }
    }
    Err(Denial::NoRule)
}

/// Every permit that `peer` could have: what a list may show.
pub fn permits<'a>(policy: &'a Policy, peer: &Peer) -> impl Iterator<Item = Permit> + use<'a> {
    let own = *peer.workload() == policy.workload;
    let process = peer.process().cloned();
    let permit = move |(name, rule): (&SecretName, _)| policy.permit(process.as_ref(), name.clone(), rule);
    policy.by_secret.iter().filter(move |_| own).map(permit)
}

impl Settings {
    /// All rules: those for secrets, then those for Vault's API, then those for calls.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        let forwards = self.forwards.iter().map(|forward| &forward.rule);
        self.rules.iter().chain(forwards).chain(self.calls.iter().map(|call| &call.rule))
    }
}

impl Policy {
    /// All of these rules hold.
    fn plain(settings: &Settings) -> Self {
        let Settings { workload, rules, forwards, calls, bridge, revision } = settings;
        let rules: Vec<_> = rules.iter().cloned().map(Arc::new).collect();
        let mut by_secret = BTreeMap::new();
        for rule in &rules {
            for secret in &rule.secrets {
                by_secret.entry(secret.clone()).or_insert_with(|| Arc::clone(rule));
            }
        }
        let forwards = forwards.iter().map(|of| (Arc::new(of.rule.clone()), of.clone())).collect();
        let call = |of: &CallRule| Call { rule: Arc::new(of.rule.clone()), of: of.clone() };
        let calls = calls.iter().map(call).collect();
        let (workload, revision, bridge) = (workload.clone(), revision.as_str().into(), *bridge);
        Self { workload, revision, bridge, rules, by_secret, forwards, calls, glass: None }
    }

    /// Whether its workload may have a bridge.
    #[must_use]
    pub fn bridge(&self) -> Bridge {
        self.bridge
    }

    /// The rules' names, in the order of the config; those of Vault's API and of calls last.
    pub fn rules(&self) -> impl Iterator<Item = &RuleName> {
        let forwards = self.forwards.iter().map(|(rule, _)| rule);
        let calls = self.calls.iter().map(|call| &call.rule);
        self.rules.iter().chain(forwards).chain(calls).map(|rule| &rule.name)
    }

    fn permit<T>(&self, process: Option<&Process>, subject: T, rule: &Arc<Rule>) -> Permit<T> {
        Permit {
            workload: self.workload.clone(),
            process: process.cloned(),
            subject,
            rule: Arc::clone(rule),
            revision: Arc::clone(&self.revision),
        }
    }
}

impl Permit {
    /// What may be had.
    #[must_use]
    pub fn secret(&self) -> &SecretName {
        &self.subject
    }
}

impl<T> Permit<T> {
    /// What it is for.
    #[must_use]
    pub fn subject(&self) -> &T {
        &self.subject
    }

    /// Whose it is.
    #[must_use]
    pub fn workload(&self) -> &WorkloadName {
        &self.workload
    }

    /// The process that asked, where level `process` was proved.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// The rule that matched.
    #[must_use]
    pub fn rule(&self) -> &RuleName {
        &self.rule.name
    }

    /// The config's revision that the rule is of.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The audit mode that applies where the config's own is `usual`: the stronger of it and the rule's.
    #[must_use]
    pub fn audit_mode(&self, usual: AuditMode) -> AuditMode {
        self.rule.audit.map_or(usual, |own| own.max(usual))
    }

    /// Who must say yes before it is used.
    #[must_use]
    pub fn approval(&self) -> Option<&ApprovalName> {
        self.rule.approval.as_ref()
    }

    /// Whether its rule is for emergencies, and for how long it holds then.
    #[must_use]
    pub fn break_glass(&self) -> Option<std::time::Duration> {
        self.rule.break_glass.as_ref().map(|behind| behind.window)
    }

    /// The rule's own rate, if it has one.
    #[must_use]
    pub fn requests_per_second(&self) -> Option<u32> {
        self.rule.requests_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, secrets: &[&str]) -> Rule {
        Rule {
            name: RuleName::new(name).unwrap(),
            secrets: secrets.iter().map(|secret| SecretName::new(secret).unwrap()).collect(),
            audit: None,
            requests_per_second: None,
            break_glass: None,
            approval: None,
        }
    }

    fn policy() -> Policy {
        let strict = Rule { audit: Some(AuditMode::Strict), ..rule("keys", &["stripe", "orders-db"]) };
        Policy::of(&Settings {
            workload: WorkloadName::new("report-job").unwrap(),
            rules: vec![rule("database", &["orders-db"]), strict],
            forwards: Vec::new(),
            calls: Vec::new(),
            bridge: Bridge::Deny,
            revision: "sha256:0011223344556677".into(),
        })
    }

    fn peer(workload: &str) -> Peer {
        Peer::for_test(&WorkloadName::new(workload).unwrap(), 20001, 20001, &[])
    }

    #[track_caller]
    fn check(workload: &str, secret: &str, expected: Result<(&str, AuditMode), Denial>) {
        let policy = policy();
        let permit = decide(&policy, &peer(workload), SecretName::new(secret).ok().as_ref());
        let found = permit.as_ref().map(|it| (it.rule().as_str(), it.audit_mode(AuditMode::Buffered)));
        assert_eq!(found.map_err(|denial| *denial), expected);
    }

    #[test]
    fn no_matching_rule_means_no() {
        check("report-job", "stripe", Ok(("keys", AuditMode::Strict)));
        check("report-job", "ci-token", Err(Denial::NoRule));
        check("report-job", "Not A Name", Err(Denial::NoRule));
    }

    #[test]
    fn the_first_of_two_rules_is_the_one() {
        check("report-job", "orders-db", Ok(("database", AuditMode::Buffered)));
    }

    #[test]
    fn a_peer_of_another_workload_gets_nothing() {
        check("billing-agent", "stripe", Err(Denial::NoRule));
        assert_eq!(permits(&policy(), &peer("billing-agent")).count(), 0);
    }

    #[test]
    fn a_rule_cannot_weaken_the_audit_mode() {
        let policy = policy();
        let permit =
            decide(&policy, &peer("report-job"), Some(&SecretName::new("orders-db").unwrap())).unwrap();
        assert_eq!(permit.audit_mode(AuditMode::Strict), AuditMode::Strict);
    }

    #[test]
    fn a_list_is_what_could_be_had() {
        let names: Vec<_> =
            permits(&policy(), &peer("report-job")).map(|permit| permit.secret().to_string()).collect();
        assert_eq!(names, ["orders-db", "stripe"]);
    }
}
