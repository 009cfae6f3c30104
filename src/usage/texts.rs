//! Texts that stand in many rows, kept once each in one long text and named by a number. Pure.
//!
//! Nothing is ever taken out: whoever owns the rows bounds them.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

/// The longest text that is kept, in bytes; of longer ones the beginning.
pub(super) const LONGEST: usize = 512;

/// The number of a text; 0 is none.
pub(super) type Id = u32;

/// Each text once. A text that is there already is found without an allocation.
#[derive(Debug, Default)]
pub(super) struct Texts {
    all: String,
    /// Where each begins and ends; number N is at N - 1.
    spans: Vec<(u32, u32)>,
    /// By hash; two texts of one hash take the next free one.
    by_hash: HashMap<u64, Id>,
    hasher: RandomState,
}

impl Texts {
    /// Room for `count` texts, which takes no memory until it is used: what grows leaves behind what it was before.
    pub(super) fn roomy(count: usize) -> Self {
        Self {
            all: String::with_capacity(count.saturating_mul(64)),
            spans: Vec::with_capacity(count),
            by_hash: HashMap::with_capacity(count),
            hasher: RandomState::default(),
        }
    }

    /// The number of `text`, if it has one; 0 for none at all.
    pub(super) fn find(&self, text: Option<&str>) -> Option<Id> {
        let Some(text) = text.map(cut) else { return Some(0) };
        let mut hash = self.hasher.hash_one(text);
        loop {
            let id = *self.by_hash.get(&hash)?;
            if self.read(id) == Some(text) {
                return Some(id);
            }
            hash = hash.wrapping_add(1);
        }
    }

    /// The number of `text`, a new one if it has none.
    pub(super) fn keep(&mut self, text: Option<&str>) -> Id {
        if let Some(id) = self.find(text) {
            return id;
        }
        let text = text.map(cut).unwrap_or_default();
        let begin = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push_str(text);
        self.spans.push((begin, u32::try_from(self.all.len()).unwrap_or(u32::MAX)));
        let id = Id::try_from(self.spans.len()).unwrap_or(0);
        let mut hash = self.hasher.hash_one(text);
        while self.by_hash.contains_key(&hash) {
            hash = hash.wrapping_add(1);
        }
        self.by_hash.insert(hash, id);
        id
    }

    /// The text of a number; `None` for 0.
    pub(super) fn read(&self, id: Id) -> Option<&str> {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        let (begin, end) = *self.spans.get(at)?;
        self.all.get(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)
    }
}

/// As much of `text` as is kept.
fn cut(text: &str) -> &str {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_number_and_no_text_has_none() {
        let mut texts = Texts::default();
        assert_eq!((texts.keep(None), texts.find(None), texts.read(0)), (0, Some(0), None));
        assert_eq!(texts.find(Some("a")), None);
        let (a, empty, b) = (texts.keep(Some("a")), texts.keep(Some("")), texts.keep(Some("b")));
        assert_eq!([a, empty, b], [1, 2, 3]);
        assert_eq!(
            (texts.keep(Some("a")), texts.find(Some("")), texts.find(Some("b"))),
            (1, Some(2), Some(3))
        );
        assert_eq!(
            (texts.read(1), texts.read(2), texts.read(3), texts.read(4)),
            (Some("a"), Some(""), Some("b"), None)
        );
        let long = "ä".repeat(LONGEST);
        let id = texts.keep(Some(&long));
        assert_eq!(texts.read(id).map(str::len), Some(LONGEST));
        assert_eq!(texts.find(Some(&long)), Some(id));
    }
}
