//! Rotates keys on a schedule, without an outage, by one of many replicas.
//!
//! So far what decides: `schedule` says when, `phase` says what comes next. Nothing runs yet: `check` refuses `rotations`.

pub mod phase;
pub mod schedule;
#[cfg(test)]
mod model_tests;
