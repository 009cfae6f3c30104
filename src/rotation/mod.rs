//! Rotates keys on a schedule, without an outage, by one of many replicas.
//!
//! `schedule` says when and `phase` says what comes next, both pure; `document` is the journal in Vault, written by
//! check-and-set before anything else changes; `lease` says who may work, and `coordination` what is passed before it; `task` runs one rotation. Does not hand out
//! secrets: whoever keeps one is told to look at Vault again. `local` has what each replica does for itself, `follow` and `lease`. The other kinds that
//! are built: `generate`, `trigger`, `two-slot`, `single` and `issue`, of which the last three change another `system`, by a driver; and
//! `bootstrap`, whose journal lies beside the secret id that it rotates.

pub mod asked;
pub mod bootstrap;
pub mod coordination;
pub mod credential;
pub mod desk;
pub mod fact;
mod foretell;
pub mod generate;
pub mod issue;
pub mod kubernetes;
pub mod lease;
pub mod local;
pub mod once;
pub mod phase;
pub mod rehearsal;
pub mod runner;
pub mod schedule;
pub mod standing;
mod store;
pub mod suspend;
pub mod system;
pub mod task;
mod told;
pub mod trigger;
mod asking;
mod attempt;
pub mod acks;
mod adopt;
mod document;
mod drift;
mod driver;
mod group;
mod journal;
#[cfg(test)]
mod model_tests;
mod notify;
mod object;
mod places;
mod quarantine;
mod rollback;
mod run;
mod seal;
mod work;

use crate::{
    name::{IdentityName, RotationName, SecretName},
    vault::{endpoint::TransitKey, kv2::Place},
};
use bootstrap::Bootstrap;
use coordination::Coordination;
use credential::{Credential, Users};
use generate::Generate;
use issue::Issue;
use schedule::Schedule;
use std::time::Duration;
use trigger::Trigger;

/// One thing that is rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The key in `rotations`.
    pub name: RotationName,
    /// Whose token all calls use.
    pub identity: IdentityName,
    /// What is rotated, and how.
    pub kind: Kind,
    /// When.
    pub schedule: Schedule,
    /// How long the old value stays readable after the new one is.
    pub grace: Duration,
    /// How long before a run begins watchers of what it changes are told; zero: they are not.
    pub notice: Duration,
    /// Whose acks the end of the grace waits for, if it does.
    pub acks: Option<acks::Awaited>,
    /// The folder in KV 2 that journals are kept in; one for each rotation. Of kind `bootstrap` it is not used: the journal lies
    /// beside the secret id.
    pub journal: Place,
    /// The transit key that encrypts what its journal keeps of values.
    pub wrap: Option<TransitKey>,
    /// Persons who must say yes to each run.
    pub consent: Option<asked::Consent>,
    /// Others that must not be rotated at the same time.
    pub group: Option<Group>,
    /// How long a replica that works on it may be silent before another goes on.
    pub lease: lease::Terms,
    /// What decides which replica works on it.
    pub coordination: Coordination,
    /// The secrets of this agent that change with it: they are looked at again when it is promoted.
    pub serves: Vec<SecretName>,
}

/// What is rotated, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A random value in KV 2.
    Generate(Generate),
    /// What Vault rotates when it is told to.
    Trigger(Trigger),
    /// The credential of users of another system.
    Credential(Box<Credential>),
    /// A key that a provider mints.
    Issue(Box<Issue>),
    /// Our own secret id.
    Bootstrap(Box<Bootstrap>),
}

impl Settings {
    /// How long the old value may stay readable at most.
    #[must_use]
    pub fn longest_grace(&self) -> Duration {
        self.acks.map_or(self.grace, |awaited| awaited.max_grace)
    }
}

impl Kind {
    /// The word of the config, the events and the commands.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Generate(_) => "generate",
            Self::Trigger(_) => "trigger",
            Self::Credential(credential) => match credential.users {
                Users::One(_) => "single",
                Users::Two(_) => "two-slot",
            },
            Self::Issue(_) => "issue",
            Self::Bootstrap(_) => "bootstrap",
        }
    }

    /// Where in Vault it is.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Generate(generate) => &generate.path,
            Self::Trigger(trigger) => &trigger.path,
            Self::Credential(credential) => &credential.consumer.path,
            Self::Issue(issue) => &issue.consumer.path,
            Self::Bootstrap(bootstrap) => &bootstrap.path,
        }
    }

    /// Whether `other` rotates the same thing. Secret ids of one role are as many as identities.
    #[must_use]
    pub fn is_of_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bootstrap(one), Self::Bootstrap(other)) => one.file.path == other.file.path,
            _ => self.path() == other.path(),
        }
    }

    /// The program that must be run for it, with its arguments.
    #[must_use]
    pub fn program(&self) -> Option<&[String]> {
        match self {
            Self::Credential(credential) => match &credential.system {
                system::System::Exec(exec) => Some(&exec.command),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Rotations that keep their distance, on all replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What it is called.
    pub name: String,
    /// The shortest time between two of its runs.
    pub min_gap: Duration,
}
