//! Child tokens that a rule allows: what one may ask for, and the request that is sent in its place.
//!
//! Pure. What a client says beyond what is listed here is refused, never passed over in silence; what is sent is written anew, so that
//! Vault reads what was looked at.

use super::{Denial, pattern::Malformed};
use bytes::Bytes;
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// What child tokens may be, at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildTerms {
    /// At least one, in lower case, never `root`. A child has some of these and no other.
    pub policies: Vec<String>,
    /// The longest that one may live, renewals included.
    pub ttl: Duration,
    /// The most uses that one may have; 0 is without limit.
    pub uses: u32,
    /// The token role that makes them: then `auth/token/create/ROLE` is the path, else `auth/token/create`.
    pub role: Option<String>,
}

/// A child token that may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// What is sent to Vault: JSON.
    pub body: Bytes,
    /// Those that it may have.
    pub policies: Vec<String>,
    /// When it ends at the latest, whoever renews it.
    pub longest: Duration,
    /// 0 is without limit.
    pub uses: u32,
}

/// What a client sends to `auth/token/create` (Vault docs: API, auth/token, "Create Token").
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    policies: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    ttl: Option<Time>,
    explicit_max_ttl: Option<Time>,
    period: Option<Time>,
    num_uses: Option<u32>,
    no_parent: Option<bool>,
    no_default_policy: Option<bool>,
    renewable: Option<bool>,
    display_name: Option<String>,
    id: Option<String>,
    entity_alias: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Seconds, or a text with units.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Seconds(u64),
    Text(String),
}

impl ChildTerms {
    /// Where children are made.
    #[must_use]
    pub fn path(&self) -> String {
        match &self.role {
            Some(role) => format!("auth/token/create/{role}"),
            None => "auth/token/create".to_owned(),
        }
    }

    /// The child that `body` asks for. What it does not say is what the terms say; a longer life and more uses than they allow become
    /// what they allow, as Vault itself does with its own limits.
    ///
    /// # Errors
    /// [`Denial::Terms`] for what no terms allow, [`Denial::Malformed`] for what is no such request.
    pub fn narrow(&self, body: &[u8]) -> Result<Child, Denial> {
        const NONE: Malformed = Malformed(
            "the body must be JSON with no other keys than policies, meta, ttl, explicit_max_ttl, num_uses, renewable, \
             no_default_policy, display_name and type",
        );
        let body = if body.is_empty() { b"{}" } else { body };
        // An array would be read by position.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(NONE.into());
        }
        let asked: Asked = serde_json::from_slice(body).map_err(|_| NONE)?;
        asked.is_plain()?;
        let policies = match asked.policies.filter(|policies| !policies.is_empty()) {
            Some(policies) => policies.iter().map(|policy| policy.trim().to_lowercase()).collect(),
            None => self.policies.clone(),
        };
        if policies.iter().any(|policy| !self.policies.contains(policy)) {
            return Err(Denial::Terms("its policies must be among those that the rule's tokens lists"));
        }
        let shorter = |time: Option<Time>, than: Duration| match time.map(Time::read).transpose()? {
            Some(time) if !time.is_zero() => Ok::<_, Denial>(time.min(than)),
            _ => Ok(than),
        };
        let longest = shorter(asked.explicit_max_ttl, self.ttl)?;
        let ttl = shorter(asked.ttl, longest)?;
        let uses = match (asked.num_uses.unwrap_or(0), self.uses) {
            (0, most) => most,
            (some, 0) => some,
            (some, most) => some.min(most),
        };
        let default = "default".to_owned();
        let no_default_policy = asked.no_default_policy == Some(true) || !self.policies.contains(&default);
        let renewable = asked.renewable.unwrap_or(true);
        let body = serde_json::json!({
            "policies": policies,
            "meta": asked.meta.unwrap_or_default(),
            "ttl": format!("{}s", ttl.as_secs()),
            "explicit_max_ttl": format!("{}s", longest.as_secs()),
            "num_uses": uses,
            "renewable": renewable,
            "no_default_policy": no_default_policy,
            "display_name": asked.display_name.unwrap_or_default(),
            "type": "service",
        });
        let mut policies = policies;
        if !no_default_policy && !policies.contains(&default) {
            policies.push(default);
        }
        let longest = if renewable { longest } else { ttl };
        Ok(Child { body: body.to_string().into(), policies, longest, uses })
    }
}

impl Asked {
    /// That it asks for nothing that would outlive, or be more than, a child of ours.
    fn is_plain(&self) -> Result<(), Denial> {
        let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if self.no_parent == Some(true) {
            return Err(Denial::Terms("a token without a parent would outlive the one that made it"));
        }
        let periodic = match &self.period {
            Some(Time::Seconds(seconds)) => *seconds > 0,
            Some(Time::Text(text)) => !duration(text)?.is_zero(),
            None => false,
        };
        if periodic {
            return Err(Denial::Terms("a token with a period would have no end"));
        }
        if said(&self.id) || said(&self.entity_alias) {
            return Err(Denial::Terms("a token's id and entity are not for its client to say"));
        }
        if !matches!(self.kind.as_deref(), None | Some("" | "service" | "default" | "default-service")) {
            return Err(Denial::Terms("only a service token can be revoked"));
        }
        Ok(())
    }
}

