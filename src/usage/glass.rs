//! What the record says of an emergency: which secrets were taken, and whether they have been replaced since. Pure.
//!
//! Does not know of rotations: the report does.

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One approval by break glass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glass {
    /// When.
    pub at: Timestamp,
    /// Whose request it was.
    pub workload: Option<String>,
    /// By which rule.
    pub rule: Option<String>,
    /// Where it is written down.
    #[serde(default)]
    pub ticket: Option<String>,
    /// What was taken by it: the names of secrets, and paths of Vault's own API, which alone have a slash.
    #[serde(default)]
    pub touched: BTreeMap<String, Touched>,
    /// Whether it is known to have ended.
    pub ended: Option<Timestamp>,
}

/// When a rule for emergencies disabled itself, and when it held again, each the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// When it disabled itself.
    pub disabled: Option<Timestamp>,
    /// Why: what became of the review.
    pub why: Option<String>,
    /// When persons said that it may hold again.
    pub enabled: Option<Timestamp>,
}

impl Standing {
    /// Since when it does not hold.
    #[must_use]
    pub fn is_disabled_since(&self) -> Option<Timestamp> {
        self.disabled.filter(|disabled| self.enabled.is_none_or(|enabled| enabled < *disabled))
    }

    /// Takes what another record says of it.
    pub(super) fn join(&mut self, other: &Self) {
        if other.disabled > self.disabled {
            (self.disabled, self.why) = (other.disabled, other.why.clone());
        }
        self.enabled = self.enabled.max(other.enabled);
    }
}

/// One secret that was taken in an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// When last.
    pub at: Timestamp,
    /// The newest version of it that was.
    pub version: Option<u64>,
    /// Whether a newer one was seen since.
    pub is_replaced: bool,
}

impl Glass {
    /// Takes what was given by it.
    pub(super) fn touch(&mut self, secret: &str, version: Option<u64>, at: Timestamp) {
        let touched =
            self.touched.entry(secret.to_owned()).or_insert(Touched { at, version, is_replaced: false });
        touched.at = touched.at.max(at);
        touched.version = touched.version.max(version);
        touched.is_replaced = false;
    }

    /// Adds what another ledger says of it.
    pub(super) fn join(&mut self, other: &Self) {
        self.ended = self.ended.max(other.ended);
        for (secret, touched) in &other.touched {
            let known = self.touched.entry(secret.clone()).or_insert(*touched);
            known.is_replaced |= touched.is_replaced;
            known.at = known.at.max(touched.at);
            known.version = known.version.max(touched.version);
        }
    }

    /// Takes that somebody wrote at a path of Vault's own API.
    pub(super) fn rewrite(&mut self, path: &str, at: Timestamp) {
        if let Some(touched) = self.touched.get_mut(path) {
            touched.is_replaced |= at > touched.at;
        }
    }

    /// Takes a sight of `version`: whether it is newer than those that were taken.
    pub(super) fn replace(&mut self, secret: &str, version: Option<u64>, at: Timestamp) {
        if let Some(touched) = self.touched.get_mut(secret) {
            touched.is_replaced |= at > touched.at && touched.version.is_some() && version > touched.version;
        }
    }
}
