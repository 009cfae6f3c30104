//! Leases of dynamic secrets and `sys/leases/*`: renewed and revoked by id, and gone with the token that made them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ask::{Ask, Verb};
use crate::outcome::{LeaseShown, LeaseTerms, Outcome, Success};
use crate::state::State;
use crate::token::TokenType;
use crate::ttl::Limits;

/// One live lease.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// The token that made it; the lease ends with it.
    pub(crate) owner: String,
    pub(crate) limits: Limits,
    pub(crate) renewable: bool,
    pub(crate) issued: Instant,
    pub(crate) renewed: Option<Instant>,
    pub(crate) expires: Instant,
}

impl State {
    /// Makes the lease that an engine asked for.
    pub(crate) fn open_lease(&mut self, path: &str, owner: &str, terms: LeaseTerms) -> LeaseShown {
        let limits = Limits { ttl: Some(terms.ttl), max_ttl: Some(terms.max_ttl), ..Limits::default() };
        let (mut ttl, _) = limits.grant(None, Duration::ZERO);
        let batch = self.tokens.get(owner).filter(|t| t.terms.kind == TokenType::Batch);
        if let Some(token) = batch {
            ttl = ttl.min(token.left(self.now));
        }
        let id = format!("{}/{}", terms.path.as_deref().unwrap_or(path), self.ids.accessor());
        let lease = Lease {
            owner: owner.to_string(),
            limits,
            renewable: terms.renewable,
            issued: self.now,
            renewed: None,
            expires: self.now + ttl,
        };
        self.leases.insert(id.clone(), lease);
        LeaseShown { id, ttl, renewable: terms.renewable }
    }

    /// `sys/leases/*` and the old `sys/renew`, `sys/revoke`; `rest` starts after `sys/`.
    pub(crate) fn lease_route(&mut self, rest: &str, ask: &Ask) -> Outcome {
        let rest = rest.strip_prefix("leases/").unwrap_or(rest);
        let (word, tail) = rest.split_once('/').unwrap_or((rest, ""));
        let id = ask.text("lease_id").unwrap_or(tail).to_string();
        match (ask.verb, word) {
            (Verb::Write, "renew") => self.renew_lease(&id, ask.duration("increment")),
            (Verb::Write, "revoke") if id.is_empty() => Outcome::bad("lease_id must be specified"),
            (Verb::Write, "revoke") => {
                self.leases.remove(&id);
                Outcome::Empty
            }
            (Verb::Write, "revoke-prefix" | "revoke-force") => {
                self.revoke_prefix(tail);
                Outcome::Empty
            }
            (Verb::Write, "lookup") => self.lookup_lease(&id),
            (Verb::List, "lookup") => self.list_leases(tail),
            _ => Outcome::unsupported_path(),
        }
    }

    fn revoke_prefix(&mut self, prefix: &str) {
        self.leases.retain(|id, _| !id.starts_with(prefix));
        let logins: Vec<String> = self
            .tokens
            .iter()
            .filter(|(_, t)| t.terms.path.starts_with(prefix))
            .map(|(id, _)| id.clone())
            .collect();
        logins.iter().for_each(|id| self.end_token(id));
    }

    fn renew_lease(&mut self, id: &str, asked: Option<Duration>) -> Outcome {
        if id.is_empty() {
            return Outcome::bad("lease_id must be specified");
        }
        let (now, cut) = (self.now, self.renewal_cut);
        let age = self.leases.get(id).map(|l| self.clock.age(l.issued, now)).unwrap_or_default();
        let Some(lease) = self.leases.get_mut(id) else { return Outcome::bad("lease not found") };
        if !lease.renewable {
            return Outcome::bad("lease is not renewable");
        }
        let (mut ttl, warnings) = lease.limits.grant(asked, age);
        ttl = cut.map_or(ttl, |c| c.min(ttl));
        lease.expires = now + ttl;
        lease.renewed = Some(now);
        let shown = LeaseShown { id: id.to_string(), ttl, renewable: true };
        Outcome::secret(Success { lease: Some(shown), warnings, ..Success::of(Value::Null) })
    }

    fn lookup_lease(&self, id: &str) -> Outcome {
        let Some(lease) = self.leases.get(id) else { return Outcome::bad("invalid lease") };
        Outcome::data(json!({
            "id": id,
            "issue_time": self.clock.rfc3339(lease.issued),
            "expire_time": self.clock.rfc3339(lease.expires),
            "last_renewal": lease.renewed.map(|r| self.clock.rfc3339(r)),
            "renewable": lease.renewable,
            "ttl": lease.expires.saturating_duration_since(self.now).as_secs(),
        }))
    }

    fn list_leases(&self, prefix: &str) -> Outcome {
        let keys = children(self.leases.keys().map(String::as_str), prefix);
        if keys.is_empty() { Outcome::absent() } else { Outcome::data(json!({ "keys": keys })) }
    }
}

/// The next segments below a prefix, folders with their slash, sorted.
pub(crate) fn children<'a>(paths: impl Iterator<Item = &'a str>, prefix: &str) -> Vec<String> {
    let mut keys: Vec<String> = paths
        .filter_map(|p| p.strip_prefix(prefix))
        .filter(|rest| !rest.is_empty())
        .map(|rest| rest.split_once('/').map_or(rest.to_string(), |(folder, _)| format!("{folder}/")))
        .collect();
    keys.sort();
    keys.dedup();
    keys
}
