//! The key-value engine, version 1: a map of paths to fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::ask::{Ask, Verb};
use crate::duration::SYSTEM_TTL;
use crate::lease::children;
use crate::outcome::{LeaseShown, Outcome, Success};

/// What the engine keeps.
#[derive(Debug, Default)]
pub(crate) struct Kv1 {
    pub(crate) entries: BTreeMap<String, Map<String, Value>>,
}

impl Kv1 {
    pub(crate) fn has(&self, rest: &str) -> bool {
        self.entries.contains_key(rest)
    }

    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask) -> Outcome {
        match ask.verb {
            Verb::Read => match self.entries.get(rest) {
                None => Outcome::absent(),
                Some(fields) => {
                    // Version 1 names no lease but says for how long a value may be kept.
                    let ttl = fields.get("ttl").or(fields.get("lease")).and_then(crate::duration::read);
                    let lease =
                        LeaseShown { id: String::new(), ttl: ttl.unwrap_or(SYSTEM_TTL), renewable: false };
                    Outcome::secret(Success { lease: Some(lease), ..Success::of(json!(fields)) })
                }
            },
            Verb::List => {
                let keys = children(self.entries.keys().map(String::as_str), rest);
                if keys.is_empty() { Outcome::absent() } else { Outcome::data(json!({ "keys": keys })) }
            }
            Verb::Write if ask.body.is_empty() => Outcome::bad("missing data fields"),
            Verb::Write => {
                self.entries.insert(rest.to_string(), ask.body.clone());
                Outcome::Empty
            }
            Verb::Delete => {
                self.entries.remove(rest);
                Outcome::Empty
            }
            Verb::Patch => Outcome::unsupported(),
        }
    }
}
