//! `auth/token/*` but for creation: lookup, renewal, revocation, each by the token itself, another token, or an accessor.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Token, TokenType};
use crate::ask::{Ask, Verb};
use crate::outcome::{Outcome, Success};
use crate::state::State;

/// How a request names the token that it is about.
enum Named {
    Itself,
    Token,
    Accessor,
}

impl State {
    pub(crate) fn token_route(&mut self, rest: &str, ask: &Ask, caller: &str) -> Outcome {
        match (ask.verb, rest) {
            (Verb::Read | Verb::Write, "lookup-self") => self.lookup(ask, caller, Named::Itself),
            (Verb::Read | Verb::Write, "lookup") => self.lookup(ask, caller, Named::Token),
            (Verb::Write, "lookup-accessor") => self.lookup(ask, caller, Named::Accessor),
            (Verb::Write, "renew-self") => self.renew(ask, caller, Named::Itself),
            (Verb::Write, "renew") => self.renew(ask, caller, Named::Token),
            (Verb::Write, "renew-accessor") => self.renew(ask, caller, Named::Accessor),
            (Verb::Write, "revoke-self") => self.revoke(ask, caller, Named::Itself),
            (Verb::Write, "revoke") => self.revoke(ask, caller, Named::Token),
            (Verb::Write, "revoke-accessor") => self.revoke(ask, caller, Named::Accessor),
            (Verb::Write, "revoke-orphan") => self.revoke_alone(ask),
            (Verb::Write, "create") => self.create_token(ask, caller, None),
            (Verb::Write, "create-orphan") => self.create_orphan(ask, caller),
            (Verb::List, "accessors/") => {
                let keys: Vec<&str> =
                    self.tokens.values().map(|t| t.accessor.as_str()).filter(|a| !a.is_empty()).collect();
                Outcome::data(json!({ "keys": keys }))
            }
            (verb, rest) => match (verb, rest.strip_prefix("create/"), rest.strip_prefix("roles/")) {
                (Verb::Write, Some(role), _) => self.create_token(ask, caller, Some(role)),
                (_, _, Some(role)) => self.token_role(role, ask),
                _ => Outcome::unsupported_path(),
            },
        }
    }

    fn named_token(
        &self,
        ask: &Ask,
        caller: &str,
        named: &Named,
        unknown: fn() -> Outcome,
    ) -> Result<String, Outcome> {
        match named {
            Named::Itself => Ok(caller.to_string()),
            Named::Token => {
                let id = ask.text("token").map_or_else(|| caller.to_string(), str::to_string);
                if self.tokens.contains_key(&id) { Ok(id) } else { Err(unknown()) }
            }
            Named::Accessor => {
                let accessor = ask
                    .text("accessor")
                    .ok_or_else(|| Outcome::bad("1 error occurred:\n\t* missing accessor\n\n"))?;
                self.token_of_accessor(accessor)
                    .ok_or_else(|| Outcome::bad("1 error occurred:\n\t* invalid accessor\n\n"))
            }
        }
    }

    fn lookup(&mut self, ask: &Ask, caller: &str, named: Named) -> Outcome {
        let id = match self.named_token(ask, caller, &named, || Outcome::fail(403, &["bad token"])) {
            Ok(id) => id,
            Err(refusal) => return refusal,
        };
        let Some(token) = self.tokens.get(&id) else { return Outcome::invalid_token() };
        let shown = if matches!(named, Named::Accessor) { "" } else { id.as_str() };
        Outcome::data(self.token_shown(shown, token))
    }

