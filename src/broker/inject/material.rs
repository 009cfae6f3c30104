//! A key as it is sent, and everything that must not come back of it: made once for each value, wiped when dropped.
//!
//! The only file of `broker` that looks at secrets, beside `certificate`.

use super::{Slot, append_encoded};
use crate::{broker::scrub::Masks, keeper::value::Content, secret::SecretValue};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::HeaderValue;
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// The shortest key, in bytes: a shorter one could be guessed, and the guess confirmed by having it echoed.
const SHORTEST: usize = 16;
/// The longest, in bytes.
const LONGEST: usize = 16 * 1024;

/// Why a secret cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has several fields, and the slot takes one value.
    #[error("the secret has not one value that is a text")]
    NotOneValue,
    /// It lacks a field, or it is no text.
    #[error("the secret has no field of that name that is a text")]
    NoField,
    /// It is shorter than 16 bytes, or longer than 16 KiB.
    #[error("the key has fewer than 16 bytes or more than 16384")]
    Length,
    /// It holds something else than visible ASCII and blanks.
    #[error("the key holds a line break, or another character that is no visible ASCII")]
    Character,
    /// It is no certificate with its key.
    #[error("the secret has no certificate and private key as PEM")]
    Certificate,
}

/// A key, ready to be sent.
pub struct Material {
    ready: Ready,
    masks: Arc<Masks>,
}

enum Ready {
    Header(HeaderValue),
    /// Nothing that is sent as it is: signatures are made with it.
    Keys(Keys),
    /// Encoded as a value of a query or form.
    Pair(Zeroizing<Vec<u8>>),
    /// As a JSON string with its quotes.
    Json(Zeroizing<Vec<u8>>),
}

