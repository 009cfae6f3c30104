//! What an event says of a call of another API: never a header's value, a query's value or a byte of a body.
//!
//! Pure.

use crate::{crypto::Hash, name::UpstreamName};
use std::net::SocketAddr;

/// One call. What is unknown at the time of an event is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamRef {
    /// The key in `upstreams`, where one is meant by the request.
    pub name: Option<UpstreamName>,
    /// The method as it is sent.
    pub method: Option<String>,
    /// The canonical path below the upstream's base, before the key is put into anything; hashed with `audit.hash_paths`.
    pub path: Option<String>,
    /// The names in the query, decoded.
    pub query: Vec<String>,
    /// Keyed hash of the query, under a key of this start alone.
    pub query_hmac: Option<Hash>,
    /// Headers of the client that were not sent on.
    pub dropped: Vec<String>,
    /// Where the key was put: `header`, `basic`, `query`, `form`, `json`.
    pub slot: Option<&'static str>,
    /// From 1; each has its own intent.
    pub attempt: Option<u32>,
    /// Of a result: the id of its intent.
    pub intent: Option<String>,
    /// Who was dialled.
    pub address: Option<SocketAddr>,
    /// Version of TLS.
    pub tls: Option<&'static str>,
    /// SHA-256 of the server's public key.
    pub spki: Option<Hash>,
    /// The upstream's status.
    pub status: Option<u16>,
    /// Bytes of the request's body that were sent.
    pub sent: Option<u64>,
    /// Keyed hash of them, under a key of this start alone.
    pub body_hmac: Option<Hash>,
    /// Bytes of the answer's body that were handed on.
    pub received: Option<u64>,
    /// How often the key was masked in the answer, by its form.
    pub masked: Vec<(&'static str, u64)>,
    /// Where a redirect leads that leads away from the upstream.
    pub redirect: Option<String>,
    /// How it ended: `complete`, `refused`, or the fault's word.
    pub end: Option<&'static str>,
    /// From the intent to the answer's head.
    pub first_byte_us: Option<u64>,
}
