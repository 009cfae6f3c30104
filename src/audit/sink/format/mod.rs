//! How events are spelled for a receiver: as journalled, or as one of the forms that receivers know.
//!
//! Pure. Every form is made from the journalled bytes alone and holds them whole, so the hash chain can be checked
//! behind every sink.

mod cloudevents;
mod ecs;
mod ocsf;
#[cfg(test)]
mod tests;

use super::batch::Item;
use serde_json::Value;

/// The form of one sink's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The journalled bytes.
    Native,
    /// CloudEvents 1.0, JSON.
    CloudEvents,
    /// OCSF 1.9.
    Ocsf,
    /// Elastic Common Schema 8.
    Ecs,
}

impl Format {
    /// One event, as JSON on one line, without a line end.
    pub(super) fn render(self, item: &Item) -> Vec<u8> {
        let rendered = match self {
            Self::Native => return item.native.clone(),
            Self::CloudEvents => cloudevents::render(item, &item.head()),
            Self::Ocsf => ocsf::render(item, &item.head()),
            Self::Ecs => ecs::render(item, &item.head()),
        };
        // The journal writes nothing that cannot be read back; if it did, the event itself would say more than nothing.
        rendered.unwrap_or_else(|_| item.native.clone())
    }

    /// A whole batch as one HTTP body, and its media type.
    pub(super) fn document(self, items: &[Item]) -> (&'static str, Vec<u8>) {
        if self != Self::CloudEvents {
            return ("application/x-ndjson", self.lines(items));
        }
        let mut body = vec![b'['];
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&self.render(item));
        }
        body.push(b']');
        ("application/cloudevents-batch+json", body)
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

/// Leaves out what is not known, and what holds nothing then.
fn compact(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(compact);
        map.retain(|_, value| match value {
            Value::Null => false,
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
    } else if let Value::Array(list) = value {
        list.iter_mut().for_each(compact);
    }
}
