//! Asks Vault what an identity's token is and may do: its look-up, its policies, single paths, and what lies beside them.
//!
//! Changes nothing. What Vault refuses to tell is noted, and is no failure.

use crate::{
    clock::Timestamp,
    name::IdentityName,
    report::{
        acl::{Acl, Capability},
        granted::{Engine, Granted, Metadata, Role, Token, is_suspect},
        need,
        subject::Subject,
    },
    usage::history::Record,
    vault::{
        Vault,
        endpoint::Request,
        error::{Class, Error},
        limiter::Account,
        login::{self, Method},
        session::Session,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds that a token lives where neither its role nor its engine says (Vault docs: concepts/tokens, "The system max TTL").
const ENGINE_TTL: u64 = 768 * 3600;
/// Paths that are asked about at once.
const AT_ONCE: usize = 100;

/// Somebody who may ask.
pub struct Asker<'a> {
    vault: &'a Vault,
    session: &'a Session,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LookUp {
    policies: Vec<String>,
    identity_policies: Vec<String>,
    creation_ttl: u64,
    explicit_max_ttl: u64,
    period: u64,
    path: String,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resultant {
    root: bool,
    exact_paths: BTreeMap<String, Rule>,
    glob_paths: BTreeMap<String, Rule>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Rule {
    capabilities: Vec<String>,
}

impl<'a> Asker<'a> {
    /// With the token of `session`.
    #[must_use]
    pub fn new(vault: &'a Vault, session: &'a Session) -> Self {
        Self { vault, session }
    }

    /// What the token itself is and may do; `of` is the identity whose it is.
    pub async fn own(&self, of: &IdentityName, subject: &Subject, record: &Record) -> Granted {
        let mut granted = Granted { identity: of.to_string(), ..Granted::default() };
        self.look_up(&mut granted).await;
        self.resultant(&mut granted).await;
        self.engines(subject, &mut granted).await;
        self.values(&mut granted).await;
        self.single(subject, record, &mut granted).await;
        granted
    }

    async fn read<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        let answer = self.vault.call(&Account::Refresh, self.session, request).await?;
        let envelope = answer.envelope()?;
        let data = envelope.data.ok_or_else(|| answer.nonsense("an answer without data"))?;
        serde_json::from_str(data.get()).map_err(|error| answer.nonsense(&error.to_string()))
    }

    /// The same, with the refusal noted.
    async fn ask<T: DeserializeOwned>(&self, path: &str, granted: &mut Granted) -> Option<T> {
        match self.read(&Request::read(path)).await {
            Ok(data) => Some(data),
            Err(error) => {
                granted.refused.push(refusal(path, &error));
                None
            }
        }
    }

    async fn look_up(&self, granted: &mut Granted) {
        let Some(found) = self.ask::<LookUp>("auth/token/lookup-self", granted).await else { return };
        let LookUp { mut policies, identity_policies, creation_ttl, explicit_max_ttl, period, path, meta } =
            found;
        policies.extend(identity_policies);
        granted.token = Some(Token { policies, ttl: creation_ttl, max_ttl: explicit_max_ttl, period });
        let role = meta.and_then(|mut meta| meta.remove("role_name"));
        if let (Some(mount), Some(role)) = (path.strip_suffix("/login"), role) {
            let path = format!("{mount}/role/{role}");
            self.role(&path, granted).await;
            granted.role_path = Some(path);
        }
    }

    /// The settings of a role, where they may be read: few identities may.
    async fn role(&self, path: &str, granted: &mut Granted) {
        #[derive(Deserialize)]
        struct Found {
            secret_id_ttl: Option<u64>,
            secret_id_num_uses: Option<u64>,
            #[serde(default)]
            token_policies: Vec<String>,
            #[serde(default)]
            token_ttl: u64,
            #[serde(default)]
            token_max_ttl: u64,
            #[serde(default)]
            token_period: u64,
        }
        let Ok(found) = self.read::<Found>(&Request::read(path)).await else { return };
        if let (Some(secret_id_ttl), Some(secret_id_uses)) = (found.secret_id_ttl, found.secret_id_num_uses) {
            granted.role = Some(Role { secret_id_ttl, secret_id_uses });
        }
        if granted.token.is_none() {
            let Found { token_policies: policies, token_max_ttl: max_ttl, token_period: period, .. } = found;
            // A role that says nothing gives what the engine gives: 768 hours, if nobody changed that.
            let ttl = [found.token_ttl, period, max_ttl]
                .into_iter()
                .find(|seconds| *seconds > 0)
                .unwrap_or(ENGINE_TTL);
            granted.token = Some(Token { policies, ttl, max_ttl, period });
        }
    }

    async fn resultant(&self, granted: &mut Granted) {
        let path = "sys/internal/ui/resultant-acl";
        let Some(found) = self.ask::<Resultant>(path, granted).await else { return };
        let mut acl = Acl::default();
        acl.root |= found.root;
        for (path, rule) in found.exact_paths {
            acl.grant(&path, capabilities(&rule.capabilities));
        }
        for (path, rule) in found.glob_paths {
            // What Vault calls a glob here is the part before its star.
            let is_whole = path.ends_with('*') || path.split('/').any(|segment| segment == "+");
            let pattern = if is_whole { path } else { format!("{path}*") };
            acl.grant(&pattern, capabilities(&rule.capabilities));
        }
        granted.acl = Some(acl);
    }

    async fn engines(&self, subject: &Subject, granted: &mut Granted) {
        #[derive(Deserialize)]
        struct Mount {
            path: String,
            #[serde(default)]
            options: Option<BTreeMap<String, String>>,
        }
        for path in need::kv_paths(subject, &granted.identity) {
            if let Ok(found) = self.read::<Mount>(&Request::mount_of(&path)).await {
                let version = found.options.and_then(|mut options| options.remove("version"));
                let mount = found.path.trim_end_matches('/').to_owned();
                granted.engines.insert(path, Engine { mount, has_versions: version.as_deref() == Some("2") });
            }
        }
    }

    /// When the newest versions were made; no value is read.
    async fn values(&self, granted: &mut Granted) {
        #[derive(Deserialize)]
        struct Found {
            current_version: u64,
            #[serde(default)]
            versions: BTreeMap<String, Version>,
            #[serde(default)]
            custom_metadata: Option<BTreeMap<String, String>>,
        }
        #[derive(Deserialize)]
        struct Version {
            created_time: Option<Timestamp>,
        }
        let engines: Vec<_> = granted.engines.iter().filter(|(_, engine)| engine.has_versions).collect();
        let mut values = BTreeMap::new();
        for (path, Engine { mount, .. }) in engines {
            let rest = path.strip_prefix(mount).unwrap_or(path).trim_start_matches('/');
            let Ok(request) = Request::kv2_metadata(mount, rest) else { continue };
            if let Ok(found) = self.read::<Found>(&request).await {
                let made =
                    found.versions.get(&found.current_version.to_string()).and_then(|one| one.created_time);
                let custom = found.custom_metadata.unwrap_or_default().into_iter();
                let suspects = custom.filter(|(_, text)| is_suspect(text)).map(|(key, _)| key).collect();
                values.insert(path.clone(), Metadata { version: found.current_version, made, suspects });
            }
        }
        granted.values = values;
    }

    /// What may be done with each path of the config, and beside them.
    async fn single(&self, subject: &Subject, record: &Record, granted: &mut Granted) {
        let (paths, canaries) = need::asked(subject, record, granted);
        let all: Vec<&String> = paths.iter().chain(&canaries).collect();
        for some in all.chunks(AT_ONCE) {
            let request = Request::write("sys/capabilities-self", &json!({"paths": some}));
            match self.read::<BTreeMap<String, Vec<String>>>(&request).await {
                Ok(found) => {
                    let found = found.into_iter().filter(|(path, _)| some.contains(&path));
                    granted.asked.extend(found.map(|(path, words)| (path, capabilities(&words))));
                }
                Err(error) => {
                    granted.refused.push(refusal("sys/capabilities-self", &error));
                    return;
                }
            }
        }
        granted.canaries = canaries.into_iter().collect();
    }

    /// What only a person may read of `login`: its role in Vault, and the texts of its policies. Completes what the identity's own
    /// token told, if it did.
    pub async fn for_another(
        &self,
        granted: Option<Granted>,
        login: &login::Settings,
        subject: &Subject,
    ) -> Option<Granted> {
        let is_own = granted.is_some();
        let mut granted =
            granted.unwrap_or_else(|| Granted { identity: login.name.to_string(), ..Granted::default() });
        let place = match &login.method {
            Method::Kubernetes(jwt) | Method::Jwt(jwt) => {
                Some(format!("auth/{}/role/{}", jwt.mount, jwt.role))
            }
            Method::Cert { mount, role: Some(role) } => Some(format!("auth/{mount}/certs/{role}")),
            _ => granted.role_path.clone(),
        };
        if let Some(path) = place {
            self.role(&path, &mut granted).await;
        } else if !is_own {
            granted
                .refused
                .push("the config does not name its role in Vault: --login asks it for that".to_owned());
        }
        if granted.engines.is_empty() {
            self.engines(subject, &mut granted).await;
        }
        if granted.values.is_empty() {
            self.values(&mut granted).await;
        }
        self.policies(&mut granted).await;
        Some(granted)
    }

    async fn policies(&self, granted: &mut Granted) {
        let Some(token) = granted.token.clone() else { return };
        let mut acl = Acl::default();
        for name in &token.policies {
            #[derive(Deserialize)]
            struct Found {
                policy: String,
            }
            if name == "root" {
                acl.root = true;
                continue;
            }
            let path = format!("sys/policies/acl/{name}");
            let Some(found) = self.ask::<Found>(&path, granted).await else { return };
            if acl.read(&found.policy).is_err() {
                granted.refused.push(format!("the policy {name} is not understood"));
                return;
            }
        }
        granted.acl = Some(acl);
    }
}

fn capabilities(words: &[String]) -> BTreeSet<Capability> {
    if words.iter().any(|word| word == "root") {
        let all = ["create", "read", "update", "patch", "delete", "list", "sudo"];
        return all.into_iter().filter_map(Capability::of).collect();
    }
    words.iter().filter_map(|word| Capability::of(word)).filter(|one| *one != Capability::Deny).collect()
}

fn refusal(path: &str, error: &Error) -> String {
    match error.class() {
        Class::Denied => format!("its token may not read {path}"),
        _ => format!("{path}: {error}"),
    }
}
