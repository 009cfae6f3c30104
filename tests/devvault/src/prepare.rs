//! What a test sets up and changes behind claviger's back, without HTTP.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::auth::{AppRole, AssertionRole, Claims, ClientCertificate, Gate, Method, RoleSettings};
use crate::engine::pki::PkiRole;
use crate::engine::{Engine, Kind, Tools};
use crate::outcome::Success;
use crate::policy::{Grants, Policy};
use crate::state::State;
use crate::sys::Standing;
use crate::vault::DevVault;

/// The two ids that an AppRole login shows.
#[derive(Clone)]
pub struct RoleIds {
    /// `role_id`.
    pub role_id: String,
    /// A `secret_id` without limits.
    pub secret_id: String,
}

/// A live token, as a test may look at it.
#[derive(Debug, Clone)]
pub struct TokenView {
    /// Its accessor; empty for a batch token.
    pub accessor: String,
    /// The role that it logged in with.
    pub role: Option<String>,
    /// Its policies, sorted.
    pub policies: Vec<String>,
    /// Where it came from: `auth/approle/login`.
    pub path: String,
    /// The accessor of its parent.
    pub parent: Option<String>,
    /// When it ends, if ever.
    pub expires_at: Option<Instant>,
}

/// A live lease, as a test may look at it.
#[derive(Debug, Clone)]
pub struct LeaseView {
    /// Its id.
    pub id: String,
    /// The accessor of the token that made it.
    pub owner: Option<String>,
    /// When it ends.
    pub expires_at: Instant,
}

/// Mounts and secrets.
impl DevVault {
    /// Mounts an engine, empty, in place of whatever was there.
    pub fn mount(&self, path: &str, kind: Kind) {
        self.state().add_mount(path, kind);
    }

    /// Writes a secret at `MOUNT/PATH` (no `data/`); gives the version (always 1 in version 1).
    /// Nothing happens, and 0 comes back, if no KV engine is mounted there.
    pub fn put_kv(&self, path: &str, fields: &[(&str, &str)]) -> u64 {
        let fields: Map<String, Value> =
            fields.iter().map(|(k, v)| (k.to_string(), Value::String(v.to_string()))).collect();
        self.put_kv_json(path, fields)
    }

    /// As [`DevVault::put_kv`], for values that are not text.
    pub fn put_kv_json(&self, path: &str, fields: Map<String, Value>) -> u64 {
        let mut state = self.state();
        state.advance();
        let now = state.now;
        let Some((mount, rest)) = state.mount_path(path) else { return 0 };
        match state.mounts.get_mut(&mount).map(|m| &mut m.engine) {
            Some(Engine::Kv1(kv)) => {
                kv.entries.insert(rest.to_string(), fields);
                1
            }
            Some(Engine::Kv2(kv)) => kv.put(rest, fields, now),
            _ => 0,
        }
    }

    /// A role of a database mount; mounts the engine if it is not there.
    pub fn database_role(&self, mount: &str, role: &str, ttl: Duration, max_ttl: Duration) {
        let mut state = self.state();
        let path = ensure_mount(&mut state, mount, Kind::Database);
        if let Some(Engine::Database(database)) = state.mounts.get_mut(&path).map(|m| &mut m.engine) {
            database.add_role(role, ttl, max_ttl);
        }
    }

    /// A role of a PKI mount that issues for any name; mounts the engine, with a root, if it is not there.
    pub fn pki_role(&self, mount: &str, role: &str, ttl: Duration) {
        let mut state = self.state();
        state.advance();
        let path = ensure_mount(&mut state, mount, Kind::Pki);
        let State { clock, ids, now, mounts, .. } = &mut *state;
        if let Some(Engine::Pki(pki)) = mounts.get_mut(&path).map(|m| &mut m.engine) {
            pki.make_root(&mut Tools { clock, ids, now: *now });
            let settings = PkiRole {
                ttl: Some(ttl),
                max_ttl: None,
                leased: false,
                allow_any_name: true,
                domains: Vec::new(),
            };
            pki.roles.insert(role.to_string(), settings);
        }
    }

