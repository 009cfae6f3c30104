//! The keyed hash of a value, made by Vault: joins the events of all who hold one credential, and tells nobody what it is.
//!
//! Made once for each value, before it is served, and never on a request's path. The key never leaves Vault: without the right
//! to use it nobody can try values out.

use super::{Settings, Shared, value::Content};
use crate::{
    crypto,
    secret::SecretValue,
    vault::{
        endpoint::{Request, TransitKey},
        error::{Class, Error},
        limiter::Account,
        session::Session,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::{borrow::Cow, time::Duration};
use zeroize::Zeroizing;

/// A value shorter than this can be guessed by whoever may use the key: it gets none.
const SHORTEST: usize = 16;
/// As long does a value wait for its fingerprint, the call budget included.
const LIMIT: Duration = Duration::from_secs(2);
/// Of a value that is too short for one.
const NONE: &str = "none";
/// Of a value that Vault made none for.
const UNAVAILABLE: &str = "unavailable";

/// The fingerprint of `content`; `None` without a key. What Vault does not give is not asked for again: the next value is.
pub(super) async fn of(
    settings: &Settings,
    shared: &Shared,
    session: &Session,
    content: &Content,
) -> Option<String> {
    let key = shared.fingerprint_key.load_full()?;
    let Some(bytes) = weighty(content) else { return Some(NONE.to_owned()) };
    let request = Request::transit_hmac(&key, &bytes);
    drop(bytes);
    let asked = tokio::time::timeout(LIMIT, ask(shared, session, &key, &request)).await;
    let asked = asked.unwrap_or_else(|_| {
        Err(Error::new(Class::Away, format!("making a fingerprint by {key}"), "it took too long"))
    });
    Some(asked.unwrap_or_else(|error| {
        tracing::warn!(secret = %settings.name, %error, "the value is served without a fingerprint");
        UNAVAILABLE.to_owned()
    }))
}

async fn ask(
    shared: &Shared,
    session: &Session,
    key: &TransitKey,
    request: &Request,
) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Data<'a> {
        hmac: &'a str,
    }
    let answer = shared.vault.call(&Account::Upkeep, session, request).await?;
    let envelope = answer.envelope()?;
    let data = envelope.data.and_then(|data| serde_json::from_str::<Data<'_>>(data.get()).ok());
    data.and_then(|data| printed(data.hmac))
        .ok_or_else(|| answer.nonsense(&format!("{key} gives no HMAC of SHA-256")))
}

/// `vault:vN:BASE64` (Vault docs: api-docs/secret/transit, "Generate HMAC") as events print it.
fn printed(hmac: &str) -> Option<String> {
    let (version, tag) = hmac.strip_prefix("vault:v")?.split_once(':')?;
    let version: u32 = version.parse().ok()?;
    let tag = BASE64_STANDARD.decode(tag).ok().filter(|tag| tag.len() == 32)?;
    Some(format!("k{version}:hmac-sha256:{}", crypto::hex(&tag)))
}

/// What is hashed: the one value there is, whether it has a field's name or not; of several fields the object, sorted by
/// their names. None where nothing in it is long enough.
fn weighty(content: &Content) -> Option<Zeroizing<Vec<u8>>> {
    match content {
        Content::One(value) => plain(value),
        Content::Fields(fields) => match fields.as_slice() {
            [(_, value)] => plain(value),
            fields => {
                fields.iter().find_map(|(_, value)| plain(value))?;
                Some(object(fields))
            }
        },
    }
}

/// A text without its quotes, anything else as its JSON; `None` of what is so short that it can be guessed.
pub(super) fn plain(value: &SecretValue) -> Option<Zeroizing<Vec<u8>>> {
    let json = value.expose();
    // Owned only where there is an escape in it.
    let text = serde_json::from_str::<Text<'_>>(json).ok();
    let bytes = match &text {
        Some(Text(text)) => text.as_bytes(),
        None => json.as_bytes(),
    };
    let bytes = (bytes.len() >= SHORTEST).then(|| Zeroizing::new(bytes.to_vec()));
    if let Some(Text(Cow::Owned(text))) = text {
        drop(Zeroizing::new(text));
    }
    bytes
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn object(fields: &[(String, SecretValue)]) -> Zeroizing<Vec<u8>> {
    let mut sorted: Vec<(String, &str)> = fields
        .iter()
        .map(|(name, value)| (serde_json::Value::from(name.as_str()).to_string(), value.expose()))
        .collect();
    sorted.sort();
    // Sized before it is filled: what it would outgrow would stay in memory.
    let size = sorted.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() + 2;
    let mut object = Zeroizing::new(Vec::with_capacity(size));
    let mut before = b'{';
    for (name, value) in sorted {
        object.push(std::mem::replace(&mut before, b','));
        object.extend_from_slice(name.as_bytes());
        object.push(b':');
        object.extend_from_slice(value.as_bytes());
    }
    object.push(b'}');
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(json: &str) -> Content {
        Content::One(SecretValue::new(json.into()))
    }

    fn fields(fields: &[(&str, &str)]) -> Content {
        let field = |(name, json): &(&str, &str)| ((*name).to_owned(), SecretValue::new((*json).into()));
        Content::Fields(fields.iter().map(field).collect())
    }

    #[track_caller]
    fn check(content: &Content, expected: Option<&str>) {
        let bytes = weighty(content).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        assert_eq!(bytes.as_deref(), expected);
    }

    #[test]
    fn one_value_is_hashed_alike_whatever_it_is_called() {
        check(&one("\"sk_live_0123456789\""), Some("sk_live_0123456789"));
        check(&fields(&[("api_key", "\"sk_live_0123456789\"")]), Some("sk_live_0123456789"));
        check(&one("\"sk_live_\\u00300123456789\""), Some("sk_live_00123456789"));
        check(&one("123456789012345678"), Some("123456789012345678"));
    }

    #[test]
    fn of_several_fields_the_order_does_not_matter() {
        let (user, password) = (("user", "\"app\""), ("password", "\"a-long-enough-password\""));
        let expected = Some("{\"password\":\"a-long-enough-password\",\"user\":\"app\"}");
        check(&fields(&[user, password]), expected);
        check(&fields(&[password, user]), expected);
    }

    #[test]
    fn what_can_be_guessed_has_no_fingerprint() {
        check(&one("\"fifteen bytes..\""), None);
        check(&fields(&[("pin", "\"1234\"")]), None);
        check(&fields(&[("user", "\"app\""), ("pin", "\"1234\"")]), None);
        check(&fields(&[]), None);
    }

    #[test]
    fn vaults_hmac_is_printed_with_its_keys_version() {
        let tag = BASE64_STANDARD.encode([0x1a; 32]);
        assert_eq!(printed(&format!("vault:v3:{tag}")), Some(format!("k3:hmac-sha256:{}", "1a".repeat(32))));
        for wrong in ["", "vault:v3", "vault:v3:", "vault:vx:AAAA", "vault:v3:!", "vault:v3:AAAA"] {
            assert_eq!(printed(wrong), None, "{wrong}");
        }
    }
}
