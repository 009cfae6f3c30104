//! What a peer asks for, as typed values: never raw text of the request.
//!
//! Pure. Says nothing about whether it may be had.

use super::{forward::Target, pattern::Malformed};
use crate::{name::SecretName, upload::Upload};
use bytes::Bytes;
use http::HeaderMap;
use std::{fmt, time::Duration};

/// What a peer asks for.
#[derive(Debug)]
pub enum Wish {
    /// What it may read.
    List,
    /// One secret.
    Secret {
        /// Which; `None` stands for a name that no secret can have, and is answered like one that no rule names.
        name: Option<SecretName>,
        /// What to do with it.
        act: Act,
    },
    /// Something of Vault's own API.
    Vault(Box<Call>),
}

/// A request in Vault's own API.
pub struct Call {
    /// What is to be done, or why that is not clear.
    pub target: Result<Target, Malformed>,
    /// What was asked for, as far as an event may show it.
    pub shown: String,
    /// Encoded anew, without its `?` and without `list`.
    pub query: Option<String>,
    /// HEAD instead of GET.
    pub head_only: bool,
    /// For how long the answer is asked to be wrapped, if it is; where that is not clear, for longer than any rule allows.
    pub wrapped: Option<Duration>,
    /// Those that may go on.
    pub headers: HeaderMap,
    /// Empty for none.
    pub body: Bytes,
    /// It, where it is longer than what is held of one.
    pub upload: Option<Upload>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// What a peer asks to do with a secret.
#[derive(Debug)]
pub enum Act {
    /// To have its value.
    Read(Read),
    /// To say that it uses this generation; `None` is the newest.
    Ack(Option<u64>),
}

/// How a value is asked for.
#[derive(Debug, Default)]
pub struct Read {
    /// How it is to be rendered.
    pub form: Form,
    /// Tags that the client has: a value with one of these is not sent again (RFC 9110 section 13.1.2).
    pub known: Vec<String>,
    /// Wait up to this long for a value whose tag is not `since`; without it, for the first value.
    pub wait: Option<Duration>,
    /// See `wait`.
    pub since: Option<String>,
}

/// How a value is to be rendered: not every value can be rendered each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// JSON, with what is known of it.
    #[default]
    Json,
    /// The same, with the value before it while both are valid.
    JsonWithPrevious,
    /// The bare value, of a secret that has one.
    Plain,
}
