//! Where events go on to, each with a cursor of its own.
//!
//! No request ever waits for a sink.

mod cursor;
pub mod stdout;
pub(super) mod tail;

use crate::name::SinkName;

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The key in `audit.sinks`.
    pub name: SinkName,
    /// What it is.
    pub kind: Kind,
}

/// The kinds that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The journalled bytes, one line an event, to our standard output.
    Stdout,
}
