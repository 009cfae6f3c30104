//! What is wrong with one line of a record. Pure.
//!
//! Does not decide what that makes of the record: the judge does.

/// What is wrong with one line, before it has a verdict's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) seq: u64,
    pub(super) what: &'static str,
    pub(super) hashes: Option<(String, String)>,
}

impl Wrong {
    pub(super) fn at(seq: u64, what: &'static str) -> Self {
        Self { seq, what, hashes: None }
    }
}
