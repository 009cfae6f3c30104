//! A value as the bytes of a body: put together in one buffer that is wiped when the body is dropped.
//!
//! The only file of `api` that sees a secret.

use crate::{
    access::{Content, Form, Held, Served, Value},
    clock,
};
use bytes::Bytes;
use std::io::Write;
use zeroize::Zeroizing;

/// More than everything around the value takes: names of at most 63 bytes, kinds, numbers, times.
const AROUND: usize = 512;

type Buffer = Zeroizing<Vec<u8>>;

/// The value and what is known of it, as JSON.
pub(super) fn json(served: &Served, form: Form) -> Bytes {
    let previous = served.previous.as_ref();
    let room = room(&served.held.value) + previous.map_or(0, |held| room(&held.value)) + AROUND;
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    out.push(b'{');
    write_held(&mut out, &served.held);
    if served.stale {
        put(&mut out, ",\"stale\":true");
    }
    match (form, previous) {
        (Form::JsonWithPrevious, Some(held)) => {
            put(&mut out, ",\"previous\":{");
            write_held(&mut out, held);
            out.push(b'}');
        }
        (Form::JsonWithPrevious, None) => put(&mut out, ",\"previous\":null"),
        _ => {}
    }
    out.push(b'}');
    debug_assert!(out.len() <= room, "a buffer that grows leaves an unwiped copy behind");
    Bytes::from_owner(out)
}

/// The bare value; `None` for one of several fields. A JSON string is given without its quotes and escapes, anything else as
/// its JSON text.
pub(super) fn plain(served: &Served) -> Option<Bytes> {
    let one = match served.held.value.content() {
        Content::One(text) => text,
        Content::Fields(fields) => match fields.as_slice() {
            [(_, text)] => text,
            _ => return None,
        },
    };
    let text = one.expose();
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    // Never longer than its JSON text, so the buffer does not grow.
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    match inside {
        Some(inside) => unescape(&mut out, inside),
        None => put(&mut out, text),
    }
    Some(Bytes::from_owner(out))
}

/// At least as many bytes as `write_held` writes.
fn room(value: &Value) -> usize {
    let content = match value.content() {
        Content::One(text) => text.expose().len(),
        // A byte of a name takes at most six as JSON, and then `"":,`.
        Content::Fields(fields) => {
            fields.iter().map(|(name, text)| name.len() * 6 + 4 + text.expose().len()).sum()
        }
    };
    content + AROUND
}

fn write_held(out: &mut Buffer, held: &Held) {
    let value = &held.value;
    put(out, "\"name\":\"");
    put(out, value.name().as_str());
    put(out, "\",\"kind\":\"");
    put(out, value.kind());
    put(out, "\",\"generation\":");
    // Writing to a Vec cannot fail.
    let _ = write!(**out, "{}", value.generation());
    match value.content() {
        Content::One(text) => {
            put(out, ",\"value\":");
            put(out, text.expose());
        }
        Content::Fields(fields) => {
            put(out, ",\"data\":{");
            for (at, (name, text)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                let _ = serde_json::to_writer(&mut **out, name);
                out.push(b':');
                put(out, text.expose());
            }
            out.push(b'}');
        }
    }
    let _ = write!(**out, ",\"issued_at\":\"{}\",\"expires_at\":", clock::rfc3339(value.issued_at()));
    match held.expires_at {
        Some(end) => {
            let _ = write!(**out, "\"{}\"", clock::rfc3339(end));
        }
        None => put(out, "null"),
    }
    let _ = match value.lease() {
        Some(lease) => write!(**out, ",\"lease\":{{\"renewable\":{}}}", lease.renewable),
        None => write!(**out, ",\"lease\":null"),
    };
}

fn put(out: &mut Buffer, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Undoes the escapes of a JSON string (RFC 8259 section 7), straight into the buffer. The text was checked when it came
/// from Vault; what is still no escape is kept as it stands.
fn unescape(out: &mut Buffer, mut text: &str) {
    while let Some(at) = text.find('\\') {
        let (before, escape) = text.split_at(at);
        put(out, before);
        let (length, character) = unescaped(escape);
        match character {
            Some(character) => put(out, character.encode_utf8(&mut [0; 4])),
            None => put(out, escape.get(..length).unwrap_or(escape)),
        }
        text = escape.get(length..).unwrap_or_default();
    }
    put(out, text);
}

/// How long the escape at the start of `text` is, and what it stands for.
fn unescaped(text: &str) -> (usize, Option<char>) {
    let simple = match text.as_bytes().get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(character @ (b'"' | b'\\' | b'/')) => char::from(*character),
        Some(b'u') => return unescaped_unicode(text),
        _ => return (1, None),
    };
    (2, Some(simple))
}

/// `\uXXXX`, or two of them that are one character beyond U+FFFF.
fn unescaped_unicode(text: &str) -> (usize, Option<char>) {
    let unit = |at: usize| text.get(at..at + 4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let Some(first) = unit(2) else { return (1, None) };
    let second = if text.get(6..8) == Some("\\u") { unit(8) } else { None };
    match char::decode_utf16([first].into_iter().chain(second)).next() {
        Some(Ok(character)) => (6 * character.len_utf16(), Some(character)),
        // Half a pair has no UTF-8.
        _ => (6, Some(char::REPLACEMENT_CHARACTER)),
    }
}
