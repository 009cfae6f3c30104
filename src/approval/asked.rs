//! What a call wants beside its permit, as the ticket that persons are asked by.
//!
//! Pure.

use super::{
    Settings,
    desk::Inner,
    group::Door,
    ticket::{Asker, Constraints, Resource, Ticket},
};
use crate::{
    crypto::{Hash, hex},
    name::IdentityName,
    policy::Permit,
};
use std::sync::Arc;

/// Where the agent runs: what a yes is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The pod's uid; outside of Kubernetes the agent's `source`.
    pub uid: String,
    /// The Kubernetes namespace.
    pub namespace: Option<String>,
    /// The ServiceAccount.
    pub service_account: Option<String>,
}

/// What a call wants, beside its permit.
#[derive(Debug)]
pub struct Asked {
    /// What is to be done: `read`, `write`, or an HTTP method.
    pub op: String,
    /// To what.
    pub resource: Resource,
    /// With whose token; `None`: with that of the permit's secret.
    pub identity: Option<IdentityName>,
    /// The process's user.
    pub uid: u32,
    /// Its executable, if that was proved.
    pub exe_sha256: Option<Hash>,
    /// The way to ask, where Vault itself asks persons.
    pub door: Option<Arc<dyn Door>>,
}

impl Inner {
    pub(super) fn ticket<T>(
        &self,
        settings: &Settings,
        permit: &Permit<T>,
        asked: Asked,
        identity: &IdentityName,
    ) -> Ticket {
        let Asked { op, resource, identity: _, uid, exe_sha256, door: _ } = asked;
        Ticket {
            approval: settings.name.to_string(),
            constraints: Constraints {
                quorum: settings.quorum as u64,
                uses: u64::from(settings.uses),
                valid_for: settings.valid_for.as_secs(),
            },
            identity: identity.to_string(),
            nonce: String::new(),
            not_after: String::new(),
            op,
            resource,
            rule: permit.rule().to_string(),
            workload: Asker {
                exe_sha256: exe_sha256.as_ref().map(|hash| hex(hash)),
                name: permit.workload().to_string(),
                namespace: self.place.namespace.clone(),
                place: self.place.uid.clone(),
                service_account: self.place.service_account.clone(),
                uid: Some(uid),
            },
        }
    }
}
