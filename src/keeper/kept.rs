//! One value that a task has: what it is, what can be done to it, until when it may be handed out.
//!
//! Does not call Vault: the task does.

use super::{
    Held, Kind, Settings,
    value::{Content, LeaseTerms, Value},
};
use crate::{
    clock, crypto,
    secret::SecretValue,
    vault::{
        renewal::{Due, Term},
        session::Session,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

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
    Lease(SecretValue),
    /// A child token, and how long it was asked to live.
    Child(SecretValue, Duration),
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
}

impl Kind {
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

impl Fresh {
    /// The value that it becomes; what falls with its token claims it.
    pub(super) fn kept(self, made: &Made<'_>, session: &Session, due: Due) -> Kept {
        let Fresh { content, version, term, handle, request_id } = self;
        let kind = &made.settings.kind;
        let (path, field) = kind.place();
        let value = Value {
            name: made.settings.name.clone(),
            kind: kind.word(),
            path,
            field,
            generation: version.unwrap_or(made.number),
            tag: format!("{}-{}", made.boot, made.number),
            content,
            issued_at: clock::now(),
            lease: handle.terms(term),
            request_id: request_id.filter(|id| !id.is_empty()),
            session: kind.falls_with_its_token().then(|| session.clone()),
        };
        Kept { value: Arc::new(value), handle, term, confirmed: Instant::now(), due, failures: 0 }
    }
}

impl Handle {
    fn terms(&self, term: Option<Term>) -> Option<LeaseTerms> {
        let id_hash = match self {
            Self::Lease(id) => Some(crypto::hex(&crypto::sha256(id.expose().as_bytes()))),
            Self::Child(..) => None,
            Self::None => return None,
        };
        Some(LeaseTerms { id_hash, renewable: term.is_some_and(|term| !term.is_final()) })
    }
}

impl Kept {
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