    fn token_shown(&self, id: &str, token: &Token) -> Value {
        let terms = &token.terms;
        let mut data = json!({
            "accessor": token.accessor,
            "creation_time": self.clock.wall(token.issued).as_second(),
            "creation_ttl": token.creation_ttl.as_secs(),
            "display_name": terms.display_name,
            "entity_id": terms.entity_id,
            "expire_time": token.expires.map(|e| self.clock.rfc3339(e)),
            "explicit_max_ttl": terms.limits.explicit_max.map_or(0, |d| d.as_secs()),
            "id": id,
            "meta": if terms.meta.is_empty() { Value::Null } else { json!(terms.meta) },
            // The last use shows as -1, since 0 would mean without limit.
            "num_uses": if terms.uses > 0 && token.uses_left == 0 { json!(-1) } else { json!(token.uses_left) },
            "orphan": terms.parent.is_none(),
            "path": terms.path,
            "policies": terms.policies,
            "renewable": token.renewable(),
            "issue_time": self.clock.rfc3339(token.issued),
            "ttl": token.left(self.now).as_secs(),
            "type": terms.kind.name(),
        });
        let Some(fields) = data.as_object_mut() else { return data };
        if let Some(renewed) = token.renewed {
            fields.insert("last_renewal".into(), json!(self.clock.rfc3339(renewed)));
            fields.insert("last_renewal_time".into(), json!(self.clock.wall(renewed).as_second()));
        }
        if let Some(period) = terms.limits.period {
            fields.insert("period".into(), json!(period.as_secs()));
        }
        if let (Some(role), true) = (&terms.role, terms.path.starts_with("auth/token/create/")) {
            fields.insert("role".into(), json!(role));
        }
        data
    }

    fn renew(&mut self, ask: &Ask, caller: &str, named: Named) -> Outcome {
        let id = match self.named_token(ask, caller, &named, || Outcome::bad("token not found")) {
            Ok(id) => id,
            Err(refusal) => return refusal,
        };
        let increment = ask.duration("increment");
        match self.renew_token(&id, increment) {
            Ok((auth, warnings)) => Outcome::secret(Success { auth, warnings, ..Success::of(Value::Null) }),
            Err(refusal) => refusal,
        }
    }

    fn renew_token(&mut self, id: &str, asked: Option<Duration>) -> Result<(Value, Vec<String>), Outcome> {
        let (now, cut) = (self.now, self.renewal_cut);
        let age = self.tokens.get(id).map(|t| self.clock.age(t.issued, now)).unwrap_or_default();
        let token = self.tokens.get_mut(id).ok_or_else(Outcome::invalid_token)?;
        if token.terms.kind == TokenType::Batch {
            return Err(Outcome::bad("batch tokens cannot be renewed"));
        }
        if !token.renewable() {
            return Err(Outcome::bad("lease is not renewable"));
        }
        let (mut ttl, warnings) = token.terms.limits.grant(asked, age);
        ttl = cut.map_or(ttl, |c| c.min(ttl));
        token.expires = Some(now + ttl);
        token.renewed = Some(now);
        let token = token.clone();
        Ok((self.auth_shown(id, &token), warnings))
    }

    fn revoke(&mut self, ask: &Ask, caller: &str, named: Named) -> Outcome {
        if matches!(named, Named::Token) && ask.text("token").is_none() {
            return Outcome::bad("missing token ID");
        }
        let id = match self.named_token(ask, caller, &named, || Outcome::Empty) {
            Ok(id) => id,
            // Ending a token that is not there is a success.
            Err(_) if matches!(named, Named::Accessor) && ask.text("accessor").is_some() => {
                let warnings = vec!["No token found with this accessor".to_string()];
                return Outcome::secret(Success { warnings, ..Success::of(Value::Null) });
            }
            Err(refusal) => return refusal,
        };
        if self.tokens.get(&id).is_some_and(|t| t.terms.kind == TokenType::Batch) {
            return Outcome::bad("batch tokens cannot be revoked");
        }
        self.end_token(&id);
        Outcome::Empty
    }

    /// Ends a token; its children live on as orphans.
    fn revoke_alone(&mut self, ask: &Ask) -> Outcome {
        let Some(id) = ask.text("token").map(str::to_string) else { return Outcome::bad("missing token ID") };
        if !self.tokens.contains_key(&id) {
            return Outcome::bad("token to revoke not found");
        }
        for child in self.tokens.values_mut().filter(|t| t.terms.parent.as_deref() == Some(&id)) {
            child.terms.parent = None;
        }
        self.end_token(&id);
        Outcome::Empty
    }
}
