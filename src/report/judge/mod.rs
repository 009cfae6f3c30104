//! Looks for each finding in turn. Pure.

mod exposed;
mod record;
mod rules;
mod tokens;
mod values;

use super::{
    Key, Policy, Report, RuleUse, Terms, Unjudged,
    finding::{Finding, Id},
    granted::Granted,
    need::{self, Needs},
    subject::{Rule, Secret, Subject},
};
use crate::{
    clock::Timestamp,
    usage::{Entry, history::Record},
};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

/// Everything that is known, and what many findings ask of it, found out once.
pub(super) struct Facts<'a> {
    pub(super) subject: &'a Subject,
    pub(super) record: &'a Record,
    granted: &'a [Granted],
    /// The rows of each rule, by its workload and its name.
    by_rule: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Entry>>>,
    /// The rows of each secret of which something was had.
    by_secret: BTreeMap<&'a str, Vec<&'a Entry>>,
    /// In which engine a path is, by the record.
    mounts: BTreeMap<&'a str, &'a str>,
    /// What each identity needs, and the policy that is made of it.
    least: BTreeMap<&'a str, (OnceCell<Needs>, OnceCell<Policy>)>,
    pub(super) now: Timestamp,
    /// From when on use counts.
    pub(super) since: Timestamp,
    pub(super) days: u64,
}

/// What was found, and what could not be looked for.
#[derive(Default)]
pub(super) struct Findings {
    found: Vec<Finding>,
    unjudged: Vec<Unjudged>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    pub(super) fn cannot(&mut self, id: Id, why: impl Into<String>) {
        let unjudged = Unjudged { id, why: why.into() };
        if !self.unjudged.contains(&unjudged) {
            self.unjudged.push(unjudged);
        }
    }
}

impl<'a> Facts<'a> {
    pub(super) fn new(
        subject: &'a Subject,
        record: &'a Record,
        granted: &'a [Granted],
        terms: Terms,
    ) -> Self {
        let since = terms.since();
        let days = terms.period.as_secs() / (24 * 3600);
        let entries = || record.entries.iter();
        let place = |entry: &'a Entry| Some((entry.path.as_deref()?, entry.mount.as_deref()?));
        let by_workload = grouped(entries(), |entry| Some(entry.workload.as_str())).into_iter();
        let by_rule = |(workload, rows): (&'a str, Vec<&'a Entry>)| {
            (workload, grouped(rows.into_iter(), |entry| entry.rule.as_deref()))
        };
        let names = subject.identities.iter().map(|identity| identity.name.as_str());
        Self {
            subject,
            record,
            granted,
            by_rule: by_workload.map(by_rule).collect(),
            by_secret: grouped(entries().filter(|entry| entry.had() > 0), |entry| entry.secret.as_deref()),
            // The first row that says so counts.
            mounts: entries().rev().filter_map(place).collect(),
            least: names.map(|name| (name, Default::default())).collect(),
            now: terms.now,
            since,
            days,
        }
    }

    /// What an identity of the config needs.
    pub(super) fn needs(&self, identity: &str) -> Option<&Needs> {
        let (needs, _) = self.least.get(identity)?;
        Some(needs.get_or_init(|| need::needs(self, identity)))
    }

    /// The least policy of an identity of the config.
    pub(super) fn policy(&self, identity: &str) -> Option<&Policy> {
        let (_, policy) = self.least.get(identity)?;
        Some(policy.get_or_init(|| need::policy(self, identity)))
    }

    /// In which engine a path is, by the record.
    pub(super) fn mount(&self, path: &str) -> Option<&'a str> {
        self.mounts.get(path).copied()
    }

    pub(super) fn granted(&self, identity: &str) -> Option<&'a Granted> {
        self.granted.iter().find(|one| one.identity == identity)
    }

    /// The rows of a rule.
    pub(super) fn rows<'s>(
        &'s self,
        workload: &str,
        rule: &str,
    ) -> impl Iterator<Item = &'a Entry> + use<'s, 'a> {
        self.by_rule.get(workload).and_then(|rules| rules.get(rule)).into_iter().flatten().copied()
    }

    /// What was had under a rule in the period.
    pub(super) fn used<'s>(
        &'s self,
        workload: &str,
        rule: &str,
    ) -> impl Iterator<Item = &'a Entry> + use<'s, 'a> {
        self.rows(workload, rule).filter(|entry| entry.had() > 0 && entry.last >= self.since)
    }

    /// Since when a rule is known to stand in the config.
    pub(super) fn known(&self, workload: &str, rule: &str) -> Option<Timestamp> {
        self.rows(workload, rule).map(|entry| entry.first).min()
    }

    /// Whether a rule is older than the period.
    pub(super) fn is_old(&self, workload: &str, rule: &str) -> bool {
        self.known(workload, rule).is_some_and(|known| known <= self.since)
    }

    /// Whether the record reaches back to the period's beginning.
    pub(super) fn is_covered(&self) -> bool {
        self.record.span.is_some_and(|(first, _)| first <= self.since)
    }

    /// What was had of a secret, ever.
    pub(super) fn uses<'s>(&'s self, secret: &str) -> impl Iterator<Item = &'a Entry> + use<'s, 'a> {
        self.by_secret.get(secret).into_iter().flatten().copied()
    }

    /// When the newest version of a secret was made, and whether Vault said so.
    pub(super) fn made(&self, secret: &Secret) -> Option<(Timestamp, bool)> {
        let path = secret.path.as_ref()?;
        let told = self.granted(&secret.identity).and_then(|granted| granted.values.get(path)?.made);
        if let Some(made) = told {
            return Some((made, true));
        }
        let newest = self.uses(&secret.name).filter_map(|entry| entry.version).max()?;
        let first =
            self.uses(&secret.name).filter(|entry| entry.version == Some(newest)).map(|entry| entry.first);
        first.min().map(|first| (first, false))
    }
}

