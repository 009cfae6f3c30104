//! AppRole: a role id and a secret id, the latter with uses and a life of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Gate, RoleSettings, role_shown};
use crate::ask::{Ask, Verb};
use crate::outcome::Outcome;

/// What the method keeps.
#[derive(Debug, Default)]
pub(crate) struct AppRole {
    pub(crate) roles: BTreeMap<String, Role>,
}

/// One role.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) settings: RoleSettings,
    pub(crate) role_id: String,
    pub(crate) secret_ids: BTreeMap<String, SecretId>,
    unbound: bool,
    secret_id_uses: u64,
    secret_id_ttl: Option<Duration>,
}

/// One secret id.
#[derive(Debug)]
pub(crate) struct SecretId {
    pub(crate) accessor: String,
    uses: u64,
    made: Instant,
    expires: Option<Instant>,
    metadata: serde_json::Value,
}

impl AppRole {
    /// Makes or changes a role; an existing one keeps its ids.
    pub(crate) fn set_role(&mut self, name: &str, settings: RoleSettings, gate: &mut Gate<'_>) -> &mut Role {
        let role = self.roles.entry(name.to_string()).or_insert_with(|| Role {
            settings: RoleSettings::default(),
            role_id: gate.ids.uuid(),
            secret_ids: BTreeMap::new(),
            unbound: false,
            secret_id_uses: 0,
            secret_id_ttl: None,
        });
        role.settings = settings;
        role
    }

    pub(crate) fn login(&mut self, ask: &Ask, gate: &mut Gate<'_>) -> Outcome {
        let Some(role_id) = ask.text("role_id") else {
            return Outcome::fail(500, &["failed to determine alias name from login request"]);
        };
        let refused = || Outcome::bad("invalid role or secret ID");
        let Some((name, role)) = self.roles.iter_mut().find(|(_, r)| r.role_id == role_id) else {
            return refused();
        };
        if !role.unbound {
            let Some(secret_id) = ask.text("secret_id") else { return Outcome::bad("missing secret_id") };
            let Some(known) = role.secret_ids.get_mut(secret_id) else { return refused() };
            if known.expires.is_some_and(|e| e <= gate.now) {
                role.secret_ids.remove(secret_id);
                return refused();
            }
            if known.uses == 1 {
                role.secret_ids.remove(secret_id);
            } else {
                known.uses = known.uses.saturating_sub(1);
            }
        }
        let meta = BTreeMap::from([("role_name".to_string(), name.clone())]);
        gate.admit(name, &role.settings, role_id, meta)
    }

    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask, gate: &mut Gate<'_>) -> Outcome {
        let Some(rest) = rest.strip_prefix("role/") else { return Outcome::unsupported_path() };
        let (name, field) = rest.split_once('/').unwrap_or((rest, ""));
        if (ask.verb, field) == (Verb::Write, "") {
            let settings = RoleSettings::read(ask);
            if settings.max_ttl.is_some() && settings.ttl > settings.max_ttl {
                return Outcome::bad("'token_ttl' cannot be greater than 'token_max_ttl'");
            }
            let role = self.set_role(name, settings, gate);
            role.unbound = ask.flag("bind_secret_id") == Some(false);
            role.secret_id_uses = ask.number("secret_id_num_uses").unwrap_or(0);
            role.secret_id_ttl = ask.duration("secret_id_ttl");
            return Outcome::Empty;
        }
        let Some(role) = self.roles.get_mut(name) else {
            return match (ask.verb, field) {
                (Verb::Write, _) => Outcome::fail(404, &[&format!("role \"{name}\" does not exist")]),
                _ => Outcome::absent(),
            };
        };
        match (ask.verb, field) {
            (Verb::Read, "") => Outcome::data(role.shown()),
            (Verb::Delete, "") => {
                self.roles.remove(name);
                Outcome::Empty
            }
            (Verb::Read, "role-id") => Outcome::data(json!({ "role_id": role.role_id })),
            (Verb::Write, "role-id") => {
                role.role_id = ask.text("role_id").unwrap_or_default().to_string();
                Outcome::Empty
            }
            (Verb::Write, "secret-id") => role.give_secret_id(ask, gate),
            (Verb::Write, "custom-secret-id") => match ask.text("secret_id") {
                None => Outcome::bad("missing secret_id"),
                Some(id) if role.secret_ids.contains_key(id) => Outcome::fail(
                    500,
                    &["1 error occurred:\n\t* failed to store secret_id: SecretID is already registered\n\n"],
                ),
                Some(_) => role.give_secret_id(ask, gate),
            },
            _ => role.answer_of_secret_ids(ask, field, gate),
        }
    }
}

