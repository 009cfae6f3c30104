//! What is counted and measured of persons' yes.
//!
//! Labels are names of the config and words of closed sets.

use super::metrics::{Metrics, add};
use crate::name::ApprovalName;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What is counted.
#[derive(Debug, Default)]
pub struct Approvals {
    states: Family<State, Counter>,
    calls: Family<Call, Counter>,
    glasses: Gauge,
    disabled: Gauge,
    unreviewed: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    approval: ApprovalName,
    state: &'static str,
    reason: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    approval: ApprovalName,
    call: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Approval {
    approval: ApprovalName,
}

impl Metrics {
    /// Counts one request that came to be in this state: `requested`, `granted`, `used`, or with a reason `refused`, `expired`; or the rule
    /// that it reviews: `disabled`, `enabled`.
    pub fn approval(&self, approval: &ApprovalName, state: &'static str, reason: Option<&'static str>) {
        let labels = State { approval: approval.clone(), state, reason };
        self.counted.approvals.states.get_or_create(&labels).inc();
    }

    /// How many rules for emergencies hold.
    pub fn glasses(&self, count: u64) {
        self.counted.approvals.glasses.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many of those rules have disabled themselves, and how many emergencies wait for their review.
    pub fn reviews(&self, (disabled, unreviewed): (u64, u64)) {
        self.counted.approvals.disabled.set(i64::try_from(disabled).unwrap_or(i64::MAX));
        self.counted.approvals.unreviewed.set(i64::try_from(unreviewed).unwrap_or(i64::MAX));
    }

    /// Counts one `notify`, `poll` or `outcome` of an approval's webhook: `ok`, or what went wrong.
    pub fn approval_call(&self, approval: &ApprovalName, call: &'static str, result: &'static str) {
        let labels = Call { approval: approval.clone(), call, result };
        self.counted.approvals.calls.get_or_create(&labels).inc();
    }
}

impl Approvals {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("claviger_approvals", "Requests for a person's yes", self.states.clone());
        registry.register(
            "claviger_break_glass_open",
            "Rules for emergencies that hold",
            self.glasses.clone(),
        );
        registry.register(
            "claviger_break_glass_disabled",
            "Rules for emergencies that have disabled themselves",
            self.disabled.clone(),
        );
        registry.register(
            "claviger_break_glass_unreviewed",
            "Emergencies that wait for their review",
            self.unreviewed.clone(),
        );
        registry.register("claviger_approval_calls", "Calls of approvals' webhooks", self.calls.clone());
    }
}

/// How many wait of each.
pub(super) fn register_pending(pending: &[(ApprovalName, u64)], registry: &mut Registry) {
    let waiting = pending.iter().map(|(name, count)| (Approval { approval: name.clone() }, *count as f64));
    add(registry, "claviger_approvals_pending", "Requests that wait for a person", waiting);
}