/// Looks for everything.
pub(super) fn judge(facts: &Facts<'_>) -> Report {
    let mut findings = Findings::default();
    rules::judge(facts, &mut findings);
    tokens::judge(facts, &mut findings);
    values::judge(facts, &mut findings);
    exposed::judge(facts, &mut findings);
    record::judge(facts, &mut findings);
    let Findings { mut found, mut unjudged } = findings;
    found.sort_by(|a, b| (b.severity, a.id, &a.about).cmp(&(a.severity, b.id, &b.about)));
    unjudged.sort_by(|a, b| (a.id, &a.why).cmp(&(b.id, &b.why)));
    let identities = facts.subject.identities.iter();
    Report {
        now: facts.now,
        since: facts.since,
        revision: facts.subject.revision.clone(),
        findings: found,
        unjudged,
        policies: identities.filter_map(|identity| facts.policy(&identity.name).cloned()).collect(),
        keys: facts.subject.secrets.iter().map(|secret| key(facts, secret)).collect(),
        rules: each_rule(facts).map(|(workload, rule)| rule_use(facts, workload, rule)).collect(),
        sources: facts.record.sources.iter().cloned().collect(),
        read: (facts.record.chains, facts.record.events),
        span: facts.record.span,
        overflow: facts.record.overflow,
        looked: exposed::looked(facts),
        file: None,
    }
}

fn each_rule<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (&'a str, &'a Rule)> + use<'a> {
    let workloads = facts.subject.workloads.iter();
    workloads.flat_map(|workload| workload.rules.iter().map(|rule| (workload.name.as_str(), rule)))
}

fn key(facts: &Facts<'_>, secret: &Secret) -> Key {
    let made = facts.made(secret);
    Key {
        name: secret.name.clone(),
        made: made.map(|(made, _)| made),
        exact: made.is_some_and(|(_, exact)| exact),
        last: facts.uses(&secret.name).map(|entry| entry.last).max(),
    }
}

fn rule_use(facts: &Facts<'_>, workload: &str, rule: &Rule) -> RuleUse {
    let used: Vec<&Entry> = facts.used(workload, &rule.name).collect();
    let (granted, count) = match &rule.forward {
        Some(forward) => {
            let pattern =
                |path: &str| forward.paths.iter().find(|pattern| super::acl::matches(pattern, path));
            let pairs: BTreeSet<_> = used
                .iter()
                .filter_map(|entry| Some((pattern(entry.path.as_deref()?)?, entry.capability)))
                .collect();
            (forward.paths.len().saturating_mul(forward.operations.len()), pairs.len())
        }
        None => {
            let names: BTreeSet<_> = used.iter().filter_map(|entry| entry.secret.as_deref()).collect();
            (rule.secrets.len(), names.len())
        }
    };
    RuleUse {
        workload: workload.to_owned(),
        rule: rule.name.clone(),
        granted,
        used: count.min(granted),
        last: used.iter().map(|entry| entry.last).max(),
    }
}

/// `texts`, at most `most` of them and then how many more there are.
pub(super) fn some(texts: impl IntoIterator<Item = String>, most: usize) -> Vec<String> {
    let mut texts: Vec<String> = texts.into_iter().collect();
    let more = texts.len().saturating_sub(most);
    texts.truncate(most);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts
}

/// Groups by a key that not everything has.
pub(super) fn grouped<'a, K: Ord>(
    entries: impl Iterator<Item = &'a Entry>,
    key: impl Fn(&'a Entry) -> Option<K>,
) -> BTreeMap<K, Vec<&'a Entry>> {
    let mut groups: BTreeMap<K, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        if let Some(key) = key(entry) {
            groups.entry(key).or_default().push(entry);
        }
    }
    groups
}
