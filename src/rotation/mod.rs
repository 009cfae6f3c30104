//! Rotates keys on a schedule, without an outage, by one of many replicas.
//!
//! `schedule` says when and `phase` says what comes next, both pure; `document` is the journal in Vault, written by
//! check-and-set before anything else changes; `lease` says who may work; `task` runs one rotation. Does not hand out
//! secrets: whoever keeps one is told to look at Vault again. `local` has what each replica does for itself. Kinds that are built: `generate`, `trigger`,
//! `follow` and `lease`.

pub mod desk;
pub mod fact;
pub mod generate;
pub mod lease;
pub mod local;
pub mod phase;
pub mod schedule;
pub mod standing;
pub mod store;
pub mod task;
pub mod trigger;
mod document;
mod driver;
mod group;
mod journal;
#[cfg(test)]
mod model_tests;
mod object;
mod run;

use crate::name::{IdentityName, RotationName, SecretName};
use generate::Generate;
use schedule::Schedule;
use std::time::Duration;
use store::Place;
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
    /// The folder in KV 2 that journals are kept in; one for each rotation.
    pub journal: Place,
    /// Others that must not be rotated at the same time.
    pub group: Option<Group>,
    /// How long a replica that works on it may be silent before another goes on.
    pub lease: lease::Terms,
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
}

impl Kind {
    /// The word of the config, the events and the commands.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Generate(_) => "generate",
            Self::Trigger(_) => "trigger",
        }
    }

    /// Where in Vault it is.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Generate(generate) => &generate.path,
            Self::Trigger(trigger) => &trigger.path,
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
