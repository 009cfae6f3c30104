//! `sys/mounts`, `sys/auth` and the preflight that the Vault CLI makes before each KV call.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::ask::{Ask, Verb};
use crate::auth::Method;
use crate::duration;
use crate::engine::{Engine, Kind};
use crate::outcome::Outcome;
use crate::state::State;

/// A mounted secrets engine.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) kind: Kind,
    pub(crate) engine: Engine,
    pub(crate) accessor: String,
    pub(crate) uuid: String,
    pub(crate) lives: Lives,
}

/// An enabled login method.
#[derive(Debug)]
pub(crate) struct AuthMount {
    pub(crate) method: Method,
    pub(crate) accessor: String,
    pub(crate) uuid: String,
    pub(crate) lives: Lives,
}

/// The lease times that a mount is tuned to; `None` is the system's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lives {
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) max_ttl: Option<Duration>,
}

impl Lives {
    fn tune(&mut self, default_ttl: Option<Duration>, max_ttl: Option<Duration>) {
        self.default_ttl = default_ttl.or(self.default_ttl);
        self.max_ttl = max_ttl.or(self.max_ttl);
    }

    /// As `tune` shows them, with what is in force.
    fn shown(self) -> Value {
        let system = |d: Option<Duration>| d.unwrap_or(duration::SYSTEM_TTL).as_secs();
        json!({
            "default_lease_ttl": system(self.default_ttl),
            "description": "",
            "force_no_cache": false,
            "max_lease_ttl": system(self.max_ttl),
        })
    }
}

impl State {
    pub(crate) fn add_mount(&mut self, path: &str, kind: Kind) {
        let path = format!("{}/", path.trim_matches('/'));
        let accessor = format!("{}_{}", kind.type_name(), &self.ids.letters(8).to_ascii_lowercase());
        let uuid = self.ids.uuid();
        let engine = Engine::new(kind);
        self.mounts.insert(path, Mount { kind, engine, accessor, uuid, lives: Lives::default() });
    }

    /// Enables a method, or finds it enabled.
    pub(crate) fn add_auth(&mut self, path: &str, type_name: &str) -> &mut AuthMount {
        let path = format!("{}/", path.trim_matches('/'));
        let accessor = format!("auth_{type_name}_{}", self.ids.letters(8).to_ascii_lowercase());
        let uuid = self.ids.uuid();
        self.auths.entry(path).or_insert_with(|| AuthMount {
            method: Method::new(type_name),
            accessor,
            uuid,
            lives: Lives::default(),
        })
    }

    pub(crate) fn mounts_route(&mut self, tail: &str, ask: &Ask) -> Outcome {
        if tail.is_empty() {
            let shown: Map<String, Value> =
                self.mounts.iter().map(|(path, mount)| (path.clone(), mount.shown())).collect();
            return if ask.verb == Verb::Read {
                Outcome::sys_data(Value::Object(shown))
            } else {
                Outcome::unsupported()
            };
        }
        if let Some(path) = tail.strip_suffix("/tune") {
            return self.tune(&format!("{path}/"), ask);
        }
        let path = format!("{}/", tail.trim_end_matches('/'));
        match ask.verb {
            Verb::Write if self.mounts.contains_key(&path) => {
                Outcome::bad(&format!("path is already in use at {path}"))
            }
            Verb::Write => match kind_of(ask) {
                Err(refusal) => refusal,
                Ok(kind) => {
                    self.add_mount(tail, kind);
                    let config = |key| {
                        ask.body
                            .get("config")
                            .and_then(|c| c.get(key))
                            .and_then(duration::read)
                            .filter(|d| !d.is_zero())
                    };
                    if let Some(mount) = self.mounts.get_mut(&path) {
                        mount.lives.tune(config("default_lease_ttl"), config("max_lease_ttl"));
                    }
                    Outcome::Empty
                }
            },
            Verb::Delete => {
                self.mounts.remove(&path);
                self.leases.retain(|id, _| !id.starts_with(&path));
                Outcome::Empty
            }
            Verb::Read => match self.mounts.get(&path) {
                Some(mount) => Outcome::sys_data(mount.shown()),
                None => Outcome::bad(&format!("No secret engine mount at {path}")),
            },
            _ => Outcome::unsupported(),
        }
    }

