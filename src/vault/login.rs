//! Logging in: one call per login, with credentials read from their files each time.
//!
//! Does not keep a token alive: that is `renewal`.

use super::{
    Vault,
    answer::Answer,
    approle::{self, Made, MadeBy, PLAIN},
    endpoint::Request,
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
    /// The file holds a wrapping token, or what a rotation put there since: [`PLAIN`] and a secret id.
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
    pub(super) made_by: Option<MadeBy>,
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
    made: Made,
}

/// Logs in once.
pub(super) async fn login(vault: &Vault, settings: &Settings, memory: &mut Memory) -> Result<Fresh, Error> {
    let mut made_by = None;
    let request = match &settings.method {
        Method::Kubernetes(jwt) => {
            Request::login_kubernetes(&jwt.mount, &jwt.role, &read_text(&jwt.token_file, settings)?)?
        }
        Method::Jwt(jwt) => {
            Request::login_jwt(&jwt.mount, &jwt.role, &read_text(&jwt.token_file, settings)?)?
        }
        Method::AppRole { mount, role_id_file, secret_id } => {
            let role_id = read_text(role_id_file, settings)?;
            let (SecretId::Plain { file } | SecretId::Wrapped { file, .. }) = secret_id;
            let text = read_text(file, settings)?;
            let made_by = made_by.insert(MadeBy::of(&text));
            match secret_id {
                SecretId::Wrapped { creation_path, .. } if !text.starts_with(PLAIN) => {
                    let made = unwrapped(vault, memory, &text, creation_path).await?;
                    made_by.accessor = Some(made.accessor.clone());
                    Request::login_approle(mount, &role_id, made.secret_id.expose())?
                }
                SecretId::Wrapped { .. } => {
                    Request::login_approle(mount, &role_id, text.trim_start_matches(PLAIN))?
                }
                SecretId::Plain { .. } => Request::login_approle(mount, &role_id, &text)?,
            }
        }
        Method::Cert { mount, role } => Request::login_cert(mount, role.as_deref()),
        Method::TokenFile { token_file } => {
            return adopt(vault, SecretValue::new(read_text(token_file, settings)?.to_string())).await;
        }
    };
    let answer = vault.send_as(&Account::Upkeep, None, &request).await?;
    Ok(Fresh { made_by, ..fresh(&answer)? })
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
        made_by: None,
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
        made_by: None,
        entity_id: Some(lookup.entity_id).filter(|id| !id.is_empty()),
        request_id: Some(envelope.request_id.clone()).filter(|id| !id.is_empty()),
        address: answer.address().to_owned(),
    })
}

/// The secret id behind a wrapping token, unwrapped at most once for each token, and only if it was made where the
/// config says.
async fn unwrapped<'a>(
    vault: &Vault,
    memory: &'a mut Memory,
    wrapping: &str,
    creation_path: &str,
) -> Result<&'a Made, Error> {
    let wrapping_token_hash = crypto::sha256(wrapping.as_bytes());
    let known = memory.unwrapped.take().filter(|known| known.wrapping_token_hash == wrapping_token_hash);
    let unwrapped = match known {
        Some(known) => known,
        None => {
            let token = SecretValue::new(wrapping.to_owned());
            let made = approle::unwrap(vault, &token, creation_path).await?;
            Unwrapped { wrapping_token_hash, made }
        }
    };
    Ok(&memory.unwrapped.insert(unwrapped).made)
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
