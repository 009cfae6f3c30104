//! Rules for emergencies: none of them holds until somebody has broken its glass, and then it comes before all others.
//!
//! Pure. Who broke which glass, and until when that counts, is for others to know.

use super::{
    Policy, Settings,
    rule::{Behind, Rule},
};
use crate::name::{RuleName, SecretName};

/// What a policy would be with its glasses broken.
#[derive(Debug)]
pub(super) struct Glass {
    settings: Settings,
    all: Box<Policy>,
}

impl Settings {
    /// Without the rules behind glass but those that `is_broken`, which come first.
    fn with(&self, is_broken: impl Fn(&RuleName) -> bool) -> Self {
        let holds = |rule: &Rule| rule.break_glass.is_none() || is_broken(&rule.name);
        let mut settings = self.clone();
        settings.rules.retain(&holds);
        settings.forwards.retain(|forward| holds(&forward.rule));
        settings.calls.retain(|call| holds(&call.rule));
        // In a stable order.
        settings.rules.sort_by_key(|rule| rule.break_glass.is_none());
        settings.forwards.sort_by_key(|forward| forward.rule.break_glass.is_none());
        settings.calls.sort_by_key(|call| call.rule.break_glass.is_none());
        settings
    }
}

impl Policy {
    /// Arranges `settings`. Where two rules name one secret, the first in the order of the config is the one.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        if settings.all().all(|rule| rule.break_glass.is_none()) {
            return Self::plain(settings);
        }
        let all = Box::new(Self::plain(&settings.with(|_| true)));
        let glass = Some(Glass { settings: settings.clone(), all });
        Self { glass, ..Self::plain(&settings.with(|_| false)) }
    }

    /// The same with these glasses broken; `None`: it has none.
    #[must_use]
    pub fn broken(&self, rules: &[RuleName]) -> Option<Self> {
        let glass = self.glass.as_ref()?;
        Some(Self::plain(&glass.settings.with(|rule| rules.contains(rule))))
    }

    /// What it would be with all of its glasses broken; `None`: it has none.
    #[must_use]
    pub fn behind_glass(&self) -> Option<&Self> {
        self.glass.as_ref().map(|glass| &*glass.all)
    }

    /// How this rule is behind glass; `None`: there is no such rule, or no glass before it.
    #[must_use]
    pub fn behind(&self, rule: &RuleName) -> Option<&Behind> {
        let glass = self.glass.as_ref()?;
        glass.settings.all().find(|found| found.name == *rule)?.break_glass.as_ref()
    }

    /// The secrets that this rule behind glass gives, or lets be used.
    #[must_use]
    pub fn secrets_behind(&self, rule: &RuleName) -> Vec<SecretName> {
        let Some(glass) = &self.glass else { return Vec::new() };
        let Settings { rules, calls, .. } = &glass.settings;
        let given = rules.iter().filter(|found| found.name == *rule).flat_map(|found| &found.secrets);
        let used = calls.iter().filter(|call| call.rule.name == *rule).map(|call| &call.secret);
        given.chain(used).cloned().collect()
    }

    /// The config's revision that its rules are of.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        name::{SecretName, WorkloadName},
        policy::Bridge,
    };
    use std::time::Duration;

    fn rule(name: &str, window: Option<Duration>) -> Rule {
        let break_glass = window.map(|window| Behind { window, review: None });
        Rule {
            name: RuleName::new(name).unwrap(),
            secrets: vec![SecretName::new("root-key").unwrap()],
            audit: None,
            requests_per_second: None,
            approval: None,
            break_glass,
        }
    }

    #[track_caller]
    fn check(policy: &Policy, rules: &[&str], first: &str) {
        let found: Vec<&str> = policy.rules().map(RuleName::as_str).collect();
        assert_eq!(found, rules);
        let secret = SecretName::new("root-key").unwrap();
        assert_eq!(policy.by_secret[&secret].name.as_str(), first);
    }

    #[test]
    fn a_rule_behind_glass_holds_once_that_is_broken_and_then_before_all_others() {
        let window = Some(Duration::from_secs(900));
        let settings = Settings {
            workload: WorkloadName::new("job").unwrap(),
            rules: vec![rule("usual", None), rule("fire", window), rule("flood", window)],
            calls: Vec::new(),
            forwards: Vec::new(),
            bridge: Bridge::Deny,
            revision: "r".into(),
        };
        let policy = Policy::of(&settings);
        let name = |name: &str| RuleName::new(name).unwrap();
        check(&policy, &["usual"], "usual");
        check(&policy.broken(&[name("flood")]).unwrap(), &["flood", "usual"], "flood");
        check(policy.behind_glass().unwrap(), &["fire", "flood", "usual"], "fire");
        let of = |rule: &str| policy.behind(&name(rule)).map(|behind| behind.window);
        assert_eq!((of("fire"), of("usual"), of("other")), (window, None, None));
        assert_eq!(policy.secrets_behind(&name("fire")), [SecretName::new("root-key").unwrap()]);
        assert_eq!(policy.secrets_behind(&name("other")), []);
        let plain = Settings { rules: vec![rule("usual", None)], ..settings };
        assert!(Policy::of(&plain).behind_glass().is_none());
    }
}
