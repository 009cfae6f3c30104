//! A request signed for AWS (Signature Version 4): what may be signed, and what its signature is put into.
//!
//! Pure. The signature itself is computed by the SDK's own crate, in `signer`, which is only in builds with the feature
//! `sigv4`; in others `check` refuses a config that needs it.

#[cfg(feature = "sigv4")]
mod signer;

use super::material::Keys;
use crate::{broker::fault::Fault, clock::Timestamp, policy::upstream::decoded};
use http::{HeaderMap, HeaderName, HeaderValue, header, uri::PathAndQuery};

/// Whether this binary can sign.
pub const IS_BUILT: bool = cfg!(feature = "sigv4");

/// The largest body that is signed, in bytes: its hash stands in the head, so all of it must be there first.
pub const LARGEST: usize = 4 * 1024 * 1024;

/// The fields of a query that would be a signature of the client's own, in lower case.
const PRESIGNED: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
    "awsaccesskeyid",
];

/// What a signature is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// `eu-west-1`: from the config, never from the request.
    pub region: String,
    /// The service's name in signatures: `bedrock`, `s3`, `execute-api`.
    pub service: String,
    /// Whether the signature covers the body.
    pub payload: Payload,
}

/// Whether a body is covered by the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// It is: bodies of [`LARGEST`] bytes at most.
    Signed,
    /// It is not, and streams (`UNSIGNED-PAYLOAD`, which only S3 takes): TLS alone protects it.
    Unsigned,
}

/// What is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a http::Method,
    /// As it is sent.
    pub target: &'a PathAndQuery,
    /// All that are sent, `Host` among them.
    pub headers: &'a HeaderMap,
    /// The whole body, or nothing where [`Payload::Unsigned`] leaves it out.
    pub body: &'a [u8],
}

/// A signature.
#[derive(Debug)]
pub struct Signed {
    /// What is put into the head: `Authorization`, `X-Amz-Date`, and so on.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// 64 hex digits. Whoever has it can send the same request again for some minutes, so it must not come back either.
    pub signature: String,
}

impl Signing {
    /// Whether the service is of S3's family: paths are then encoded once in what is signed, and bodies need not be signed.
    #[must_use]
    pub fn is_s3(&self) -> bool {
        matches!(self.service.as_str(), "s3" | "s3-object-lambda" | "s3-outposts" | "s3express")
    }
}

/// Refuses what is signed already, or in parts as it is sent.
///
/// # Errors
/// [`Fault::BadQuery`], [`Fault::BadBody`].
pub fn check(headers: &HeaderMap, query: Option<&str>) -> Result<(), Fault> {
    for pair in query.unwrap_or_default().split('&') {
        let name = decoded(pair.split('=').next().unwrap_or_default()).ok_or(Fault::BadQuery)?;
        if PRESIGNED.contains(&&*name.to_ascii_lowercase()) {
            return Err(Fault::BadQuery);
        }
    }
    let begins = |name: &str, with: &str| {
        headers.get_all(name).iter().any(|value| {
            let value = value.as_bytes().to_ascii_lowercase();
            value.starts_with(with.as_bytes())
        })
    };
    let in_chunks = begins("x-amz-content-sha256", "streaming-")
        || begins("content-encoding", "aws-chunked")
        || headers.contains_key("x-amz-decoded-content-length")
        || headers.contains_key("x-amz-trailer");
    if in_chunks { Err(Fault::BadBody) } else { Ok(()) }
}

/// Signs with `keys` as of `at`.
///
/// # Errors
/// [`Fault::BadHeader`]: a header that must be signed is no text. [`Fault::CredentialUnavailable`]: this binary cannot sign.
pub fn sign(signing: &Signing, keys: &Keys, at: Timestamp, request: &Request<'_>) -> Result<Signed, Fault> {
    let mut covered = Vec::new();
    for (name, value) in request.headers {
        let is_covered =
            *name == header::HOST || *name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz-");
        if is_covered {
            covered.push((name.as_str(), value.to_str().map_err(|_| Fault::BadHeader)?));
        }
    }
    let query = request.target.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = request.target.path();
    let target = if signing.is_s3() { format!("{}{query}", encoded(path)) } else { format!("{path}{query}") };
    computed(signing, keys, at, (request.method.as_str(), &target, &covered), request.body)
}

#[cfg(feature = "sigv4")]
fn computed(
    signing: &Signing,
    keys: &Keys,
    at: Timestamp,
    head: signer::Head<'_>,
    body: &[u8],
) -> Result<Signed, Fault> {
    let body = match signing.payload {
        Payload::Signed => signer::Body::Bytes(body),
        Payload::Unsigned => signer::Body::UnsignedPayload,
    };
    signer::sign(signer::settings(signing), (&signing.region, &signing.service), keys, at, head, body)
}

#[cfg(not(feature = "sigv4"))]
fn computed(
    _: &Signing,
    _: &Keys,
    _: Timestamp,
    _: (&str, &str, &[(&str, &str)]),
    _: &[u8],
) -> Result<Signed, Fault> {
    // No config leads here: `check` refuses it.
    Err(Fault::CredentialUnavailable)
}

/// The path as S3 spells it for the signature: all but unreserved characters and slashes percent-encoded. What is sent stays as
/// the rule saw it: S3 decodes it before it encodes it. Other services encode what was sent, which the signer does by itself.
fn encoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'/' | b'%' => out.push(byte),
            byte => super::append_encoded(&mut out, &[byte]),
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_request(
        headers: &[(&'static str, &'static str)],
        query: Option<&str>,
        expected: Result<(), Fault>,
    ) {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(check(&headers, query), expected, "{headers:?} {query:?}");
    }

    #[test]
    fn what_is_signed_already_or_in_parts_is_refused() {
        check_request(
            &[("x-amz-target", "A.B"), ("content-encoding", "gzip")],
            Some("a=1&x-amz-acl=2"),
            Ok(()),
        );
        for query in ["X-Amz-Signature=1", "a=1&x-amz-credential", "X%2DAmz-Date=1", "AWSAccessKeyId=A"] {
            check_request(&[], Some(query), Err(Fault::BadQuery));
        }
        for header in [
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("content-encoding", "aws-chunked"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ] {
            check_request(&[header], None, Err(Fault::BadBody));
        }
    }

    #[test]
    fn a_path_is_spelled_as_s3_does() {
        assert_eq!(encoded("/a:b@c/%C3%A4~-._(1)"), "/a%3Ab%40c/%C3%A4~-._%281%29");
    }
}
