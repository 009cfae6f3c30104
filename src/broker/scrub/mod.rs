//! What was sent must not come back: a stream in which every whole occurrence of a secret is masked by as many `*`.
//!
//! Pure. Does not hide a part of a secret, and never holds anything back because it looks like the beginning of one: who can
//! make an upstream echo text could then find a secret out byte by byte. What is held back is held back by its position.

mod forms;
mod search;

pub use forms::Form;

use bytes::{Bytes, BytesMut};
use search::Searcher;
use std::{fmt, ops::Range, sync::Arc};

/// What is put in the place of each byte.
const MASK: u8 = b'*';

/// What must not come back, in all its spellings. Wiped when dropped.
pub struct Masks {
    searcher: Searcher,
}

/// How often something was masked, by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits([u64; Form::ALL.len()]);

/// Whether what is complete by the text's own measure is let go before its position would let it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// By position alone.
    ByPosition,
    /// Also through the last line feed, for streams of lines: no secret holds one, so nothing is told by it.
    ByLine,
}

/// One stream, piece by piece. What comes out is as long as what went in.
pub struct Scrubber {
    masks: Arc<Masks>,
    flush: Flush,
    /// What is held back, unmasked: it may be the first part of what is found next.
    held: BytesMut,
    /// What of it is to be masked.
    hidden: Vec<Range<usize>>,
    hits: Hits,
}

impl Masks {
    /// Of these values, each of at least 16 bytes without a line feed: shorter ones are in everything, and guessed.
    #[must_use]
    pub fn of(values: &[&[u8]]) -> Self {
        Self { searcher: Searcher::new(values.iter().flat_map(|value| forms::of(value)).collect()) }
    }

    /// Of these values as they are, and no other spelling of them.
    #[must_use]
    pub fn raw(values: &[&[u8]]) -> Self {
        let raw = values.iter().map(|value| (Form::Raw, value.to_vec().into()));
        Self { searcher: Searcher::new(raw.collect()) }
    }

    /// In which form one of the values is in `text` first, if any is.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<(Form, Range<usize>)> {
        let mut first: Option<(Form, Range<usize>)> = None;
        self.searcher.search(text, |form, range| {
            first.get_or_insert((form, range));
        });
        first
    }

    /// A text that is there as a whole; `None` if there is nothing in it to be masked.
    #[must_use]
    pub fn mask(&self, text: &[u8], hits: &mut Hits) -> Option<Vec<u8>> {
        let mut masked: Option<Vec<u8>> = None;
        self.searcher.search(text, |form, range| {
            hits.count(form);
            hide(masked.get_or_insert_with(|| text.to_vec()), &range);
        });
        masked
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masks")
    }
}

impl Hits {
    fn count(&mut self, form: Form) {
        if let Some(hits) =
            Form::ALL.iter().position(|known| *known == form).and_then(|at| self.0.get_mut(at))
        {
            *hits += 1;
        }
    }

    /// Each form that was masked, and how often, in the order of their words.
    pub fn iter(&self) -> impl Iterator<Item = (Form, u64)> {
        let mut hits: Vec<_> = Form::ALL.into_iter().zip(self.0).filter(|(_, hits)| *hits > 0).collect();
        hits.sort_by_key(|(form, _)| form.word());
        hits.into_iter()
    }

    /// Adds what was masked elsewhere.
    pub fn add(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(hits, more)| *hits += more);
    }
}

impl Scrubber {
    /// Of a stream that begins now.
    #[must_use]
    pub fn new(masks: Arc<Masks>, flush: Flush) -> Self {
        Self { masks, flush, held: BytesMut::new(), hidden: Vec::new(), hits: Hits::default() }
    }

    /// Takes the next piece, and gives what may go; may be empty.
    pub fn push(&mut self, piece: &[u8]) -> Bytes {
        let seen = self.held.len();
        self.held.extend_from_slice(piece);
        let (hidden, hits) = (&mut self.hidden, &mut self.hits);
        self.masks.searcher.search(&self.held, |form, range| {
            // What ends in what was held back was found then.
            if range.end > seen {
                hits.count(form);
                hidden.push(range);
            }
        });
        let mut ready = (self.held.len() + 1).saturating_sub(self.masks.searcher.longest().max(1));
        if self.flush == Flush::ByLine
            && let Some(last) = self.held.iter().rposition(|byte| *byte == b'\n')
        {
            ready = ready.max(last + 1);
        }
        self.give(ready)
    }

    /// Gives what is left: the stream has ended.
    pub fn finish(&mut self) -> Bytes {
        self.give(self.held.len())
    }

    /// What was masked so far.
    #[must_use]
    pub fn hits(&self) -> &Hits {
        &self.hits
    }

    fn give(&mut self, ready: usize) -> Bytes {
        let mut out = self.held.split_to(ready.min(self.held.len()));
        for range in &self.hidden {
            hide(&mut out, range);
        }
        self.hidden.retain_mut(|range| {
            *range = range.start.saturating_sub(ready)..range.end.saturating_sub(ready);
            range.start < range.end
        });
        out.freeze()
    }
}

