//! Logging in: one call per login, with credentials read from their files each time.
//!
//! Does not keep a token alive: that is `renewal`.

use crate::name::IdentityName;
use std::path::PathBuf;

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
