//! One secret as a command reads it: asked for with patience, taken apart without leaving copies.
//!
//! Does not print it.

use super::client::{Client, Error, Reply};
use crate::name::SecretName;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// The longest that the agent holds one request.
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// What an answer may take beyond the waiting that was asked for.
const ANSWER: Duration = Duration::from_secs(10);

/// What a secret is made of. Wiped when dropped.
#[derive(PartialEq, Eq)]
pub(super) enum Content {
    /// One value without a field name.
    Value(Zeroizing<String>),
    /// Fields by name; numbers, lists and objects as JSON.
    Fields(BTreeMap<String, Zeroizing<String>>),
}

/// Why a value cannot be taken out of a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotOne {
    #[error("it has the fields {}, and none of them was named", .0.join(", "))]
    Several(Vec<String>),
    #[error("it has no field `{wanted}`; it has {}", has.join(", "))]
    NoField { wanted: String, has: Vec<String> },
    #[error("it is one value without fields, so `{0}` cannot be one of them")]
    NoFields(String),
}

/// Asks for `name` until it is there, it is refused, or `wait` is over.
pub(super) async fn fetch(client: &Client, name: &SecretName, wait: Duration) -> Result<Reply, Error> {
    patiently(wait, async |hold: Duration| {
        let target = match hold.as_secs() {
            0 => format!("/secrets/{name}"),
            seconds => format!("/secrets/{name}?wait={seconds}s"),
        };
        client.ask(&target, hold + ANSWER).await
    })
    .await
}

/// Repeats `ask`, which is told how long the agent may hold it, as long as another answer can come within `wait`.
async fn patiently(
    wait: Duration,
    mut ask: impl AsyncFnMut(Duration) -> Result<Reply, Error>,
) -> Result<Reply, Error> {
    let end = Instant::now() + wait;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let error = match ask(left.min(LONGEST_HOLD)).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        let left = end.saturating_duration_since(Instant::now());
        match error.again() {
            Some(pause) if pause < left => tokio::time::sleep(pause).await,
            _ => return Err(error),
        }
    }
}

impl Content {
    /// Takes the content out of the agent's answer.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            value: Option<&'a RawValue>,
            #[serde(borrow)]
            data: Option<BTreeMap<String, &'a RawValue>>,
        }
        let body: Body<'_> = serde_json::from_slice(body).map_err(Error::Nonsense)?;
        match (body.value, body.data) {
            (Some(value), None) => Ok(Self::Value(text(value)?)),
            (None, Some(data)) => {
                let fields = data.into_iter().map(|(field, raw)| Ok((field, text(raw)?)));
                Ok(Self::Fields(fields.collect::<Result<_, Error>>()?))
            }
            _ => {
                let error = <serde_json::Error as serde::de::Error>::custom(
                    "neither `value` nor `data` alone is in it",
                );
                Err(Error::Nonsense(error))
            }
        }
    }

    /// The value of `field`; without one, the only value there is.
    pub(super) fn one(&self, field: Option<&str>) -> Result<&str, NotOne> {
        match (self, field) {
            (Self::Value(value), None) => Ok(value),
            (Self::Value(_), Some(field)) => Err(NotOne::NoFields(field.to_owned())),
            (Self::Fields(fields), Some(field)) => {
                fields.get(field).map(|value| value.as_str()).ok_or_else(|| NotOne::NoField {
                    wanted: field.to_owned(),
                    has: fields.keys().cloned().collect(),
                })
            }
            (Self::Fields(fields), None) => {
                let mut values = fields.values();
                match (values.next(), values.next()) {
                    (Some(value), None) => Ok(value),
                    _ => Err(NotOne::Several(fields.keys().cloned().collect())),
                }
            }
        }
    }
}

/// A string's own text, and JSON for anything else.
fn text(raw: &RawValue) -> Result<Zeroizing<String>, Error> {
    if raw.get().starts_with('"') {
        serde_json::from_str(raw.get()).map_err(Error::Nonsense)
    } else {
        Ok(Zeroizing::new(raw.get().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn not_ready(after: u64) -> Result<Reply, Error> {
        Err(Error::NotReady { said: "no value yet".into(), retry_after: Some(Duration::from_secs(after)) })
    }

    fn ready() -> Result<Reply, Error> {
        Ok(Reply { status: StatusCode::OK, retry_after: None, body: Zeroizing::default(), server_uid: None })
    }

    /// Plays `answers` to a command that waits up to `wait` seconds; says when each question came and if it got a value.
    async fn check(wait: u64, answers: Vec<Result<Reply, Error>>, expected: (&[u64], bool)) {
        let begun = Instant::now();
        let mut asked = Vec::new();
        let mut answers = answers.into_iter();
        let got = patiently(Duration::from_secs(wait), async |_| {
            asked.push(begun.elapsed().as_secs());
            answers.next().unwrap()
        })
        .await;
        assert_eq!((&*asked, got.is_ok()), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_honours_retry_after_and_ends_in_time() {
        check(0, vec![not_ready(1)], (&[0], false)).await;
        check(30, vec![not_ready(2), not_ready(5), ready()], (&[0, 2, 7], true)).await;
        check(3, vec![not_ready(2), not_ready(2)], (&[0, 2], false)).await;
        check(30, vec![Err(Error::Refused { said: "no".into() })], (&[0], false)).await;
    }

    fn content(json: &str) -> Content {
        Content::parse(json.as_bytes()).ok().unwrap()
    }

    #[test]
    fn a_value_is_had_by_field_or_alone() {
        let several =
            content(r#"{"name":"db","kind":"lease","data":{"username":"u","password":"p\"\n","port":5432}}"#);
        assert_eq!(several.one(Some("password")), Ok("p\"\n"));
        assert_eq!(several.one(Some("port")), Ok("5432"));
        let fields = ["password", "port", "username"].map(str::to_owned).to_vec();
        assert_eq!(several.one(None), Err(NotOne::Several(fields.clone())));
        assert_eq!(several.one(Some("pass")), Err(NotOne::NoField { wanted: "pass".into(), has: fields }));
        assert_eq!(content(r#"{"data":{"api_key":"k"}}"#).one(None), Ok("k"));
        assert_eq!(content(r#"{"value":"k"}"#).one(None), Ok("k"));
        assert_eq!(content(r#"{"value":"k"}"#).one(Some("f")), Err(NotOne::NoFields("f".into())));
    }

    #[test]
    fn an_answer_without_a_value_is_nonsense() {
        for body in ["", "[]", "{}", r#"{"value":"a","data":{}}"#, r#"{"data":7}"#] {
            assert!(matches!(Content::parse(body.as_bytes()), Err(Error::Nonsense(_))), "{body}");
        }
    }
}
