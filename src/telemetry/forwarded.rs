//! What is measured of requests in Vault's own API, at the moment of a scrape.
//!
//! Labels are names of the config.

use crate::name::WorkloadName;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

/// How one workload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// Leases that it asked for and that live.
    pub leases: u64,
    /// Child tokens that it asked for and that live.
    pub children: u64,
    /// Answers that its cache holds, and the bytes of their bodies.
    pub held: (u64, u64),
    /// Requests that its cache answered, and those that it might have and did not, since the start.
    pub hits: (u64, u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Workload {
    workload: WorkloadName,
}

/// Adds what is known of each workload.
pub(super) fn register(registry: &mut Registry, all: &[(WorkloadName, Forwarded)]) {
    let mut gauge = |name: &str, help: &str, of: fn(&Forwarded) -> u64| {
        let family = Family::<Workload, Gauge<u64, AtomicU64>>::default();
        for (workload, forwarded) in all {
            family.get_or_create(&Workload { workload: workload.clone() }).set(of(forwarded));
        }
        registry.register(name, help, family);
    };
    gauge("claviger_forwarded_leases", "Leases that came back in Vault's API and live", |it| it.leases);
    gauge("claviger_forwarded_tokens", "Child tokens that came back in Vault's API and live", |it| {
        it.children
    });
    gauge("claviger_cache_entries", "Answers that the cache of Vault's API holds", |it| it.held.0);
    gauge("claviger_cache_bytes", "Bytes of what the cache of Vault's API holds", |it| it.held.1);
    let mut counter = |name: &str, help: &str, of: fn(&Forwarded) -> u64| {
        let family = Family::<Workload, Counter>::default();
        for (workload, forwarded) in all {
            family.get_or_create(&Workload { workload: workload.clone() }).inc_by(of(forwarded));
        }
        registry.register(name, help, family);
    };
    counter("claviger_cache_hits", "Requests that the cache of Vault's API answered", |it| it.hits.0);
    counter("claviger_cache_misses", "Requests that it might have answered, and Vault did", |it| it.hits.1);
}
