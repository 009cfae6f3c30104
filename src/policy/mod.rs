//! What a workload may ask for. No matching rule means no.
//!
//! Pure. Does not know whether a secret has a value, and never sees one.

pub mod rule;

use crate::name::{SecretName, WorkloadName};
use rule::Rule;

/// The rules of one workload; may change while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose rules they are.
    pub workload: WorkloadName,
    /// In the order of the config; names are unique.
    pub rules: Vec<Rule>,
    /// `sha256:` and the first 16 hex digits of the config's hash: the revision that events name.
    pub revision: String,
}

/// Proof that a rule matched. Only this module makes one.
#[derive(Debug)]
pub struct Permit {
    workload: WorkloadName,
    secret: SecretName,
}

impl Permit {
    /// Whose it is.
    #[must_use]
    pub fn workload(&self) -> &WorkloadName {
        &self.workload
    }

    /// What may be had.
    #[must_use]
    pub fn secret(&self) -> &SecretName {
        &self.secret
    }
}
