//! What happened to a request, for the record. Pure.

use super::{Ended, Id, ticket::Ticket};
use crate::name::{ApprovalName, WorkloadName};
use std::sync::Arc;

/// What happened.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Which request.
    pub id: Id,
    /// By which entry of `approvals`.
    pub name: ApprovalName,
    /// Whose request; `None`: a rotation's.
    pub workload: Option<WorkloadName>,
    /// What was signed for, hex.
    pub digest: String,
    /// What is asked.
    pub ticket: Arc<Ticket>,
    /// What happened to it.
    pub act: Act,
}

/// See [`Fact::act`].
#[derive(Debug, Clone)]
pub enum Act {
    /// Persons are asked.
    Requested {
        /// An earlier start of the agent, or another one in the same place, had asked already.
        joined: Joined,
    },
    /// Enough of them said yes.
    Granted(Vec<Said>),
    /// It will not be granted.
    Ended {
        /// Why.
        why: Ended,
        /// Whose vote it is about, and what it says.
        by: Vec<Said>,
        /// Whether the service that was to be told of it ever was; `None`: there was none.
        notified: Option<bool>,
    },
    /// A service was told of it or of its end, or asked: counted, and not on record.
    Called {
        /// Which of the two.
        call: Call,
        /// `ok`, or why there was no answer: a word of a closed set.
        result: &'static str,
    },
    /// One use of a yes is spent.
    Used(Vec<Said>),
    /// The rule that it is about does not hold any more, since this became of its review.
    Disabled(Ended),
    /// The rule that it is about holds again, by the word of these.
    Enabled(Vec<Said>),
}

/// See [`Act::Requested`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It had.
    Earlier,
    /// It is new.
    New,
}

/// See [`Act::Called`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It was told.
    Tell,
    /// It was asked.
    Ask,
    /// It was told what became of the request.
    Report,
}

impl Call {
    /// The word of the metrics and the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tell => "notify",
            Self::Ask => "poll",
            Self::Report => "outcome",
        }
    }
}

/// Who said something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The approver's name in the config.
    pub by: String,
    /// The reason; empty where there is none that was signed.
    pub reason: String,
}
