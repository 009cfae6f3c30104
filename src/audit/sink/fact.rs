//! What sinks report: for metrics, for the log, and for events with what these say of a sink.
//!
//! Pure.

use super::outlet::Code;
use crate::name::SinkName;
use std::time::Duration;

/// What happened to one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Which.
    pub sink: SinkName,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A part of a batch was delivered; this long it took until the receiver had said so.
    Delivered {
        /// From the first byte to the answer.
        took: Duration,
    },
    /// One delivery failed; it is tried again.
    Failed(Code),
    /// Deliveries fail, and nothing gets through until [`What::Up`].
    Down(Code),
    /// Deliveries work again.
    Up,
    /// The receiver refused events for good, and they are dead letters now.
    Dead {
        /// How many the receiver refused.
        events: u64,
        /// Of how many, where it would not say which.
        of: Option<u64>,
        /// Why.
        code: Code,
    },
    /// Events were gone from the journal before this sink could have them.
    Skipped {
        /// How many.
        events: u64,
    },
}

/// A sink, and what its event says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkRef {
    /// The key in `audit.sinks`.
    pub name: SinkName,
    /// What the receiver said: an HTTP status, or a word of a closed set.
    pub code: Option<String>,
    /// How many events were refused or skipped.
    pub events: Option<u64>,
    /// Out of how many, where the receiver does not say which.
    pub of: Option<u64>,
}

impl SinkRef {
    /// The sink alone.
    #[must_use]
    pub fn new(name: SinkName) -> Self {
        Self { name, code: None, events: None, of: None }
    }

    /// Counts what happened again.
    pub fn add(&mut self, other: &Self) {
        let sum = |a: Option<u64>, b: Option<u64>| a.map(|a| a.saturating_add(b.unwrap_or(0))).or(b);
        (self.events, self.of) = (sum(self.events, other.events), sum(self.of, other.of));
    }
}
