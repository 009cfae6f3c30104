//! A claim on one login's token, and how an identity stands.
//!
//! Revoking a token ends its children and leases at once (measured on Vault 1.21.1), so an old token lives until the
//! last value that was made with it is dropped: holding a [`Session`] is that claim. Does not log in or renew: that is
//! `keepalive`.

use super::{approle::MadeBy, error::Error, login::Origin};
use crate::{name::IdentityName, secret::SecretValue};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// A claim on one login's token: while any value holds one, the token is renewed and not revoked.
pub struct Session {
    login: Arc<Login>,
}

/// One login's token. Its keeper holds the login itself, which is no claim.
pub(super) struct Login {
    pub(super) token: SecretValue,
    pub(super) accessor: Option<SecretValue>,
    pub(super) number: u64,
    pub(super) origin: Origin,
    pub(super) made_by: Option<MadeBy>,
    pub(super) ends: watch::Sender<Option<Instant>>,
    claims: AtomicU64,
    released: Arc<Notify>,
}

impl Login {
    /// A login whose token ends at `end`; `released` hears when its last claim is dropped.
    pub(super) fn new(
        (token, accessor, made_by): (SecretValue, Option<SecretValue>, Option<MadeBy>),
        number: u64,
        origin: Origin,
        end: Option<Instant>,
        released: Arc<Notify>,
    ) -> Arc<Self> {
        let (ends, claims) = (watch::Sender::new(end), AtomicU64::new(0));
        Arc::new(Self { token, accessor, number, origin, made_by, ends, claims, released })
    }

    /// A claim on it.
    pub(super) fn claim(self: &Arc<Self>) -> Session {
        self.claims.fetch_add(1, Ordering::Relaxed);
        Session { login: Arc::clone(self) }
    }

    /// Whether anybody holds a claim.
    pub(super) fn is_claimed(&self) -> bool {
        self.claims.load(Ordering::Relaxed) > 0
    }

    /// Whether it is ours to revoke, and can be.
    pub(super) fn is_ours(&self) -> bool {
        self.origin == Origin::Login && self.ends.borrow().is_some()
    }
}

/// How an identity stands.
#[derive(Clone, Debug)]
pub enum State {
    /// The first login is not over.
    Starting,
    /// There is a valid token.
    Live(Session),
    /// There is none, and this is why.
    Down(Error),
}

/// What happened, for the audit.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Whose token it is.
    pub identity: IdentityName,
    /// What was done, or tried.
    pub act: Act,
    /// `None`: it worked.
    pub error: Option<Error>,
    /// How long the token lives after it.
    pub ttl: Option<Duration>,
    /// Vault's id of the request.
    pub request_id: Option<String>,
    /// The entity that logged in.
    pub entity_id: Option<String>,
    /// The role that was logged in to.
    pub role: Option<String>,
    /// The address that answered.
    pub address: Option<String>,
}

/// What is done to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Act {
    Login,
    Renew,
    Revoke,
}

/// How the process came to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// For the first time: log in at once.
    Fresh,
    /// After an earlier one of ours: log in after a random part of two seconds.
    Again,
}

/// The others' view of an identity. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    /// How it stands.
    pub state: watch::Receiver<State>,
    /// What may change while it runs.
    pub terms: Arc<Terms>,
    pub(super) doubt: watch::Sender<Doubt>,
}

/// That Vault refused a login's token, and how often somebody has said so; and other reasons to log in anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    pub(super) login: u64,
    pub(super) times: u64,
    /// How often somebody has said that there is another credential to log in with.
    pub(super) renewed: u64,
}

/// What may change while an identity runs.
#[derive(Debug)]
pub struct Terms {
    overlap_ms: AtomicU64,
    revoke_on_exit: AtomicBool,
}

impl Terms {
    /// `overlap` is how long an old token must outlive the move to a new one: the longest grace of the secrets that are
    /// made with it.
    #[must_use]
    pub fn new(overlap: Duration, revoke_on_exit: bool) -> Arc<Self> {
        let terms = Self { overlap_ms: AtomicU64::new(0), revoke_on_exit: AtomicBool::new(true) };
        terms.set(overlap, revoke_on_exit);
        Arc::new(terms)
    }

    /// Changes both.
    pub fn set(&self, overlap: Duration, revoke_on_exit: bool) {
        self.overlap_ms.store(u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.revoke_on_exit.store(revoke_on_exit, Ordering::Relaxed);
    }

    pub(super) fn overlap(&self) -> Duration {
        Duration::from_millis(self.overlap_ms.load(Ordering::Relaxed))
    }

    pub(super) fn revokes_on_exit(&self) -> bool {
        self.revoke_on_exit.load(Ordering::Relaxed)
    }
}

impl Session {
    /// Tells one login from the next.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.login.number
    }

    /// When its token ends, as it stands now; grows with each renewal.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<Option<Instant>> {
        self.login.ends.subscribe()
    }

    /// Whether its token is revoked when we stop, and everything made with it falls then.
    #[must_use]
    pub fn falls_at_exit(&self) -> bool {
        self.login.is_ours()
    }

    /// What it was logged in with, where that is a secret id.
    #[must_use]
    pub fn made_by(&self) -> Option<&MadeBy> {
        self.login.made_by.as_ref()
    }

    pub(super) fn token(&self) -> &SecretValue {
        &self.login.token
    }

    /// What names its token without being it; a batch token has none.
    pub(super) fn accessor(&self) -> Option<&SecretValue> {
        self.login.accessor.as_ref()
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        self.login.claim()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.login.claims.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.login.released.notify_one();
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "session {}", self.login.number)
    }
}

impl Identity {
    /// Says that Vault refused `session`'s token: it is looked up once, however many say so, at most every 10 s.
    pub fn doubt(&self, session: &Session) {
        let login = session.number();
        self.doubt.send_modify(|doubt| *doubt = Doubt { login, times: doubt.times + 1, ..*doubt });
    }

    /// Says that its credential is another one now: it logs in anew at once, and moves over. Where that fails, it goes on with the
    /// token that it has.
    pub fn log_in_again(&self) {
        self.doubt.send_modify(|doubt| doubt.renewed += 1);
    }
}
