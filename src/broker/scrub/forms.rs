//! A value in every spelling in which an upstream could give it back.
//!
//! Pure. Knows the spellings that are named here and no others: a value that was reversed, encrypted, or encoded twice is
//! not found.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

/// How a value may be spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// As it is.
    Raw,
    /// Percent-encoded (RFC 3986 section 2.1), by one of the usual sets of characters, or all of it; or as a form's field.
    Percent,
    /// Inside a JSON string (RFC 8259 section 7).
    Json,
    /// With character references (HTML section 13.5).
    Html,
    /// Hexadecimal.
    Hex,
    /// Base64 (RFC 4648 sections 4 and 5), wherever in the encoded text it begins. The first and the last character may hold
    /// bits of what stands beside the value; they are not part of it.
    Base64,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Raw, Self::Percent, Self::Json, Self::Html, Self::Hex, Self::Base64];

    /// The word of the events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Percent => "percent",
            Self::Json => "json",
            Self::Html => "html",
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }
}

/// The bytes of one spelling. Wiped when dropped.
pub(super) type Spelled = Zeroizing<Vec<u8>>;

/// Every spelling of `value`, each once: where two forms are the same bytes, the first of [`Form::ALL`] has them.
pub(super) fn of(value: &[u8]) -> Vec<(Form, Spelled)> {
    let mut found: Vec<(Form, Spelled)> = Vec::new();
    let mut add = |form, bytes: Vec<u8>| {
        let bytes = Zeroizing::new(bytes);
        if found.iter().all(|(_, known)| *known != bytes) {
            found.push((form, bytes));
        }
    };
    add(Form::Raw, value.to_vec());
    for kept in KEPT {
        for digits in [UPPER, LOWER] {
            add(Form::Percent, percent(value, kept, digits));
        }
    }
    for digits in [UPPER, LOWER] {
        let spaces = percent(value, &[KEPT_BY_FORMS, b" "].concat(), digits);
        add(Form::Percent, spaces.into_iter().map(|byte| if byte == b' ' { b'+' } else { byte }).collect());
    }
    for unicode in [&b""[..], b"<>&", b"<>&'", b"<>&'\""] {
        for digits in [UPPER, LOWER] {
            add(Form::Json, json(value, unicode, b"", digits));
            add(Form::Json, json(value, unicode, b"/", digits));
        }
    }
    for [double, single] in [
        ["\"", "'"],
        ["&quot;", "'"],
        ["&quot;", "&#39;"],
        ["&#34;", "&#39;"],
        ["&quot;", "&#x27;"],
        ["&quot;", "&#039;"],
        ["&quot;", "&apos;"],
    ] {
        add(Form::Html, html(value, double, single));
    }
    for digits in [LOWER, UPPER] {
        add(Form::Hex, value.iter().flat_map(|byte| hex(*byte, digits)).collect());
    }
    for offset in 0..3 {
        for url in [false, true] {
            add(Form::Base64, base64(value, offset, url));
        }
    }
    found
}

const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

/// What the usual encoders leave as it is, beside letters and digits: RFC 3986's unreserved characters, `encodeURIComponent`,
/// `encodeURI`, Python's `quote`. With none, letters and digits are encoded too.
const KEPT: [&[u8]; 5] = [b"-._~", b"-._~!*'()", b"-._~!*'();/?:@&=+$,#", b"-._~/", b""];
/// What a form's encoder leaves as it is (WHATWG URL, "application/x-www-form-urlencoded percent-encode set").
const KEPT_BY_FORMS: &[u8] = b"-._*";

fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().unwrap_or_default();
    [digit(byte >> 4), digit(byte & 15)]
}

fn percent(value: &[u8], kept: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * 3);
    for byte in value {
        if !kept.is_empty() && (byte.is_ascii_alphanumeric() || kept.contains(byte)) {
            out.push(*byte);
        } else {
            out.push(b'%');
            out.extend(hex(*byte, digits));
        }
    }
    out
}

fn json(value: &[u8], unicode: &[u8], slashed: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * 6);
    for byte in value {
        if unicode.contains(byte) {
            out.extend(b"\\u00");
            out.extend(hex(*byte, digits));
        } else {
            if matches!(byte, b'"' | b'\\') || slashed.contains(byte) {
                out.push(b'\\');
            }
            out.push(*byte);
        }
    }
    out
}

