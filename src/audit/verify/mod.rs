//! Judges events that somebody else kept: whether they are the ones that were written, all of them, in their order.
//!
//! Works offline, on copies, without a config and without trust in the files. Changes nothing.

mod chain;
mod fact;
mod input;
mod judge;
mod line;
mod number;
mod report;

pub use input::{Input, Unreadable, export};
pub use report::{Chain, Ending, Finding, Gap, Report, Verdict};

use judge::Judge;

/// Reads `inputs` to their end and judges what they hold. Takes memory by chains and by findings, not by events.
///
/// # Errors
/// An input cannot be read at all. Whatever is wrong with what can be read is in the report.
pub fn verify(inputs: &[Input]) -> Result<Report, Unreadable> {
    let mut judge = Judge::default();
    input::read(inputs, &mut judge)?;
    Ok(judge.finish())
}

#[cfg(test)]
mod tests;
