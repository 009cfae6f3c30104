//! A key as a field of a form or a member of a JSON object: the client's own of that name go, ours comes last, and the rest
//! stays byte for byte.
//!
//! Pure. Takes whole bodies; that they have a cap is for the caller.

use super::without;
use crate::broker::fault::Fault;
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{collections::BTreeSet, fmt};
use zeroize::Zeroizing;

/// The largest body that a key is put into, in bytes.
pub const LARGEST: usize = 1024 * 1024;

/// Refuses a body that is not of the type `media`, or that is encoded. None at all is fine.
///
/// # Errors
/// [`Fault::BadBody`].
pub fn check_type(headers: &HeaderMap, media: &str) -> Result<(), Fault> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Fault::BadBody);
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return Err(Fault::BadBody) };
    let text = only.to_str().map_err(|_| Fault::BadBody)?;
    let (found, parameters) = text.split_once(';').unwrap_or((text, ""));
    let charset = parameters.trim().to_ascii_lowercase();
    let is_utf8 = !charset.contains("charset") || charset.contains("utf-8") || charset.contains("us-ascii");
    if found.trim().eq_ignore_ascii_case(media) && is_utf8 { Ok(()) } else { Err(Fault::BadBody) }
}

/// A form with the encoded `key` as `name`.
///
/// # Errors
/// [`Fault::BadBody`]: it is no form.
pub fn form(body: &[u8], name: &str, key: &[u8]) -> Result<Bytes, Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::BadBody)?;
    let kept = without(text, name).ok_or(Fault::BadBody)?;
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + name.len() * 3 + key.len() + 2));
    for pair in kept {
        out.extend_from_slice(pair.as_bytes());
        out.push(b'&');
    }
    super::append_encoded(&mut out, name.as_bytes());
    out.push(b'=');
    out.extend_from_slice(key);
    Ok(Bytes::from_owner(out))
}

/// A JSON object with `key`, which is a JSON text, as the member that `names` lead to; objects on the way are made.
///
/// # Errors
/// [`Fault::BadBody`]: it is no JSON object, something on the way is none, or a name is there twice on the way.
pub fn json(body: &[u8], names: &[String], key: &[u8]) -> Result<Bytes, Fault> {
    let object: Object<'_> = serde_json::from_slice(body).map_err(|_| Fault::BadBody)?;
    let room = body.len() + key.len() + names.iter().map(|name| name.len() * 6 + 8).sum::<usize>();
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    write(&mut out, &object, names, key)?;
    Ok(Bytes::from_owner(out))
}

fn write(out: &mut Vec<u8>, object: &Object<'_>, names: &[String], key: &[u8]) -> Result<(), Fault> {
    let Some((name, rest)) = names.split_first() else { return Err(Fault::BadBody) };
    out.push(b'{');
    let mut inner = None;
    for (found, value) in &object.0 {
        // Some readers take names of either case for one another.
        if found.eq_ignore_ascii_case(name) {
            if found == name {
                inner = Some(*value);
            }
            continue;
        }
        put(out, found);
        out.extend_from_slice(value.get().as_bytes());
        out.push(b',');
    }
    put(out, name);
    if rest.is_empty() {
        out.extend_from_slice(key);
    } else {
        let inner = match inner {
            Some(value) => serde_json::from_str(value.get()).map_err(|_| Fault::BadBody)?,
            None => Object(Vec::new()),
        };
        write(out, &inner, rest, key)?;
    }
    out.push(b'}');
    Ok(())
}

fn put(out: &mut Vec<u8>, name: &str) {
    // A text cannot fail.
    let _ = serde_json::to_writer(&mut *out, name);
    out.push(b':');
}

/// The members of an object, in order, each name once.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut names) = (Vec::new(), BTreeSet::new());
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom("a name is there twice"));
            }
            members.push((name, value));
        }
        Ok(Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, pointer: &[&str], expected: Result<&str, Fault>) {
        let names: Vec<String> = pointer.iter().map(|name| (*name).to_owned()).collect();
        let found = json(body.as_bytes(), &names, b"\"S\"");
        assert_eq!(
            found.map(|body| String::from_utf8(body.to_vec()).unwrap()),
            expected.map(str::to_owned),
            "{body}"
        );
    }

    #[test]
    fn a_member_is_put_last_and_nothing_else_changes() {
        check("{}", &["key"], Ok(r#"{"key":"S"}"#));
        check(
            r#"{ "a": 1.10, "key": "x", "b": [1, 2e400] }"#,
            &["key"],
            Ok(r#"{"a":1.10,"b":[1, 2e400],"key":"S"}"#),
        );
        check(r#"{"Key":1,"k\u0065y":2}"#, &["key"], Ok(r#"{"key":"S"}"#));
        check(
            r#"{"auth":{"user":"u"},"x":1}"#,
            &["auth", "key"],
            Ok(r#"{"x":1,"auth":{"user":"u","key":"S"}}"#),
        );
        check("{}", &["auth", "key"], Ok(r#"{"auth":{"key":"S"}}"#));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, "[]", "\"x\"", "", "{", r#"{"a":1} x"#] {
            check(bad, &["key"], Err(Fault::BadBody));
        }
        check(r#"{"auth":[]}"#, &["auth", "key"], Err(Fault::BadBody));
        check(r#"{"auth":{"a":1,"a":2}}"#, &["auth", "key"], Err(Fault::BadBody));
    }

    #[test]
    fn a_form_s_field_is_put_last() {
        let found = |body: &str| {
            form(body.as_bytes(), "client_secret", b"S").map(|body| String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(found("").unwrap(), "client_secret=S");
        assert_eq!(found("a=b+c&client_secret=x&CLIENT%5FSECRET=y").unwrap(), "a=b+c&client_secret=S");
        assert_eq!(found("a=%zz&%z=1"), Err(Fault::BadBody));
    }

    #[test]
    fn the_type_must_fit() {
        let check = |value: &'static str, expected: bool| {
            let headers: HeaderMap =
                [(header::CONTENT_TYPE, http::HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(check_type(&headers, "application/json").is_ok(), expected, "{value}");
        };
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("application/json; charset=utf-16", false);
        check("text/json", false);
        assert!(check_type(&HeaderMap::new(), "application/json").is_err());
    }
}