impl Role {
    /// What is asked of the secret ids that are there.
    fn answer_of_secret_ids(&mut self, ask: &Ask, field: &str, gate: &Gate<'_>) -> Outcome {
        match (ask.verb, field) {
            (Verb::List, "secret-id/") => self.accessors(),
            (Verb::Write, "secret-id/lookup") => {
                match ask.text("secret_id").and_then(|id| self.secret_ids.get(id)) {
                    Some(secret_id) => Outcome::data(secret_id.shown(gate)),
                    None => Outcome::Empty,
                }
            }
            (Verb::Write, "secret-id-accessor/lookup") => match self.named(ask.text("secret_id_accessor")) {
                Some(secret_id) => Outcome::data(secret_id.shown(gate)),
                None => Outcome::absent(),
            },
            (Verb::Write, "secret-id-accessor/destroy")
                if self.named(ask.text("secret_id_accessor")).is_none() =>
            {
                Outcome::fail(
                    500,
                    &["1 error occurred:\n\t* failed to find accessor entry for secret_id_accessor\n\n"],
                )
            }
            (Verb::Write | Verb::Delete, "secret-id/destroy" | "secret-id-accessor/destroy") => {
                let named = (ask.text("secret_id").map(str::to_string), ask.text("secret_id_accessor"));
                self.secret_ids
                    .retain(|id, s| Some(id) != named.0.as_ref() && Some(s.accessor.as_str()) != named.1);
                Outcome::Empty
            }
            _ => Outcome::unsupported_path(),
        }
    }

    fn shown(&self) -> serde_json::Value {
        let mut shown = role_shown(&self.settings);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("bind_secret_id".into(), json!(!self.unbound));
            fields.insert("local_secret_ids".into(), json!(false));
            fields.insert("secret_id_bound_cidrs".into(), serde_json::Value::Null);
            fields.insert("secret_id_num_uses".into(), json!(self.secret_id_uses));
            fields.insert("secret_id_ttl".into(), json!(self.secret_id_ttl.map_or(0, |d| d.as_secs())));
        }
        shown
    }

    fn give_secret_id(&mut self, ask: &Ask, gate: &mut Gate<'_>) -> Outcome {
        let id = ask.text("secret_id").map_or_else(|| gate.ids.uuid(), str::to_string);
        let accessor = gate.ids.uuid();
        let ttl = ask.duration("ttl").or(self.secret_id_ttl);
        let uses = ask.number("num_uses").unwrap_or(self.secret_id_uses);
        let metadata =
            ask.text("metadata").and_then(|text| serde_json::from_str(text).ok()).unwrap_or(json!({}));
        let (made, expires) = (gate.now, ttl.map(|t| gate.now + t));
        let secret = SecretId { accessor: accessor.clone(), uses, made, expires, metadata };
        self.secret_ids.insert(id.clone(), secret);
        Outcome::data(json!({
            "secret_id": id,
            "secret_id_accessor": accessor,
            "secret_id_num_uses": uses,
            "secret_id_ttl": ttl.map_or(0, |d| d.as_secs()),
        }))
    }

    /// A new secret id without limits, as a test prepares it.
    pub(crate) fn add_secret_id(&mut self, gate: &mut Gate<'_>) -> String {
        let (id, accessor) = (gate.ids.uuid(), gate.ids.uuid());
        let secret_id = SecretId { accessor, uses: 0, made: gate.now, expires: None, metadata: json!({}) };
        self.secret_ids.insert(id.clone(), secret_id);
        id
    }

    fn accessors(&self) -> Outcome {
        let keys: Vec<&str> = self.secret_ids.values().map(|secret_id| secret_id.accessor.as_str()).collect();
        if keys.is_empty() { Outcome::absent() } else { Outcome::data(json!({ "keys": keys })) }
    }

    fn named(&self, accessor: Option<&str>) -> Option<&SecretId> {
        self.secret_ids.values().find(|secret_id| Some(secret_id.accessor.as_str()) == accessor)
    }
}

impl SecretId {
    fn shown(&self, gate: &Gate<'_>) -> serde_json::Value {
        let at = |instant: Instant| gate.clock.rfc3339(instant);
        json!({
            "cidr_list": [],
            "creation_time": at(self.made),
            "expiration_time": self.expires.map_or("0001-01-01T00:00:00Z".to_owned(), at),
            "last_updated_time": at(self.made),
            "metadata": self.metadata,
            "secret_id_accessor": self.accessor,
            "secret_id_num_uses": self.uses,
            "secret_id_ttl": self.expires.map_or(0, |end| end.duration_since(self.made).as_secs()),
            "token_bound_cidrs": [],
        })
    }
}
