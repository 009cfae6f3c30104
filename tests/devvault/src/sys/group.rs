//! Control groups, as Vault Enterprise's API docs describe them and OpenBao 2.7.2 was seen to do them: a request that waits behind a
//! wrapping token until members of a group have authorized it, and is done when that is unwrapped.
//!
//! One factor a path; the double's own policies know nothing of it, so that a test says what is guarded.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ask::{Ask, Verb};
use crate::outcome::{Outcome, Success};
use crate::policy::matches;
use crate::state::State;
use crate::token::{Token, TokenTerms};
use crate::vault::DevVault;

/// What must be authorized, and by whom.
#[derive(Debug, Clone)]
pub struct ControlGroup {
    /// How many must authorize it.
    pub approvals: usize,
    /// How long a request waits.
    pub ttl: Duration,
    /// The entities of the group.
    pub members: Vec<String>,
    /// Whether who asks may authorize it too.
    pub self_authorization: bool,
    /// Whether it is done each time that it is unwrapped, as by OpenBao 2.7.2; else once.
    pub again: bool,
}

/// Somebody with a login of their own.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their token.
    pub token: String,
    /// Their entity.
    pub entity: String,
}

/// A request that waits, as a test may look at it.
#[derive(Debug, Clone)]
pub struct WaitingView {
    /// The wrapping token.
    pub token: String,
    /// Its accessor.
    pub accessor: String,
    /// What is asked for.
    pub path: String,
}

/// Everything of it.
#[derive(Default)]
pub(crate) struct Groups {
    guarded: BTreeMap<String, ControlGroup>,
    /// By accessor.
    waiting: BTreeMap<String, Waiting>,
}

struct Waiting {
    token: String,
    ask: Ask,
    caller: String,
    entity: String,
    group: ControlGroup,
    /// Entity and name.
    authorized: Vec<(String, String)>,
    ends: Instant,
}

impl Waiting {
    fn is_approved(&self) -> bool {
        self.authorized.len() >= self.group.approvals
    }
}

impl Groups {
    fn accessor_of(&self, token: &str) -> Option<String> {
        self.waiting.iter().find(|(_, waiting)| waiting.token == token).map(|(accessor, _)| accessor.clone())
    }
}

impl State {
    /// The answer to a permitted request that must be authorized first.
    pub(crate) fn guarded(&mut self, ask: &Ask, caller: &str) -> Option<Outcome> {
        if self.tokens.get(caller).is_some_and(Token::is_root) {
            return None;
        }
        let guarded = self.groups.guarded.iter();
        let group = guarded
            .filter(|(pattern, _)| matches(pattern, &ask.path))
            .map(|(_, group)| group.clone())
            .next()?;
        let (token, accessor) = (self.ids.service_token(), self.ids.accessor());
        let info = json!({
            "token": token,
            "accessor": accessor,
            "ttl": group.ttl.as_secs(),
            "creation_time": self.clock.rfc3339(self.now),
            "creation_path": ask.path,
        });
        let entity = self.tokens.get(caller).map(|t| t.terms.entity_id.clone()).unwrap_or_default();
        let (ask, caller, ends) = (ask.clone(), caller.to_string(), self.now + group.ttl);
        let waiting = Waiting { token, ask, caller, entity, group, authorized: Vec::new(), ends };
        self.groups.waiting.insert(accessor, waiting);
        Some(Outcome::secret(Success { wrap_info: info, ..Success::of(Value::Null) }))
    }

    /// What a wrapping token of a control group may do: unwrap, and end itself. `None`: the request is made with none, and for none.
    pub(crate) fn by_wrapping_token(&mut self, ask: &Ask) -> Option<Outcome> {
        let now = self.now;
        self.groups.waiting.retain(|_, waiting| waiting.ends > now);
        let own = ask.token.clone().unwrap_or_default();
        if ask.path == "sys/wrapping/unwrap" {
            let accessor = self.groups.accessor_of(ask.text("token").unwrap_or(&own))?;
            return Some(self.unwrapped(&accessor));
        }
        let accessor = self.groups.accessor_of(&own)?;
        self.groups.waiting.remove(&accessor);
        let ends_itself = ask.path == "auth/token/revoke-self" && ask.verb == Verb::Write;
        Some(if ends_itself { Outcome::Empty } else { Outcome::not_allowed() })
    }

