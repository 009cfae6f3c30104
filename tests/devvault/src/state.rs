//! The whole server as one value behind a lock, and the way of one request through it: parse, state of the server,
//! quota, token, policy, route, lease or login, wrapping, envelope. No waiting happens here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use tokio::time::Instant;

use crate::ask::{Ask, Verb};
use crate::auth::{Claims, ClientCertificate, Gate};
use crate::clock::Clock;
use crate::engine::Tools;
use crate::ids::Ids;
use crate::lease::Lease;
use crate::outcome::{Outcome, Success, envelope, error_body, json_response};
use crate::policy::{self, Grants, Policy};
use crate::sys::group::Groups;
use crate::sys::wrapping::Wrap;
use crate::sys::{AuthMount, Mount, Quotas, Standing};
use crate::token::{Token, TokenRole};

/// Everything the server knows.
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) now: Instant,
    pub(crate) sealed: bool,
    pub(crate) standing: Standing,
    pub(crate) policies: BTreeMap<String, Policy>,
    pub(crate) tokens: BTreeMap<String, Token>,
    pub(crate) token_roles: BTreeMap<String, TokenRole>,
    pub(crate) leases: BTreeMap<String, Lease>,
    pub(crate) mounts: BTreeMap<String, Mount>,
    pub(crate) auths: BTreeMap<String, AuthMount>,
    pub(crate) wraps: HashMap<String, Wrap>,
    pub(crate) groups: Groups,
    pub(crate) quotas: Quotas,
    pub(crate) entities: BTreeMap<String, String>,
    pub(crate) accepted: Vec<(String, Claims)>,
    pub(crate) certificate: ClientCertificate,
    pub(crate) renewal_cut: Option<Duration>,
    /// Headers for the answer being made.
    extra: Vec<(&'static str, String)>,
}

impl State {
    pub(crate) fn new(seed: u64) -> State {
        let mut policies = BTreeMap::new();
        if let Ok(default) = policy::parse(policy::DEFAULT) {
            policies.insert("default".to_string(), default);
        }
        State {
            clock: Clock::new(),
            ids: Ids::seeded(seed),
            now: Instant::now(),
            sealed: false,
            standing: Standing::Active,
            policies,
            tokens: BTreeMap::new(),
            token_roles: BTreeMap::new(),
            leases: BTreeMap::new(),
            mounts: BTreeMap::new(),
            auths: BTreeMap::new(),
            wraps: HashMap::new(),
            groups: Groups::default(),
            quotas: Quotas::default(),
            entities: BTreeMap::new(),
            accepted: Vec::new(),
            certificate: ClientCertificate::default(),
            renewal_cut: None,
            extra: Vec::new(),
        }
    }

    /// Takes the time of this moment and ends what it has ended.
    pub(crate) fn advance(&mut self) {
        self.now = Instant::now();
        self.sweep();
    }

    /// Answers one request.
    pub(crate) fn answer(&mut self, request: &Request<Bytes>) -> Response<Bytes> {
        self.advance();
        self.extra = Vec::new();
        let target = request.uri().path_and_query().map_or("", |p| p.as_str());
        let mut response = match Ask::parse(request) {
            Err(refusal) => self.rendered(refusal, ""),
            Ok(ask) => {
                let outcome = self.decided(&ask, target);
                let mount_type = self.mount_type(&ask.path);
                self.rendered(outcome, &mount_type)
            }
        };
        for (name, value) in std::mem::take(&mut self.extra) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        if let Ok(date) = HeaderValue::from_str(&self.clock.http_date(self.now)) {
            response.headers_mut().insert("date", date);
        }
        response
    }

    fn decided(&mut self, ask: &Ask, target: &str) -> Outcome {
        if let Some(rest) = ask.path.strip_prefix("sys/")
            && let Some(outcome) = self.open_sys_route(rest, ask)
        {
            return outcome;
        }
        if let Some(outcome) = self.away(target) {
            return outcome;
        }
        let (limited, headers) = self.quotas.count(&ask.path, self.now);
        self.extra = headers;
        if let Some(outcome) = limited {
            return outcome;
        }
        if let Some((mount, "login")) = self.auth_path(&ask.path)
            && ask.verb == Verb::Write
        {
            let outcome = self.login(&mount, ask);
            return self.finished(outcome, ask, "");
        }
        if let Some(outcome) = self.by_wrapping_token(ask) {
            return outcome;
        }
        let caller = match self.caller(ask) {
            Ok(caller) => caller,
            Err(refusal) => return refusal,
        };
        if let Some(outcome) = self.guarded(ask, &caller) {
            return outcome;
        }
        let last_use = self.spend(&caller);
        let outcome = self.routed(ask, &caller);
        let outcome = self.finished(outcome, ask, &caller);
        if last_use {
            self.end_token(&caller);
        }
        outcome
    }

