//! One line of audit, read once without a copy: whether it is canonical JSON, and what the judge must know of it.
//!
//! Pure. Does not judge: it says what stands there. Which types and fields there are is not its business.

use super::number;
use std::ops::ControlFlow;

/// Objects in objects, at most. Events have three.
const DEEPEST: u8 = 32;

/// What a line says of itself; texts are as they stand between their quotes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// `chain.uid`.
    pub(super) chain: &'a [u8],
    /// `chain.prev`.
    pub(super) prev: &'a [u8],
    /// `id`.
    pub(super) id: &'a [u8],
    /// `seq`.
    pub(super) seq: &'a [u8],
    /// `source`.
    pub(super) source: &'a [u8],
    /// `time`.
    pub(super) time: &'a [u8],
    /// `type`.
    pub(super) kind: &'a [u8],
    /// `reason`.
    pub(super) reason: &'a [u8],
    /// `agent`, as the JSON text of an object.
    pub(super) agent: &'a [u8],
}

/// Why a line is not what RFC 8785 makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotCanonical;

impl<'a> Line<'a> {
    /// Reads `bytes`, which must be one object in its canonical form (RFC 8785) and nothing else.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, NotCanonical> {
        std::str::from_utf8(bytes).map_err(|_| NotCanonical)?;
        let (mut line, mut chain) = (Self::default(), &b"{}"[..]);
        let mut scan = Scan { rest: bytes };
        scan.object(0, &mut |key, value| {
            let place = match key {
                b"id" => &mut line.id,
                b"seq" => &mut line.seq,
                b"source" => &mut line.source,
                b"time" => &mut line.time,
                b"type" => &mut line.kind,
                b"reason" => &mut line.reason,
                b"agent" => return line.agent = value,
                b"chain" => return chain = value,
                _ => return,
            };
            *place = inside(value);
        })?;
        if !scan.rest.is_empty() {
            return Err(NotCanonical);
        }
        let mut scan = Scan { rest: chain };
        if chain.starts_with(b"{") {
            scan.object(1, &mut |key, value| match key {
                b"uid" => line.chain = inside(value),
                b"prev" => line.prev = inside(value),
                _ => {}
            })?;
        }
        Ok(line)
    }
}

/// What stands between the quotes of a text; nothing for another value.
fn inside(value: &[u8]) -> &[u8] {
    match value {
        [b'"', text @ .., b'"'] => text,
        _ => b"",
    }
}

struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn value(&mut self, depth: u8) -> Result<(), NotCanonical> {
        match self.rest.first() {
            Some(b'"') => self.text().map(drop),
            Some(b'{') => self.object(depth, &mut |_, _| {}),
            Some(b'[') => self.list(depth),
            Some(b't') => self.take(b"true"),
            Some(b'f') => self.take(b"false"),
            Some(b'n') => self.take(b"null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u8, seen: &mut dyn FnMut(&'a [u8], &'a [u8])) -> Result<(), NotCanonical> {
        if depth > DEEPEST {
            return Err(NotCanonical);
        }
        self.take(b"{")?;
        if self.take(b"}").is_ok() {
            return Ok(());
        }
        let mut before: Option<&[u8]> = None;
        loop {
            let key = self.text()?;
            if before.is_some_and(|before| !comes_after(before, key)) {
                return Err(NotCanonical);
            }
            before = Some(key);
            self.take(b":")?;
            let from = self.rest;
            self.value(depth.saturating_add(1))?;
            let length = from.len().saturating_sub(self.rest.len());
            seen(key, from.get(..length).unwrap_or_default());
            if self.more(b'}')?.is_break() {
                return Ok(());
            }
        }
    }

    fn list(&mut self, depth: u8) -> Result<(), NotCanonical> {
        if depth > DEEPEST {
            return Err(NotCanonical);
        }
        self.take(b"[")?;
        if self.take(b"]").is_ok() {
            return Ok(());
        }
        loop {
            self.value(depth.saturating_add(1))?;
            if self.more(b']')?.is_break() {
                return Ok(());
            }
        }
    }

    /// Past a comma, or past the `end`.
    fn more(&mut self, end: u8) -> Result<ControlFlow<()>, NotCanonical> {
        let (byte, rest) = self.rest.split_first().ok_or(NotCanonical)?;
        self.rest = rest;
        match *byte {
            b',' => Ok(ControlFlow::Continue(())),
            byte if byte == end => Ok(ControlFlow::Break(())),
            _ => Err(NotCanonical),
        }
    }

    fn take(&mut self, word: &[u8]) -> Result<(), NotCanonical> {
        self.rest = self.rest.strip_prefix(word).ok_or(NotCanonical)?;
        Ok(())
    }

    /// A text in its one canonical spelling (RFC 8785 section 3.2.2.2).
    fn text(&mut self) -> Result<&'a [u8], NotCanonical> {
        let body = self.rest.strip_prefix(b"\"").ok_or(NotCanonical)?;
        let mut rest = body;
        loop {
            let at = rest.iter().position(|b| *b == b'"' || *b < b' ' || *b == b'\\').ok_or(NotCanonical)?;
            rest = rest.get(at..).unwrap_or_default();
            match rest {
                [b'"', after @ ..] => {
                    self.rest = after;
                    let length = body.len().saturating_sub(rest.len());
                    return Ok(body.get(..length).unwrap_or_default());
                }
                [b'\\', b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r', after @ ..] => rest = after,
                [b'\\', b'u', b'0', b'0', high @ (b'0' | b'1'), low, after @ ..] if is_bare(*high, *low) => {
                    rest = after;
                }
                _ => return Err(NotCanonical),
            }
        }
    }

    fn number(&mut self) -> Result<(), NotCanonical> {
        let is_part = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest.iter().position(|b| !is_part(b)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        if number::is_canonical(token) { Ok(()) } else { Err(NotCanonical) }
    }
}

/// Whether a control character has no short spelling, so that `\u00` and these digits are its only one.
fn is_bare(high: u8, low: u8) -> bool {
    matches!(low, b'0'..=b'9' | b'a'..=b'f')
        && !(high == b'0' && matches!(low, b'8' | b'9' | b'a' | b'c' | b'd'))
}

/// Whether `key` stands behind `before` in the order of RFC 8785 section 3.2.3: by UTF-16 code units.
fn comes_after(before: &[u8], key: &[u8]) -> bool {
    let plain = |key: &[u8]| key.is_ascii() && !key.contains(&b'\\');
    if plain(before) && plain(key) {
        return before < key;
    }
    let units = |key: &[u8]| -> Option<Vec<u16>> {
        let quoted = [b"\"", key, b"\""].concat();
        let text: String = serde_json::from_slice(&quoted).ok()?;
        Some(text.encode_utf16().collect())
    };
    matches!((units(before), units(key)), (Some(before), Some(key)) if before < key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, good: bool) {
        assert_eq!(Line::read(text.as_bytes()).is_ok(), good, "{text}");
    }

    #[test]
    fn only_the_one_canonical_spelling_passes() {
        for good in [
            "{}",
            r#"{"a":1,"b":[true,false,null,{"c":"d"}]}"#,
            r#"{"a":"\"\\\b\f\n\r\t\u0000\u001f","b":"ü€😂"}"#,
            r#"{"A":1,"a":2,"aa":3}"#,
            r#"{"a":-1,"b":9007199254740991,"c":0.5,"d":1e+21}"#,
            // In UTF-16, U+1F602 begins with 0xD83D and stands before U+FB33.
            "{\"\u{1f602}\":1,\"\u{fb33}\":2}",
            r#"{"\r":1,"1":2}"#,
        ] {
            check(good, true);
        }
        for bad in [
            "",
            "[]",
            "{} ",
            " {}",
            "{\"a\": 1}",
            r#"{"a":1,"a":2}"#,
            r#"{"b":1,"a":2}"#,
            "{\"\u{fb33}\":1,\"\u{1f602}\":2}",
            r#"{"1":1,"\r":2}"#,
            r#"{"a":"\/"}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\u000a"}"#,
            r#"{"a":"\u001F"}"#,
            r#"{"a":"\ud83d\ude02"}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":01}"#,
            r#"{"a":-0}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":tru}"#,
            "{}{}",
        ] {
            check(bad, false);
        }
        assert!(Line::read(b"{\"a\":\"\xff\"}").is_err());
        let nested = |levels: usize| format!("{}{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        check(&nested(2_000_000), false);
    }

    #[test]
    fn what_the_judge_must_know_is_found_whatever_stands_around_it() {
        let text = concat!(
            r#"{"agent":{"chain":"X","id":"no"},"chain":{"prev":"p","uid":"u"},"id":"i","reason":"r","#,
            r#""seq":"s","source":"o","time":"t","type":"k","vault":{"type":"no"}}"#
        );
        let expected = Line {
            chain: b"u",
            prev: b"p",
            id: b"i",
            seq: b"s",
            source: b"o",
            time: b"t",
            kind: b"k",
            reason: b"r",
            agent: br#"{"chain":"X","id":"no"}"#,
        };
        assert_eq!(Line::read(text.as_bytes()), Ok(expected));
        assert_eq!(Line::read(br#"{"chain":7,"id":7}"#), Ok(Line::default()));
    }
}
