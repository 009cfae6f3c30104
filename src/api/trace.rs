//! `traceparent`: where in a trace the peer says that its request belongs (W3C Trace Context, level 1).
//!
//! Pure. What is not exactly of its form is as if it were not there, so that nothing else than hexadecimal digits can come
//! into an event by it; and nothing is decided by it.

use crate::access::Trace;
use http::HeaderMap;

const HEADER: &str = "traceparent";
/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;

/// The trace that `headers` name, if they do so once and well.
pub(super) fn read(headers: &HeaderMap) -> Option<Trace> {
    let mut found = headers.get_all(HEADER).iter();
    let (only, None) = (found.next()?, found.next()) else { return None };
    let text = only.as_bytes();
    let (known, rest) = (text.get(..LENGTH)?, text.get(LENGTH..)?);
    let mut parts = known.split(|byte| *byte == b'-');
    let [version] = unhex(parts.next()?)?;
    let (id, span) = (unhex(parts.next()?)?, unhex(parts.next()?)?);
    let [_flags] = unhex(parts.next()?)?;
    // A later version may have more to say, behind another dash.
    let whole = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    (whole && parts.next().is_none() && id != [0; 16] && span != [0; 8]).then_some(Trace { id, span })
}

/// Lower-case digits only, as the standard asks.
fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        for digit in pair {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | digit;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;
    use http::{HeaderName, HeaderValue};

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[track_caller]
    fn check(values: &[&str], expected: bool) {
        let header = |value: &&str| {
            (HeaderName::from_static(HEADER), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let found = read(&values.iter().map(header).collect());
        assert_eq!(found.is_some(), expected, "{values:?}");
        if let Some(Trace { id, span }) = found {
            assert_eq!((hex(&id).as_str(), hex(&span).as_str()), (ID, SPAN));
        }
    }

    #[test]
    fn what_is_exactly_of_the_form_is_taken_and_nothing_else() {
        let with = |version: &str, flags: &str| format!("{version}-{ID}-{SPAN}-{flags}");
        check(&[&with("00", "01")], true);
        check(&[&with("00", "ff")], true);
        check(&[&with("cc", "01")], true);
        check(&[&with("cc", "01-what-the-future-will-be-like")], true);
        for wrong in [
            with("00", "01-x"),
            with("cc", "01.x"),
            with("ff", "01"),
            with("0", "01"),
            with("00", "1"),
            with("00", "0g"),
            with("00", "01").to_uppercase(),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{ID}-{}-01", "0".repeat(16)),
            format!("00-{ID}{SPAN}--01"),
            format!("00-sk_live_4242aaaaaaaaaaaaaaaaaaaa-{SPAN}-01"),
            format!(" 00-{ID}-{SPAN}-01"),
            String::new(),
        ] {
            check(&[&wrong], false);
        }
        check(&[], false);
        check(&[&with("00", "01"), &with("00", "01")], false);
    }
}
