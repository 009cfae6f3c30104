//! What rotations report. Pure.

use super::{
    kubernetes::Trouble,
    phase::{Orphaned, Phase},
    schedule::Why,
};
use crate::{
    name::{ApprovalName, RotationName},
    vault::error::Class,
};
use std::time::Duration;

/// What happened, for the audit and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Which rotation.
    pub rotation: RotationName,
    /// Its kind.
    pub kind: &'static str,
    /// Where in Vault the secret is.
    pub path: String,
    /// What was done, or not.
    pub act: Act,
    /// How far the run was.
    pub phase: Phase,
    /// Which run; none of a slot without one.
    pub id: Option<String>,
    /// Why a person asked for it, if one did.
    pub reason: Option<String>,
    /// Who did it by a command, as that was told or as its machine knows; `None`: no person did.
    pub by: Option<String>,
    /// Its slot, in local time with its offset.
    pub slot: Option<String>,
    /// The version that consumers read before.
    pub from: Option<u64>,
    /// The version that they read now.
    pub to: Option<u64>,
    /// Counts the holders of the lease; 0 where there is none.
    pub epoch: u64,
    /// Of a promotion: for how long consumers read what the system no longer accepted, as far as this replica saw it.
    pub gap: Option<Duration>,
    /// By whose yes it began, or for want of whose it did not.
    pub yes: Option<Box<Yes>>,
}

/// A yes that a run needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yes {
    /// By which entry of `approvals`.
    pub name: ApprovalName,
    /// Which request; `None`: nobody is asked, it is only on record that somebody would have been.
    pub id: Option<String>,
    /// Who said yes, or no.
    pub by: Vec<String>,
}

/// What was done, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// A run began: its value is in the journal, and nothing else has changed.
    Started,
    /// Another replica's run is gone on with.
    TakenOver,
    /// The target was told.
    Set,
    /// Consumers read the new value.
    Promoted,
    /// The time of both values is over.
    GraceEnded,
    /// The old value is out of use, and a person can have it back.
    Quarantined,
    /// A person had it back.
    Reenabled,
    /// The old value can no longer be had.
    Revoked,
    /// A slot is over without a run.
    Skipped(Why),
    /// A step did not work.
    Failed(Failure),
    /// It waits for a person.
    Orphaned(Orphaned),
    /// Between the changes of runs: the system no longer accepts what consumers read.
    Drifted,
    /// It does again: it was given that once more.
    Repaired,
    /// The phase of the fact is over, after this time. It is measured, and not put on record.
    Passed(Duration),
    /// A person went back to the value before.
    RolledBack,
    /// A person lets no run begin.
    Suspended,
    /// A person lets runs begin again.
    Resumed,
    /// A person has looked at a run that waited for that, and dropped it.
    Unorphaned,
    /// A person wants the system to be given what consumers read.
    Adopted,
}

/// Why a step did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Vault refused, or did not answer.
    Vault(Class),
    /// Somebody else wrote what consumers read: their value stays, and the run ends.
    Conflict,
    /// The system that has the credential did not answer, or not what was expected.
    Target,
    /// It will not have the value.
    Refused,
    /// Vault's record does not say that what it was told was done.
    NotDone,
    /// Workloads have not said that they use the new value.
    Unacked,
    /// It is older than its `max_age`, and suspended.
    OverAge,
    /// The wall clock and Vault's differ too much to begin.
    Clock,
    /// The journal cannot be gone on with.
    Journal,
    /// The Lease of Kubernetes that decides among replicas cannot be had.
    Lease(Trouble),
}
