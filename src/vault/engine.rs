//! Requests to engines that keep something for us: signatures of transit, values in KV 2 by check-and-set.
//!
//! Pure. vaultrs' types stay in this file.

use super::{
    endpoint::Request,
    error::{Class, Error},
};
use vaultrs::api::{
    kv2::requests::{
        DeleteSecretMetadataRequest, ListSecretsRequest, SetSecretRequest, SetSecretRequestOptions,
    },
    transit::requests::{ReadKeyRequest, SignDataRequest},
};

impl Request {
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

    /// A new version of a KV 2 value, only if `version` is the newest; 0 means that there is none.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn kv2_write(mount: &str, path: &str, data: &serde_json::Value, version: u64) -> Result<Self, Error> {
        let doing = format!("writing {mount}/data/{path}");
        let invalid = |said: &str| Error::new(Class::Invalid, doing.clone(), said);
        let cas =
            u32::try_from(version).map_err(|_| invalid("its version is larger than vaultrs can say"))?;
        let options = SetSecretRequestOptions { cas };
        Self::typed(
            SetSecretRequest::builder().mount(mount).path(path).data(data.clone()).options(options).build(),
            doing,
        )
    }

    /// The keys in a folder of KV 2.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn kv2_list(mount: &str, path: &str) -> Result<Self, Error> {
        Self::typed(
            ListSecretsRequest::builder().mount(mount).path(path).build(),
            format!("listing {mount}/metadata/{path}"),
        )
    }

    /// The end of a KV 2 secret, with all its versions.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn kv2_delete(mount: &str, path: &str) -> Result<Self, Error> {
        Self::typed(
            DeleteSecretMetadataRequest::builder().mount(mount).path(path).build(),
            format!("deleting {mount}/metadata/{path}"),
        )
    }
}
