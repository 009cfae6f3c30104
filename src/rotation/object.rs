//! JSON objects with secrets in them: written without a second copy, compared without showing.
//!
//! One of the few places that look at the bytes of a secret. Pure.

use crate::secret::SecretValue;
use zeroize::Zeroizing;

/// A field's JSON text.
pub(super) type Field = (String, SecretValue);

/// The object of `fields` as they are.
pub(super) fn all(fields: &[Field]) -> Zeroizing<Vec<u8>> {
    with_all(fields, &[])
}

/// The object with these fields set to texts, each once, and all other fields as they are.
pub(super) fn with_all(fields: &[Field], set: &[(&str, &SecretValue)]) -> Zeroizing<Vec<u8>> {
    let kept = fields.iter().filter(|(name, _)| set.iter().all(|(field, _)| name != field));
    let room = fields.iter().map(|(name, text)| 6 * name.len() + text.expose().len() + 4).sum::<usize>();
    let of_set = |(field, value): &(&str, &SecretValue)| 6 * (field.len() + value.expose().len()) + 16;
    let room = room + set.iter().map(of_set).sum::<usize>() + 16;
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    out.push(b'{');
    let mut written = 0_usize;
    for (name, text) in kept {
        if written > 0 {
            out.push(b',');
        }
        quote(&mut out, name);
        out.push(b':');
        out.extend_from_slice(text.expose().as_bytes());
        written += 1;
    }
    for (field, value) in set {
        if written > 0 {
            out.push(b',');
        }
        quote(&mut out, field);
        out.push(b':');
        quote(&mut out, value.expose());
        written += 1;
    }
    out.push(b'}');
    out
}

/// The JSON text of a field, to be read and wiped.
pub(super) fn json(field: &SecretValue) -> &str {
    field.expose()
}

/// The text that the JSON text of a field spells, if it is one.
pub(super) fn text(field: &SecretValue) -> Option<Zeroizing<String>> {
    serde_json::from_str(field.expose()).ok().map(Zeroizing::new)
}

/// The text in the field `name`, if there is one.
pub(super) fn field(fields: &[Field], name: &str) -> Option<Zeroizing<String>> {
    fields.iter().find(|(known, _)| known == name).and_then(|(_, json)| text(json))
}

/// Whether the JSON text of a field is the text `value`, however it is escaped.
pub(super) fn says(json: &SecretValue, value: &SecretValue) -> bool {
    let text: Result<Zeroizing<String>, _> = serde_json::from_str(json.expose());
    text.is_ok_and(|text| text.as_str() == value.expose())
}

fn quote(out: &mut Vec<u8>, text: &str) {
    // A text always has a spelling.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned())
    }

    #[test]
    fn a_field_is_replaced_and_the_others_stay() {
        let check = |fields: &[(&str, &str)], expected: &str| {
            let fields: Vec<Field> =
                fields.iter().map(|(name, text)| ((*name).to_owned(), secret(text))).collect();
            let object = with_all(&fields, &[("key", &secret("a\"<\u{7}b"))]);
            assert_eq!(std::str::from_utf8(&object).unwrap(), expected);
        };
        check(&[], r#"{"key":"a\"<\u0007b"}"#);
        check(
            &[("a", "1"), ("key", r#""old""#), ("b", r#"{"c":[]}"#)],
            r#"{"a":1,"b":{"c":[]},"key":"a\"<\u0007b"}"#,
        );
    }

    #[test]
    fn texts_are_compared_and_not_their_spellings() {
        assert!(says(&secret(r#""a\u003cb""#), &secret("a<b")));
        assert!(!says(&secret(r#""a<b""#), &secret("a<")));
        assert!(!says(&secret("12"), &secret("12")));
    }
}
