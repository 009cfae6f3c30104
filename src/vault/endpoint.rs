//! What is asked of Vault, and the envelope that it answers in.
//!
//! vaultrs' request types are used where they exist, for their paths and bodies; they are never executed by their own
//! client, which drops the headers of errors and prints bodies in its errors. Their types stay in this file.

use super::error::{Class, Error};
use crate::secret::SecretValue;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Method;
use rustify::Endpoint;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt, time::Duration};
use vaultrs::api::{
    auth::{
        approle::requests::LoginWithApproleRequest, kubernetes::requests::LoginWithKubernetesRequest,
        oidc::requests::JWTLoginRequest,
    },
    kv1::requests::GetSecretRequest,
    kv2::requests::{ReadSecretMetadataRequest, ReadSecretRequest},
    token::requests::{
        CreateRoleTokenRequest, CreateTokenRequest, LookupTokenSelfRequest, RenewTokenSelfRequest,
        RevokeTokenSelfRequest,
    },
};
use zeroize::Zeroizing;

/// One call, before it has an address and a token.
pub struct Request {
    pub(super) method: Method,
    /// Segments below `/v1/`, each percent-encoded when the URL is made.
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    /// What the call does, for errors: `reading secret/data/stripe`.
    pub(super) doing: String,
    /// Where it is done, if that is not the namespace of the config.
    pub(super) namespace: Option<String>,
    /// The answer is wanted wrapped, for so long.
    pub(super) wrap: Option<Duration>,
}

impl Request {
    /// A plain read of `path`.
    #[must_use]
    pub fn read(path: &str) -> Self {
        Self::bare(Method::GET, path, format!("reading {path}"))
    }

    /// A write of `body` to `path`.
    #[must_use]
    pub fn write(path: &str, body: &serde_json::Value) -> Self {
        let request = Self::bare(Method::POST, path, format!("writing to {path}"));
        Self { body: Some(Zeroizing::new(body.to_string().into_bytes())), ..request }
    }

    /// A write of `body`, which is JSON and may hold a secret, to `path`.
    #[must_use]
    pub fn write_bytes(path: &str, body: Zeroizing<Vec<u8>>) -> Self {
        let request = Self::bare(Method::POST, path, format!("writing to {path}"));
        Self { body: Some(body), ..request }
    }

    /// The HMAC of SHA-256 that `key` makes of `bytes`.
    #[must_use]
    pub fn transit_hmac(key: &TransitKey, bytes: &[u8]) -> Self {
        const HEAD: &[u8] = br#"{"input":""#;
        const TAIL: &[u8] = br#""}"#;
        let TransitKey { mount, name } = key;
        // Written into its place, so that no other copy is left in memory.
        let encoded = base64::encoded_len(bytes.len(), true).unwrap_or(0);
        let mut body = Zeroizing::new(Vec::with_capacity(HEAD.len() + encoded + TAIL.len()));
        body.extend_from_slice(HEAD);
        body.resize(HEAD.len() + encoded, b'=');
        if let Some(input) = body.get_mut(HEAD.len()..) {
            // It has exactly the room that it needs.
            BASE64_STANDARD.encode_slice(bytes, input).unwrap_or_default();
        }
        body.extend_from_slice(TAIL);
        let path = format!("{mount}/hmac/{name}/sha2-256");
        let request = Self::bare(Method::POST, &path, format!("making a fingerprint by {key}"));
        Self { body: Some(body), ..request }
    }

    /// Which engine is mounted where `path` lies (needs any capability on the path).
    #[must_use]
    pub fn mount_of(path: &str) -> Self {
        Self::bare(
            Method::GET,
            &format!("sys/internal/ui/mounts/{path}"),
            format!("asking which engine serves {path}"),
        )
    }

    /// A KV 1 read.
    ///
    /// # Errors
    /// [`Class::Invalid`] when the mount or path cannot stand in a URL.
    pub fn kv1(mount: &str, path: &str) -> Result<Self, Error> {
        Self::typed(
            GetSecretRequest::builder().mount(mount).path(path).build(),
            format!("reading {mount}/{path}"),
        )
    }

