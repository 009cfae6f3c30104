//! Where a key is put: one slot for each upstream, and no placeholders that a caller could move.
//!
//! Pure. Does not look at keys: `material` does.

pub mod body;
pub mod certificate;
pub mod material;
pub mod query;
pub mod sigv4;

use crate::policy::upstream::{alike, decoded};
use http::HeaderName;

/// Where the key goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A header of this name: what stands before the key, the key, what stands behind it.
    Header {
        /// Whatever the client says in it is dropped.
        name: HeaderName,
        /// `Bearer `.
        before: String,
        /// Nothing, mostly.
        after: String,
    },
    /// `Authorization: Basic` (RFC 7617) of two fields of the secret.
    Basic {
        /// The field that has the user.
        user: String,
        /// The field that has the password.
        password: String,
    },
    /// A field of the query.
    Query(String),
    /// A field of a body of `application/x-www-form-urlencoded`.
    Form(String),
    /// A member of a body of `application/json`: the names on the way to it (RFC 6901), at least one.
    Json(Vec<String>),
    /// Nowhere: it signs the request.
    SigV4(sigv4::Signing),
}

impl Slot {
    /// The header that it fills.
    #[must_use]
    pub fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header { name, .. } => Some(name),
            Self::Basic { .. } | Self::SigV4(_) => Some(&http::header::AUTHORIZATION),
            Self::Query(_) | Self::Form(_) | Self::Json(_) => None,
        }
    }

    /// How large a body may be that must be in hand as a whole, in bytes; `None`: it streams.
    #[must_use]
    pub fn largest_whole(&self) -> Option<usize> {
        match self {
            Self::Form(_) | Self::Json(_) => Some(body::LARGEST),
            Self::SigV4(signing) if signing.payload == sigv4::Payload::Signed => Some(sigv4::LARGEST),
            _ => None,
        }
    }

    /// What a body must be for the key to be put into it.
    #[must_use]
    pub fn media(&self) -> Option<&'static str> {
        match self {
            Self::Form(_) => Some("application/x-www-form-urlencoded"),
            Self::Json(_) => Some("application/json"),
            _ => None,
        }
    }

    /// The word of the events.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Header { .. } => "header",
            Self::Basic { .. } => "basic",
            Self::Query(_) => "query",
            Self::Form(_) => "form",
            Self::Json(_) => "json",
            Self::SigV4(_) => "sigv4",
        }
    }
}

/// Appends `text` as a value of a query or form: everything but unreserved characters percent-encoded.
fn append_encoded(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            let digit = |nibble: u8| {
                char::from_digit(nibble.into(), 16).map_or(b'0', |c| c.to_ascii_uppercase() as u8)
            };
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// The pairs of `text` whose names are not alike `name`, as they were; `None` if one cannot be read.
fn without<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut kept = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if !alike(&decoded(pair.split('=').next().unwrap_or_default())?, name) {
            kept.push(pair);
        }
    }
    Some(kept)
}
