//! A person's yes to one permit: a rule that names an approval gives nothing before enough persons have said yes to that very act.
//!
//! `ticket` is what they are asked and sign for; a `webhook` is told of it by the `courier` and may bring what they said; `desk` keeps what was asked and lets a yes be spent; `store` is the place in Vault
//! where both sides meet. Nobody who can write there can say yes: what counts is a signature of a key that the config names. What
//! fails on the way is never a yes.

mod asked;
mod bell;
mod brought;
mod courier;
mod desk;
mod entry;
pub mod fact;
pub mod glass;
pub mod group;
mod hook;
pub mod outcome;
mod request;
pub mod review;
mod shown;
pub mod signed;
pub mod slot;
pub mod ssh;
mod store;
pub mod ticket;
pub mod tidy;
pub mod told;
mod turn;
mod want;
pub mod webhook;

pub use asked::{Asked, Place};
pub use desk::Approvals;
pub use entry::{State, Status};
pub use request::Id;
pub use store::{Folder, TAKEN};
pub use want::{Ended, Want};

use crate::{
    clock::Timestamp,
    name::{ApprovalName, IdentityName, SecretName},
    policy::Permit,
    vault,
};
use signed::Approver;
use std::{sync::Arc, time::Duration};

/// One way to ask persons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The key in `approvals`.
    pub name: ApprovalName,
    /// Whose token reaches the store; `None`: that of the identity that acts.
    pub identity: Option<IdentityName>,
    /// Where requests and votes are.
    pub store: Folder,
    /// Who may say yes; at least `quorum`.
    pub approvers: Vec<Approver>,
    /// Where the approvers' transit keys are.
    pub transit: String,
    /// How many must say yes; at least 1.
    pub quorum: usize,
    /// Entities in Vault whose yes never counts.
    pub exclude: Vec<String>,
    /// How long a request waits for them.
    pub ttl: Duration,
    /// How long a yes may be used.
    pub valid_for: Duration,
    /// How often; at least 1.
    pub uses: u32,
    /// How long a call is held before it is told that nobody has answered yet.
    pub hold: Duration,
    /// How many requests of one workload may wait.
    pub pending_max: usize,
    /// Nobody is asked: it is only on record that somebody would have been.
    pub observe: bool,
    /// Who is told of requests, and may bring votes: kind `webhook`; of kind `control_group` it is told alone.
    pub webhook: Option<webhook::Webhook>,
    /// Vault itself asks, by its control groups: kind `control_group`. Then `approvers` is empty and `quorum` 0: both are in Vault's policy.
    pub group: Option<group::Group>,
}

/// Proof that a permit needed no approval, or has it. Only this module makes one.
#[derive(Debug)]
pub struct Grant<T = SecretName> {
    permit: Permit<T>,
    approved: Approved,
}

/// What made a grant of a permit.
#[derive(Debug, Clone)]
pub enum Approved {
    /// The rule names no approval, or what is done neither gives nor changes anything.
    Unneeded,
    /// The rule's approval only observes: somebody would have been asked.
    Observed(ApprovalName),
    /// Persons said yes, and one use of that is spent.
    Spent(Arc<Spent>),
    /// It is an emergency, and somebody broke the rule's glass.
    Broken(Arc<glass::Broken>),
}

/// One use of a yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// Which request.
    pub id: Id,
    /// By which entry of `approvals`.
    pub name: ApprovalName,
    /// What was signed for, hex.
    pub digest: String,
    /// Who said yes.
    pub by: Vec<String>,
    /// What a request that waits in Vault is done by.
    pub key: Option<group::Key>,
}

/// Why there is no grant.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Persons were asked, and have not answered.
    #[error("request {id} waits for a person's yes")]
    Pending {
        /// Which request.
        id: Id,
        /// By which entry of `approvals`.
        name: ApprovalName,
        /// Until when they may.
        until: Timestamp,
    },
    /// It was asked for, and will not be granted.
    #[error("request {id}: {why}")]
    Ended {
        /// Which request.
        id: Id,
        /// By which entry of `approvals`.
        name: ApprovalName,
        /// Why.
        why: Ended,
    },
    /// It is granted, and the service that may have taken that back does not answer.
    #[error("request {id}: whether the yes still stands cannot be asked")]
    Unreachable {
        /// Which request.
        id: Id,
        /// By which entry of `approvals`.
        name: ApprovalName,
    },
    /// A control group was to ask, and Vault did not: its policy has none there. Nothing of what it answered may be given.
    #[error("Vault has no control group there")]
    Unguarded {
        /// By which entry of `approvals`.
        name: ApprovalName,
    },
    /// As many requests of the workload wait as may.
    #[error("as many requests as may wait are waiting")]
    Crowded,
    /// The approval is not in the config any more: it is being taken over.
    #[error("the approval is not there")]
    Missing,
    /// The store cannot be read or written.
    #[error("asking for a person's yes")]
    Vault(#[source] vault::error::Error),
}

impl<T> Grant<T> {
    /// The permit that was granted.
    #[must_use]
    pub fn permit(&self) -> &Permit<T> {
        &self.permit
    }

    /// What made it one.
    #[must_use]
    pub fn approved(&self) -> &Approved {
        &self.approved
    }
}

impl Grant {
    /// The secret that may be fetched.
    #[must_use]
    pub fn secret(&self) -> &SecretName {
        self.permit.secret()
    }
}

impl<T: PartialEq> Grant<T> {
    /// The same grant for a permit that was decided anew, if it is for the same thing by the same rule.
    ///
    /// # Errors
    /// The permit, which needs a grant of its own.
    pub fn again(self, permit: Permit<T>) -> Result<Self, Permit<T>> {
        let before = &self.permit;
        let same = permit.approval() == before.approval()
            && permit.rule() == before.rule()
            && permit.subject() == before.subject();
        if same { Ok(Self { permit, approved: self.approved }) } else { Err(permit) }
    }
}

/// A grant of a permit whose rule names no approval.
///
/// # Errors
/// The permit, if its rule names one.
pub fn unneeded<T>(permit: Permit<T>) -> Result<Grant<T>, Permit<T>> {
    if permit.approval().is_some() || permit.break_glass().is_some() {
        Err(permit)
    } else {
        Ok(waive(permit))
    }
}

/// A grant for what neither gives nor changes anything, whatever the rule names: an acknowledgement, or a question that is answered
/// about the asker's own token and leases.
#[must_use]
pub fn waive<T>(permit: Permit<T>) -> Grant<T> {
    Grant { permit, approved: Approved::Unneeded }
}
