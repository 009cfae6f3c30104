//! Login methods: each checks what a login shows and says what token it earns; the token is made elsewhere.

mod approle;
mod assertion;
mod settings;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) use approle::AppRole;
pub(crate) use assertion::{AssertionRole, Assertions, Claims};
pub use settings::RoleSettings;

use crate::ask::Ask;
use crate::clock::Clock;
use crate::ids::Ids;
use crate::outcome::Outcome;
use crate::token::{TokenTerms, TokenType};
use crate::ttl::Limits;

/// Whether the next `cert` logins show a certificate that their role accepts. The double sees no TLS, so a test says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// No certificate came with the connection.
    #[default]
    Missing,
    /// One that no role accepts.
    Refused,
    /// One that every role accepts.
    Accepted,
}

/// One enabled login method.
#[derive(Debug)]
pub(crate) enum Method {
    AppRole(AppRole),
    Kubernetes(Assertions),
    Jwt(Assertions),
    Cert(BTreeMap<String, RoleSettings>),
    /// Enabled, and nothing more: a login there is a missing path.
    Other(String),
}

/// What a login method may use of the server.
pub(crate) struct Gate<'a> {
    pub(crate) ids: &'a mut Ids,
    pub(crate) now: Instant,
    pub(crate) mount: &'a str,
    pub(crate) accepted: &'a [(String, Claims)],
    pub(crate) certificate: ClientCertificate,
    pub(crate) clock: &'a Clock,
}

impl Method {
    pub(crate) fn new(type_name: &str) -> Method {
        match type_name {
            "approle" => Method::AppRole(AppRole::default()),
            "kubernetes" => Method::Kubernetes(Assertions::default()),
            "jwt" => Method::Jwt(Assertions::default()),
            "cert" => Method::Cert(BTreeMap::new()),
            other => Method::Other(other.to_string()),
        }
    }

    pub(crate) fn type_name(&self) -> &str {
        match self {
            Method::AppRole(_) => "approle",
            Method::Kubernetes(_) => "kubernetes",
            Method::Jwt(_) => "jwt",
            Method::Cert(_) => "cert",
            Method::Other(name) => name,
        }
    }

    pub(crate) fn login(&mut self, ask: &Ask, gate: &mut Gate<'_>) -> Outcome {
        match self {
            Method::AppRole(approle) => approle.login(ask, gate),
            Method::Kubernetes(roles) => roles.kubernetes_login(ask, gate),
            Method::Jwt(roles) => roles.jwt_login(ask, gate),
            Method::Cert(roles) => cert_login(roles, ask, gate),
            Method::Other(_) => Outcome::unsupported_path(),
        }
    }

    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask, gate: &mut Gate<'_>) -> Outcome {
        match self {
            Method::AppRole(approle) => approle.answer(rest, ask, gate),
            Method::Kubernetes(roles) | Method::Jwt(roles) => roles.answer(rest, ask),
            Method::Cert(roles) => match rest.strip_prefix("certs/") {
                Some(name) => {
                    roles.insert(name.to_string(), RoleSettings::read(ask));
                    Outcome::Empty
                }
                None => Outcome::unsupported_path(),
            },
            Method::Other(_) => Outcome::unsupported_path(),
        }
    }
}

fn cert_login(roles: &BTreeMap<String, RoleSettings>, ask: &Ask, gate: &mut Gate<'_>) -> Outcome {
    let named = ask.text("name").or_else(|| roles.keys().next().map(String::as_str));
    match (gate.certificate, named.and_then(|n| Some((n, roles.get(n)?)))) {
        (ClientCertificate::Missing, _) => Outcome::bad("client certificate must be supplied"),
        (ClientCertificate::Accepted, Some((name, settings))) => {
            let meta = BTreeMap::from([("cert_name".to_string(), name.to_string())]);
            gate.admit(name, settings, name, meta)
        }
        _ => Outcome::bad("invalid certificate or no client certificate supplied"),
    }
}

impl Gate<'_> {
    /// The token that a successful login earns.
    fn admit(
        &self,
        role: &str,
        settings: &RoleSettings,
        alias: &str,
        meta: BTreeMap<String, String>,
    ) -> Outcome {
        let batch = settings.token_type == TokenType::Batch;
        let mut policies = settings.policies.clone();
        if !settings.no_default_policy && !policies.iter().any(|p| p == "default") {
            policies.push("default".into());
        }
        let terms = TokenTerms {
            policies,
            limits: Limits {
                ttl: settings.ttl,
                max_ttl: settings.max_ttl,
                explicit_max: settings.explicit_max_ttl,
                period: settings.period,
            },
            uses: settings.uses,
            kind: settings.token_type,
            fixed: batch || settings.fixed,
            display_name: self.mount.trim_end_matches('/').to_string(),
            meta,
            path: format!("auth/{}login", self.mount),
            role: Some(role.to_string()),
            alias: Some(format!("{}{alias}", self.mount)),
            ..TokenTerms::default()
        };
        Outcome::Login(Box::new(terms))
    }
}

/// A role as `GET …/role/NAME` shows it.
fn role_shown(settings: &RoleSettings) -> Value {
    json!({
        "token_policies": settings.policies,
        "token_ttl": settings.ttl.map_or(0, |d| d.as_secs()),
        "token_max_ttl": settings.max_ttl.map_or(0, |d| d.as_secs()),
        "token_explicit_max_ttl": settings.explicit_max_ttl.map_or(0, |d| d.as_secs()),
        "token_period": settings.period.map_or(0, |d| d.as_secs()),
        "token_num_uses": settings.uses,
        "token_no_default_policy": settings.no_default_policy,
        "token_type": if settings.token_type == TokenType::Batch { "batch" } else { "default" },
        "token_bound_cidrs": [],
    })
}