    /// A policy: pairs of a path pattern and its capabilities. Replaces one of that name, also for live tokens.
    pub fn policy(&self, name: &str, rules: &[(&str, &[&str])]) {
        let known = |c: &&str| crate::policy::CAPABILITIES.iter().find(|k| *k == c).copied();
        let rules = rules
            .iter()
            .map(|(path, capabilities)| {
                (path.to_string(), Grants(capabilities.iter().filter_map(known).collect()))
            })
            .collect();
        self.state().policies.insert(name.to_string(), Policy { text: String::new(), rules });
    }
}

/// Login roles.
impl DevVault {
    /// An AppRole role with a fresh secret id; enables the method if it is not. Called again it changes the settings.
    pub fn approle(&self, mount: &str, role: &str, settings: RoleSettings) -> RoleIds {
        self.with_approle(mount, |approle, gate| {
            let role = approle.set_role(role, settings, gate);
            RoleIds { role_id: role.role_id.clone(), secret_id: role.add_secret_id(gate) }
        })
        .unwrap_or_else(|| RoleIds { role_id: String::new(), secret_id: String::new() })
    }

    /// One more secret id of a role; `None` if there is no such role.
    pub fn secret_id(&self, mount: &str, role: &str) -> Option<String> {
        self.with_approle(mount, |approle, gate| Some(approle.roles.get_mut(role)?.add_secret_id(gate)))
            .flatten()
    }

    /// A wrapping token around one more secret id, as `POST …/secret-id` with `X-Vault-Wrap-TTL` gives it.
    pub fn wrapped_secret_id(&self, mount: &str, role: &str, ttl: Duration) -> Option<String> {
        let secret_id = self.secret_id(mount, role)?;
        let accessor = self.with_approle(mount, |approle, _| {
            Some(approle.roles.get(role)?.secret_ids.get(&secret_id)?.accessor.clone())
        });
        let path = format!("auth/{}/role/{role}/secret-id", mount.trim_matches('/'));
        let data = serde_json::json!({ "secret_id": secret_id, "secret_id_accessor": accessor.flatten()? });
        Some(self.wrapped(data, &path, ttl))
    }

    /// A wrapping token around any data, with any creation path: a forged one too.
    pub fn wrapped(&self, data: Value, creation_path: &str, ttl: Duration) -> String {
        let mut state = self.state();
        state.advance();
        let success = state.wrap(Success::of(data), creation_path, ttl);
        success.wrap_info.get("token").and_then(Value::as_str).unwrap_or_default().to_string()
    }

    /// Makes every secret id of a role useless.
    pub fn forget_secret_ids(&self, mount: &str, role: &str) {
        self.with_approle(mount, |approle, _| approle.roles.get_mut(role).map(|r| r.secret_ids.clear()));
    }

    /// A Kubernetes role that admits every JWT of [`DevVault::accept_jwt`]; enables the method if it is not.
    pub fn kubernetes(&self, mount: &str, role: &str, settings: RoleSettings) {
        self.assertion_role(mount, "kubernetes", role, settings);
    }

    /// A JWT role that admits every JWT of [`DevVault::accept_jwt`]; enables the method if it is not.
    pub fn jwt(&self, mount: &str, role: &str, settings: RoleSettings) {
        self.assertion_role(mount, "jwt", role, settings);
    }

    /// Takes this JWT for genuine from now on: service account `app` in namespace `default`.
    pub fn accept_jwt(&self, jwt: &str) {
        self.accept_service_account(jwt, "default", "app");
    }

    /// Takes this JWT for genuine from now on, as this service account.
    pub fn accept_service_account(&self, jwt: &str, namespace: &str, service_account: &str) {
        let claims = Claims { namespace: namespace.into(), service_account: service_account.into() };
        self.state().accepted.push((jwt.to_string(), claims));
    }

    /// Takes this JWT for genuine no longer (it expired, or its pod is gone).
    pub fn refuse_jwt(&self, jwt: &str) {
        self.state().accepted.retain(|(j, _)| j != jwt);
    }

    /// A certificate role; enables the method if it is not. See [`DevVault::present_certificate`].
    pub fn cert(&self, mount: &str, role: &str, settings: RoleSettings) {
        let mut state = self.state();
        if let Method::Cert(roles) = &mut state.add_auth(mount, "cert").method {
            roles.insert(role.to_string(), settings);
        }
    }

    /// Says what client certificate the next connections are taken to show.
    pub fn present_certificate(&self, certificate: ClientCertificate) {
        self.state().certificate = certificate;
    }

