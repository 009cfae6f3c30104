//! The database engine without a database: every configuration is accepted, credentials are made up and leased.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Tools;
use crate::ask::{Ask, Verb};
use crate::duration::SYSTEM_TTL;
use crate::outcome::{LeaseTerms, Outcome, Success};

/// What the engine keeps.
#[derive(Debug, Default)]
pub(crate) struct Database {
    roles: BTreeMap<String, DatabaseRole>,
    configs: BTreeMap<String, Value>,
}

/// A role: for how long its credentials live.
#[derive(Debug, Clone)]
struct DatabaseRole {
    ttl: Option<Duration>,
    max_ttl: Option<Duration>,
    db_name: String,
}

impl Database {
    /// A role with a connection of its own name, as a test prepares it.
    pub(crate) fn add_role(&mut self, name: &str, ttl: Duration, max_ttl: Duration) {
        let role = DatabaseRole { ttl: Some(ttl), max_ttl: Some(max_ttl), db_name: name.to_string() };
        self.configs.insert(name.to_string(), json!({}));
        self.roles.insert(name.to_string(), role);
    }

    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask, tools: &mut Tools<'_>) -> Outcome {
        let (area, name) = rest.split_once('/').unwrap_or((rest, ""));
        match (area, ask.verb) {
            ("config", Verb::Write) => {
                self.configs.insert(name.to_string(), json!({ "plugin_name": ask.text("plugin_name") }));
                Outcome::Empty
            }
            ("config", Verb::Read) => {
                self.configs.get(name).map_or_else(Outcome::absent, |c| Outcome::data(c.clone()))
            }
            ("roles", Verb::Write) => {
                let role = DatabaseRole {
                    ttl: ask.duration("default_ttl"),
                    max_ttl: ask.duration("max_ttl"),
                    db_name: ask.text("db_name").unwrap_or_default().to_string(),
                };
                self.roles.insert(name.to_string(), role);
                Outcome::Empty
            }
            ("roles", Verb::Read) => match self.roles.get(name) {
                None => Outcome::absent(),
                Some(role) => Outcome::data(json!({
                    "db_name": role.db_name,
                    "default_ttl": role.ttl.map_or(0, |d| d.as_secs()),
                    "max_ttl": role.max_ttl.map_or(0, |d| d.as_secs()),
                })),
            },
            ("roles", Verb::Delete) => {
                self.roles.remove(name);
                Outcome::Empty
            }
            ("creds", Verb::Read) => self.credentials(name, tools),
            ("creds" | "roles" | "config", _) => Outcome::unsupported(),
            _ => Outcome::unsupported_path(),
        }
    }

    fn credentials(&self, name: &str, tools: &mut Tools<'_>) -> Outcome {
        let Some(role) = self.roles.get(name) else {
            return Outcome::bad(&format!("unknown role: {name}"));
        };
        if !self.configs.contains_key(&role.db_name) {
            let text = format!("failed to find entry for connection with name: \"{}\"", role.db_name);
            return Outcome::fail(500, &[&format!("1 error occurred:\n\t* {text}\n\n")]);
        }
        let username = format!("v-token-{name}-{}", tools.ids.letters(20));
        let password = format!("{}-{}", tools.ids.letters(11), tools.ids.letters(8));
        let max_ttl = role.max_ttl.unwrap_or(SYSTEM_TTL);
        let ttl = role.ttl.unwrap_or(SYSTEM_TTL).min(max_ttl);
        let success = Success::of(json!({ "username": username, "password": password }));
        Outcome::Leased(Box::new(success), LeaseTerms { ttl, max_ttl, renewable: true, path: None })
    }
}
