//! Requests for what Vault makes for us: signatures of transit, values by a password policy.
//!
//! Pure. vaultrs' types stay in this file.

use super::{endpoint::Request, error::Error};
use vaultrs::api::transit::requests::{ReadKeyRequest, SignDataRequest};

impl Request {
    /// The same in this namespace.
    #[must_use]
    pub fn within(self, namespace: Option<String>) -> Self {
        Self { namespace, ..self }
    }

    /// A signature of transit's newest version of `key` under the bytes that `input` spells in base64.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn transit_sign(mount: &str, key: &str, input: String) -> Result<Self, Error> {
        Self::typed(
            SignDataRequest::builder().mount(mount).name(key).input(input).build(),
            format!("signing with {mount}/{key}"),
        )
    }

    /// What a key of transit is, its public halves included.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn transit_key(mount: &str, key: &str) -> Result<Self, Error> {
        Self::typed(
            ReadKeyRequest::builder().mount(mount).name(key).build(),
            format!("reading the key {mount}/{key}"),
        )
    }

    /// A value that a password policy of Vault makes.
    #[must_use]
    pub fn password(policy: &str) -> Self {
        Self::read(&format!("sys/policies/password/{policy}/generate"))
    }
}
