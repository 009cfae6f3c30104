//! `sys/*`: what an operator and a client ask of the server itself.

pub(crate) mod group;
mod health;
mod mounts;
mod quota;
pub(crate) mod wrapping;

use serde_json::{Value, json};

pub use group::{ControlGroup, Person, WaitingView};
pub use health::Standing;
pub(crate) use mounts::{AuthMount, Mount};
pub(crate) use quota::Quotas;

use crate::ask::{Ask, Verb};
use crate::outcome::Outcome;
use crate::policy;
use crate::state::State;

impl State {
    /// Paths that no token is needed for; `None` means that one is.
    pub(crate) fn open_sys_route(&mut self, rest: &str, ask: &Ask) -> Option<Outcome> {
        match (ask.verb, rest) {
            (Verb::Read, "health") => Some(self.health(ask)),
            (Verb::Read, "seal-status") => Some(self.seal_status()),
            (Verb::Read, "leader") => Some(self.leader()),
            (Verb::Read, "init") => {
                Some(Outcome::Plain(200, json!({ "initialized": self.standing != Standing::Uninitialized })))
            }
            (Verb::Write, "unseal") => {
                self.sealed = false;
                Some(self.seal_status())
            }
            _ => None,
        }
    }

    pub(crate) fn sys_route(&mut self, rest: &str, ask: &Ask, caller: &str) -> Outcome {
        let (word, tail) = rest.split_once('/').unwrap_or((rest, ""));
        match (word, ask.verb) {
            ("mounts", _) => self.mounts_route(tail, ask),
            ("auth", _) => self.auth_mounts_route(tail, ask),
            ("policies" | "policy", _) => self.policies_route(word, tail, ask),
            ("leases" | "renew" | "revoke", _) => self.lease_route(rest, ask),
            ("wrapping", Verb::Write) => self.wrapping_route(tail, ask, caller),
            ("wrapping", Verb::Read) if tail == "lookup" => self.wrapping_route(tail, ask, caller),
            ("capabilities-self", Verb::Write) => self.capabilities(Some(caller.to_string()), ask),
            ("capabilities", Verb::Write) => self.capabilities(ask.text("token").map(str::to_string), ask),
            ("capabilities-accessor", Verb::Write) => {
                self.capabilities(ask.text("accessor").and_then(|a| self.token_of_accessor(a)), ask)
            }
            ("seal", Verb::Write) => {
                self.sealed = true;
                Outcome::Empty
            }
            ("control-group", Verb::Write) => self.group_route(tail, ask, caller),
            ("quotas", _) => self.quotas.answer(tail, ask),
            ("internal", Verb::Read) => match tail.strip_prefix("ui/mounts/") {
                Some(path) => self.ui_mount(path, caller),
                None => Outcome::unsupported_path(),
            },
            _ => Outcome::unsupported_path(),
        }
    }

    fn capabilities(&self, token: Option<String>, ask: &Ask) -> Outcome {
        let Some(paths) = ask.list("paths").or_else(|| ask.list("path")).filter(|p| !p.is_empty()) else {
            return Outcome::bad("paths must be supplied");
        };
        let Some(token) = token.filter(|t| self.tokens.contains_key(t)) else {
            return Outcome::bad("1 error occurred:\n\t* invalid token\n\n");
        };
        let mut data = serde_json::Map::new();
        for path in &paths {
            data.insert(path.clone(), json!(self.capabilities_on(&token, path)));
        }
        if let [only] = paths.as_slice() {
            let shown = data.get(only).cloned().unwrap_or(Value::Null);
            data.insert("capabilities".into(), shown);
        }
        Outcome::sys_data(Value::Object(data))
    }

    fn capabilities_on(&self, token: &str, path: &str) -> Vec<&'static str> {
        if self.tokens.get(token).is_some_and(crate::token::Token::is_root) {
            return vec!["root"];
        }
        let mut grants = self.grants(token, path).0;
        grants.sort_unstable();
        if grants.is_empty() || grants.contains(&"deny") { vec!["deny"] } else { grants }
    }

    fn policies_route(&mut self, word: &str, tail: &str, ask: &Ask) -> Outcome {
        let name = if word == "policies" {
            tail.strip_prefix("acl").map(|n| n.trim_start_matches('/'))
        } else {
            Some(tail)
        };
        let Some(name) = name else { return Outcome::unsupported_path() };
        match ask.verb {
            Verb::List | Verb::Read if name.is_empty() => {
                let names: Vec<&str> = self.policies.keys().map(String::as_str).chain(["root"]).collect();
                match word {
                    "policy" => Outcome::sys_data(json!({ "keys": names, "policies": names })),
                    _ => Outcome::data(json!({ "keys": names })),
                }
            }
            Verb::Read => match self.policies.get(name) {
                None => Outcome::absent(),
                Some(policy) => Outcome::data(json!({ "name": name, "policy": policy.text })),
            },
            Verb::Write => {
                let Some(text) = ask.text("policy") else {
                    return Outcome::bad("'policy' parameter not supplied or empty");
                };
                match policy::parse(text) {
                    Err(problem) => Outcome::bad(&format!("failed to parse policy: {problem}")),
                    Ok(policy) => {
                        self.policies.insert(name.to_ascii_lowercase(), policy);
                        Outcome::Empty
                    }
                }
            }
            Verb::Delete => {
                self.policies.remove(name);
                Outcome::Empty
            }
            _ => Outcome::unsupported(),
        }
    }
}
