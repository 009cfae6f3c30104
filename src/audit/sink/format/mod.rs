//! How events are spelled for a receiver: as journalled, or as one of the forms that receivers know.
//!
//! Pure. Every form but `native` is made from the journalled bytes alone and carries what their hash chain needs.

use super::batch::Item;

/// The form of one sink's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The journalled bytes.
    Native,
}

impl Format {
    /// One event, as JSON on one line, without a line end.
    pub(super) fn render(self, item: &Item) -> Vec<u8> {
        match self {
            Self::Native => item.native.clone(),
        }
    }

    /// One line an event.
    pub(super) fn lines(self, items: &[Item]) -> Vec<u8> {
        let mut lines = Vec::new();
        for item in items {
            lines.extend_from_slice(&self.render(item));
            lines.push(b'\n');
        }
        lines
    }
}
