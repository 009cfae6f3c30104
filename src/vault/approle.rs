//! AppRole's secret ids: made, looked up, listed and destroyed for a role, and tried by a login that ends at once.
//!
//! What is known of one is asked by a look-up, never by a login that may fail: after five failed logins Vault 1.21.1 shuts a
//! role out for a quarter of an hour, with the good secret ids of everybody. Keeps none of them.

use super::{
    Vault,
    answer::Answer,
    endpoint::{Request, members},
    error::{Class, Error},
    limiter::Account,
};
use crate::{clock::Timestamp, crypto, secret::SecretValue};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt, time::Duration};

/// Before a secret id in a file that is to hold wrapping tokens: it is one, and need not be unwrapped.
pub const PLAIN: &str = "plain:";
/// The member of a secret id's metadata that says for which run of a rotation it was made.
const RUN: &str = "claviger_run";
/// The same for the rotation's name, for people.
const ROTATION: &str = "claviger_rotation";
/// As long may the answer with a new secret id wait to be unwrapped.
const WRAPPED_FOR: Duration = Duration::from_secs(60);

/// A role of the method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Where the method is mounted, without `auth/`.
    pub mount: String,
    /// The role's name.
    pub name: String,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "auth/{}/role/{}", self.mount, self.name)
    }
}

/// What a token was made by: a login with a secret id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBy {
    /// The SHA-256 of what the file of the secret id held, white space at its ends left out.
    pub text: [u8; 32],
    /// The secret id's accessor, where it came wrapped: it is in no file then.
    pub accessor: Option<String>,
}

impl MadeBy {
    pub(super) fn of(text: &str) -> Self {
        Self { text: crypto::sha256(text.as_bytes()), accessor: None }
    }
}

/// A new secret id.
pub struct Made {
    /// What is logged in with.
    pub secret_id: SecretValue,
    /// What names it.
    pub accessor: String,
}

/// What Vault says of a secret id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What names it.
    pub accessor: String,
    /// When it was made.
    pub made: Timestamp,
    /// When it ends; `None`: never.
    pub ends: Option<Timestamp>,
    /// How many logins it is still good for; 0: any number.
    pub uses: u64,
    /// For which run of a rotation it was made.
    pub run: Option<String>,
}

/// For which run a secret id is made.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    /// The rotation.
    pub rotation: &'a str,
    /// Its run: what finds it again.
    pub run: &'a str,
}

/// How the answer with a new secret id comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    /// As it is.
    None,
    /// Behind a wrapping token, which is unwrapped at once.
    Wrapped,
}

impl Request {
    /// A new secret id of `role`: `custom`, or one that Vault makes.
    #[must_use]
    pub fn new_secret_id(
        role: &Role,
        label: Label<'_>,
        custom: Option<&SecretValue>,
        wrapping: Wrapping,
    ) -> Self {
        let metadata = serde_json::json!({RUN: label.run, ROTATION: label.rotation}).to_string();
        let mut body = BTreeMap::from([("metadata", metadata.as_str())]);
        body.extend(custom.map(|custom| ("secret_id", custom.expose())));
        let path = if custom.is_some() { "custom-secret-id" } else { "secret-id" };
        let wrap = (wrapping == Wrapping::Wrapped).then_some(WRAPPED_FOR);
        let request = Self::of_role(role, path, &body, "making a secret id of");
        Self { wrap, ..request }
    }

    /// What Vault knows of `secret_id`.
    #[must_use]
    pub fn look_up_secret_id(role: &Role, secret_id: &SecretValue) -> Self {
        let body = BTreeMap::from([("secret_id", secret_id.expose())]);
        Self::of_role(role, "secret-id/lookup", &body, "looking up the secret id of")
    }

    /// What Vault knows of the secret id that `accessor` names.
    #[must_use]
    pub fn look_up_secret_id_accessor(role: &Role, accessor: &str) -> Self {
        let body = BTreeMap::from([("secret_id_accessor", accessor)]);
        Self::of_role(role, "secret-id-accessor/lookup", &body, "looking up a secret id of")
    }

    /// The end of the secret id that `accessor` names. Vault 1.21.1 answers 500 where there is none.
    #[must_use]
    pub fn destroy_secret_id(role: &Role, accessor: &str) -> Self {
        let body = BTreeMap::from([("secret_id_accessor", accessor)]);
        Self::of_role(role, "secret-id-accessor/destroy", &body, "destroying a secret id of")
    }

    /// The accessors of all secret ids of `role`.
    #[must_use]
    pub fn list_secret_ids(role: &Role) -> Self {
        Self::list(&format!("{role}/secret-id"))
    }

    fn of_role(role: &Role, path: &str, body: &BTreeMap<&str, &str>, doing: &str) -> Self {
        let body = zeroize::Zeroizing::new(serde_json::to_vec(body).unwrap_or_default());
        Self { doing: format!("{doing} {role}"), ..Self::write_bytes(&format!("{role}/{path}"), body) }
    }

    fn wrapping_lookup(token: &SecretValue) -> Self {
        let body = serde_json::json!({"token": token.expose()});
        let doing = "asking where the wrapped secret id was made".to_owned();
        Self { doing, ..Self::write("sys/wrapping/lookup", &body) }
    }
}

