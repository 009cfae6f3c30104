//! Texts of any origin as canonical JSON writes them, and how much of one fits under a cap.
//!
//! Pure. Does not write the quotes.

use crate::crypto::append_hex;

/// The longest head of `value` whose escaped form has at most `cap` bytes, and how many escaped bytes follow it.
pub(super) fn fitting(value: &str, cap: usize) -> (&str, usize) {
    if value.len().saturating_mul(6) <= cap {
        return (value, 0);
    }
    let (mut end, mut kept, mut size) = (None, 0, 0_usize);
    for (at, c) in value.char_indices() {
        let width = match c {
            '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
            c if c < ' ' => 6,
            c => c.len_utf8(),
        };
        if end.is_none() && size.saturating_add(width) > cap {
            (end, kept) = (Some(at), size);
        }
        size = size.saturating_add(width);
    }
    match end {
        None => (value, 0),
        Some(at) => (value.get(..at).unwrap_or_default(), size.saturating_sub(kept)),
    }
}

/// RFC 8785 section 3.2.2.2: what must be escaped is, in its shortest form; all else stands as it is.
pub(super) fn escape(out: &mut Vec<u8>, value: &str) {
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b < b' ' || *b == b'"' || *b == b'\\') {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = from.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => {
                out.extend_from_slice(b"\\u00");
                append_hex(out, &[*other]);
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}
