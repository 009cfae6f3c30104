//! What must not be seen anywhere else: the bytes of each value in hand, for whoever looks for them.
//!
//! Does not look. The copies are wiped when they are dropped; a value that can be guessed is not worth looking for, since it is found
//! everywhere.

use super::{
    Held, Holding, Keeper, Shelf,
    fingerprint::plain,
    value::{Content, Value},
};
use crate::secret::SecretValue;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Fields that name a thing and are no secret: of database users, of certificates, and where somebody's server is.
const NAMES: &[&str] = &[
    "username",
    "user",
    "host",
    "hostname",
    "certificate",
    "issuing_ca",
    "ca_chain",
    "serial_number",
    "private_key_type",
    "expiration",
];

/// The bytes of one value, or of one field of it.
pub struct Worth {
    /// What it is.
    pub value: Arc<Value>,
    /// Which field of it.
    pub field: Option<String>,
    /// A text without its quotes.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// All that is in hand.
#[derive(Default)]
pub struct Worths {
    /// What can be looked for.
    pub all: Vec<Worth>,
    /// What cannot, since it is shorter than 16 bytes, by its name in the config and its field.
    pub short: Vec<String>,
    /// What cannot, since there is nothing in hand.
    pub missing: Vec<String>,
}

impl Keeper {
    /// What is in hand of every secret, old values in their grace too, and what each process has of its own.
    #[must_use]
    pub fn worths(&self) -> Worths {
        let mut worths = Worths::default();
        for (name, holding) in self.holdings.load().iter() {
            let slots = match holding {
                Holding::Shared(slot) => vec![slot.clone()],
                Holding::Own(own) => own.slots(),
            };
            for slot in slots {
                let Shelf { current, previous, problem: _ } = slot.shelf.borrow().clone();
                if current.is_none() {
                    worths.missing.push(name.to_string());
                }
                for Held { value, .. } in current.into_iter().chain(previous) {
                    worths.add(&value);
                }
            }
        }
        worths.short.dedup();
        worths
    }
}

impl Worths {
    fn add(&mut self, value: &Arc<Value>) {
        match value.content() {
            Content::One(one) => self.add_one(value, value.field(), one),
            Content::Fields(fields) => {
                for (name, field) in fields.iter().filter(|(name, _)| !NAMES.contains(&name.as_str())) {
                    self.add_one(value, Some(name), field);
                }
            }
        }
    }

    fn add_one(&mut self, value: &Arc<Value>, field: Option<&str>, content: &SecretValue) {
        let field = field.map(str::to_owned);
        match plain(content) {
            Some(bytes) => self.all.push(Worth { value: Arc::clone(value), field, bytes }),
            None => {
                let field = field.map_or(String::new(), |field| format!(".{field}"));
                self.short.push(format!("{}{field}", value.name()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::SecretName;
    use std::collections::BTreeMap;
    use tokio::{sync::watch, time::Instant};

    fn held(value: Value) -> Held {
        let value = Arc::new(value);
        Held { value, confirmed: Instant::now(), expires_at: None, serve_until: None, stale_from: None }
    }

    fn secret(text: &str) -> SecretValue {
        SecretValue::new(format!("\"{text}\""))
    }

    #[tokio::test]
    async fn what_is_in_hand_is_looked_for_as_it_would_stand_somewhere_and_what_can_be_guessed_is_named() {
        let one = |text: &str, version| held(Value::for_test("key", version, Content::One(secret(text))));
        let fields = [
            ("username", "v-approle-orders-0123456789"),
            ("password", "a-long-enough-password"),
            ("pin", "1234"),
        ];
        let fields = fields.map(|(name, text)| (name.to_owned(), secret(text)));
        let user = held(Value::for_test("user", 1, Content::Fields(fields.into())));
        let shelf = |current, previous| watch::channel(Shelf { current, previous, problem: None }).1;
        let name = |name: &str| SecretName::new(name).unwrap();
        let keeper = Keeper::of(BTreeMap::from([
            (name("key"), shelf(Some(one("sk_live_0123456789", 2)), Some(one("sk_live_old_one_456", 1)))),
            (name("user"), shelf(Some(user), None)),
            (name("gone"), shelf(None, None)),
        ]));
        let Worths { all, short, missing } = keeper.worths();
        let all: Vec<_> = all
            .iter()
            .map(|worth| {
                let text = String::from_utf8(worth.bytes.to_vec()).unwrap();
                (worth.value.name().to_string(), worth.value.generation(), text)
            })
            .collect();
        let expected = [
            ("key", 2, "sk_live_0123456789"),
            ("key", 1, "sk_live_old_one_456"),
            ("user", 1, "a-long-enough-password"),
        ];
        assert_eq!(all, expected.map(|(name, version, text)| (name.to_owned(), version, text.to_owned())));
        assert_eq!(
            (short.as_slice(), missing.as_slice()),
            (&["user.pin".to_owned()][..], &["gone".to_owned()][..])
        );
    }
}
