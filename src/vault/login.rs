//! Logging in: one call per login, with credentials read from their files each time.
//!
//! Does not keep a token alive: that is `renewal`.

use super::{
    Vault,
    answer::Answer,
    endpoint::{self, Request},
    error::{Class, Error},
    limiter::Account,
    wire::read_file,
};
use crate::{crypto, name::IdentityName, secret::SecretValue};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// One login to Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The key in `identities`.
    pub name: IdentityName,
    /// How it logs in.
    pub method: Method,
    /// Whether the token is revoked when we stop. Never done for `token_file` or a root token, whatever this says.
    pub revoke_on_exit: bool,
}

/// How an identity gets its token. Mounts are given without `auth/` and without slashes at the ends; every file is
/// read again at each login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// The pod's service account token (Vault docs: auth/kubernetes).
    Kubernetes(JwtLogin),
    /// Any signed JWT from a file (Vault docs: auth/jwt).
    Jwt(JwtLogin),
    /// A role id and a secret id from files (Vault docs: auth/approle).
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The file with the role id.
        role_id_file: PathBuf,
        /// Where the secret id is.
        secret_id: SecretId,
    },
    /// The TLS client certificate of `vault.client_cert` (Vault docs: auth/cert).
    Cert {
        /// Where the method is mounted.
        mount: String,
        /// One role, else Vault tries all that fit the certificate.
        role: Option<String>,
    },
    /// A token that somebody else made and put into a file.
    TokenFile {
        /// The file with the token.
        token_file: PathBuf,
    },
}

/// A login that shows a JWT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtLogin {
    /// Where the method is mounted.
    pub mount: String,
    /// The role to log in to.
    pub role: String,
    /// The file with the JWT.
    pub token_file: PathBuf,
}

/// Where AppRole's secret id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretId {
    /// As it is in the file.
    Plain {
        /// The file.
        file: PathBuf,
    },
    /// The file holds a wrapping token.
    Wrapped {
        /// The file.
        file: PathBuf,
        /// Where the wrapping token must have been made, or it is not unwrapped: `auth/approle/role/NAME/secret-id`.
        creation_path: String,
    },
}

impl Method {
    /// The word of the config and the events.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Kubernetes(_) => "kubernetes",
            Self::Jwt(_) => "jwt",
            Self::AppRole { .. } => "approle",
            Self::Cert { .. } => "cert",
            Self::TokenFile { .. } => "token_file",
        }
    }

    /// The role that is logged in to, where the method has one.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::Kubernetes(jwt) | Self::Jwt(jwt) => Some(&jwt.role),
            Self::Cert { role, .. } => role.as_deref(),
            Self::AppRole { .. } | Self::TokenFile { .. } => None,
        }
    }
}

/// A token that was just got, and what is known of it.
pub(super) struct Fresh {
    pub(super) token: SecretValue,
    pub(super) accessor: Option<SecretValue>,
    pub(super) ttl: Duration,
    pub(super) renewable: bool,
    pub(super) origin: Origin,
    pub(super) entity_id: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) address: String,
}

/// Who made a token, which decides who may end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Our login: ours to revoke.
    Login,
    /// A batch token: nobody can revoke it (Vault docs: concepts/tokens).
    Batch,
    /// Somebody else, through a file: never revoked by us.
    File,
}

/// What a login remembers for the next one: a wrapped secret id can be unwrapped once only.
#[derive(Default)]
pub(super) struct Memory {
    unwrapped: Option<Unwrapped>,
}

struct Unwrapped {
    wrapping_token_hash: [u8; 32],
    secret_id: SecretValue,
}

/// Logs in once.
pub(super) async fn login(vault: &Vault, settings: &Settings, memory: &mut Memory) -> Result<Fresh, Error> {
    let request = match &settings.method {
        Method::Kubernetes(jwt) => {
            Request::login_kubernetes(&jwt.mount, &jwt.role, &read_text(&jwt.token_file, settings)?)?
        }
        Method::Jwt(jwt) => {
            Request::login_jwt(&jwt.mount, &jwt.role, &read_text(&jwt.token_file, settings)?)?
        }
        Method::AppRole { mount, role_id_file, secret_id } => {
            let role_id = read_text(role_id_file, settings)?;
            match secret_id {
                SecretId::Plain { file } => {
                    Request::login_approle(mount, &role_id, &read_text(file, settings)?)?
                }
                SecretId::Wrapped { file, creation_path } => {
                    let wrapping = read_text(file, settings)?;
                    let secret_id = unwrapped(vault, memory, &wrapping, creation_path).await?;
                    Request::login_approle(mount, &role_id, secret_id.expose())?
                }
            }
        }
        Method::Cert { mount, role } => Request::login_cert(mount, role.as_deref()),
        Method::TokenFile { token_file } => {
            return adopt(vault, SecretValue::new(read_text(token_file, settings)?.to_string())).await;
        }
    };
    let answer = vault.send_as(&Account::Upkeep, None, &request).await?;
    fresh(&answer)
}