    fn unwrapped(&mut self, accessor: &str) -> Outcome {
        let absent = || Outcome::bad("wrapping token is not valid or does not exist");
        let Some(waiting) = self.groups.waiting.get(accessor).filter(|waiting| waiting.is_approved()) else {
            return absent();
        };
        let (ask, caller, again) = (waiting.ask.clone(), waiting.caller.clone(), waiting.group.again);
        if !again {
            self.groups.waiting.remove(accessor);
        }
        // It is done with the token that asked.
        if !self.tokens.contains_key(&caller) {
            return Outcome::denied();
        }
        let outcome = self.routed(&ask, &caller);
        self.finished(outcome, &ask, &caller)
    }

    pub(crate) fn group_route(&mut self, tail: &str, ask: &Ask, caller: &str) -> Outcome {
        let Some(accessor) = ask.text("accessor") else {
            return Outcome::bad("1 error occurred:\n\t* missing accessor\n\n");
        };
        let terms = self.tokens.get(caller).map(|token| token.terms.clone()).unwrap_or_default();
        let Some(waiting) = self.groups.waiting.get_mut(accessor) else {
            return Outcome::bad("1 error occurred:\n\t* invalid accessor\n\n");
        };
        match tail {
            "authorize" => {
                let TokenTerms { entity_id, display_name, .. } = terms;
                if waiting.group.members.contains(&entity_id) {
                    if entity_id == waiting.entity && !waiting.group.self_authorization {
                        return Outcome::fail(
                            500,
                            &["1 error occurred:\n\t* token owner cannot be approver\n\n"],
                        );
                    }
                    if waiting.authorized.iter().any(|(entity, _)| *entity == entity_id) {
                        return Outcome::fail(
                            500,
                            &["1 error occurred:\n\t* approver has already authorized\n\n"],
                        );
                    }
                    waiting.authorized.push((entity_id, display_name));
                }
                Outcome::data(json!({ "approved": waiting.is_approved() }))
            }
            "request" => {
                let one = |(id, name): &(String, String)| json!({ "entity_id": id, "entity_name": name });
                Outcome::data(json!({
                    "approved": waiting.is_approved(),
                    "request_path": waiting.ask.path,
                    "request_entity": { "id": waiting.entity, "name": "app" },
                    "authorizations": waiting.authorized.iter().map(one).collect::<Vec<_>>(),
                }))
            }
            _ => Outcome::unsupported_path(),
        }
    }
}

/// Control groups, and persons.
impl DevVault {
    /// Puts the paths that a pattern covers behind a control group, for every token but the root's.
    pub fn control_group(&self, pattern: &str, group: ControlGroup) {
        self.state().groups.guarded.insert(pattern.to_string(), group);
    }

    /// Somebody who has logged in, with these policies and an entity of their own.
    pub fn person(&self, name: &str, policies: &[&str]) -> Person {
        let mut state = self.state();
        state.advance();
        let entity = state.ids.uuid();
        let terms = TokenTerms {
            policies: policies.iter().map(|p| (*p).to_string()).collect(),
            display_name: name.to_string(),
            path: format!("auth/userpass/login/{name}"),
            entity_id: entity.clone(),
            asked_ttl: Some(Duration::from_secs(3600)),
            ..Default::default()
        };
        Person { token: state.mint(terms).0, entity }
    }

    /// What waits for authorization, or to be unwrapped.
    pub fn waiting(&self) -> Vec<WaitingView> {
        let mut state = self.state();
        state.advance();
        let now = state.now;
        let living = state.groups.waiting.iter().filter(|(_, waiting)| waiting.ends > now);
        let view = |(accessor, waiting): (&String, &Waiting)| WaitingView {
            token: waiting.token.clone(),
            accessor: accessor.clone(),
            path: waiting.ask.path.clone(),
        };
        living.map(view).collect()
    }
}