impl Time {
    fn read(self) -> Result<Duration, Denial> {
        match self {
            Self::Seconds(seconds) => Ok(Duration::from_secs(seconds)),
            Self::Text(text) => duration(&text),
        }
    }
}

/// Whole numbers with the units `s`, `m`, `h` and `d`, added up; a bare number is seconds, and nothing is none.
fn duration(text: &str) -> Result<Duration, Denial> {
    const BAD: Denial = Denial::Malformed(Malformed("a time must be seconds, or as in 90s, 15m and 1h30m"));
    let (mut total, mut rest) = (0_u64, text.trim());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, units) = rest.split_at(digits);
        let mut units = units.chars();
        let factor = match units.next() {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 24 * 3600,
            Some(_) => return Err(BAD),
        };
        let number: u64 = number.parse().map_err(|_| BAD)?;
        total = number.checked_mul(factor).and_then(|more| total.checked_add(more)).ok_or(BAD)?;
        rest = units.as_str();
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(uses: u32) -> ChildTerms {
        let policies = ["ci-read", "ci-write"].map(str::to_owned).to_vec();
        ChildTerms { policies, ttl: Duration::from_secs(900), uses, role: None }
    }

    #[track_caller]
    fn check(uses: u32, body: &str, expected: &str) {
        let said = match terms(uses).narrow(body.as_bytes()) {
            Ok(child) => {
                let sent: serde_json::Value = serde_json::from_slice(&child.body).unwrap();
                assert_eq!(sent["no_default_policy"], true, "{body}");
                assert_eq!((&sent["type"], &sent["num_uses"]), (&"service".into(), &child.uses.into()));
                format!(
                    "{} {} {} {} {}",
                    child.policies.join(","),
                    sent["ttl"].as_str().unwrap(),
                    sent["explicit_max_ttl"].as_str().unwrap(),
                    child.uses,
                    child.longest.as_secs(),
                )
            }
            Err(denial) => denial.to_string(),
        };
        assert!(said.starts_with(expected), "{body}: {said}");
    }

    #[test]
    fn a_child_is_what_was_asked_for_and_never_more_than_the_terms() {
        check(0, "", "ci-read,ci-write 900s 900s 0 900");
        check(5, "{}", "ci-read,ci-write 900s 900s 5 900");
        check(5, r#"{"policies": ["CI-Read "], "ttl": "5m", "num_uses": 2}"#, "ci-read 300s 900s 2 900");
        check(5, r#"{"ttl": "1h30m", "num_uses": 9}"#, "ci-read,ci-write 900s 900s 5 900");
        check(
            0,
            r#"{"ttl": 60, "explicit_max_ttl": "120", "num_uses": 9}"#,
            "ci-read,ci-write 60s 120s 9 120",
        );
        check(0, r#"{"ttl": "1d", "renewable": false}"#, "ci-read,ci-write 900s 900s 0 900");
        check(0, r#"{"ttl": "1m", "renewable": false}"#, "ci-read,ci-write 60s 900s 0 60");
        // What Vault's command line says when it is told nothing.
        let cli = r#"{"display_name": "", "num_uses": 0, "renewable": true, "type": "service", "entity_alias": "", "ttl": "0s",
                      "period": "0s", "explicit_max_ttl": "0s", "no_parent": false, "no_default_policy": false}"#;
        check(7, cli, "ci-read,ci-write 900s 900s 7 900");
    }

    #[test]
    fn what_no_terms_allow_is_refused() {
        check(0, r#"{"policies": ["ci-read", "root"]}"#, "its policies must be");
        check(0, r#"{"policies": ["default"]}"#, "its policies must be");
        check(0, r#"{"no_parent": true}"#, "a token without a parent");
        check(0, r#"{"period": "24h"}"#, "a token with a period");
        check(0, r#"{"period": 1}"#, "a token with a period");
        check(0, r#"{"id": "mine"}"#, "a token's id");
        check(0, r#"{"entity_alias": "root"}"#, "a token's id");
        check(0, r#"{"type": "batch"}"#, "only a service token");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_request() {
        for body in [
            "no json",
            "[]",
            r#"{"policies": "root"}"#,
            r#"{"Policies": ["root"]}"#,
            r#"{"policies": ["ci-read"], "policies": ["root"]}"#,
            r#"{"lease": "1h"}"#,
        ] {
            check(0, body, "the body must be JSON");
        }
        for body in [r#"{"ttl": "1.5h"}"#, r#"{"ttl": "-1h"}"#, r#"{"ttl": "99999999999999999999h"}"#] {
            check(0, body, "a time must be");
        }
    }

    #[test]
    fn the_policy_default_comes_with_a_child_only_where_the_terms_list_it() {
        let terms = ChildTerms { policies: vec!["default".into(), "ci-read".into()], ..terms(0) };
        let policies = |body: &str| terms.narrow(body.as_bytes()).unwrap().policies.join(",");
        assert_eq!(policies(r#"{"policies": ["ci-read"]}"#), "ci-read,default");
        assert_eq!(policies(r#"{"policies": ["ci-read"], "no_default_policy": true}"#), "ci-read");
    }
}