fn fresh(answer: &Answer) -> Result<Fresh, Error> {
    let envelope = answer.envelope()?;
    let mut auth = envelope.auth.ok_or_else(|| answer.nonsense("a login without a token"))?;
    let token = auth.take_token();
    if token.is_empty() {
        return Err(answer.nonsense("a login with an empty token"));
    }
    let accessor = std::mem::take(&mut auth.accessor);
    Ok(Fresh {
        token,
        accessor: Some(SecretValue::new(accessor)).filter(|accessor| !accessor.is_empty()),
        ttl: Duration::from_secs(auth.lease_duration),
        renewable: auth.renewable,
        origin: if auth.token_type == "batch" { Origin::Batch } else { Origin::Login },
        entity_id: Some(auth.entity_id).filter(|id| !id.is_empty()),
        request_id: Some(envelope.request_id).filter(|id| !id.is_empty()),
        address: answer.address().to_owned(),
    })
}

/// Takes over a token that somebody else made: what it is, only Vault can say.
async fn adopt(vault: &Vault, token: SecretValue) -> Result<Fresh, Error> {
    #[derive(Deserialize)]
    struct Lookup {
        #[serde(default)]
        ttl: u64,
        #[serde(default)]
        renewable: bool,
        #[serde(default)]
        entity_id: String,
        #[serde(default)]
        accessor: String,
    }
    let answer = vault.send_as(&Account::Upkeep, Some(&token), &Request::lookup_self()?).await?;
    let envelope = answer.envelope()?;
    let data = envelope.data.ok_or_else(|| answer.nonsense("a lookup without data"))?;
    let lookup: Lookup =
        serde_json::from_str(data.get()).map_err(|error| answer.nonsense(&error.to_string()))?;
    Ok(Fresh {
        token,
        accessor: Some(SecretValue::new(lookup.accessor)).filter(|accessor| !accessor.is_empty()),
        ttl: Duration::from_secs(lookup.ttl),
        renewable: lookup.renewable,
        origin: Origin::File,
        entity_id: Some(lookup.entity_id).filter(|id| !id.is_empty()),
        request_id: Some(envelope.request_id.clone()).filter(|id| !id.is_empty()),
        address: answer.address().to_owned(),
    })
}

/// The secret id behind a wrapping token, unwrapped at most once for each token, and only if it was made where the
/// config says: a token that somebody unwrapped and wrapped again was made at `sys/wrapping/wrap`.
async fn unwrapped<'a>(
    vault: &Vault,
    memory: &'a mut Memory,
    wrapping: &str,
    creation_path: &str,
) -> Result<&'a SecretValue, Error> {
    let wrapping_token_hash = crypto::sha256(wrapping.as_bytes());
    let known = memory.unwrapped.take().filter(|known| known.wrapping_token_hash == wrapping_token_hash);
    let unwrapped = match known {
        Some(known) => known,
        None => {
            check_creation_path(vault, wrapping, creation_path).await?;
            let secret_id = unwrap(vault, wrapping).await?;
            Unwrapped { wrapping_token_hash, secret_id }
        }
    };
    Ok(&memory.unwrapped.insert(unwrapped).secret_id)
}

async fn check_creation_path(vault: &Vault, wrapping: &str, expected: &str) -> Result<(), Error> {
    let answer = vault.send_as(&Account::Upkeep, None, &Request::wrapping_lookup(wrapping)).await?;
    let made_at = text_member(&answer, "creation_path")?;
    if made_at.expose() == expected {
        return Ok(());
    }
    let said = format!(
        "the wrapping token was made at {}, not at {expected}; somebody may have unwrapped it before us: make a new \
         secret id, and find out who had this one",
        made_at.expose()
    );
    Err(Error::new(Class::Credential, "unwrapping the secret id", said))
}

async fn unwrap(vault: &Vault, wrapping: &str) -> Result<SecretValue, Error> {
    let token = SecretValue::new(wrapping.to_owned());
    let answer = vault.send_as(&Account::Upkeep, Some(&token), &Request::unwrap()).await?;
    text_member(&answer, "secret_id")
}

fn text_member(answer: &Answer, name: &str) -> Result<SecretValue, Error> {
    let envelope = answer.envelope()?;
    let missing = || answer.nonsense(&format!("an answer without {name}"));
    let members = endpoint::members(envelope.data.ok_or_else(missing)?).map_err(|_| missing())?;
    let raw = members.get(name).ok_or_else(missing)?;
    serde_json::from_str(raw.get()).map(SecretValue::new).map_err(|_| missing())
}

/// A credential file's text without white space at its ends, which no header could carry.
fn read_text(file: &Path, settings: &Settings) -> Result<Zeroizing<String>, Error> {
    let bytes = Zeroizing::new(read_file(file, &format!("a credential of identities.{}", settings.name))?);
    let unusable = |said: &str| {
        Error::new(Class::Credential, format!("reading a credential of identities.{}", settings.name), said)
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable("it is not text"))?.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(unusable("it is empty or has control characters in it"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}