    fn assertion_role(&self, mount: &str, type_name: &str, role: &str, settings: RoleSettings) {
        let mut state = self.state();
        if let Method::Kubernetes(roles) | Method::Jwt(roles) = &mut state.add_auth(mount, type_name).method {
            roles.roles.insert(role.to_string(), AssertionRole::open(settings));
        }
    }

    fn with_approle<T>(&self, mount: &str, work: impl FnOnce(&mut AppRole, &mut Gate<'_>) -> T) -> Option<T> {
        let mut state = self.state();
        state.advance();
        state.add_auth(mount, "approle");
        let path = format!("{}/", mount.trim_matches('/'));
        let State { ids, now, auths, accepted, certificate, clock, .. } = &mut *state;
        let mut gate = Gate { ids, now: *now, mount: &path, accepted, certificate: *certificate, clock };
        match &mut auths.get_mut(&path)?.method {
            Method::AppRole(approle) => Some(work(approle, &mut gate)),
            _ => None,
        }
    }
}

/// The server's state, and what a test does behind claviger's back.
impl DevVault {
    /// Seals: 503 on everything but `sys/health` and its kind. Tokens and leases stay.
    pub fn seal(&self) {
        self.state().sealed = true;
    }

    /// Unseals.
    pub fn unseal(&self) {
        self.state().sealed = false;
    }

    /// Changes the part that the server plays in its cluster.
    pub fn standing(&self, standing: Standing) {
        self.state().standing = standing;
    }

    /// Makes it a standby that knows the active server's base URL, or none.
    pub fn standby(&self, active: Option<&str>) {
        self.standing(Standing::Standby { active: active.map(str::to_string) });
    }

    /// Shifts the wall clock (`Date` headers, times in bodies), not the lives of tokens and leases.
    pub fn shift_clock(&self, by: SignedDuration) {
        self.state().clock.shift(by);
    }

    /// Cuts every renewal of a token or lease to this, until `None`.
    pub fn truncate_renewals(&self, to: Option<Duration>) {
        self.state().renewal_cut = to;
    }

    /// Revokes a token (named by itself or its accessor), with its children and leases, as an operator would.
    pub fn revoke_behind_back(&self, token_or_accessor: &str) {
        let mut state = self.state();
        let id = state.token_of_accessor(token_or_accessor).unwrap_or_else(|| token_or_accessor.to_string());
        state.end_token(&id);
    }

    /// Revokes every live token of a login role; gives how many there were.
    pub fn revoke_role(&self, role: &str) -> usize {
        let mut state = self.state();
        state.advance();
        let of_role = state.tokens.iter().filter(|(_, t)| t.terms.role.as_deref() == Some(role));
        let ids: Vec<String> = of_role.map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| state.end_token(id));
        ids.len()
    }

    /// Ends a lease as an operator would.
    pub fn revoke_lease(&self, id: &str) {
        self.state().leases.remove(id);
    }

    /// The live tokens but for the root token.
    pub fn tokens(&self) -> Vec<TokenView> {
        let mut state = self.state();
        state.advance();
        let accessor = |id: &String| state.tokens.get(id).map(|t| t.accessor.clone());
        let live = state.tokens.iter().filter(|(_, t)| t.terms.path != "auth/token/root");
        live.map(|(_, token)| TokenView {
            accessor: token.accessor.clone(),
            role: token.terms.role.clone(),
            policies: token.terms.policies.clone(),
            path: token.terms.path.clone(),
            parent: token.terms.parent.as_ref().and_then(accessor),
            expires_at: token.expires,
        })
        .collect()
    }

    /// The live leases.
    pub fn leases(&self) -> Vec<LeaseView> {
        let mut state = self.state();
        state.advance();
        let owner = |id: &String| state.tokens.get(id).map(|t| t.accessor.clone());
        let live = state.leases.iter();
        live.map(|(id, lease)| LeaseView {
            id: id.clone(),
            owner: owner(&lease.owner),
            expires_at: lease.expires,
        })
        .collect()
    }
}

impl std::fmt::Debug for RoleIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleIds").field("role_id", &self.role_id).field("secret_id", &"[redacted]").finish()
    }
}

fn ensure_mount(state: &mut State, mount: &str, kind: Kind) -> String {
    let path = format!("{}/", mount.trim_matches('/'));
    if !state.mounts.contains_key(&path) {
        state.add_mount(mount, kind);
    }
    path
}
