//! Control groups of Vault Enterprise and OpenBao: what a request is answered with that persons must authorize first, and what is then
//! asked about it.
//!
//! Source: Vault API docs `sys/control-group`, `sys/wrapping/unwrap`; what they leave open was seen on OpenBao 2.7.2, and says so. Decides
//! nothing: who may unwrap, and when, is for `approval`.

use super::{
    Vault,
    answer::Answer,
    endpoint::{Request, TransitKey},
    error::{Class, Error},
    passage::{Passage, Passed, Repeats},
    rest::Size,
    session::Session,
    wire::Reply,
};
use crate::secret::SecretValue;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use zeroize::Zeroizing;

/// The token behind which a request waits, and what names it to those who may authorize it.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// Does the request, once it is authorized. Whoever has it can: it is shown to nobody.
    pub token: SecretValue,
    /// Authorizes it, in the hands of those whom Vault's policy lets.
    pub accessor: SecretValue,
    /// How long Vault waits.
    pub ttl: Duration,
}

impl Wrapping {
    /// That in an answer; `None`: Vault answered the request itself.
    #[must_use]
    pub fn of(reply: &Reply) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(default)]
            wrap_info: Option<Info>,
        }
        #[derive(Deserialize)]
        struct Info {
            token: Zeroizing<String>,
            accessor: Zeroizing<String>,
            ttl: u64,
        }
        let envelope: Envelope = serde_json::from_slice(&reply.body).ok().filter(|_| reply.status == 200)?;
        let mut info = envelope.wrap_info?;
        let take = |text: &mut Zeroizing<String>| SecretValue::new(std::mem::take(&mut **text));
        let (token, accessor) = (take(&mut info.token), take(&mut info.accessor));
        let is_whole = !token.is_empty() && !accessor.is_empty();
        is_whole.then(|| Self { token, accessor, ttl: Duration::from_secs(info.ttl) })
    }
}

/// How a request behind a control group stands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Standing {
    /// Whether it may be unwrapped.
    pub approved: bool,
    /// What is asked for, below `/v1/`.
    #[serde(default)]
    pub request_path: String,
    /// Who asks.
    #[serde(default)]
    pub request_entity: Entity,
    /// Who authorized it so far.
    #[serde(default)]
    pub authorizations: Vec<Authorization>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Entity {
    /// Empty for a token without an entity. OpenBao 2.7.2 writes it in capitals, its docs and Vault's do not.
    #[serde(default, alias = "ID")]
    pub id: String,
}

/// Somebody's yes. When it was given is not told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Authorization {
    /// Whose.
    #[serde(default)]
    pub entity_id: String,
    /// A name of that entity, or of its login.
    #[serde(default)]
    pub entity_name: String,
}

/// Whether Vault says that it knows no such accessor (any more): the token was used, was revoked, or has ended.
#[must_use]
pub fn is_gone(error: &Error) -> bool {
    error.class() == Class::Invalid || error.to_string().contains("invalid accessor")
}

impl Request {
    /// How the request stands that `accessor` names.
    #[must_use]
    pub fn group_standing(accessor: &SecretValue, namespace: Option<&str>) -> Self {
        Self::of_group("request", accessor, namespace, "asking how a control group stands")
    }

    /// A person's yes to the request that `accessor` names.
    #[must_use]
    pub fn group_authorize(accessor: &SecretValue, namespace: Option<&str>) -> Self {
        Self::of_group("authorize", accessor, namespace, "authorizing a request of a control group")
    }

    /// The end of the wrapping token that makes the call. OpenBao 2.7.2 does a request as often as it is unwrapped until then.
    #[must_use]
    pub fn unwrap_never(namespace: Option<&str>) -> Self {
        let doing = "revoking a wrapping token".to_owned();
        let request = Self::bare(Method::POST, "auth/token/revoke-self", doing);
        Self { namespace: namespace.map(str::to_owned), ..request }
    }

