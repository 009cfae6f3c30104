//! Logins with a signed assertion: `kubernetes` (checked by a TokenReview) and `jwt` (checked by a key).
//! The double checks no signature: a test says beforehand which assertions are genuine and what they claim.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Gate, RoleSettings, role_shown};
use crate::ask::{Ask, Verb};
use crate::outcome::Outcome;

/// What a genuine assertion claims.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    pub(crate) namespace: String,
    pub(crate) service_account: String,
}

/// The roles of one mount.
#[derive(Debug, Default)]
pub(crate) struct Assertions {
    pub(crate) roles: BTreeMap<String, AssertionRole>,
}

/// A role, and for Kubernetes the service accounts that it admits (empty or `*`: any).
#[derive(Debug, Clone, Default)]
pub(crate) struct AssertionRole {
    pub(crate) settings: RoleSettings,
    names: Vec<String>,
    namespaces: Vec<String>,
}

impl AssertionRole {
    /// A role that admits any genuine assertion.
    pub(crate) fn open(settings: RoleSettings) -> AssertionRole {
        AssertionRole { settings, ..AssertionRole::default() }
    }

    fn admits(&self, claims: &Claims) -> bool {
        let within =
            |list: &[String], one: &String| list.is_empty() || list.iter().any(|l| l == "*" || l == one);
        within(&self.names, &claims.service_account) && within(&self.namespaces, &claims.namespace)
    }
}

impl Assertions {
    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask) -> Outcome {
        match (ask.verb, rest, rest.strip_prefix("role/")) {
            (Verb::Write, "config", _) => Outcome::Empty,
            (Verb::Write, _, Some(name)) => {
                let role = AssertionRole {
                    settings: RoleSettings::read(ask),
                    names: ask.list("bound_service_account_names").unwrap_or_default(),
                    namespaces: ask.list("bound_service_account_namespaces").unwrap_or_default(),
                };
                self.roles.insert(name.to_string(), role);
                Outcome::Empty
            }
            (Verb::Read, _, Some(name)) => match self.roles.get(name) {
                None => Outcome::absent(),
                Some(role) => Outcome::data(role_shown(&role.settings)),
            },
            (Verb::Delete, _, Some(name)) => {
                self.roles.remove(name);
                Outcome::Empty
            }
            (Verb::List, "role/", _) => {
                Outcome::data(json!({ "keys": self.roles.keys().collect::<Vec<_>>() }))
            }
            _ => Outcome::unsupported_path(),
        }
    }

    pub(crate) fn kubernetes_login(&mut self, ask: &Ask, gate: &mut Gate<'_>) -> Outcome {
        let Some(name) = ask.text("role") else { return Outcome::bad("missing role") };
        let Some(jwt) = ask.text("jwt") else { return Outcome::bad("missing jwt") };
        let Some(role) = self.roles.get(name) else {
            return Outcome::bad(&format!("invalid role name \"{name}\""));
        };
        let Some((_, claims)) = gate.accepted.iter().find(|(j, _)| j == jwt) else {
            return Outcome::denied();
        };
        if !role.admits(claims) {
            return Outcome::fail(403, &["service account name not authorized"]);
        }
        let meta = BTreeMap::from([
            ("role".to_string(), name.to_string()),
            ("service_account_name".to_string(), claims.service_account.clone()),
            ("service_account_namespace".to_string(), claims.namespace.clone()),
        ]);
        gate.admit(name, &role.settings, &claims.service_account, meta)
    }

    pub(crate) fn jwt_login(&mut self, ask: &Ask, gate: &mut Gate<'_>) -> Outcome {
        let Some(name) = ask.text("role") else { return Outcome::bad("missing role") };
        let Some(role) = self.roles.get(name) else {
            return Outcome::bad(&format!("role \"{name}\" could not be found"));
        };
        let Some(jwt) = ask.text("jwt") else { return Outcome::bad("missing token") };
        let Some((_, claims)) = gate.accepted.iter().find(|(j, _)| j == jwt) else {
            return Outcome::bad(
                "error validating token: error verifying token signature: no known key successfully validated the token signature",
            );
        };
        let meta = BTreeMap::from([("role".to_string(), name.to_string())]);
        gate.admit(name, &role.settings, &claims.service_account, meta)
    }
}