impl Material {
    /// What is sent of `content` in `slot`.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn of(slot: &Slot, content: &Content) -> Result<Self, Unfit> {
        let (ready, masks) = match slot {
            Slot::Header { before, after, .. } => {
                let key = one(content)?;
                let parts = [before.as_bytes(), key.as_bytes(), after.as_bytes()];
                (Ready::Header(header(joined(&parts))?), Masks::of(&[key.as_bytes()]))
            }
            Slot::Basic { user, password } => {
                let (user, password) = (field(content, user)?, field(content, password)?);
                checked(&password)?;
                plain(&user)?;
                let pair = joined(&[user.as_bytes(), b":", password.as_bytes()]);
                let mut encoded = Zeroizing::new(vec![0; pair.len().div_ceil(3) * 4]);
                let written = BASE64_STANDARD.encode_slice(&*pair, &mut encoded).unwrap_or_default();
                encoded.truncate(written);
                let value = header(joined(&[b"Basic ", &encoded]))?;
                (Ready::Header(value), Masks::of(&[password.as_bytes(), &pair]))
            }
            Slot::Query(_) | Slot::Form(_) => {
                let key = one(content)?;
                let mut pair = Zeroizing::new(Vec::with_capacity(key.len() * 3));
                append_encoded(&mut pair, key.as_bytes());
                (Ready::Pair(pair), Masks::of(&[key.as_bytes()]))
            }
            Slot::Json(_) => {
                let key = one(content)?;
                let mut text = Zeroizing::new(Vec::with_capacity(key.len() * 2 + 2));
                // Visible ASCII: a text takes at most two bytes a character, and cannot fail.
                let _ = serde_json::to_writer(&mut *text, key.as_str());
                (Ready::Json(text), Masks::of(&[key.as_bytes()]))
            }
            Slot::SigV4(_) => {
                let keys = Keys::of(content)?;
                let masks = keys.masks(&[]);
                (Ready::Keys(keys), masks)
            }
        };
        Ok(Self { ready, masks: Arc::new(masks) })
    }

    /// What must not come back.
    #[must_use]
    pub fn masks(&self) -> &Arc<Masks> {
        &self.masks
    }

    /// The header's value, for a slot that is one; marked so that it is never logged.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        match &self.ready {
            Ready::Header(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// The bytes that go into a query, form or JSON text as they are.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        match &self.ready {
            Ready::Pair(bytes) | Ready::Json(bytes) => bytes,
            Ready::Header(_) | Ready::Keys(_) => &[],
        }
    }

    /// What signatures are made with, for a slot that is one.
    #[must_use]
    pub fn keys(&self) -> Option<&Keys> {
        match &self.ready {
            Ready::Keys(keys) => Some(keys),
            _ => None,
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

type Text = Zeroizing<String>;

/// A key of AWS. Wiped when dropped.
pub struct Keys {
    id: Text,
    secret: Text,
    token: Option<Text>,
}

impl Keys {
    /// The names of its parts in a secret: as Vault's AWS engine gives them, and as AWS' own tools call them.
    const ID: [&str; 2] = ["access_key", "access_key_id"];
    const SECRET: [&str; 2] = ["secret_key", "secret_access_key"];
    const TOKEN: [&str; 2] = ["security_token", "session_token"];

    /// Of these parts.
    #[must_use]
    pub fn new(id: &str, secret: &str, token: Option<&str>) -> Self {
        let text = |part: &str| Zeroizing::new(part.to_owned());
        Self { id: text(id), secret: text(secret), token: token.map(text) }
    }

    fn of(content: &Content) -> Result<Self, Unfit> {
        let part = |names: [&str; 2]| names.iter().find_map(|name| field(content, name).ok());
        let (Some(id), Some(secret)) = (part(Self::ID), part(Self::SECRET)) else {
            return Err(Unfit::NoField);
        };
        // A key that is no session's has none, or an empty one.
        let token = part(Self::TOKEN).filter(|token| !token.is_empty());
        [Some(&id), Some(&secret), token.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|part| checked(part))?;
        Ok(Self { id, secret, token })
    }

    /// Id, secret and, for a session's key, its token.
    #[must_use]
    pub fn parts(&self) -> (&str, &str, Option<&str>) {
        (&self.id, &self.secret, self.token.as_ref().map(|token| token.as_str()))
    }

    /// What must not come back: each part, and `more` that was made of it.
    #[must_use]
    pub fn masks(&self, more: &[&str]) -> Masks {
        let (id, secret, token) = self.parts();
        let parts = [Some(secret), token, Some(id)].into_iter().flatten().chain(more.iter().copied());
        Masks::of(&parts.map(str::as_bytes).collect::<Vec<_>>())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The one value there is, without a line feed at its end.
fn one(content: &Content) -> Result<Text, Unfit> {
    let key = match content {
        Content::One(value) => text(value),
        Content::Fields(fields) => match fields.as_slice() {
            [(_, value)] => text(value),
            _ => None,
        },
    };
    let key = key.ok_or(Unfit::NotOneValue)?;
    checked(&key)?;
    Ok(key)
}

fn field(content: &Content, name: &str) -> Result<Text, Unfit> {
    let Content::Fields(fields) = content else { return Err(Unfit::NoField) };
    let value = fields.iter().find(|(found, _)| found == name).and_then(|(_, value)| text(value));
    value.ok_or(Unfit::NoField)
}

/// A JSON text that is a string, decoded.
fn text(value: &SecretValue) -> Option<Text> {
    let mut text: Text = serde_json::from_str::<String>(value.expose()).ok()?.into();
    if text.ends_with('\n') {
        let end = text.len() - 1;
        text.truncate(end);
    }
    Some(text)
}

fn checked(key: &str) -> Result<(), Unfit> {
    if !(SHORTEST..=LONGEST).contains(&key.len()) {
        return Err(Unfit::Length);
    }
    plain(key)
}

fn plain(text: &str) -> Result<(), Unfit> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) { Ok(()) } else { Err(Unfit::Character) }
}

/// In one buffer that does not grow.
fn joined(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn header(bytes: Zeroizing<Vec<u8>>) -> Result<HeaderValue, Unfit> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).map_err(|_| Unfit::Character)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(json: &str) -> Content {
        Content::One(SecretValue::new(json.to_owned()))
    }

    fn pair() -> Content {
        let field = |name: &str, json: &str| (name.to_owned(), SecretValue::new(json.to_owned()));
        Content::Fields(vec![field("email", "\"a@b.c\""), field("token", "\"0123456789abcdef\"")])
    }

    fn bearer() -> Slot {
        Slot::Header { name: http::header::AUTHORIZATION, before: "Bearer ".into(), after: String::new() }
    }

    #[track_caller]
    fn check(slot: &Slot, content: &Content, expected: Result<&str, Unfit>) {
        let material = Material::of(slot, content);
        let found = material.as_ref().map(|material| match material.header() {
            Some(value) => value.to_str().unwrap().to_owned(),
            None => String::from_utf8(material.text().to_vec()).unwrap(),
        });
        assert_eq!(found.map_err(|unfit| *unfit), expected.map(str::to_owned));
    }

    #[test]
    fn a_key_is_written_as_its_slot_needs_it() {
        check(&bearer(), &content("\"sk_live_01234567\""), Ok("Bearer sk_live_01234567"));
        // RFC 7617 section 2.
        let basic = Slot::Basic { user: "email".into(), password: "token".into() };
        check(&basic, &pair(), Ok("Basic YUBiLmM6MDEyMzQ1Njc4OWFiY2RlZg=="));
        check(&Slot::Query("key".into()), &content("\"sk/live+01 234567\""), Ok("sk%2Flive%2B01%20234567"));
        check(
            &Slot::Json(vec!["key".into()]),
            &content("\"sk\\\"live_01234567\""),
            Ok("\"sk\\\"live_01234567\""),
        );
    }

    #[test]
    fn one_line_feed_at_the_end_is_cut_off_and_no_other_is_taken() {
        check(&bearer(), &content("\"sk_live_01234567\\n\""), Ok("Bearer sk_live_01234567"));
        for bad in [
            "\"sk_live_01234567\\r\"",
            "\"sk_live_01234567\\n\\n\"",
            "\"sk_live\\n_01234567\"",
            "\"sk_live_01234567ä\"",
        ] {
            check(&bearer(), &content(bad), Err(Unfit::Character));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        check(&bearer(), &content("\"fifteen_bytes__\""), Err(Unfit::Length));
        check(&bearer(), &content("1234567890123456"), Err(Unfit::NotOneValue));
        check(&bearer(), &pair(), Err(Unfit::NotOneValue));
        check(&bearer(), &content(&format!("\"{}\"", "x".repeat(16 * 1024 + 1))), Err(Unfit::Length));
        let basic = |password: &str| Slot::Basic { user: "email".into(), password: password.into() };
        check(&basic("nothing"), &pair(), Err(Unfit::NoField));
        check(&basic("email"), &pair(), Err(Unfit::Length));
        check(&basic("token"), &content("\"0123456789abcdef\""), Err(Unfit::NoField));
    }

    #[test]
    fn a_key_of_aws_has_two_parts_or_three_under_either_names() {
        let signing = crate::broker::inject::sigv4::Signing {
            region: "eu-west-1".into(),
            service: "s3".into(),
            payload: crate::broker::inject::sigv4::Payload::Signed,
        };
        let slot = Slot::SigV4(signing);
        let of = |fields: &[(&str, &str)]| {
            let secret =
                |(name, json): &(&str, &str)| ((*name).to_owned(), SecretValue::new((*json).to_owned()));
            let material = Material::of(&slot, &Content::Fields(fields.iter().map(secret).collect()))?;
            let (id, secret, token) = material.keys().unwrap().parts();
            Ok((id.to_owned(), secret.to_owned(), token.map(str::to_owned)))
        };
        let (id, secret) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let (id_json, secret_json) = (format!("\"{id}\""), format!("\"{secret}\\n\""));
        let two = Ok((id.to_owned(), secret.to_owned(), None));
        let vault = [("access_key", &*id_json), ("secret_key", &secret_json), ("security_token", "null")];
        assert_eq!(of(&vault), two);
        assert_eq!(of(&[("access_key_id", &id_json), ("secret_access_key", &secret_json)]), two);
        let session = [
            ("access_key", &*id_json),
            ("secret_key", &secret_json),
            ("session_token", "\"sixteen-and-more\""),
        ];
        assert_eq!(of(&session).unwrap().2.as_deref(), Some("sixteen-and-more"));
        assert_eq!(of(&[("access_key", &id_json)]), Err(Unfit::NoField));
        assert_eq!(of(&[("access_key", &id_json), ("secret_key", "\"short\"")]), Err(Unfit::Length));
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let material = Material::of(&bearer(), &content("\"sk_live_01234567\"")).unwrap();
        assert_eq!(format!("{material:?} {:?}", material.header()), "[redacted] Some(Sensitive)");
    }
}
