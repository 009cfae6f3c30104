//! The system whose credential is rotated: told to take a new value, and asked whether it takes one. Its drivers are `exec`, `http`
//! and `vault`.
//!
//! Does not decide when it is told or asked: `phase` does. A reply that did not come is never taken for a refusal.

pub mod exec;
pub mod http;
pub mod outside;
pub mod provider;
pub mod template;
pub mod vault;

use crate::{name::RotationName, secret::SecretValue};
use exec::Exec;
use http::Http;
use provider::Provider;
use std::{fmt, future::Future, pin::Pin, time::Duration};
use vault::Writes;

/// A system, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum System {
    /// A program that is run outside of the sandbox.
    Exec(Exec),
    /// An API, called through one of the config's upstreams.
    Http(Box<Http>),
    /// A path in Vault that is written to.
    Vault(Box<Writes>),
    /// What mints keys; here only to try one.
    Provider(Box<Provider>),
}

/// What is wanted of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// From now on the user's credential is this value. Doing it twice is doing it once.
    Set,
    /// Whether the user can log in with this value. Changes nothing.
    Test,
    /// The user's credential is out of use: disable the user, or set the value, which nobody keeps.
    Revoke,
}

impl Act {
    /// The word of the driver's input and of the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Test => "test",
            Self::Revoke => "revoke",
        }
    }
}

/// One thing that is wanted of a system.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// What.
    pub act: Act,
    /// Of which rotation.
    pub rotation: &'a RotationName,
    /// Of which run.
    pub id: &'a str,
    /// Whose credential.
    pub user: &'a str,
    /// The value.
    pub value: &'a SecretValue,
    /// When it must be over, counted from when the machine booted.
    pub until: Duration,
}

impl fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { act, rotation, user, .. } = self;
        write!(f, "{} {user} of {rotation}", act.word())
    }
}

/// What a system said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It did, or: yes.
    Done,
    /// It will not have the value, and is as it was; or: the login is refused.
    Refused,
}

/// It said neither: what is true of it is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("telling the system to {act}: {said}")]
pub struct Unknown {
    /// What was wanted, by its word.
    pub act: &'static str,
    /// What came instead of an answer. Holds no value of ours.
    pub said: String,
}

impl Unknown {
    /// Of `order`.
    #[must_use]
    pub fn of(order: &Order<'_>, said: impl Into<String>) -> Self {
        Self { act: order.act.word(), said: said.into() }
    }
}

/// What a call of a provider comes to.
pub type Provided<'a> = Pin<Box<dyn Future<Output = Result<provider::Reply, Unknown>> + Send + 'a>>;

/// What an order comes to.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<Said, Unknown>> + Send + 'a>>;

/// The way to systems that are not reached through Vault. A trait, so that tests can be the system.
pub trait Ask: Send + Sync {
    /// Has `system` do what `order` says; its answer comes by the order's end, or is [`Unknown`].
    fn ask<'a>(&'a self, system: &'a System, order: Order<'a>) -> Answered<'a>;

    /// Calls the `provider` for a run, which is over by the order's end, or [`Unknown`].
    fn provide<'a>(
        &'a self,
        provider: &'a Provider,
        run: Order<'a>,
        call: provider::Call<'a>,
    ) -> Provided<'a>;
}