impl Found {
    /// What `answer` to a look-up says; `None`: Vault knows of no such secret id.
    ///
    /// # Errors
    /// [`Class::Nonsense`]: it is not what Vault answers.
    pub fn of(answer: &Answer) -> Result<Option<Self>, Error> {
        #[derive(Deserialize)]
        struct Written {
            secret_id_accessor: String,
            creation_time: Timestamp,
            #[serde(default)]
            expiration_time: Option<String>,
            #[serde(default)]
            secret_id_num_uses: u64,
            #[serde(default)]
            metadata: Option<BTreeMap<String, String>>,
        }
        let envelope = answer.envelope()?;
        let Some(data) = envelope.data.filter(|data| data.get() != "null") else { return Ok(None) };
        let written: Written = read(answer, data.get())?;
        // Where there is no end it is the year 1.
        let ends = written.expiration_time.and_then(|text| text.parse::<Timestamp>().ok());
        Ok(Some(Self {
            accessor: written.secret_id_accessor,
            made: written.creation_time,
            ends: ends.filter(|ends| *ends > written.creation_time),
            uses: written.secret_id_num_uses,
            run: written.metadata.and_then(|mut metadata| metadata.remove(RUN)),
        }))
    }

    /// The moment at which four fifths of its life are over, if it has an end.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let life = Duration::try_from(self.ends?.duration_since(self.made)).unwrap_or_default();
        self.made.checked_add(life.mul_f64(0.8)).ok()
    }
}

impl Made {
    /// The secret id in `answer`.
    ///
    /// # Errors
    /// [`Class::Nonsense`]: there is none.
    pub fn of(answer: &Answer) -> Result<Self, Error> {
        let accessor = text_member(answer, "secret_id_accessor")?.expose().to_owned();
        Ok(Self { secret_id: text_member(answer, "secret_id")?, accessor })
    }
}

impl Vault {
    /// The secret id in `answer`, which is wrapped and was made for `role` at `secret-id` or `custom-secret-id`.
    ///
    /// # Errors
    /// It was made elsewhere, or is unwrapped already, or Vault did not answer.
    pub async fn unwrap_secret_id(&self, role: &Role, answer: &Answer) -> Result<Made, Error> {
        #[derive(Deserialize)]
        struct Info {
            token: zeroize::Zeroizing<String>,
            creation_path: String,
        }
        let envelope = answer.envelope()?;
        let info = envelope.wrap_info.ok_or_else(|| answer.nonsense("it is not wrapped"))?;
        let mut info: Info = read(answer, info.get())?;
        let paths = ["secret-id", "custom-secret-id"].map(|path| format!("{role}/{path}"));
        if !paths.contains(&info.creation_path) {
            return Err(answer.nonsense("it says that it was made elsewhere"));
        }
        unwrap(self, &SecretValue::new(std::mem::take(&mut *info.token)), &info.creation_path).await
    }

    /// Logs in with `secret_id`, and ends the token at once.
    ///
    /// # Errors
    /// [`Class::Invalid`]: Vault refuses the secret id; else whatever Vault said, by class.
    pub async fn try_secret_id(
        &self,
        role: &Role,
        role_id: &SecretValue,
        secret_id: &SecretValue,
    ) -> Result<(), Error> {
        let request = Request::login_approle(&role.mount, role_id.expose(), secret_id.expose())?;
        let answer = self.send_as(&Account::Upkeep, None, &request).await?;
        let auth = answer.envelope()?.auth;
        let mut auth = auth.ok_or_else(|| answer.nonsense("a login without a token"))?;
        let token = auth.take_token();
        if let Err(error) = self.send_as(&Account::Upkeep, Some(&token), &Request::revoke_self()?).await {
            tracing::warn!(%error, "the token of a login that was only a test lives to its end");
        }
        Ok(())
    }
}

/// The secret id behind the wrapping token `token`, only if it was made where it should be: what somebody unwrapped and wrapped
/// again was made at `sys/wrapping/wrap`.
pub(super) async fn unwrap(vault: &Vault, token: &SecretValue, expected: &str) -> Result<Made, Error> {
    let answer = vault.send_as(&Account::Upkeep, None, &Request::wrapping_lookup(token)).await?;
    let made_at = text_member(&answer, "creation_path")?;
    if made_at.expose() != expected {
        let said = format!(
            "the wrapping token was made at {}, not at {expected}; somebody may have unwrapped it before us: make a new \
             secret id, and find out who had this one",
            made_at.expose()
        );
        return Err(Error::new(Class::Credential, "unwrapping the secret id", said));
    }
    let request = Request::bare(Method::POST, "sys/wrapping/unwrap", "unwrapping the secret id".into());
    Made::of(&vault.send_as(&Account::Upkeep, Some(token), &request).await?)
}

fn text_member(answer: &Answer, name: &str) -> Result<SecretValue, Error> {
    let envelope = answer.envelope()?;
    let missing = || answer.nonsense(&format!("an answer without {name}"));
    let members = members(envelope.data.ok_or_else(missing)?).map_err(|_| missing())?;
    let raw = members.get(name).ok_or_else(missing)?;
    serde_json::from_str(raw.get()).map(SecretValue::new).map_err(|_| missing())
}

fn read<T: DeserializeOwned>(answer: &Answer, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| answer.nonsense(&error.to_string()))
}