    /// What `key` makes of `secret`, which can be read again with the same `about` alone.
    #[must_use]
    pub fn transit_encrypt(key: &TransitKey, secret: &[u8], about: &[u8]) -> Self {
        let TransitKey { mount, name } = key;
        let (plain, about) = (Zeroizing::new(BASE64_STANDARD.encode(secret)), BASE64_STANDARD.encode(about));
        // Base64 stands in JSON as it is.
        let body = format!(r#"{{"plaintext":"{}","associated_data":"{about}"}}"#, *plain);
        let body = Zeroizing::new(body.into_bytes());
        let request = Self::write_bytes(&format!("{mount}/encrypt/{name}"), body);
        Self { doing: format!("encrypting by {key}"), ..request }
    }

    /// What `sealed` was.
    #[must_use]
    pub fn transit_decrypt(key: &TransitKey, sealed: &str, about: &[u8]) -> Self {
        let TransitKey { mount, name } = key;
        let body = json!({"ciphertext": sealed, "associated_data": BASE64_STANDARD.encode(about)});
        let request = Self::write(&format!("{mount}/decrypt/{name}"), &body);
        Self { doing: format!("decrypting by {key}"), ..request }
    }

    fn of_group(word: &str, accessor: &SecretValue, namespace: Option<&str>, doing: &str) -> Self {
        let request =
            Self::write(&format!("sys/control-group/{word}"), &json!({"accessor": accessor.expose()}));
        Self { doing: doing.to_owned(), namespace: namespace.map(str::to_owned), ..request }
    }
}

impl Answer {
    /// What `transit/encrypt` made.
    ///
    /// # Errors
    /// [`Class::Nonsense`] where it is something else.
    pub fn sealed(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Data {
            ciphertext: String,
        }
        Ok(self.data::<Data>()?.ciphertext)
    }

    /// What `transit/decrypt` found.
    ///
    /// # Errors
    /// As for [`Answer::sealed`].
    pub fn unsealed(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        #[derive(Deserialize)]
        struct Data {
            plaintext: Zeroizing<String>,
        }
        let Data { plaintext } = self.data()?;
        let bytes = BASE64_STANDARD.decode(plaintext.as_bytes());
        bytes.map(Zeroizing::new).map_err(|_| self.nonsense("what was decrypted is no base64"))
    }
}

impl Vault {
    /// Has the request done that waits behind `wrapping`, and gives its answer; it is sent once, whatever becomes of it. `session` is what it
    /// is done with: its token must not come back, nor that of `wrapping`.
    ///
    /// # Errors
    /// As for [`Vault::pass`].
    pub async fn unwrap(
        &self,
        (session, wrapping): (&Session, &SecretValue),
        namespace: Option<String>,
    ) -> Result<Passed, Error> {
        let (method, path) = (Method::POST, "sys/wrapping/unwrap".to_owned());
        let (headers, body, repeats, size) = (HeaderMap::new(), Bytes::new(), Repeats::Never, Size::Whole);
        let (query, upload) = (None, None);
        let passage = Passage { method, path, query, namespace, headers, body, upload, repeats, size };
        self.pass_by(wrapping, session, &passage).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expected: Option<(&str, &str, u64)>) {
        let body = Zeroizing::new(body.as_bytes().to_vec());
        let reply = Reply { status, headers: HeaderMap::new(), body, room: None, rest: None };
        let found = Wrapping::of(&reply);
        let found = found.as_ref().map(|it| (it.token.expose(), it.accessor.expose(), it.ttl.as_secs()));
        assert_eq!(found, expected);
    }

    #[test]
    fn only_an_answer_that_is_wrapped_waits_for_persons() {
        let wrapped = r#"{"request_id":"","data":null,"wrap_info":{"token":"s.x","accessor":"a","ttl":1200,"creation_path":"p"}}"#;
        check(200, wrapped, Some(("s.x", "a", 1200)));
        check(403, wrapped, None);
        check(200, r#"{"data":{"wrap_info":{"token":"s.x"}},"wrap_info":null}"#, None);
        check(200, r#"{"wrap_info":{"token":"","accessor":"a","ttl":1}}"#, None);
        check(200, "no json", None);
    }

    #[test]
    fn who_asks_is_read_however_the_server_writes_it() {
        for word in ["id", "ID"] {
            let text =
                format!(r#"{{"approved":false,"request_path":"a/b","request_entity":{{"{word}":"e"}}}}"#);
            let standing: Standing = serde_json::from_str(&text).unwrap();
            assert_eq!((standing.request_entity.id.as_str(), standing.authorizations.len()), ("e", 0));
        }
    }
}
