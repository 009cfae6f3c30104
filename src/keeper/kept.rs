//! One value that a task has: what it is, what can be done to it, until when it may be handed out.
//!
//! Does not call Vault: the task does.

use super::{
    Held, Kind, Settings,
    fact::{Act, Fact},
    value::{Content, LeaseTerms, Value},
};
use crate::{
    clock, crypto,
    secret::SecretValue,
    vault::{
        backoff,
        error::{Class, Error},
        limiter::Account,
        renewal::{Due, Term},
        session::Session,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often a static role is looked at, give or take 20 %: Vault says beforehand when it will change it, and is late.
const STATIC_LOOK: Duration = Duration::from_secs(60);

/// What was got from Vault.
pub(super) struct Fresh {
    pub(super) content: Content,
    pub(super) version: Option<u64>,
    pub(super) term: Option<Term>,
    pub(super) handle: Handle,
    pub(super) request_id: Option<String>,
}

/// What can be renewed and revoked.
pub(super) enum Handle {
    None,
    /// Vault changes it by itself, and says when it did: a static role.
    Static,
    Lease(SecretValue),
    Child {
        token: SecretValue,
        /// How long it was asked to live.
        ttl: Duration,
        /// By which its identity may revoke it, if its own policies do not let it do so itself.
        accessor: SecretValue,
    },
}

/// A value, and what its task knows of it.
pub(super) struct Kept {
    pub(super) value: Arc<Value>,
    pub(super) handle: Handle,
    pub(super) term: Option<Term>,
    pub(super) confirmed: Instant,
    pub(super) due: Due,
    pub(super) failures: u32,
}

/// A value that has had its time, and its grace.
pub(super) struct Old {
    pub(super) kept: Kept,
    pub(super) until: Instant,
}

/// Where a new value stands among those of its task.
pub(super) struct Made<'a> {
    pub(super) settings: &'a Settings,
    pub(super) boot: &'a str,
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its number among all values of this start.
    pub(super) tag: u64,
    /// The engine that has it, if Vault said which.
    pub(super) mount: Option<String>,
    /// Its keyed hash, if there is a key.
    pub(super) fingerprint: Option<String>,
    /// The run that made it, if one said so.
    pub(super) rotation: Option<Arc<str>>,
}

impl Kind {
    /// On whose part of the call budget it is revoked.
    pub(super) fn account_at_the_end(&self) -> Account {
        match self {
            // Many processes may end at once: that must not hold up a login.
            Self::Token { per_process: true, .. } => Account::Refresh,
            _ => Account::Upkeep,
        }
    }

    /// Whether a value ends with the token that made it.
    pub(super) fn falls_with_its_token(&self) -> bool {
        matches!(self, Self::Lease { .. } | Self::Token { .. })
    }

    fn place(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Kv { path, field, .. } => (Some(path.clone()), field.clone()),
            Self::Lease { path, .. } | Self::Certificate { path, .. } => (Some(path.clone()), None),
            Self::Token { .. } => (Some("auth/token/create".to_owned()), None),
        }
    }
}

impl Settings {
    /// What is due next for a value that was got or confirmed at `now`.
    pub(super) fn due_after(&self, now: Instant, term: Option<&Term>) -> Due {
        let chance = crypto::chance();
        match (&self.kind, term) {
            (Kind::Kv { refresh, .. }, _) => Due::Replace(now + refresh.mul_f64(0.8 + 0.4 * chance)),
            (Kind::Certificate { renew_at, .. }, Some(term)) => term.end().map_or(Due::Never, |end| {
                Due::Replace(now + end.saturating_duration_since(now).mul_f64(*renew_at))
            }),
            (_, Some(term)) => term.due(self.grace, chance),
            // What has a lease has a term: this one is a static role.
            (Kind::Lease { .. }, None) => Due::Replace(now + STATIC_LOOK.mul_f64(0.8 + 0.4 * chance)),
            (_, None) => Due::Never,
        }
    }
}

impl Fresh {
    /// The value that it becomes; what falls with its token claims it.
    pub(super) fn kept(self, made: Made<'_>, session: &Session, due: Due) -> Kept {
        let Fresh { content, version, term, handle, request_id } = self;
        let kind = &made.settings.kind;
        let (path, field) = kind.place();
        let value = Value {
            name: made.settings.name.clone(),
            kind: kind.word(),
            mount: made.mount,
            path,
            field,
            generation: version.unwrap_or(made.number),
            tag: format!("{}-{}", made.boot, made.tag),
            content,
            issued_at: clock::now(),
            lease: handle.terms(term),
            request_id: request_id.filter(|id| !id.is_empty()),
            fingerprint: made.fingerprint,
            rotation: made.rotation,
            session: (kind.falls_with_its_token() && !matches!(handle, Handle::Static))
                .then(|| session.clone()),
        };
        Kept { value: Arc::new(value), handle, term, confirmed: Instant::now(), due, failures: 0 }
    }
}