fn html(value: &[u8], double: &str, single: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * 6);
    for byte in value {
        match byte {
            b'&' => out.extend(b"&amp;"),
            b'<' => out.extend(b"&lt;"),
            b'>' => out.extend(b"&gt;"),
            b'"' => out.extend(double.as_bytes()),
            b'\'' => out.extend(single.as_bytes()),
            byte => out.push(*byte),
        }
    }
    out
}

/// The characters that `value` alone decides, where `offset` bytes of the group of three stand before it.
fn base64(value: &[u8], offset: usize, url: bool) -> Vec<u8> {
    let mut padded = Zeroizing::new(vec![0; offset]);
    padded.reserve_exact(value.len());
    padded.extend_from_slice(value);
    let text = Zeroizing::new(if url {
        BASE64_URL_SAFE_NO_PAD.encode(&*padded)
    } else {
        BASE64_STANDARD_NO_PAD.encode(&*padded)
    });
    let (first, last) = ((offset * 8).div_ceil(6), padded.len() * 8 / 6);
    text.as_bytes().get(first..last).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, form: Form, expected: &[&str]) {
        let forms = of(value.as_bytes());
        let found = forms.iter().filter(|(found, _)| *found == form);
        let found: Vec<_> = found.map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap()).collect();
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn a_plain_key_has_few_spellings() {
        let key = "sk_live_0123456789";
        check(key, Form::Raw, &[key]);
        check(key, Form::Json, &[]);
        check(key, Form::Html, &[]);
        check(
            key,
            Form::Hex,
            &["736b5f6c6976655f30313233343536373839", "736B5F6C6976655F30313233343536373839"],
        );
        check(
            key,
            Form::Base64,
            &["c2tfbGl2ZV8wMTIzNDU2Nzg5", "NrX2xpdmVfMDEyMzQ1Njc4O", "za19saXZlXzAxMjM0NTY3OD"],
        );
        let all = "%73%6B%5F%6C%69%76%65%5F%30%31%32%33%34%35%36%37%38%39";
        check(key, Form::Percent, &[all, &all.replace('B', "b").replace('F', "f").replace('C', "c")]);
    }

    #[test]
    fn what_is_special_somewhere_is_spelled_as_it_is_there() {
        check("a/b", Form::Json, &["a\\/b"]);
        let percent: Vec<String> = of(b"a /+")
            .into_iter()
            .filter(|(form, _)| *form == Form::Percent)
            .map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap())
            .collect();
        for expected in ["a%20%2F%2B", "a%20%2f%2b", "a%20/+", "a%20/%2B", "a+%2F%2B", "%61%20%2F%2B"] {
            assert!(percent.iter().any(|found| found == expected), "{expected} of {percent:?}");
        }
        check(
            "a&b'",
            Form::Html,
            &["a&amp;b'", "a&amp;b&#39;", "a&amp;b&#x27;", "a&amp;b&#039;", "a&amp;b&apos;"],
        );
        let json: Vec<_> =
            of(b"<\"").into_iter().filter(|(form, _)| *form == Form::Json).map(|(_, b)| b).collect();
        for expected in ["<\\\"", "\\u003C\\\"", "\\u003c\\\"", "\\u003c\\u0022"] {
            assert!(json.iter().any(|found| ***found == *expected.as_bytes()), "{expected}");
        }
    }

    #[test]
    fn base64_is_found_wherever_it_stands_in_a_longer_text() {
        let key = b"sk_live_0123456789/+";
        let found: Vec<_> = of(key).into_iter().filter(|(form, _)| *form == Form::Base64).collect();
        for before in 0..9 {
            for after in 0..4 {
                let text = [&vec![b'x'; before][..], key, &vec![b'y'; after]].concat();
                for encoded in [BASE64_STANDARD_NO_PAD.encode(&text), BASE64_URL_SAFE_NO_PAD.encode(&text)] {
                    let is_in = |bytes: &Spelled| encoded.contains(std::str::from_utf8(bytes).unwrap());
                    assert!(found.iter().any(|(_, bytes)| is_in(bytes)), "{before} {after} {encoded}");
                }
            }
        }
    }
}
