//! The events of one delivery, as the journal has them.
//!
//! Pure. Does not render them: `format` does.

use super::super::chain::Position;
use std::{fmt::Write as _, ops::Range};

/// The most events of one batch.
pub(super) const MOST: usize = 512;
/// The bytes after which a batch takes no more.
pub(super) const FULL: usize = 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) struct Item {
    /// Where it stands.
    pub(super) place: Position,
    /// The journalled bytes: canonical JSON, without a line end.
    pub(super) native: Vec<u8>,
}

impl Item {
    /// The event's id: the same on every re-send.
    pub(super) fn id(&self) -> String {
        format!("{}-{:020}", self.place.chain, self.place.seq)
    }
}

/// `FIRST-LAST` of a part of a batch: what makes a re-send recognisable.
pub(super) fn key(items: &[Item]) -> String {
    let mut key = items.first().map(Item::id).unwrap_or_default();
    if let Some(last) = items.last() {
        // Writing to a String cannot fail.
        let _ = write!(key, "-{}", last.id());
    }
    key
}

/// The two halves of a part of a batch that is refused as a whole: the earlier one first.
pub(super) fn halves(part: Range<usize>) -> [Range<usize>; 2] {
    let middle = part.start.saturating_add(part.len() / 2);
    [part.start..middle, middle..part.end]
}
