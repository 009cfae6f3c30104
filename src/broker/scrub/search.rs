//! Finds every whole occurrence of many patterns in one pass (Wu and Manber, "A fast algorithm for multi-pattern
//! searching", 1994): where a block of three bytes is in no pattern, as many bytes are skipped as the shortest pattern is long.
//!
//! Pure. Keeps the patterns, and wipes them when it is dropped.

use super::forms::{Form, Spelled};
use std::ops::Range;
use zeroize::Zeroizing;

/// Bytes that are looked up at once; no pattern may be shorter.
const BLOCK: usize = 3;
/// Entries of the table.
const TABLE: usize = 4096;

/// Patterns, arranged for searching.
pub(super) struct Searcher {
    patterns: Vec<(Form, Spelled)>,
    /// How far the window may move when it ends in such a block.
    shifts: Zeroizing<Vec<u8>>,
    /// How much of each pattern the window covers: the shortest pattern's length, and at most 255.
    window: usize,
    longest: usize,
}

impl Searcher {
    /// Of these patterns; one that is shorter than a block is left out.
    pub(super) fn new(mut patterns: Vec<(Form, Spelled)>) -> Self {
        patterns.retain(|(_, pattern)| pattern.len() >= BLOCK);
        let lengths = || patterns.iter().map(|(_, pattern)| pattern.len());
        let window = lengths().min().unwrap_or(BLOCK).min(255);
        let longest = lengths().max().unwrap_or_default();
        let far = u8::try_from(window - BLOCK + 1).unwrap_or(u8::MAX);
        let mut shifts = Zeroizing::new(vec![far; TABLE]);
        for (_, pattern) in &patterns {
            for (at, block) in pattern.windows(BLOCK).take(window - BLOCK + 1).enumerate() {
                let left = u8::try_from(window - BLOCK - at).unwrap_or(u8::MAX);
                if let Some(shift) = shifts.get_mut(slot(block)) {
                    *shift = left.min(*shift);
                }
            }
        }
        Self { patterns, shifts, window, longest }
    }

    /// The longest pattern's length.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Calls `found` with every occurrence, those within others too, by where they begin.
    pub(super) fn search(&self, text: &[u8], mut found: impl FnMut(Form, Range<usize>)) {
        if self.patterns.is_empty() {
            return;
        }
        let mut end = self.window;
        while let Some(block) = text.get(end - BLOCK..end) {
            match self.shifts.get(slot(block)).copied().unwrap_or_default() {
                0 => {
                    let start = end - self.window;
                    let rest = text.get(start..).unwrap_or_default();
                    for (form, pattern) in
                        self.patterns.iter().filter(|(_, pattern)| rest.starts_with(pattern))
                    {
                        found(*form, start..start + pattern.len());
                    }
                    end += 1;
                }
                shift => end += usize::from(shift),
            }
        }
    }
}

fn slot(block: &[u8]) -> usize {
    block.iter().fold(0, |slot: usize, byte| (slot << 4) ^ usize::from(*byte)) % TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &[&str], text: &str, expected: &[&str]) {
        let patterns =
            patterns.iter().map(|text| (Form::Raw, Zeroizing::new(text.as_bytes().to_vec()))).collect();
        let mut found = Vec::new();
        Searcher::new(patterns).search(text.as_bytes(), |_, range| {
            found.push(format!("{}:{}", range.start, &text[range.clone()]));
        });
        found.sort();
        let mut expected: Vec<_> = expected.iter().map(|text| (*text).to_owned()).collect();
        expected.sort();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_whole_occurrence_is_found_and_no_part_of_one() {
        check(
            &["secret"],
            "a secret, a secre, ecret and secretsecret",
            &["2:secret", "29:secret", "35:secret"],
        );
        check(&["aaaa"], "aaaaaa", &["0:aaaa", "1:aaaa", "2:aaaa"]);
        check(&["abcdef", "cdefgh", "cde"], "xabcdefghx", &["1:abcdef", "3:cdefgh", "3:cde"]);
        check(&["secret"], "secre", &[]);
        check(&["secret"], "", &[]);
        check(&[], "anything", &[]);
        check(&["ab"], "abab", &[]);
    }

    #[test]
    fn long_patterns_are_found_by_their_first_part() {
        let long = "0123456789".repeat(100);
        check(&[&long], &format!("xx{long}"), &[&format!("2:{long}")]);
        check(&[&long], &long[1..], &[]);
    }
}
