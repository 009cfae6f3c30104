//! Which run of which rotation an event is about. Pure.
//!
//! Ids and versions only: no value, and nothing that one could be guessed from.

use super::pen::Pen;
use crate::name::RotationName;

/// One run of one rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRef {
    /// The key in `rotations`.
    pub name: RotationName,
    /// `generate`, `trigger`, `two-slot`, `single`, `issue`, `follow`, `lease`, `bootstrap`.
    pub kind: &'static str,
    /// How far the run was.
    pub phase: &'static str,
    /// The same in all events of the run, whichever replica made them.
    pub id: Option<String>,
    /// Why a person asked for it, if one did.
    pub asked: Option<String>,
    /// Who did it by a command, as that was told or as its machine knows.
    pub by: Option<String>,
    /// The slot that it is for, in local time with its offset.
    pub slot: Option<String>,
    /// The version that consumers read before; of what Vault rotates, a number that says that it changed.
    pub from: Option<u64>,
    /// The version that they read now.
    pub to: Option<u64>,
    /// Counts the replicas that had the lease.
    pub epoch: u64,
}

pub(super) fn write_rotation(pen: &mut Pen<'_>, rotation: &RotationRef) {
    let RotationRef { name, kind, phase, id, asked, by, slot, from, to, epoch } = rotation;
    pen.text("asked", asked.as_deref());
    pen.text("by", by.as_deref());
    pen.quoted("cred", name);
    pen.number("epoch", Some(*epoch));
    pen.number("from_v", *from);
    pen.text("id", id.as_deref());
    pen.quoted("kind", kind);
    pen.quoted("phase", phase);
    pen.text("slot", slot.as_deref());
    pen.number("to_v", *to);
}
