//! The kinds of `rotations` that are not built yet. Each is refused by name, and its shape is read all the same, so that a slip of the finger in it is found today.
//!
//! Pure. What they mean is for the parts that will build them.

use super::super::reader::{Leaf, Map};
use super::{DAY, seconds};

fn long(leaf: &Leaf<'_>) -> Option<std::time::Duration> {
    leaf.duration(seconds(0, 3650 * DAY))
}

/// What a rotation of a kind that is not built has beside the keys of all kinds.
pub(super) fn rotation(map: &mut Map<'_>) {
    for key in ["propagation_wait", "hold", "hold_max", "quarantine", "grace_min", "lead_time"] {
        let _ = map.given(key, long);
    }
    // The target's keys differ by kind, and are not settled.
    for key in [
        "target",
        "driver",
        "path",
        "field",
        "length",
        "policy",
        "wrap",
        "secret_id_file",
        "max_retry_cycles",
        "secret",
    ] {
        let _ = map.find(key);
    }
}
