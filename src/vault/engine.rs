//! Requests to engines that keep something for us: signatures of transit, values in KV 2 by check-and-set.
//!
//! Pure. vaultrs' types stay in this file.

use super::{
    endpoint::Request,
    error::{Class, Error},
};
use http::Method;
use vaultrs::api::{
    kv2::requests::{
        DeleteSecretMetadataRequest, ListSecretsRequest, SetSecretRequest, SetSecretRequestOptions,
    },
    transit::requests::{ReadKeyRequest, SignDataRequest},
};
use zeroize::Zeroizing;

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

    /// The same of an object with secrets in it, given as its JSON text.
    #[must_use]
    pub fn kv2_replace(mount: &str, path: &str, object: &[u8], version: u64) -> Self {
        let head = format!(r#"{{"options":{{"cas":{version}}},"data":"#);
        // It has exactly the room that it needs, so that no other copy is left in memory.
        let mut body = Zeroizing::new(Vec::with_capacity(head.len() + object.len() + 1));
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(object);
        body.push(b'}');
        let doing = format!("writing {mount}/data/{path}");
        Self {
            method: Method::POST,
            path: format!("{mount}/data/{path}"),
            query: None,
            body: Some(body),
            namespace: None,
            wrap: None,
            doing,
        }
    }

    /// One version of a KV 2 value can no longer be read, until somebody undeletes it.
    #[must_use]
    pub fn kv2_delete_version(mount: &str, path: &str, version: u64) -> Self {
        Self::write(&format!("{mount}/delete/{path}"), &serde_json::json!({"versions": [version]}))
    }

    /// A value that a password policy of Vault makes.
    #[must_use]
    pub fn password(policy: &str) -> Self {
        Self::read(&format!("sys/policies/password/{policy}/generate"))
    }
}
