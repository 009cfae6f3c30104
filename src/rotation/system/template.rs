//! Texts and JSON of the config with places for what differs: `{user}`, `{value}`, `{id}`, `{rotation}`, `{basic}`, `{key}`.
//!
//! One of the few places that look at the bytes of a secret. Pure. Where a text may stand it does not know: the check does.

use super::Order;
use crate::secret::SecretValue;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use zeroize::Zeroizing;

/// The places, without braces. `key` is the provider's name of a key that it minted, `basic` is `USER:VALUE` in base64 (RFC 7617).
pub const PLACES: [&str; 6] = ["user", "value", "id", "rotation", "basic", "key"];

/// The places in `text`, known or not; `None`: a brace is open.
#[must_use]
pub fn places(text: &str) -> Option<Vec<&str>> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((_, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}')?;
        found.push(name);
        rest = after;
    }
    Some(found)
}

/// The places in the texts of `json`, its keys aside; `None`: a brace is open.
#[must_use]
pub fn places_in(json: &Value) -> Option<Vec<&str>> {
    match json {
        Value::String(text) => places(text),
        Value::Array(list) => list.iter().map(places_in).collect::<Option<Vec<_>>>().map(|all| all.concat()),
        Value::Object(map) => map.values().map(places_in).collect::<Option<Vec<_>>>().map(|all| all.concat()),
        _ => Some(Vec::new()),
    }
}

/// `text` with what `order` says in its places.
pub(super) fn filled(text: &str, order: &Order<'_>) -> Zeroizing<String> {
    fill(text, order, |out, part| out.push_str(part))
}

/// The same for a path: what is put in is percent-encoded, so that it stays one segment.
pub(in crate::rotation) fn filled_path(text: &str, order: &Order<'_>) -> String {
    let path = fill(text, order, |out, part| {
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    });
    path.as_str().to_owned()
}

fn fill(text: &str, order: &Order<'_>, put: impl Fn(&mut String, &str)) -> Zeroizing<String> {
    let value = order.value.expose();
    let room = text.len() + 2 * (order.user.len() + value.len()) + 256;
    let mut out = Zeroizing::new(String::with_capacity(room));
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, after)) = behind.split_once('}') else { break };
        match name {
            "user" | "key" => put(&mut out, order.user),
            "value" => put(&mut out, value),
            "id" => put(&mut out, order.id),
            "rotation" => put(&mut out, order.rotation.as_str()),
            "basic" => {
                let pair = Zeroizing::new(format!("{}:{value}", order.user));
                put(&mut out, &Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes())));
            }
            _ => {}
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `json` as text, its texts filled.
pub(super) fn filled_json(json: &Value, order: &Order<'_>) -> Zeroizing<Vec<u8>> {
    let room = json.to_string().len() + 4 * order.value.expose().len() + 1024;
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    write(&mut out, json, &|text| filled(text, order));
    out
}

/// The object `plain` with the member `value`.
pub(super) fn with_value(plain: &Value, value: &SecretValue) -> Zeroizing<Vec<u8>> {
    let plain = plain.to_string();
    let mut out = Zeroizing::new(Vec::with_capacity(plain.len() + 6 * value.expose().len() + 32));
    out.extend_from_slice(plain.trim_end_matches('}').as_bytes());
    out.extend_from_slice(b",\"value\":");
    // A text always has a spelling.
    let _ = serde_json::to_writer(&mut *out, value.expose());
    out.push(b'}');
    out
}

/// `text` without `value`.
pub(super) fn masked(text: &str, value: &SecretValue) -> String {
    if value.is_empty() { text.to_owned() } else { text.replace(value.expose(), "[redacted]") }
}

fn write(out: &mut Vec<u8>, json: &Value, fill: &impl Fn(&str) -> Zeroizing<String>) {
    match json {
        Value::String(text) => {
            let _ = serde_json::to_writer(out, fill(text).as_str());
        }
        Value::Array(list) => {
            out.push(b'[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(out, item, fill);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (at, (key, item)) in map.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                let _ = serde_json::to_writer(&mut *out, key);
                out.push(b':');
                write(out, item, fill);
            }
            out.push(b'}');
        }
        plain => out.extend_from_slice(plain.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Act, *};
    use crate::name::RotationName;
    use serde_json::json;
    use std::time::Duration;

    fn check(fill: impl Fn(&Order<'_>) -> String, expected: &str) {
        let (rotation, value) = (RotationName::new("orders").unwrap(), SecretValue::new("a\"/b".into()));
        let until = Duration::ZERO;
        let order = Order { act: Act::Set, rotation: &rotation, id: "01", user: "o b", value: &value, until };
        assert_eq!(fill(&order), expected);
    }

    #[test]
    fn places_are_filled_and_spelled_as_where_they_stand_needs() {
        let text = |bytes: Zeroizing<Vec<u8>>| String::from_utf8(bytes.to_vec()).unwrap();
        check(|order| filled("x-{user}-{value}.", order).to_string(), "x-o b-a\"/b.");
        check(|order| filled("Basic {basic}", order).to_string(), "Basic byBiOmEiL2I=");
        check(|order| filled_path("/users/{user}/{id}", order), "/users/o%20b/01");
        let body = json!({"p": "{value}", "n": 1, "l": ["{rotation}", null], "m": {"{user}": true}});
        let expected = r#"{"l":["orders",null],"m":{"{user}":true},"n":1,"p":"a\"/b"}"#;
        check(|order| text(filled_json(&body, order)), expected);
        check(|order| text(with_value(&json!({"a": 1}), order.value)), r#"{"a":1,"value":"a\"/b"}"#);
        check(|order| masked("no a\"/b here", order.value), "no [redacted] here");
    }

    #[test]
    fn places_are_found_and_an_open_brace_too() {
        assert_eq!(places("{user}:{x}"), Some(vec!["user", "x"]));
        assert_eq!(places("{user"), None);
        assert_eq!(places_in(&json!({"a": ["{value}", 1], "b": "{id}"})), Some(vec!["value", "id"]));
    }
}
