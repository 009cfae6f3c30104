//! The parts of Vault's envelope that we look at in an answer that is passed on.
//!
//! Pure. Changes nothing in it.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use std::ops::Range;
use zeroize::Zeroizing;

/// Those parts; all are absent in what is no envelope.
#[derive(Default, Deserialize)]
pub(super) struct Envelope {
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    auth: Option<Given>,
    #[serde(default)]
    wrap_info: Option<Wrap>,
    #[serde(default)]
    lease_id: Zeroizing<String>,
    #[serde(default)]
    lease_duration: u64,
}

/// Where what is behind a wrapping token was asked for; empty where that is not said. Whatever stands there, that it does is seen.
struct Wrap(String);

impl<'de> Deserialize<'de> for Wrap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Info {
            creation_path: String,
        }
        // It has the wrapping token in it.
        let text =
            Zeroizing::new(String::from(Box::<str>::from(Box::<RawValue>::deserialize(deserializer)?)));
        Ok(Self(serde_json::from_str(&text).map(|Info { creation_path }| creation_path).unwrap_or_default()))
    }
}

/// Something, and not null.
struct Given;

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Envelope {
    /// Of an answer that is nearly an envelope, and has a word in it that a token would stand behind, the worst is believed.
    pub(super) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            let has = |word: &[u8]| memchr::memmem::find(body, word).is_some();
            let is_odd =
                body.trim_ascii_start().starts_with(b"{") && (has(b"\"auth\"") || has(b"\"wrap_info\""));
            Self { auth: is_odd.then_some(Given), ..Self::default() }
        })
    }

    /// That of an answer whose rest is not here: what it hands out is for `top` to see.
    pub(super) fn cut(beginning: &[u8]) -> Self {
        let id = beginning.strip_prefix(br#"{"request_id":""#).and_then(|rest| rest.get(..36));
        let request_id = id.and_then(|id| String::from_utf8(id.to_vec()).ok());
        Self { request_id, ..Self::default() }
    }

    /// Whether it hands out a token: no path that a rule may name does.
    pub(super) fn gives_token(&self) -> bool {
        self.auth.is_some()
    }

    /// Whether it hands out something behind a wrapping token.
    pub(super) fn is_wrapped(&self) -> bool {
        self.wrap_info.is_some()
    }

    /// Whether it hands out what is at `path` behind a wrapping token, and nothing else.
    pub(super) fn wraps(&self, path: &str) -> bool {
        self.wrap_info.as_ref().is_some_and(|wrap| wrap.0.trim_matches('/') == path.trim_matches('/'))
    }

    /// The lease's id, and the seconds until its end.
    pub(super) fn lease(&self) -> Option<(Zeroizing<String>, u64)> {
        (!self.lease_id.is_empty()).then(|| (self.lease_id.clone(), self.lease_duration))
    }

    /// Vault's id of the request, if it looks like one.
    pub(super) fn request_id(self) -> Option<String> {
        let is_id = |id: &String| id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        self.request_id.filter(is_id)
    }
}

/// The seconds of a lease, or of the token in an answer that has one, and where in `body` they stand.
pub(super) fn seconds(body: &[u8]) -> Option<(u64, Range<usize>)> {
    #[derive(Deserialize)]
    struct Lasting<'a> {
        #[serde(borrow)]
        lease_duration: &'a RawValue,
        #[serde(borrow, default)]
        auth: Option<Token<'a>>,
    }
    #[derive(Deserialize)]
    struct Token<'a> {
        #[serde(borrow)]
        lease_duration: &'a RawValue,
    }
    let text = std::str::from_utf8(body).ok()?;
    let Lasting { lease_duration, auth } = serde_json::from_str(text).ok()?;
    let raw = auth.map_or(lease_duration, |auth| auth.lease_duration).get();
    // It is a part of the body.
    let start = (raw.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    Some((raw.parse().ok()?, start..start + raw.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, token: bool, id: Option<&str>) {
        let envelope = Envelope::read(body.as_bytes());
        assert_eq!(envelope.gives_token() || envelope.is_wrapped(), token, "{body}");
        assert_eq!(envelope.request_id().as_deref(), id, "{body}");
    }

    #[test]
    fn a_token_or_a_wrapped_one_at_the_top_is_seen_and_data_is_not_mistaken_for_one() {
        const ID: &str = "a1b2c3d4-0000-1111-2222-333344445555";
        let id = format!("{{\"request_id\":\"{ID}\"");
        check(
            &format!("{id},\"data\":{{\"auth\":{{}}}},\"auth\":null,\"wrap_info\":null}}"),
            false,
            Some(ID),
        );
        check(&format!("{id},\"auth\":{{\"client_token\":\"hvs.x\"}}}}"), true, Some(ID));
        check("{\"wrap_info\":{\"token\":\"hvs.x\"}}", true, None);
        for odd in ["\"hvs.x\"", "7", "[]", "{\"creation_path\":null}", "{\"creation_path\":7}"] {
            check(&format!("{{\"wrap_info\":{odd}}}"), true, None);
            check(&format!("{{\"auth\":{{\"client_token\":\"hvs.x\"}},\"wrap_info\":{odd}}}"), true, None);
        }
        for odd in ["\"lease_duration\":-1", "\"auth\":null", "\"request_id\":7", "\"lease_id\":[]"] {
            check(&format!("{{{odd},\"auth\":{{\"client_token\":\"hvs.x\"}}}}"), true, None);
        }
        check("{\"lease_duration\":-1}", false, None);
        check("{\"request_id\":\"<script>\"}", false, None);
        check("{\"errors\":[\"x\"]}", false, None);
        check("-----BEGIN CERTIFICATE-----", false, None);
        check("", false, None);
        check("[1]", false, None);
    }

    #[test]
    fn the_seconds_are_found_where_they_stand() {
        for (body, expected) in [
            (r#"{"lease_id":"x","lease_duration": 3600,"data":{}}"#, Some((3600, "3600"))),
            (r#"{"data":{"lease_duration":1},"lease_duration":20,"auth":null}"#, Some((20, "20"))),
            (
                r#"{"lease_duration":0,"auth":{"client_token":"hvs.x","lease_duration":900}}"#,
                Some((900, "900")),
            ),
            (r#"{"lease_duration":"1h"}"#, None),
            (r#"{"lease_duration":-1}"#, None),
            ("{}", None),
            ("no json", None),
        ] {
            let found = seconds(body.as_bytes()).map(|(seconds, at)| (seconds, &body[at]));
            assert_eq!(found, expected, "{body}");
        }
    }
}