fn hide(text: &mut [u8], range: &Range<usize>) {
    let end = range.end.min(text.len());
    if let Some(part) = text.get_mut(range.start.min(end)..end) {
        part.fill(MASK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use proptest::prelude::*;

    const KEY: &str = "sk_live/4242+0123456789=";

    fn masks() -> Arc<Masks> {
        Arc::new(Masks::of(&[KEY.as_bytes()]))
    }

    fn stream(pieces: &[&[u8]], flush: Flush) -> (Vec<u8>, Hits) {
        let mut scrubber = Scrubber::new(masks(), flush);
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| scrubber.push(piece)).collect();
        out.extend(scrubber.finish());
        (out, scrubber.hits)
    }

    /// Every way in which an upstream may give the key back.
    fn echoes() -> Vec<Vec<u8>> {
        let mut echoes: Vec<Vec<u8>> =
            forms::of(KEY.as_bytes()).into_iter().map(|(_, bytes)| bytes.to_vec()).collect();
        echoes
            .extend((0..6).map(|n| BASE64_STANDARD.encode(format!("{}{KEY}yy", "x".repeat(n))).into_bytes()));
        echoes
    }

    #[test]
    fn an_echo_is_masked_in_its_own_length_in_every_form() {
        for echo in echoes() {
            let text = [b"before ", &echo[..], b" after"].concat();
            let (out, hits) = stream(&[&text], Flush::ByPosition);
            assert_eq!(out.len(), text.len());
            assert!(out.starts_with(b"before ") && out.ends_with(b" after"));
            // At most the characters at the edges of base64 are left.
            let left = out[7..out.len() - 6].iter().filter(|byte| **byte != b'*').count();
            let text = String::from_utf8_lossy(&echo).into_owned();
            assert!(left <= 16 && hits.iter().count() > 0, "{text}: {}", String::from_utf8_lossy(&out));
            assert_eq!(
                out,
                masks().mask(&[b"before ", &echo[..], b" after"].concat(), &mut Hits::default()).unwrap()
            );
        }
    }

    #[test]
    fn an_echo_that_is_split_anywhere_is_masked() {
        for echo in echoes() {
            let whole = stream(&[&echo], Flush::ByPosition).0;
            for at in 0..=echo.len() {
                let (first, second) = echo.split_at(at);
                for flush in [Flush::ByPosition, Flush::ByLine] {
                    assert_eq!(stream(&[first, second], flush).0, whole, "split at {at}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_key_goes_out_when_any_other_text_would() {
        let mut delays = Vec::new();
        for text in [KEY[..KEY.len() - 1].to_owned(), KEY[1..].to_owned(), "x".repeat(KEY.len() - 1)] {
            let mut scrubber = Scrubber::new(masks(), Flush::ByPosition);
            let mut delay = Vec::new();
            let mut out = Vec::new();
            for byte in text.as_bytes().iter().chain(&[b'.'; 200]) {
                let part = scrubber.push(&[*byte]);
                delay.push(part.len());
                out.extend(part);
            }
            assert_eq!(&out[..text.len()], text.as_bytes());
            delays.push(delay);
        }
        assert_eq!(delays[0], delays[2]);
        assert_eq!(delays[1], delays[2]);
    }

    #[test]
    fn a_line_goes_out_when_it_ends() {
        let mut scrubber = Scrubber::new(masks(), Flush::ByLine);
        assert_eq!(scrubber.push(b"data: 1\n\nda"), "data: 1\n\n");
        assert_eq!(scrubber.push(b"ta: 2"), "");
        assert_eq!(scrubber.push(b"\n"), "data: 2\n");
        let echo = format!("data: {KEY}");
        assert_eq!(scrubber.push(echo.as_bytes()), "");
        assert_eq!(scrubber.push(b"\n\n"), format!("data: {}\n\n", "*".repeat(KEY.len())));
    }

    #[test]
    fn overlapping_echoes_are_masked_to_the_last_byte() {
        let masks = Arc::new(Masks::raw(&[b"abababababababab"]));
        let mut scrubber = Scrubber::new(masks, Flush::ByPosition);
        let mut out = scrubber.push(b"xabababababababababab").to_vec();
        out.extend(scrubber.push(b"abx"));
        out.extend(scrubber.finish());
        assert_eq!(out, format!("x{}x", "*".repeat(22)).as_bytes());
    }

    #[test]
    fn without_anything_to_mask_nothing_is_held_back() {
        let mut scrubber = Scrubber::new(Arc::new(Masks::of(&[])), Flush::ByPosition);
        assert_eq!(scrubber.push(b"anything"), "anything");
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let echoes = echoes();
        prop_oneof![
            3 => proptest::sample::select(echoes.clone()),
            2 => (proptest::sample::select(echoes), any::<proptest::sample::Index>())
                .prop_map(|(echo, at)| echo[..at.index(echo.len())].to_vec()),
            2 => proptest::collection::vec(any::<u8>(), 0..40),
            1 => Just(b"\n".to_vec()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        /// However a text is cut into pieces, the same comes out: as long as what went in, the key masked and nothing else
        /// changed.
        #[test]
        fn the_pieces_that_a_text_comes_in_change_nothing(
            parts in proptest::collection::vec(piece(), 0..12),
            cuts in proptest::collection::vec(1_usize..70, 1..40),
            by_line in any::<bool>(),
        ) {
            let text = parts.concat();
            let mut hits = Hits::default();
            let expected = masks().mask(&text, &mut hits).unwrap_or_else(|| text.clone());
            let mut scrubber = Scrubber::new(masks(), if by_line { Flush::ByLine } else { Flush::ByPosition });
            let (mut out, mut rest, mut cuts) = (Vec::new(), &text[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                out.extend(scrubber.push(piece));
                rest = left;
            }
            out.extend(scrubber.finish());
            prop_assert_eq!(&out, &expected);
            prop_assert_eq!(scrubber.hits, hits);
            prop_assert!(!out.windows(KEY.len()).any(|part| part == KEY.as_bytes()));
            for (found, given) in out.iter().zip(&text) {
                prop_assert!(found == given || *found == b'*');
            }
        }
    }
}
