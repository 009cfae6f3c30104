//! Which person's yes an event is about. Pure.
//!
//! Ids, names and the reasons that persons gave: nothing of what was to be done, which the event's other parts say.

use super::pen::Pen;
use crate::name::ApprovalName;

/// One request for a person's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRef {
    /// The key in `approvals`.
    pub name: ApprovalName,
    /// Its id; absent where nobody was asked.
    pub id: Option<String>,
    /// What is signed for, hex.
    pub digest: Option<String>,
    /// Whose word it is about.
    pub by: Vec<String>,
    /// What they gave as their reasons, in the same order.
    pub said: Vec<String>,
    /// Why nobody was asked, that an earlier start had asked already, or that the webhook never was told: `observed`, `joined`, `undelivered`.
    pub how: Option<&'static str>,
    /// Where an emergency is written down.
    pub ticket: Option<String>,
}

pub(super) fn write_approval(pen: &mut Pen<'_>, approval: &ApprovalRef) {
    let ApprovalRef { name, id, digest, by, said, how, ticket } = approval;
    pen.list("by", by);
    pen.text("digest", digest.as_deref());
    pen.text("how", *how);
    pen.text("id", id.as_deref());
    pen.quoted("name", name);
    pen.list("said", said);
    pen.text("ticket", ticket.as_deref());
}
