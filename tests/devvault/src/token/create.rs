//! `auth/token/create`, its orphan and role forms, and `auth/token/roles`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{TokenTerms, TokenType};
use crate::ask::{Ask, Verb};
use crate::outcome::{Outcome, Success};
use crate::state::State;
use crate::ttl::Limits;

/// A role of the token store.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenRole {
    allowed: Vec<String>,
    disallowed: Vec<String>,
    orphan: bool,
    fixed: bool,
    limits: Limits,
    kind: Option<TokenType>,
}

impl State {
    pub(crate) fn create_orphan(&mut self, ask: &Ask, caller: &str) -> Outcome {
        let outcome = self.create_token(ask, caller, None);
        if let Outcome::Secret(success) = &outcome
            && let Some(id) = success.auth.get("client_token").and_then(Value::as_str)
            && let Some(token) = self.tokens.get_mut(id)
        {
            token.terms.parent = None;
        }
        outcome
    }

    pub(crate) fn create_token(&mut self, ask: &Ask, caller: &str, role: Option<&str>) -> Outcome {
        match self.child_terms(ask, caller, role) {
            Err(refusal) => refusal,
            Ok(terms) => {
                let (id, warnings) = self.mint(terms);
                let auth = self.tokens.get(&id).map_or(Value::Null, |t| self.auth_shown(&id, t));
                Outcome::secret(Success { auth, warnings, ..Success::of(Value::Null) })
            }
        }
    }

    fn child_terms(&self, ask: &Ask, caller: &str, role: Option<&str>) -> Result<TokenTerms, Outcome> {
        let parent = self.tokens.get(caller).ok_or_else(Outcome::invalid_token)?;
        if parent.terms.kind == TokenType::Batch {
            return Err(Outcome::bad("batch tokens cannot create more tokens"));
        }
        if parent.terms.uses > 0 {
            return Err(Outcome::bad("restricted use token cannot generate child tokens"));
        }
        let settings = match role {
            None => TokenRole::default(),
            Some(name) => {
                let unknown = || Outcome::bad(&format!("unknown role {name}"));
                self.token_roles.get(name).cloned().ok_or_else(unknown)?
            }
        };
        let policies = self.child_policies(ask, caller, role.map(|_| &settings))?;
        let kind = match (ask.text("type"), settings.kind) {
            (Some("batch"), _) | (_, Some(TokenType::Batch)) => TokenType::Batch,
            _ => TokenType::Service,
        };
        let no_parent = ask.flag("no_parent").unwrap_or(false);
        if no_parent && role.is_none() && !self.sudo(caller, "auth/token/create") {
            return Err(Outcome::bad("root or sudo privileges required to create orphan token"));
        }
        let name = ask.text("display_name").map_or("token".to_string(), |n| format!("token-{n}"));
        let limits = Limits {
            ttl: None,
            max_ttl: None,
            explicit_max: ask.duration("explicit_max_ttl").or(settings.limits.explicit_max),
            period: ask.duration("period").or(settings.limits.period),
        };
        Ok(TokenTerms {
            policies,
            limits,
            asked_ttl: ask.duration("ttl").or(ask.duration("lease")),
            uses: ask.number("num_uses").unwrap_or(0),
            kind,
            fixed: settings.fixed || ask.flag("renewable") == Some(false),
            display_name: name,
            meta: meta_of(ask),
            path: role.map_or("auth/token/create".into(), |r| format!("auth/token/create/{r}")),
            parent: (!settings.orphan && !no_parent).then(|| caller.to_string()),
            role: role.map(str::to_string).or_else(|| parent.terms.role.clone()),
            entity_id: if no_parent { String::new() } else { parent.terms.entity_id.clone() },
            alias: None,
            wanted_id: ask.text("id").map(str::to_string),
        })
    }

    fn child_policies(
        &self,
        ask: &Ask,
        caller: &str,
        role: Option<&TokenRole>,
    ) -> Result<Vec<String>, Outcome> {
        let own = self.tokens.get(caller).map(|t| t.terms.policies.clone()).unwrap_or_default();
        let privileged = self.sudo(caller, "auth/token/create");
        let mut wanted = ask.list("policies").unwrap_or_default();
        match role {
            Some(role) if !role.allowed.is_empty() || !role.disallowed.is_empty() => {
                if wanted.is_empty() {
                    wanted = role.allowed.clone();
                }
                let allowed =
                    |p: &String| role.allowed.is_empty() || role.allowed.contains(p) || p == "default";
                if let Some(other) = wanted.iter().find(|p| !allowed(p) || role.disallowed.contains(p)) {
                    let list: Vec<String> = role.allowed.iter().map(|p| format!("{p:?}")).collect();
                    return Err(Outcome::bad(&format!(
                        "token policies ([{other:?}]) must be subset of the role's allowed policies ([{}]) or glob policies ([])",
                        list.join(" ")
                    )));
                }
            }
            _ if wanted.is_empty() => wanted = own,
            _ if !privileged && wanted.iter().any(|p| p != "default" && !own.contains(p)) => {
                return Err(Outcome::bad("child policies must be subset of parent"));
            }
            _ => {}
        }
        let root = wanted.iter().any(|p| p == "root");
        let no_default = ask.flag("no_default_policy").unwrap_or(false);
        if root && !self.tokens.get(caller).is_some_and(super::Token::is_root) {
            return Err(Outcome::bad("root tokens may not be created without parent token being root"));
        }
        if !root && !no_default && !wanted.iter().any(|p| p == "default") {
            wanted.push("default".into());
        }
        Ok(wanted)
    }

    pub(crate) fn token_role(&mut self, name: &str, ask: &Ask) -> Outcome {
        match ask.verb {
            Verb::Write => {
                let role = TokenRole {
                    allowed: ask.list("allowed_policies").unwrap_or_default(),
                    disallowed: ask.list("disallowed_policies").unwrap_or_default(),
                    orphan: ask.flag("orphan").unwrap_or(false),
                    fixed: ask.flag("renewable") == Some(false),
                    limits: Limits {
                        ttl: None,
                        max_ttl: None,
                        explicit_max: ask.duration("token_explicit_max_ttl"),
                        period: ask.duration("token_period"),
                    },
                    kind: (ask.text("token_type") == Some("batch")).then_some(TokenType::Batch),
                };
                self.token_roles.insert(name.to_string(), role);
                Outcome::Empty
            }
            Verb::Delete => {
                self.token_roles.remove(name);
                Outcome::Empty
            }
            Verb::Read => match self.token_roles.get(name) {
                None => Outcome::absent(),
                Some(role) => Outcome::data(json!({
                    "name": name,
                    "allowed_policies": role.allowed,
                    "disallowed_policies": role.disallowed,
                    "orphan": role.orphan,
                    "renewable": !role.fixed,
                })),
            },
            _ => Outcome::unsupported(),
        }
    }
}

fn meta_of(ask: &Ask) -> BTreeMap<String, String> {
    let fields = ask.body.get("meta").and_then(Value::as_object);
    fields.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect()
}
