//! Names of the config as labels: nothing that a peer can make up.

use crate::name::{
    ApprovalName, IdentityName, RotationName, RuleName, SecretName, SinkName, UpstreamName, WorkloadName,
};
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use std::fmt::{self, Write as _};

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