    /// The token that a request may act with, after its policies were asked.
    fn caller(&mut self, ask: &Ask) -> Result<String, Outcome> {
        let own = ask.token.clone().unwrap_or_default();
        match ask.path.as_str() {
            "sys/wrapping/lookup" => return Ok(own),
            "sys/wrapping/unwrap" | "sys/wrapping/rewrap" => {
                let wrapped = ask.text("token").unwrap_or(&own);
                if !self.wraps.contains_key(wrapped) {
                    return Err(Outcome::bad("wrapping token is not valid or does not exist"));
                }
                if wrapped == own {
                    return Ok(own);
                }
            }
            _ => {}
        }
        if own.is_empty() {
            return Err(Outcome::denied());
        }
        if self.wraps.remove(&own).is_some() {
            // A wrapping token has one use, and this was it.
            return Err(Outcome::not_allowed());
        }
        let token = self.tokens.get(&own).ok_or_else(Outcome::invalid_token)?;
        if token.is_root() || ask.path.starts_with("sys/internal/ui/mounts/") {
            return Ok(own);
        }
        let grants = self.grants(&own, &ask.path);
        if self.wanted(ask).iter().all(|c| grants.has(c)) { Ok(own) } else { Err(Outcome::not_allowed()) }
    }

    /// The capabilities that a request needs.
    fn wanted(&self, ask: &Ask) -> Vec<&'static str> {
        let capability = match ask.verb {
            Verb::Read => "read",
            Verb::List => "list",
            Verb::Delete => "delete",
            Verb::Patch => "patch",
            Verb::Write => {
                match self.mount_path(&ask.path).and_then(|(m, rest)| Some((self.mounts.get(&m)?, rest))) {
                    Some((mount, rest)) if !mount.engine.has(rest) => "create",
                    _ => "update",
                }
            }
        };
        let guarded =
            ["sys/seal", "auth/token/accessors/", "auth/token/create-orphan", "auth/token/revoke-orphan"];
        let areas =
            ["sys/leases/revoke-prefix/", "sys/leases/revoke-force/", "sys/leases/lookup/", "sys/auth/"];
        let sudo = guarded.contains(&ask.path.as_str()) || areas.iter().any(|a| ask.path.starts_with(a));
        if sudo { vec![capability, "sudo"] } else { vec![capability] }
    }

    /// What a token's policies together give on a path.
    pub(crate) fn grants(&self, token: &str, path: &str) -> Grants {
        let names = self.tokens.get(token).map(|t| t.terms.policies.as_slice()).unwrap_or_default();
        policy::grants(names.iter().filter_map(|n| self.policies.get(n)).flat_map(|p| p.rules.iter()), path)
    }

    pub(crate) fn sudo(&self, token: &str, path: &str) -> bool {
        self.tokens.get(token).is_some_and(Token::is_root) || self.grants(token, path).has("sudo")
    }

    /// Whether a token may do anything at all at or below a path.
    pub(crate) fn reaches_below(&self, token: &str, path: &str) -> bool {
        let Some(token) = self.tokens.get(token) else { return false };
        let rules =
            token.terms.policies.iter().filter_map(|n| self.policies.get(n)).flat_map(|p| p.rules.iter());
        let touches = |pattern: &str| {
            let fixed = pattern.split(['+', '*']).next().unwrap_or_default();
            pattern.starts_with(path) || (fixed.len() < pattern.len() && path.starts_with(fixed))
        };
        token.is_root()
            || rules.into_iter().any(|(p, g)| touches(p) && !g.0.is_empty() && !g.0.contains(&"deny"))
    }

    /// Counts one use; true if it was the last.
    fn spend(&mut self, caller: &str) -> bool {
        match self.tokens.get_mut(caller) {
            Some(token) if token.uses_left > 0 => {
                token.uses_left -= 1;
                token.uses_left == 0
            }
            _ => false,
        }
    }

    pub(crate) fn routed(&mut self, ask: &Ask, caller: &str) -> Outcome {
        if let Some(rest) = ask.path.strip_prefix("sys/") {
            return self.sys_route(rest, ask, caller);
        }
        if let Some(rest) = ask.path.strip_prefix("auth/token/") {
            return self.token_route(rest, ask, caller);
        }
        let (clock, ids, now) = (&self.clock, &mut self.ids, self.now);
        if let Some((path, rest)) = mount_of(&self.auths, ask.path.strip_prefix("auth/").unwrap_or_default())
        {
            let Some(auth) = self.auths.get_mut(&path) else { return Outcome::absent() };
            let (accepted, certificate) = (&self.accepted, self.certificate);
            let mut gate = Gate { ids, now, mount: &path, accepted, certificate, clock };
            return auth.method.answer(rest, ask, &mut gate);
        }
        match mount_of(&self.mounts, &ask.path).and_then(|(m, rest)| Some((self.mounts.get_mut(&m)?, rest))) {
            None => Outcome::no_route(&ask.path),
            Some((mount, rest)) => mount.engine.answer(rest, ask, &mut Tools { clock, ids, now }),
        }
    }

    fn login(&mut self, mount: &str, ask: &Ask) -> Outcome {
        let Some(auth) = self.auths.get_mut(mount) else { return Outcome::denied() };
        let mut gate = Gate {
            ids: &mut self.ids,
            now: self.now,
            mount,
            accepted: &self.accepted,
            certificate: self.certificate,
            clock: &self.clock,
        };
        let lives = auth.lives;
        let mut outcome = auth.method.login(ask, &mut gate);
        if let Outcome::Login(terms) = &mut outcome {
            let limits = &mut terms.limits;
            limits.ttl = limits.ttl.or(lives.default_ttl);
            limits.max_ttl = limits.max_ttl.into_iter().chain(lives.max_ttl).min();
        }
        outcome
    }

    /// Makes the lease or token that an outcome asks for, and wraps what is to be wrapped.
    pub(crate) fn finished(&mut self, outcome: Outcome, ask: &Ask, caller: &str) -> Outcome {
        let success = match outcome {
            Outcome::Secret(success) => *success,
            Outcome::Leased(success, mut terms) => {
                if let Some(mount) = self.mount_path(&ask.path).and_then(|(m, _)| self.mounts.get(&m))
                    && let Some(cap) = mount.lives.max_ttl
                {
                    terms.max_ttl = terms.max_ttl.min(cap);
                    terms.ttl = terms.ttl.min(cap);
                }
                let lease = self.open_lease(&ask.path, caller, terms);
                Success { lease: Some(lease), ..*success }
            }
            Outcome::Login(mut terms) => {
                terms.entity_id = self.entity(terms.alias.as_deref().unwrap_or_default());
                let (id, warnings) = self.mint(*terms);
                let auth = self.tokens.get(&id).map(|t| self.auth_shown(&id, t)).unwrap_or_default();
                Success { auth, warnings, ..Success::of(serde_json::Value::Null) }
            }
            other => return other,
        };
        match ask.wrap_ttl {
            Some(ttl) if success.status == 200 && success.wrap_info.is_null() => {
                Outcome::secret(self.wrap(success, &ask.path, ttl))
            }
            _ => Outcome::secret(success),
        }
    }

    fn entity(&mut self, alias: &str) -> String {
        if let Some(known) = self.entities.get(alias) {
            return known.clone();
        }
        let id = self.ids.uuid();
        self.entities.insert(alias.to_string(), id.clone());
        id
    }

    fn rendered(&mut self, outcome: Outcome, mount_type: &str) -> Response<Bytes> {
        match outcome {
            Outcome::Empty => json_response(204, None),
            Outcome::Secret(success) | Outcome::Leased(success, _) => {
                let body = envelope(&success, &self.ids.uuid(), mount_type);
                json_response(success.status, Some(&body))
            }
            Outcome::Login(..) => json_response(500, Some(&error_body(&[]))),
            Outcome::Bare(status) => json_response(status, None),
            Outcome::Plain(status, body) => json_response(status, Some(&body)),
            Outcome::Fail(status, errors, headers) => {
                let body = error_body(&errors);
                let mut response = json_response(status, (status != 307).then_some(&body));
                for (name, value) in headers {
                    if let Ok(value) = HeaderValue::from_str(&value) {
                        response.headers_mut().insert(name, value);
                    }
                }
                response
            }
        }
    }

    fn mount_type(&self, path: &str) -> String {
        // Paths that need no token say nothing here.
        let open = ["sys/wrapping/", "sys/internal/ui/mounts"];
        if open.iter().any(|o| path.starts_with(o)) || (path.starts_with("auth/") && path.ends_with("/login"))
        {
            return String::new();
        }
        if path.starts_with("sys/") {
            return "system".into();
        }
        match path.strip_prefix("auth/") {
            Some(rest) if rest.starts_with("token/") => "token".into(),
            Some(rest) => mount_of(&self.auths, rest)
                .and_then(|(m, _)| self.auths.get(&m))
                .map_or(String::new(), |a| a.method.type_name().to_string()),
            None => self
                .mount_path(path)
                .and_then(|(m, _)| self.mounts.get(&m))
                .map_or(String::new(), |m| m.kind.type_name().to_string()),
        }
    }

    pub(crate) fn mount_path<'a>(&self, path: &'a str) -> Option<(String, &'a str)> {
        mount_of(&self.mounts, path)
    }

    fn auth_path<'a>(&self, path: &'a str) -> Option<(String, &'a str)> {
        mount_of(&self.auths, path.strip_prefix("auth/")?)
    }
}

/// The mount that a path lies under, and the rest of the path.
fn mount_of<'a, T>(mounts: &BTreeMap<String, T>, path: &'a str) -> Option<(String, &'a str)> {
    mounts.keys().find_map(|mount| Some((mount.clone(), path.strip_prefix(mount.as_str())?)))
}
