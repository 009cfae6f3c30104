//! What sinks report: for metrics, for events, for the log.
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
