//! Who calls Vault: all that the client of an engine knows of whoever uses it.
//!
//! A call is tried once, as ever. Does not log in: that is `keepalive`.

use super::{
    Vault,
    answer::Answer,
    endpoint::Request,
    error::{Class, Error},
    limiter::Account,
    session::{Identity, Session, State},
};
use std::{pin::Pin, time::Duration};

/// Whoever has a token to call with. A trait, so that an agent and a person at a terminal use the same client.
pub trait Caller: Sync {
    /// Makes one call.
    fn call<'a>(&'a self, request: &'a Request) -> Calling<'a>;
}

/// A call on its way; its error is what Vault said, by class.
pub type Calling<'a> = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send + 'a>>;

/// With the token of this one login.
pub struct BySession<'a> {
    /// The way to Vault.
    pub vault: &'a Vault,
    /// Whose token.
    pub session: &'a Session,
    /// On whose account.
    pub account: Account,
}

impl Caller for BySession<'_> {
    fn call<'a>(&'a self, request: &'a Request) -> Calling<'a> {
        Box::pin(self.vault.call(&self.account, self.session, request))
    }
}

/// With the token that an identity has when the call is made; where Vault refuses one, its keeper hears so.
#[derive(Clone)]
pub struct ByIdentity {
    /// The way to Vault.
    pub vault: Vault,
    /// Whose token.
    pub identity: Identity,
    /// On whose account.
    pub account: Account,
    /// The longest that a call may take, at all addresses together; `None`: as long as each address may.
    pub limit: Option<Duration>,
    /// What the calls are for, in errors: `a rotation`.
    pub purpose: &'static str,
}

impl ByIdentity {
    /// The login in use.
    ///
    /// # Errors
    /// There is none: [`Class::Away`] while the first is not over, else why it failed.
    pub fn session(&self) -> Result<Session, Error> {
        match &*self.identity.state.borrow() {
            State::Live(session) => Ok(session.clone()),
            State::Starting => {
                let doing = format!("logging in for {}", self.purpose);
                Err(Error::new(Class::Away, doing, "the login is not over"))
            }
            State::Down(error) => Err(error.clone()),
        }
    }

    /// What `calling` gives, unless it takes longer than it may.
    ///
    /// # Errors
    /// Its own, or [`Class::Away`].
    pub async fn in_time<T>(&self, calling: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Some(limit) = self.limit else { return calling.await };
        tokio::time::timeout(limit, calling).await.unwrap_or_else(|_| {
            let doing = format!("calling Vault for {}", self.purpose);
            Err(Error::new(Class::Away, doing, "the call took longer than it may"))
        })
    }
}

impl Caller for ByIdentity {
    fn call<'a>(&'a self, request: &'a Request) -> Calling<'a> {
        Box::pin(async move {
            let session = self.session()?;
            let answer = self.in_time(self.vault.call(&self.account, &session, request)).await;
            if answer.as_ref().is_err_and(|error| error.class() == Class::Denied) {
                self.identity.doubt(&session);
            }
            answer
        })
    }
}