    /// `…/tune` of an engine, or of a login method as `auth/PATH`.
    fn tune(&mut self, path: &str, ask: &Ask) -> Outcome {
        let lives = match path.strip_prefix("auth/") {
            Some(path) => self.auths.get_mut(path).map(|a| &mut a.lives),
            None => self.mounts.get_mut(path).map(|m| &mut m.lives),
        };
        let Some(lives) = lives else {
            return Outcome::bad(&format!("cannot fetch sysview for path \"{path}\""));
        };
        match ask.verb {
            Verb::Write => {
                lives.tune(ask.duration("default_lease_ttl"), ask.duration("max_lease_ttl"));
                Outcome::Empty
            }
            Verb::Read => Outcome::sys_data(lives.shown()),
            _ => Outcome::unsupported(),
        }
    }

    pub(crate) fn auth_mounts_route(&mut self, tail: &str, ask: &Ask) -> Outcome {
        if let Some(path) = tail.strip_suffix("/tune") {
            return self.tune(&format!("auth/{path}/"), ask);
        }
        let path = format!("{}/", tail.trim_end_matches('/'));
        match ask.verb {
            Verb::Read if tail.is_empty() => {
                let shown: Map<String, Value> = self
                    .auths
                    .iter()
                    .map(|(path, auth)| {
                        let shown = json!({
                            "accessor": auth.accessor, "type": auth.method.type_name(), "uuid": auth.uuid,
                            "description": "", "local": false, "seal_wrap": false,
                        });
                        (path.clone(), shown)
                    })
                    .collect();
                Outcome::sys_data(Value::Object(shown))
            }
            Verb::Write if self.auths.contains_key(&path) => {
                Outcome::bad(&format!("path is already in use at {path}"))
            }
            Verb::Write => match ask.text("type") {
                None => Outcome::bad("backend type must be specified as a string"),
                Some(type_name) => {
                    self.add_auth(tail, type_name);
                    Outcome::Empty
                }
            },
            Verb::Delete => {
                self.auths.remove(&path);
                let prefix = format!("auth/{path}");
                let logins = self.tokens.iter().filter(|(_, t)| t.terms.path.starts_with(&prefix));
                let logins: Vec<String> = logins.map(|(id, _)| id.clone()).collect();
                logins.iter().for_each(|id| self.end_token(id));
                Outcome::Empty
            }
            _ => Outcome::unsupported(),
        }
    }

    /// Tells the version of a KV mount to whoever may do anything below it.
    pub(crate) fn ui_mount(&self, path: &str, caller: &str) -> Outcome {
        let asked = format!("{}/", path.trim_end_matches('/'));
        let refused = || {
            let text = format!(
                "preflight capability check returned 403, please ensure client's policies grant access to path \"{asked}\""
            );
            Outcome::fail(403, &[&text])
        };
        let Some((mount_path, mount)) = self.mounts.iter().find(|(m, _)| asked.starts_with(m.as_str()))
        else {
            return refused();
        };
        if !self.reaches_below(caller, mount_path) {
            return refused();
        }
        let mut shown = mount.shown();
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("path".into(), json!(mount_path));
        }
        Outcome::data(shown)
    }
}

impl Mount {
    fn config(&self) -> Value {
        json!({
            "default_lease_ttl": self.lives.default_ttl.map_or(0, |d| d.as_secs()),
            "force_no_cache": false,
            "max_lease_ttl": self.lives.max_ttl.map_or(0, |d| d.as_secs()),
        })
    }

    fn shown(&self) -> Value {
        let options = match self.kind {
            Kind::KvV1 => json!({ "version": "1" }),
            Kind::KvV2 => json!({ "version": "2" }),
            _ => Value::Null,
        };
        json!({
            "accessor": self.accessor,
            "config": self.config(),
            "deprecation_status": "supported",
            "description": "",
            "external_entropy_access": false,
            "local": false,
            "options": options,
            "plugin_version": "",
            "running_plugin_version": "",
            "running_sha256": "",
            "seal_wrap": false,
            "type": self.kind.type_name(),
            "uuid": self.uuid,
        })
    }
}

fn kind_of(ask: &Ask) -> Result<Kind, Outcome> {
    let version = ask.body.get("options").and_then(|o| o.get("version")).and_then(Value::as_str);
    match ask.text("type") {
        Some("kv") if version == Some("2") => Ok(Kind::KvV2),
        Some("kv") => Ok(Kind::KvV1),
        Some("kv-v2") => Ok(Kind::KvV2),
        Some("database") => Ok(Kind::Database),
        Some("pki") => Ok(Kind::Pki),
        None => Err(Outcome::bad("backend type must be specified as a string")),
        Some(other) => Err(Outcome::bad(&format!("plugin not found in the catalog: {other}"))),
    }
}