impl Handle {
    fn terms(&self, term: Option<Term>) -> Option<LeaseTerms> {
        let id = match self {
            Self::Lease(id) | Self::Child { accessor: id, .. } => id,
            Self::None | Self::Static => return None,
        };
        let id_hash = (!id.is_empty()).then(|| crypto::hex(&crypto::sha256(id.expose().as_bytes())));
        Some(LeaseTerms { id_hash, renewable: term.is_some_and(|term| !term.is_final()) })
    }
}

impl Old {
    /// When it must be renewed to live through its grace; `None`: it does so by itself, or cannot.
    pub(super) fn renewal(&self) -> Option<Instant> {
        match self.kept.due {
            Due::Renew(at) if self.kept.end().is_some_and(|end| end < self.until) => Some(at),
            _ => None,
        }
    }

    /// Takes note of a renewal. What Vault refuses is not asked again: it ends when it ends.
    pub(super) fn renewed(
        &mut self,
        now: Instant,
        result: &Result<(Duration, bool), Error>,
        grace: Duration,
    ) {
        let kept = &mut self.kept;
        kept.due = match result {
            Ok((ttl, renewable)) => {
                kept.failures = 0;
                kept.term = kept.term.map(|term| term.renewed(now, *ttl, *renewable));
                kept.term.map_or(Due::Never, |term| term.due(grace, crypto::chance()))
            }
            Err(error) if matches!(error.class(), Class::Denied | Class::Invalid | Class::Missing) => {
                Due::Never
            }
            Err(error) => {
                kept.failures += 1;
                Due::Renew(now + backoff::wait(error, kept.failures, crypto::chance()))
            }
        };
    }
}

impl Kept {
    /// Takes it out of use: from `now` on it has its grace, and is renewed at once if it would end before that.
    pub(super) fn retire(mut self, now: Instant, grace: Duration) -> Old {
        let final_end = self.term.is_none_or(|term| term.is_final());
        self.due = if final_end { Due::Never } else { Due::Renew(now) };
        self.failures = 0;
        // A password that Vault has changed has no grace.
        let grace = if matches!(self.handle, Handle::Static) { Duration::ZERO } else { grace };
        Old { kept: self, until: now + grace }
    }

    /// Whether reading it again gives the same one, and makes no new one.
    pub(super) fn is_copy(&self, kind: &Kind) -> bool {
        matches!(kind, Kind::Kv { .. }) || matches!(self.handle, Handle::Static)
    }

    /// What is reported of it.
    pub(super) fn fact(&self, act: Act, error: Option<Error>, ttl: Option<Duration>) -> Fact {
        let value = &self.value;
        Fact {
            secret: value.name.clone(),
            kind: value.kind,
            path: value.path.clone(),
            generation: value.generation,
            act,
            error,
            ttl,
            lease_id_hash: value.lease.as_ref().and_then(|lease| lease.id_hash.clone()),
        }
    }

    /// Whether it was made with a token that we revoke, and ends with that.
    pub(super) fn falls_at_exit(&self) -> bool {
        self.value.session.as_ref().is_some_and(Session::falls_at_exit)
    }

    /// When it ends by itself.
    pub(super) fn end(&self) -> Option<Instant> {
        self.term.and_then(|term| term.end())
    }

    /// What is handed out of it: until its lease, its token or `until` ends, and a kv value no longer than `max_stale`.
    pub(super) fn held(&self, kind: &Kind, until: Option<Instant>) -> Held {
        let now = Instant::now();
        let token_end = self.value.session.as_ref().and_then(|session| *session.ends().borrow());
        let end = self.end().into_iter().chain(token_end).chain(until).min();
        let (max_stale, stale_after) = match kind {
            Kind::Kv { refresh, max_stale, .. } => (Some(*max_stale), Some(refresh.mul_f64(1.5))),
            _ => (None, None),
        };
        let wall = |end: Instant| {
            let left = jiff::SignedDuration::try_from(end.saturating_duration_since(now)).unwrap_or_default();
            clock::now().checked_add(left).unwrap_or(clock::Timestamp::MAX)
        };
        Held {
            value: Arc::clone(&self.value),
            confirmed: self.confirmed,
            expires_at: end.map(wall),
            serve_until: end.into_iter().chain(max_stale.map(|stale| self.confirmed + stale)).min(),
            stale_from: stale_after.map(|after| self.confirmed + after),
        }
    }
}
