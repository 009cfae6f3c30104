//! What every kind of sink must be able to do: hand over a part of a batch once, and say how that went.
//!
//! Pure. Does not retry, bisect or remember a place: the courier and the runner do.

use super::batch::Item;
use crate::receiver::{Answer, Lost};
use std::{fmt, future::Future, pin::Pin, time::Duration};

/// The way to one receiver.
pub(in crate::audit) trait Outlet: Send {
    /// Hands `items` over once, in order. May be called again with the same items after a failure, and must then not
    /// tear a line of what it handed over before.
    fn send<'a>(&'a mut self, items: &'a [Item]) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

    /// How it wants to be fed.
    fn pace(&self) -> Pace;

    /// Opens anew what may have been moved away.
    fn reopen(&mut self) {}
}

/// How a sink is fed.
#[derive(Debug, Clone, Copy)]
pub(in crate::audit) struct Pace {
    /// Events are gathered for this long, so that a trickle costs few deliveries.
    pub(super) gather: Duration,
    /// Between two savings of the cursor; zero: after each batch.
    pub(super) save: Duration,
    /// How long the rest may take once the sink is asked to end.
    pub(super) drain: Duration,
}

impl Pace {
    /// For a receiver in the network.
    pub(super) const REMOTE: Self =
        Self { gather: Duration::from_secs(1), save: Duration::ZERO, drain: Duration::from_secs(1) };
}

/// How one delivery went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) enum Verdict {
    /// The receiver has all of it.
    Delivered,
    /// The receiver took the request and rejected this many events, without saying which; it must not be asked again.
    Partly(u64),
    /// The receiver will never take these bytes: smaller parts may pass.
    Refused(Code),
    /// It may work another time.
    Failed(Failure),
}

/// Why it may work another time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) struct Failure {
    /// For metrics and events.
    pub(super) code: Code,
    /// For the log; without a secret.
    pub(super) why: String,
    /// When the receiver wants to be asked again.
    pub(super) after: Option<Duration>,
}

impl Verdict {
    /// A failure without an answer.
    pub(super) fn failed(code: &'static str, why: impl fmt::Display) -> Self {
        Self::Failed(Failure { code: Code::Word(code), why: why.to_string(), after: None })
    }
}

impl From<Lost> for Verdict {
    fn from(lost: Lost) -> Self {
        Self::failed(lost.code, lost.why)
    }
}

/// What the status alone says: 400, 413 and 415 are about these bytes, everything else but success about the receiver.
pub(super) fn verdict(answer: &Answer) -> Verdict {
    match answer.status {
        200..=299 => Verdict::Delivered,
        400 | 413 | 415 => Verdict::Refused(Code::Status(answer.status)),
        status => failed(answer, format!("HTTP {status}")),
    }
}

/// The receiver answered that it could not.
pub(super) fn failed(answer: &Answer, why: String) -> Verdict {
    Verdict::Failed(Failure { code: Code::Status(answer.status), why, after: answer.after })
}

/// What went wrong: a status of HTTP, or a word of a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The receiver's HTTP status.
    Status(u16),
    /// `connect`, `timeout`, `tls`, `io`, `credential`, `answer`, `ack`, `partial`.
    Word(&'static str),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Word(word) => f.write_str(word),
        }
    }
}
