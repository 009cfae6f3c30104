//! Driver `vault`: a path in Vault that is written to with the new value, as of a user of the userpass method.
//!
//! Uses the rotation's own identity. A login that a test made is revoked at once, as far as its policies let it.

use super::{
    Act, Order, Said, Unknown,
    template::{filled_json, filled_path},
};
use crate::{
    rotation::store::Store,
    secret::SecretValue,
    vault::{endpoint::Request, error::Class},
};

/// What is written where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writes {
    /// Gives the user a value.
    pub set: Write,
    /// Logs in with it.
    pub test: Write,
    /// Takes it out of use; without one, `set` does with a value that nobody keeps.
    pub revoke: Option<Write>,
}

/// One write; `{user}` and the other places are filled in its path and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// `auth/userpass/users/{user}/password`.
    pub path: String,
    /// `{password: "{value}"}`.
    pub data: serde_json::Value,
}

impl Writes {
    fn write(&self, act: Act) -> &Write {
        match act {
            Act::Set => &self.set,
            Act::Test => &self.test,
            Act::Revoke => self.revoke.as_ref().unwrap_or(&self.set),
        }
    }

    /// Writes what `order` says.
    pub(in crate::rotation) async fn ask(&self, store: &Store, order: &Order<'_>) -> Result<Said, Unknown> {
        let write = self.write(order.act);
        let path = filled_path(&write.path, order);
        let answer = store.call(&Request::write_bytes(&path, filled_json(&write.data, order))).await;
        match (answer, order.act) {
            (Ok(answer), Act::Test) => {
                let auth = answer.envelope().ok().and_then(|envelope| envelope.auth);
                if let Some(auth) = auth.filter(|auth| !auth.accessor.is_empty()) {
                    let accessor = SecretValue::new(auth.accessor.clone());
                    if let Err(error) = store.call(&Request::revoke_accessor(&accessor)).await {
                        tracing::warn!(rotation = %order.rotation, %error, "the token of a test login lives to its end");
                    }
                }
                Ok(Said::Done)
            }
            (Ok(_), _) => Ok(Said::Done),
            // Vault says 400 to a wrong password (userpass, ldap), 403 in other methods.
            (Err(error), Act::Test) if matches!(error.class(), Class::Invalid | Class::Denied) => {
                Ok(Said::Refused)
            }
            (Err(error), _) if error.class() == Class::Invalid => Ok(Said::Refused),
            (Err(error), _) => Err(Unknown::of(order, error.to_string())),
        }
    }
}
