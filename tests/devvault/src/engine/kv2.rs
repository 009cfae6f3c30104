//! The key-value engine, version 2: versions, check-and-set, metadata, deletion and its undoing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Tools;
use crate::ask::{Ask, Verb};
use crate::lease::children;
use crate::outcome::{Outcome, Success};

/// What the engine keeps.
#[derive(Debug, Default)]
pub(crate) struct Kv2 {
    secrets: BTreeMap<String, Secret>,
    max_versions: u64,
    cas_required: bool,
}

#[derive(Debug)]
struct Secret {
    created: Instant,
    updated: Instant,
    versions: BTreeMap<u64, Version>,
    max_versions: u64,
    cas_required: bool,
    custom: Value,
}

#[derive(Debug, Clone)]
struct Version {
    created: Instant,
    deleted: Option<Instant>,
    data: Option<Map<String, Value>>,
}

impl Secret {
    fn new(now: Instant) -> Secret {
        Secret {
            created: now,
            updated: now,
            versions: BTreeMap::new(),
            max_versions: 0,
            cas_required: false,
            custom: Value::Null,
        }
    }

    fn current(&self) -> u64 {
        self.versions.last_key_value().map_or(0, |(n, _)| *n)
    }
}

impl Kv2 {
    /// Writes a new version, as a test prepares it.
    pub(crate) fn put(&mut self, path: &str, data: Map<String, Value>, now: Instant) -> u64 {
        let secret = self.secrets.entry(path.to_string()).or_insert_with(|| Secret::new(now));
        let number = secret.current() + 1;
        secret.versions.insert(number, Version { created: now, deleted: None, data: Some(data) });
        secret.updated = now;
        let kept = [secret.max_versions, self.max_versions].into_iter().find(|n| *n > 0).unwrap_or(10);
        secret.versions.retain(|n, _| *n + kept > number);
        number
    }