    /// A KV 2 read, of the newest version unless one is named.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn kv2(mount: &str, path: &str, version: Option<u64>) -> Result<Self, Error> {
        let mut builder = ReadSecretRequest::builder();
        builder.mount(mount).path(path);
        if let Some(version) = version {
            builder.version(version);
        }
        Self::typed(builder.build(), format!("reading {mount}/data/{path}"))
    }

    /// The versions of a KV 2 secret, without any value.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn kv2_metadata(mount: &str, path: &str) -> Result<Self, Error> {
        Self::typed(
            ReadSecretMetadataRequest::builder().mount(mount).path(path).build(),
            format!("reading {mount}/metadata/{path}"),
        )
    }

    /// A child token.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn create_token(child: &ChildToken<'_>) -> Result<Self, Error> {
        let doing = "creating a child token".to_owned();
        let policies: Vec<String> = child.policies.to_vec();
        let ttl = format!("{}s", child.ttl.as_secs());
        match child.role {
            Some(role) => Self::typed(
                CreateRoleTokenRequest::builder()
                    .role_name(role)
                    .policies(policies)
                    .ttl(ttl)
                    .num_uses(u64::from(child.uses))
                    .no_default_policy(child.no_default_policy)
                    .build(),
                doing,
            ),
            None => Self::typed(
                CreateTokenRequest::builder()
                    .policies(policies)
                    .ttl(ttl)
                    .num_uses(u64::from(child.uses))
                    .no_default_policy(child.no_default_policy)
                    .build(),
                doing,
            ),
        }
    }

    /// More time for the calling token: as much as its role gives, unless `increment` says how much. A child without a
    /// role must say it: Vault 1.21.1 gives one that does not the system's default of 768 hours.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn renew_self(increment: Option<Duration>) -> Result<Self, Error> {
        let mut builder = RenewTokenSelfRequest::builder();
        if let Some(increment) = increment {
            builder.increment(format!("{}s", increment.as_secs()));
        }
        Self::typed(builder.build(), "renewing the token".into())
    }

    /// What the calling token is.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn lookup_self() -> Result<Self, Error> {
        Self::typed(LookupTokenSelfRequest::builder().build(), "looking up the token".into())
    }

    /// The end of the calling token, its children and leases.
    ///
    /// # Errors
    /// As for [`Request::kv1`].
    pub fn revoke_self() -> Result<Self, Error> {
        Self::typed(RevokeTokenSelfRequest::builder().build(), "revoking the token".into())
    }

    /// The end of the token that `accessor` names, its children and leases.
    #[must_use]
    pub fn revoke_accessor(accessor: &SecretValue) -> Self {
        Self::named("auth/token/revoke-accessor", "accessor", accessor, "revoking the token")
    }

    /// More time for a lease.
    #[must_use]
    pub fn renew_lease(id: &SecretValue) -> Self {
        Self::named("sys/leases/renew", "lease_id", id, "renewing the lease")
    }

    /// The end of a lease.
    #[must_use]
    pub fn revoke_lease(id: &SecretValue) -> Self {
        Self::named("sys/leases/revoke", "lease_id", id, "revoking the lease")
    }

    pub(super) fn login_kubernetes(mount: &str, role: &str, jwt: &str) -> Result<Self, Error> {
        let request = LoginWithKubernetesRequest::builder().mount(mount).role(role).jwt(jwt).build();
        Self::typed(request, format!("logging in at auth/{mount} as {role}"))
    }

    pub(super) fn login_jwt(mount: &str, role: &str, jwt: &str) -> Result<Self, Error> {
        let request = JWTLoginRequest::builder().mount(mount).role(role).jwt(jwt).build();
        Self::typed(request, format!("logging in at auth/{mount} as {role}"))
    }

    pub(super) fn login_approle(mount: &str, role_id: &str, secret_id: &str) -> Result<Self, Error> {
        let request =
            LoginWithApproleRequest::builder().mount(mount).role_id(role_id).secret_id(secret_id).build();
        Self::typed(request, format!("logging in at auth/{mount}"))
    }

    /// By hand: vaultrs names the role `cert_name`, Vault reads `name` (Vault docs: auth/cert, "Login").
    pub(super) fn login_cert(mount: &str, role: Option<&str>) -> Self {
        let body = role.map_or_else(|| serde_json::json!({}), |role| serde_json::json!({"name": role}));
        let request = Self::write(&format!("auth/{mount}/login"), &body);
        Self { doing: format!("logging in at auth/{mount}"), ..request }
    }

    pub(super) fn health() -> Self {
        Self::bare(Method::GET, "sys/health", "asking for its health".into())
    }

    pub(super) fn bare(method: Method, path: &str, doing: String) -> Self {
        Self { method, path: path.into(), query: None, body: None, doing, namespace: None, wrap: None }
    }

    fn named(path: &str, key: &str, id: &SecretValue, doing: &str) -> Self {
        let request = Self::write(path, &serde_json::json!({key: id.expose()}));
        Self { doing: doing.into(), ..request }
    }

    pub(super) fn typed<E: Endpoint, B: std::fmt::Display>(
        built: Result<E, B>,
        doing: String,
    ) -> Result<Self, Error> {
        let invalid = |said: String| Error::new(Class::Invalid, doing.clone(), said);
        let endpoint = built.map_err(|missing| invalid(missing.to_string()))?;
        let query = endpoint.query().map_err(|_| invalid("its query cannot be encoded".into()))?;
        let body = endpoint.body().map_err(|_| invalid("its body cannot be encoded".into()))?;
        let method =
            Method::try_from(endpoint.method()).map_err(|_| invalid("its method is unknown".into()))?;
        let body = body.filter(|body| !body.is_empty()).map(Zeroizing::new);
        // vaultrs 0.8 begins some paths with a slash, and that of renew-self with a tab.
        let path = endpoint.path().trim_start_matches(['/', '\t']).to_owned();
        Ok(Self { method, path, query, body, doing, namespace: None, wrap: None })
    }
}

