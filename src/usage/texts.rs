//! Texts that stand in many rows, kept once each in one long text and named by a number. Pure.
//!
//! Nothing is ever taken out: whoever owns the rows bounds them.

use super::pages::{Index, Pages};
use std::hash::{BuildHasher as _, RandomState};

/// The longest text that is kept, in bytes; of longer ones the beginning.
pub(super) const LONGEST: usize = 512;
/// Bytes of one page.
const PAGE: usize = 32 * 1024;

/// The number of a text; 0 is none.
pub(super) type Id = u32;

/// Each text once. A text that is there already is found without an allocation.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pages: Vec<String>,
    /// Where each is; number N is at N - 1.
    spans: Pages<Span>,
    index: Index,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    page: u16,
    begin: u16,
    length: u16,
}

impl Texts {
    /// The number of `text`, if it has one; 0 for none at all.
    pub(super) fn find(&self, text: Option<&str>) -> Option<Id> {
        let Some(text) = text.map(cut) else { return Some(0) };
        self.index.find(self.hasher.hash_one(text), |id| self.read(id) == Some(text))
    }

    /// The number of `text`, a new one if it has none.
    pub(super) fn keep(&mut self, text: Option<&str>) -> Id {
        if let Some(id) = self.find(text) {
            return id;
        }
        let text = text.map(cut).unwrap_or_default();
        let has_room = |page: &&mut String| page.len().saturating_add(text.len()) <= PAGE;
        if self.pages.last_mut().filter(has_room).is_none() {
            self.pages.push(String::with_capacity(PAGE));
        }
        let page = u16::try_from(self.pages.len().saturating_sub(1)).unwrap_or(u16::MAX);
        let Some(last) = self.pages.last_mut() else { return 0 };
        let begin = u16::try_from(last.len()).unwrap_or(u16::MAX);
        last.push_str(text);
        self.spans.push(Span { page, begin, length: u16::try_from(text.len()).unwrap_or(0) });
        let id = Id::try_from(self.spans.len()).unwrap_or(0);
        self.index.insert(self.hasher.hash_one(text), id);
        id
    }

    /// The text of a number; `None` for 0.
    pub(super) fn read(&self, id: Id) -> Option<&str> {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        let Span { page, begin, length } = *self.spans.get(at)?;
        let begin = usize::from(begin);
        self.pages.get(usize::from(page))?.get(begin..begin.checked_add(usize::from(length))?)
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
