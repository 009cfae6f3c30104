//! A provider that mints keys over HTTP: mint one, list those with a label, delete one.
//!
//! What differs between providers is in templates and JSON pointers (RFC 6901). Does not decide which key is deleted.

use super::{Order, Unknown, http::Template, template::filled};
use crate::{
    broker::Broker,
    keeper::Keeper,
    name::{RotationName, UpstreamName},
    secret::SecretValue,
};
use http::StatusCode;
use serde_json::Value;
use std::time::Duration;
use zeroize::Zeroizing;

/// The most keys that one answer may list.
const MOST: usize = 1000;

/// A provider, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The key in `upstreams`: where it is, whom to trust, and the key that is attached to all but tests.
    pub upstream: UpstreamName,
    /// The label of a key: `claviger-{rotation}-{id}`.
    pub label: String,
    /// Makes one; the label is a text of its body.
    pub mint: Template,
    /// Where its answer has the provider's name of the key.
    pub minted_id: String,
    /// Where its answer has the value.
    pub minted_value: String,
    /// Lists keys.
    pub list: Template,
    /// Where its answer has the list; empty: it is one.
    pub items: String,
    /// Where an item has the provider's name of the key.
    pub item_id: String,
    /// Where an item has its label.
    pub item_label: String,
    /// Deletes the key that its path names by `{key}`.
    pub delete: Template,
    /// Whether a key works.
    pub test: Template,
}

/// What is wanted of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    /// A key for this run.
    Mint,
    /// The keys with the label of this run.
    List,
    /// That this key is no more; one that is not there is no failure.
    Delete(&'a str),
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// A new key.
    Minted {
        /// The provider's name of it.
        id: String,
        /// Its value.
        value: SecretValue,
    },
    /// The names of keys.
    Listed(Vec<String>),
    /// It is done.
    Done,
    /// It mints none.
    Refused,
}

impl Provider {
    /// Calls it once.
    pub(super) async fn call(
        &self,
        ways: (&Broker, &Keeper),
        rotation: &RotationName,
        id: &str,
        call: Call<'_>,
    ) -> Result<Reply, Unknown> {
        let nothing = SecretValue::new(String::new());
        let user = if let Call::Delete(key) = call { key } else { "" };
        let order =
            Order { act: super::Act::Set, rotation, id, user, value: &nothing, until: Duration::ZERO };
        let unknown = |said: &str| Unknown { act: word(call), said: said.to_owned() };
        let template = match call {
            Call::Mint => &self.mint,
            Call::List => &self.list,
            Call::Delete(_) => &self.delete,
        };
        let (status, body) = template.send(ways, &self.upstream, &order).await?;
        let is_expected = template.expect.contains(&status.as_u16());
        match call {
            Call::Delete(_) if is_expected || status == StatusCode::NOT_FOUND => Ok(Reply::Done),
            Call::Mint if template.refused.contains(&status.as_u16()) => Ok(Reply::Refused),
            _ if !is_expected => Err(unknown(&format!("it answered with status {}", status.as_u16()))),
            Call::Mint => {
                self.minted(&body).ok_or_else(|| unknown("its answer has no key where the config says"))
            }
            Call::List => {
                let label = filled(&self.label, &order);
                self.listed(&body, &label)
                    .ok_or_else(|| unknown("its answer has no list where the config says"))
            }
            Call::Delete(_) => Ok(Reply::Done),
        }
    }

    fn minted(&self, body: &[u8]) -> Option<Reply> {
        let id = text(body, &self.minted_id)?;
        let value = text(body, &self.minted_value)?;
        Some(Reply::Minted { id: id.as_str().to_owned(), value: SecretValue::new(value.as_str().to_owned()) })
    }

    fn listed(&self, body: &[u8], label: &str) -> Option<Reply> {
        let all: Value = serde_json::from_slice(body).ok()?;
        let items = all.pointer(&self.items)?.as_array()?;
        if items.len() > MOST {
            return None;
        }
        let ours =
            items.iter().filter(|item| item.pointer(&self.item_label).and_then(Value::as_str) == Some(label));
        let ids: Option<Vec<String>> = ours.map(|item| id_of(item.pointer(&self.item_id)?)).collect();
        ids.map(Reply::Listed)
    }
}

fn word(call: Call<'_>) -> &'static str {
    match call {
        Call::Mint => "mint",
        Call::List => "list",
        Call::Delete(_) => "delete",
    }
}

/// Names are texts or numbers.
fn id_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The text, or number, that `pointer` leads to; no other text of the body is kept.
fn text(body: &[u8], pointer: &str) -> Option<Zeroizing<String>> {
    let mut raw: &serde_json::value::RawValue = read(body)?;
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        let members: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
            read(raw.get().as_bytes())?;
        raw = members.get(&name)?;
    }
    let text: Option<Zeroizing<String>> = read(raw.get().as_bytes());
    text.or_else(|| read::<u64>(raw.get().as_bytes()).map(|number| Zeroizing::new(number.to_string())))
        .filter(|text| !text.is_empty())
}

fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_found_where_a_pointer_leads() {
        let body = br#"{"key":{"id":42,"secret":"s\"k","a/b":""},"n":null}"#;
        let check = |pointer: &str, expected: Option<&str>| {
            assert_eq!(text(body, pointer).as_deref().map(String::as_str), expected, "{pointer}");
        };
        check("/key/secret", Some("s\"k"));
        check("/key/id", Some("42"));
        check("/key/a~1b", None);
        check("/key/none", None);
        check("/n", None);
    }
}
