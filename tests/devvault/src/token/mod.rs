//! Tokens: made by logins and by `auth/token/create`, renewed, and revoked together with all that hangs on them.

mod create;
mod route;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) use create::TokenRole;

use crate::state::State;
use crate::ttl::Limits;

/// The two types of token that Vault makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenType {
    /// Stored, renewable, revocable (`hvs.`).
    #[default]
    Service,
    /// Neither renewable nor revocable by itself (`hvb.`).
    Batch,
}

impl TokenType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            TokenType::Service => "service",
            TokenType::Batch => "batch",
        }
    }
}

/// What a token is made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenTerms {
    pub(crate) policies: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) asked_ttl: Option<Duration>,
    pub(crate) uses: u64,
    pub(crate) kind: TokenType,
    pub(crate) fixed: bool,
    pub(crate) display_name: String,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) path: String,
    pub(crate) parent: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) entity_id: String,
    pub(crate) alias: Option<String>,
    pub(crate) wanted_id: Option<String>,
}

/// One live token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) accessor: String,
    pub(crate) terms: TokenTerms,
    pub(crate) issued: Instant,
    pub(crate) creation_ttl: Duration,
    pub(crate) expires: Option<Instant>,
    pub(crate) renewed: Option<Instant>,
    pub(crate) uses_left: u64,
}

impl Token {
    pub(crate) fn is_root(&self) -> bool {
        self.terms.policies.iter().any(|p| p == "root")
    }

    pub(crate) fn renewable(&self) -> bool {
        self.terms.kind == TokenType::Service && !self.terms.fixed && self.expires.is_some()
    }

    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.expires.map_or(Duration::ZERO, |e| e.saturating_duration_since(now))
    }
}

impl State {
    /// Makes a token; gives its id and what was cut from its life.
    pub(crate) fn mint(&mut self, mut terms: TokenTerms) -> (String, Vec<String>) {
        terms.policies.sort();
        terms.policies.dedup();
        let root = terms.policies.iter().any(|p| p == "root");
        let id = match (terms.wanted_id.take(), terms.kind) {
            (Some(id), _) => id,
            (None, TokenType::Service) => self.ids.service_token(),
            (None, TokenType::Batch) => self.ids.batch_token(),
        };
        let endless =
            root && terms.asked_ttl.is_none() && terms.limits.ttl.is_none() && terms.limits.period.is_none();
        let (ttl, warnings) = match endless {
            true => (Duration::ZERO, Vec::new()),
            false => terms.limits.grant(terms.asked_ttl, Duration::ZERO),
        };
        let accessor = match terms.kind {
            TokenType::Service => self.ids.accessor(),
            TokenType::Batch => String::new(),
        };
        let token = Token {
            accessor,
            issued: self.now,
            creation_ttl: ttl,
            expires: (!endless).then(|| self.now + ttl),
            renewed: None,
            uses_left: terms.uses,
            terms,
        };
        self.tokens.insert(id.clone(), token);
        (id, warnings)
    }

    /// Ends a token at once, with its children (orphans excepted) and the leases of all of them.
    pub(crate) fn end_token(&mut self, id: &str) {
        let mut doomed = vec![id.to_string()];
        while let Some(id) = doomed.pop() {
            if self.tokens.remove(&id).is_none() {
                continue;
            }
            self.leases.retain(|_, lease| lease.owner != id);
            let children = self.tokens.iter().filter(|(_, t)| t.terms.parent.as_deref() == Some(&id));
            doomed.extend(children.map(|(id, _)| id.clone()));
        }
    }

    /// Ends what time has ended.
    pub(crate) fn sweep(&mut self) {
        let now = self.now;
        let over: Vec<String> = self
            .tokens
            .iter()
            .filter(|(_, t)| t.expires.is_some_and(|e| e <= now))
            .map(|(id, _)| id.clone())
            .collect();
        over.iter().for_each(|id| self.end_token(id));
        self.leases.retain(|_, lease| lease.expires > now);
        self.wraps.retain(|_, wrap| wrap.expires > now);
    }

    pub(crate) fn token_of_accessor(&self, accessor: &str) -> Option<String> {
        let found = self.tokens.iter().find(|(_, t)| !accessor.is_empty() && t.accessor == accessor);
        found.map(|(id, _)| id.clone())
    }

    /// The `auth` part of an answer.
    pub(crate) fn auth_shown(&self, id: &str, token: &Token) -> Value {
        let mut shown = json!({
            "client_token": id,
            "accessor": token.accessor,
            "policies": token.terms.policies,
            "metadata": if token.terms.meta.is_empty() { Value::Null } else { json!(token.terms.meta) },
            "lease_duration": token.left(self.now).as_secs(),
            "renewable": token.renewable(),
            "entity_id": token.terms.entity_id,
            "token_type": token.terms.kind.name(),
            "orphan": token.terms.parent.is_none(),
            "mfa_requirement": Value::Null,
            "num_uses": token.terms.uses,
        });
        if let (false, Some(fields)) = (token.terms.policies.is_empty(), shown.as_object_mut()) {
            fields.insert("token_policies".into(), json!(token.terms.policies));
        }
        shown
    }
}
