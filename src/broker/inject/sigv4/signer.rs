//! The signature, by the signer of AWS' SDK for Rust: the one file that names its crates.
//!
//! Pure. Headers only, never a signed URL. Its crates log what they sign at the level `trace`: the log never lets them.

use super::{Signed, Signing};
use crate::{
    broker::{fault::Fault, inject::material::Keys},
    clock::Timestamp,
};
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableRequest, SigningSettings, UriPathNormalizationMode,
    },
    sign::v4::SigningParams,
};
use http::{HeaderName, HeaderValue};
use std::time::SystemTime;

pub(super) use aws_sigv4::http_request::SignableBody as Body;

/// Method, target, and the headers that are covered.
pub(super) type Head<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// How this service wants its requests signed. The body's hash is said in a header always: S3 demands it, and the others take it.
pub(super) fn settings(signing: &Signing) -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    if signing.is_s3() {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    settings
}

/// Signs; `scope` is region and service.
pub(super) fn sign(
    settings: SigningSettings,
    scope: (&str, &str),
    keys: &Keys,
    at: Timestamp,
    (method, target, headers): Head<'_>,
    body: Body<'_>,
) -> Result<Signed, Fault> {
    let (id, secret, token) = keys.parts();
    let identity = Credentials::new(id, secret, token.map(str::to_owned), None, "claviger").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(scope.0)
        .name(scope.1)
        .time(SystemTime::from(at))
        .settings(settings)
        .build()
        .map_err(|_| Fault::CredentialUnavailable)?
        .into();
    let request =
        SignableRequest::new(method, target, headers.iter().copied(), body).map_err(|_| Fault::BadTarget)?;
    let signed = aws_sigv4::http_request::sign(request, &params).map_err(|_| Fault::BadHeader)?;
    let (instructions, signature) = signed.into_parts();
    let mut headers = Vec::new();
    for header in instructions.into_parts().0 {
        let mut value = HeaderValue::from_str(header.value()).map_err(|_| Fault::CredentialUnavailable)?;
        value.set_sensitive(true);
        headers.push((HeaderName::from_static(header.name()), value));
    }
    Ok(Signed { headers, signature })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sigv4::http_request::SessionTokenMode;
    use serde_json::Value;

    /// AWS' own test suite for header signatures; tests/broker/vectors/README.md has its source and licence.
    const VECTORS: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/vectors/sigv4.json"));

    #[test]
    fn every_published_vector_is_signed_as_aws_says() {
        let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
        assert_eq!(vectors.len(), 40);
        for vector in &vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let is = |name: &str| vector[name].as_bool().unwrap();
            let mut settings = SigningSettings::default();
            settings.payload_checksum_kind =
                if is("sign_body") { PayloadChecksumKind::XAmzSha256 } else { PayloadChecksumKind::NoHeader };
            if !is("normalize") {
                settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            }
            if is("omit_session_token") {
                settings.session_token_mode = SessionTokenMode::Exclude;
            }
            let keys = Keys::new(text("access_key_id"), text("secret_access_key"), vector["token"].as_str());
            let headers: Vec<(&str, &str)> = vector["headers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
                .collect();
            let (path, query) = text("target").split_once('?').unwrap_or((text("target"), ""));
            let path = if text("path_encoded") == "once" {
                settings.percent_encoding_mode = PercentEncodingMode::Single;
                super::super::encoded(path)
            } else {
                path.to_owned()
            };
            let target = format!("{path}?{query}");
            let signed = sign(
                settings,
                (text("region"), text("service")),
                &keys,
                text("timestamp").parse().unwrap(),
                (text("method"), &target, &headers),
                Body::Bytes(text("body").as_bytes()),
            );
            let signed = signed.unwrap_or_else(|fault| panic!("{}: {fault}", text("name")));
            assert_eq!(signed.signature, text("signature"), "{}", text("name"));
            let authorization = signed.headers.iter().find(|(name, _)| name == "authorization").unwrap();
            assert_eq!(authorization.1, text("authorization"), "{}", text("name"));
        }
    }

    #[test]
    fn nothing_of_a_signature_is_printed() {
        let keys =
            Keys::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Some("the-session-token"));
        let signed = sign(
            SigningSettings::default(),
            ("us-east-1", "service"),
            &keys,
            Timestamp::UNIX_EPOCH,
            ("GET", "/", &[("host", "a.example")]),
            Body::Bytes(b""),
        )
        .unwrap();
        assert!(!format!("{:?} {keys:?}", signed.headers).contains("AKID"));
    }
}