/// A key of Vault's transit engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    /// Where the engine is mounted.
    pub mount: String,
    /// The key in it.
    pub name: String,
}

impl fmt::Display for TransitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mount, self.name)
    }
}

/// What a child token may do, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct ChildToken<'a> {
    /// At least one.
    pub policies: &'a [String],
    /// Its lifetime, in whole seconds.
    pub ttl: Duration,
    /// 0 is without limit.
    pub uses: u32,
    /// A token role.
    pub role: Option<&'a str>,
    /// Without the policy `default`.
    pub no_default_policy: bool,
}

/// Vault's envelope; every part may be missing.
#[derive(Deserialize)]
pub struct Envelope<'a> {
    /// Joins our audit to Vault's.
    #[serde(default)]
    pub request_id: String,
    /// Empty when there is no lease.
    #[serde(default)]
    pub lease_id: String,
    /// Seconds.
    #[serde(default)]
    pub lease_duration: u64,
    /// Whether the lease may be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// As it came.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    /// A token, after a login, a renewal or a creation.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// Where the answer is to be had once, if it was wanted wrapped.
    #[serde(borrow, default)]
    pub wrap_info: Option<&'a RawValue>,
}

/// A token as Vault gives it.
#[derive(Deserialize)]
pub struct Auth {
    client_token: Zeroizing<String>,
    /// Names the token without being one: whoever may can look it up and revoke it by this.
    #[serde(default)]
    pub accessor: String,
    /// Seconds; 0 has no end.
    #[serde(default)]
    pub lease_duration: u64,
    /// Whether it may be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// `service` or `batch`.
    #[serde(default)]
    pub token_type: String,
    /// Whose it is, in Vault's identity engine.
    #[serde(default)]
    pub entity_id: String,
    /// How often it may be used; 0 is without limit.
    #[serde(default)]
    pub num_uses: u64,
    /// What it may do.
    #[serde(default)]
    pub policies: Vec<String>,
}

impl Auth {
    /// Takes the token out.
    #[must_use]
    pub fn take_token(&mut self) -> SecretValue {
        SecretValue::new(std::mem::take(&mut *self.client_token))
    }
}

/// The fields of an object, each with its JSON text, in Vault's order.
///
/// # Errors
/// When `data` is not an object.
pub fn fields(data: &RawValue) -> Result<Vec<(String, SecretValue)>, serde_json::Error> {
    let fields: Ordered<'_> = serde_json::from_str(data.get())?;
    Ok(fields.0.into_iter().map(|(name, raw)| (name, SecretValue::new(raw.get().to_owned()))).collect())
}

/// The members of an object by name, not yet read.
///
/// # Errors
/// When `data` is not an object.
pub fn members(data: &RawValue) -> Result<BTreeMap<String, &RawValue>, serde_json::Error> {
    serde_json::from_str(data.get())
}

struct Ordered<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Ordered<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Ordered<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Ordered(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
