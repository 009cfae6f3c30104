//! One rule. Pure.

use crate::name::{ApprovalName, RuleName, SecretName};
use std::time::Duration;

/// One rule of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique in its workload; events and refusals name it.
    pub name: RuleName,
    /// The secrets it allows.
    pub secrets: Vec<SecretName>,
    /// A stronger audit mode than the config's own, if the rule asks for one.
    pub audit: Option<AuditMode>,
    /// Its own rate, below the workload's.
    pub requests_per_second: Option<u32>,
    /// Who must say yes before anything is given or done by it.
    pub approval: Option<ApprovalName>,
    /// It is for emergencies: it holds once somebody broke its glass, and not before.
    pub break_glass: Option<Behind>,
}

/// How a rule for emergencies holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// For how long.
    pub window: Duration,
    /// Who must look at each emergency afterwards, if somebody must.
    pub review: Option<Review>,
}

/// Who must look at an emergency afterwards: else the rule disables itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The key in `approvals`.
    pub approval: ApprovalName,
    /// How long they have for it.
    pub within: Duration,
}

/// When a read may be answered, from weakest to strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuditMode {
    /// At once: the event is queued in memory. While the journal cannot be written, the oldest events are dropped, and
    /// how many is on record once it can.
    BestEffort,
    /// After `write(2)`; the journal is synced within 50 ms.
    Buffered,
    /// After the event is synced to disk.
    Strict,
    /// After that, and after a required receiver elsewhere has acknowledged it.
    StrictRemote,
}

impl AuditMode {
    /// The word of the config and the events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BestEffort => "best-effort",
            Self::Buffered => "buffered",
            Self::Strict => "strict",
            Self::StrictRemote => "strict-remote",
        }
    }
}
