//! Names of the config as labels: nothing that a peer can make up.

use crate::name::{
    ApprovalName, IdentityName, RotationName, RuleName, SecretName, SinkName, UpstreamName, WorkloadName,
};
use prometheus_client::{
    encoding::{EncodeLabelValue, LabelValueEncoder},
    metrics::{family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};
use std::{
    fmt::{self, Write as _},
    sync::atomic::AtomicU64,
};

macro_rules! names_are_labels {
    ($($name:ty),*) => {$(
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    )*};
}

names_are_labels!(
    ApprovalName,
    IdentityName,
    RotationName,
    RuleName,
    SecretName,
    SinkName,
    UpstreamName,
    WorkloadName
);

/// Registers a gauge with these values.
pub(super) fn add<L>(registry: &mut Registry, name: &str, help: &str, values: impl Iterator<Item = (L, f64)>)
where
    L: Clone + std::hash::Hash + Eq,
    Family<L, Gauge<f64, AtomicU64>>: Metric,
{
    let family = Family::<L, Gauge<f64, AtomicU64>>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}