    pub(crate) fn has(&self, rest: &str) -> bool {
        let name = rest.split_once('/').map_or("", |(_, name)| name);
        rest == "config" || self.secrets.contains_key(name)
    }

    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask, tools: &mut Tools<'_>) -> Outcome {
        let (area, name) = rest.split_once('/').unwrap_or((rest, ""));
        let area = if name.is_empty() && ask.verb != Verb::List && area != "config" { "" } else { area };
        match (area, ask.verb) {
            ("config", Verb::Read) if name.is_empty() => Outcome::data(json!({
                "cas_required": self.cas_required, "delete_version_after": "0s", "max_versions": self.max_versions,
            })),
            ("config", Verb::Write) if name.is_empty() => {
                self.cas_required = ask.flag("cas_required").unwrap_or(self.cas_required);
                self.max_versions = ask.number("max_versions").unwrap_or(self.max_versions);
                Outcome::Empty
            }
            ("metadata", Verb::List) => {
                let keys = children(self.secrets.keys().map(String::as_str), name);
                if keys.is_empty() { Outcome::absent() } else { Outcome::data(json!({ "keys": keys })) }
            }
            ("data", Verb::Read) => self.read(name, ask, tools),
            ("data", Verb::Write) => self.write(name, ask, tools),
            ("data", Verb::Patch) => self.patch(name, ask, tools),
            ("data", Verb::Delete) => self.mark(name, None, Mark::Deleted, tools),
            ("metadata", verb) => self.metadata(name, verb, ask, tools),
            ("delete", Verb::Write) => self.mark(name, versions_of(ask), Mark::Deleted, tools),
            ("undelete", Verb::Write) => self.mark(name, versions_of(ask), Mark::Restored, tools),
            ("destroy", Verb::Write | Verb::Patch) => {
                self.mark(name, versions_of(ask), Mark::Destroyed, tools)
            }
            ("data" | "delete" | "undelete" | "destroy" | "config", _) => Outcome::unsupported(),
            _ => Outcome::secret(Success {
                status: 404,
                warnings: vec!["Invalid path for a versioned K/V secrets engine.".into()],
                ..Success::of(Value::Null)
            }),
        }
    }

    fn read(&self, name: &str, ask: &Ask, tools: &Tools<'_>) -> Outcome {
        let wanted = ask.query("version").and_then(|v| v.parse::<u64>().ok()).filter(|v| *v > 0);
        let Some(secret) = self.secrets.get(name) else { return Outcome::absent() };
        let number = wanted.unwrap_or_else(|| secret.current());
        let Some(version) = secret.versions.get(&number) else { return Outcome::absent() };
        let live = version.deleted.is_none() && version.data.is_some();
        let data = if live { json!(version.data) } else { Value::Null };
        let shown = json!({ "data": data, "metadata": version_shown(number, version, secret, tools) });
        Outcome::secret(Success { status: if live { 200 } else { 404 }, ..Success::of(shown) })
    }

    fn write(&mut self, name: &str, ask: &Ask, tools: &Tools<'_>) -> Outcome {
        let Some(data) = ask.body.get("data").and_then(Value::as_object) else {
            return Outcome::bad("no data provided");
        };
        let current = self.secrets.get(name).map_or(0, Secret::current);
        if let Err(refusal) = self.check_cas(name, ask, current) {
            return refusal;
        }
        let number = self.put(name, data.clone(), tools.now);
        self.written(name, number, tools)
    }

    fn patch(&mut self, name: &str, ask: &Ask, tools: &Tools<'_>) -> Outcome {
        let Some(changes) = ask.body.get("data").and_then(Value::as_object) else {
            return Outcome::bad("no data provided");
        };
        let Some(secret) = self.secrets.get(name) else { return Outcome::Bare(404) };
        let current = secret.current();
        let newest = secret.versions.get(&current).filter(|v| v.deleted.is_none());
        let Some(mut data) = newest.and_then(|v| v.data.clone()) else { return Outcome::Bare(404) };
        if let Err(refusal) = self.check_cas(name, ask, current) {
            return refusal;
        }
        merge(&mut data, changes);
        let number = self.put(name, data, tools.now);
        self.written(name, number, tools)
    }

    fn check_cas(&self, name: &str, ask: &Ask, current: u64) -> Result<(), Outcome> {
        let required = self.cas_required || self.secrets.get(name).is_some_and(|s| s.cas_required);
        let cas = ask.body.get("options").and_then(|o| o.get("cas")).and_then(Value::as_u64);
        match cas {
            Some(cas) if cas != current => {
                Err(Outcome::bad("check-and-set parameter did not match the current version"))
            }
            None if required => Err(Outcome::bad("check-and-set parameter required for this call")),
            _ => Ok(()),
        }
    }

    fn written(&self, name: &str, number: u64, tools: &Tools<'_>) -> Outcome {
        let Some(secret) = self.secrets.get(name) else { return Outcome::absent() };
        let Some(version) = secret.versions.get(&number) else { return Outcome::absent() };
        Outcome::data(version_shown(number, version, secret, tools))
    }

    fn mark(&mut self, name: &str, versions: Option<Vec<u64>>, mark: Mark, tools: &Tools<'_>) -> Outcome {
        let Some(secret) = self.secrets.get_mut(name) else {
            return Outcome::Empty;
        };
        let current = secret.current();
        for number in versions.unwrap_or_else(|| vec![current]) {
            let Some(version) = secret.versions.get_mut(&number) else { continue };
            match mark {
                Mark::Deleted => version.deleted = version.deleted.or(Some(tools.now)),
                Mark::Restored => version.deleted = None,
                Mark::Destroyed => version.data = None,
            }
        }
        Outcome::Empty
    }

    fn metadata(&mut self, name: &str, verb: Verb, ask: &Ask, tools: &Tools<'_>) -> Outcome {
        match verb {
            Verb::Delete => {
                self.secrets.remove(name);
                Outcome::Empty
            }
            Verb::Read => match self.secrets.get(name) {
                None => Outcome::absent(),
                Some(secret) => Outcome::data(metadata_shown(secret, tools)),
            },
            Verb::Write | Verb::Patch => {
                let secret = self.secrets.entry(name.to_string()).or_insert_with(|| Secret::new(tools.now));
                secret.max_versions = ask.number("max_versions").unwrap_or(secret.max_versions);
                secret.cas_required = ask.flag("cas_required").unwrap_or(secret.cas_required);
                if let Some(custom) = ask.body.get("custom_metadata") {
                    secret.custom = custom.clone();
                }
                Outcome::Empty
            }
            Verb::List => Outcome::unsupported(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Deleted,
    Restored,
    Destroyed,
}

fn versions_of(ask: &Ask) -> Option<Vec<u64>> {
    let items = ask.body.get("versions")?.as_array()?;
    Some(items.iter().filter_map(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok())).collect())
}

/// JSON merge patch (RFC 7396) on objects.
fn merge(target: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (key, change) in changes {
        match (change, target.get_mut(key)) {
            (Value::Null, _) => {
                target.remove(key);
            }
            (Value::Object(inner), Some(Value::Object(old))) => merge(old, inner),
            (other, _) => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

fn deletion_time(version: &Version, tools: &Tools<'_>) -> String {
    version.deleted.map_or(String::new(), |d| tools.clock.rfc3339(d))
}

fn version_shown(number: u64, version: &Version, secret: &Secret, tools: &Tools<'_>) -> Value {
    json!({
        "created_time": tools.clock.rfc3339(version.created),
        "custom_metadata": secret.custom,
        "deletion_time": deletion_time(version, tools),
        "destroyed": version.data.is_none(),
        "version": number,
    })
}

fn metadata_shown(secret: &Secret, tools: &Tools<'_>) -> Value {
    let versions: Map<String, Value> = secret
        .versions
        .iter()
        .map(|(number, version)| {
            let shown = json!({
                "created_time": tools.clock.rfc3339(version.created),
                "deletion_time": deletion_time(version, tools),
                "destroyed": version.data.is_none(),
            });
            (number.to_string(), shown)
        })
        .collect();
    json!({
        "cas_required": secret.cas_required,
        "created_time": tools.clock.rfc3339(secret.created),
        "current_version": secret.current(),
        "custom_metadata": secret.custom,
        "delete_version_after": "0s",
        "max_versions": secret.max_versions,
        "oldest_version": secret.versions.keys().next().copied().filter(|n| *n > 1).unwrap_or(0),
        "updated_time": tools.clock.rfc3339(secret.updated),
        "versions": versions,
    })
}
