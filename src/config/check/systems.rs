//! Rotations that change another system by one of the config's upstreams: whether that upstream's key can go with what they send.
//!
//! Pure. Looks at both sections when both are read.

use super::super::reader::{Leaf, Map};
use crate::{
    broker::{self, inject::Slot},
    name::UpstreamName,
    rotation::{self, Kind, system::System},
};

/// Writes a problem down for each rotation whose requests could never have the key.
pub(super) fn check(root: &mut Map<'_>, rotations: &[rotation::Settings], upstreams: &[broker::Settings]) {
    let Some(all) = root.find("rotations").filter(Leaf::is_map).and_then(|leaf| leaf.map()) else { return };
    for (name, leaf) in all.children() {
        let settings = rotations.iter().find(|settings| settings.name.as_str() == name);
        let Some(named) = settings.and_then(upstream) else { continue };
        let is_form = |one: &broker::Settings| one.name == *named && matches!(one.slot, Slot::Form(_));
        if upstreams.iter().any(is_form) {
            leaf.problem(
                format!("the driver http sends JSON, and upstreams.{named} takes its key in a form"),
                "name an upstream that takes it in a header, in the query or in JSON, or use the driver exec",
            );
        }
    }
}

fn upstream(settings: &rotation::Settings) -> Option<&UpstreamName> {
    match &settings.kind {
        Kind::Issue(issue) => Some(&issue.provider.upstream),
        Kind::Credential(credential) => match &credential.system {
            System::Http(http) => Some(&http.upstream),
            _ => None,
        },
        _ => None,
    }
}
